# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a lab keeps its files, and which bridge and network are its own."""

from __future__ import annotations

import ipaddress
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import LabError

DEFAULT_CACHE = "/var/cache/trustedvm"
# ssh appends 17 characters to a control socket's name while it binds it, and sun_path holds 107.
MAX_STATE_PATH = 70


@dataclass(frozen=True)
class Settings:
    """One lab. Two labs with different state directories can run side by side."""

    state: Path
    cache: Path
    bridge: str
    network: ipaddress.IPv4Network

    @property
    def shared(self) -> Path:
        return self.state / "shared"

    @property
    def hosts(self) -> Path:
        return self.state / "hosts"

    @property
    def trees(self) -> Path:
        return self.cache / "trees"

    @property
    def key(self) -> Path:
        return self.state / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.state / "known_hosts"

    @property
    def control_sockets(self) -> Path:
        return self.state / "cm"

    @property
    def gateway(self) -> str:
        """The controller's address on the bridge."""
        return str(self.network.network_address + (self.network.num_addresses - 2))

    @property
    def capacity(self) -> int:
        """How many hosts have an address: all but the network, the controller and the broadcast."""
        return self.network.num_addresses - 3

    def address(self, index: int) -> str:
        return str(self.network.network_address + index)

    def port(self, index: int) -> str:
        """The bridge's side of a host's cable; interface names are limited to 15 characters."""
        return f"{self.bridge}p{index}"

    def mac(self, index: int) -> str:
        """Stable over a power loss, so that nobody's ARP entry goes stale."""
        low = int(self.network.network_address) & 0xFFFFFF
        return f"02:54:{low >> 16 & 255:02x}:{low >> 8 & 255:02x}:00:{index & 255:02x}"


def settings_from(environment: Mapping[str, str] | None = None) -> Settings:
    """Read TRUSTEDVM_CACHE, TRUSTEDVM_LAB_DIR and TRUSTEDVM_LAB_NETWORK.

    A lab in another directory than the default one derives bridge and network from the
    directory's path, so that it needs no further choice.
    """
    env = os.environ if environment is None else environment
    cache = Path(env.get("TRUSTEDVM_CACHE") or DEFAULT_CACHE)
    default = cache / "lab"
    state = Path(env.get("TRUSTEDVM_LAB_DIR") or default)
    if not state.is_absolute() or not cache.is_absolute():
        raise LabError("TRUSTEDVM_LAB_DIR and TRUSTEDVM_CACHE must be absolute paths")
    state = Path(os.path.normpath(state))
    if len(str(state)) > MAX_STATE_PATH:
        raise LabError(f"{state} is longer than {MAX_STATE_PATH} characters; SSH's control sockets would not fit")
    number = 0 if state == Path(DEFAULT_CACHE) / "lab" else zlib.crc32(str(state).encode()) % 255 + 1
    return Settings(state, cache, f"tvlab{number}", _network(env.get("TRUSTEDVM_LAB_NETWORK"), number))


def _network(chosen: str | None, number: int) -> ipaddress.IPv4Network:
    try:
        network = ipaddress.IPv4Network(chosen or f"10.99.{number}.0/24")
    except ValueError as error:
        raise LabError(f"TRUSTEDVM_LAB_NETWORK: {error}") from error
    if not 24 <= network.prefixlen <= 29:
        raise LabError(f"TRUSTEDVM_LAB_NETWORK: {network} must be between /24 and /29")
    return network
