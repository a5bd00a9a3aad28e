# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""The directories in which the libvirt of a connection keeps secrets, TPM state and NVRAM.

libvirt has no call that tells them; they follow from the connection (libvirt 9.0 to 12.8,
qemu_conf.c virQEMUDriverConfigNew and secret_driver.c secretStateInitialize).
"""

import os
from dataclasses import dataclass
from typing import Any, Optional
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class HostPaths:
    """libvirt's own directories on this machine."""

    secrets: str
    tpm_states: str
    nvram: str


def host_paths(connection: Any) -> Optional[HostPaths]:
    """The directories of an open connection; None where its hypervisor may be another machine."""
    return paths_of_uri(connection.getURI())


def paths_of_uri(uri: str) -> Optional[HostPaths]:
    """The directories that follow from a connection URI; None where they are not this machine's."""
    parts = urlsplit(uri)
    scheme, _plus, transport = parts.scheme.partition("+")
    if parts.netloc or transport not in ("", "unix") or scheme not in ("qemu", "secret"):
        return None
    if parts.path == "/system":
        return HostPaths(
            secrets="/etc/libvirt/secrets",
            tpm_states="/var/lib/libvirt/swtpm",
            nvram="/var/lib/libvirt/qemu/nvram",
        )
    if parts.path == "/session":
        return _session_paths()
    if parts.path == "/embed":
        root = parse_qs(parts.query).get("root", [""])[0]
        return _embedded_paths(root) if root else None
    return None


def _session_paths() -> HostPaths:
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    base = os.path.join(config, "libvirt")
    return HostPaths(
        secrets=os.path.join(base, "secrets"),
        tpm_states=os.path.join(base, "qemu", "swtpm"),
        nvram=os.path.join(base, "qemu", "nvram"),
    )


def _embedded_paths(root: str) -> HostPaths:
    return HostPaths(
        secrets=os.path.join(root, "etc", "secrets"),
        tpm_states=os.path.join(root, "lib", "swtpm"),
        nvram=os.path.join(root, "lib", "qemu", "nvram"),
    )
