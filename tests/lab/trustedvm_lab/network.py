# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab's bridge and the cables to it, with ip(8)."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from .errors import LabError
from .settings import Settings


def run(*command: str, text: str | None = None) -> str:
    """Run a tool; its own words become the error."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()} (exit {done.returncode})")
    return done.stdout


def link_exists(name: str) -> bool:
    return Path("/sys/class/net", name).exists()


def bridge_owner(settings: Settings) -> str | None:
    """State directory of the lab that the bridge belongs to: it is kept in the link's alias."""
    try:
        return Path("/sys/class/net", settings.bridge, "ifalias").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None


def ensure_bridge(settings: Settings) -> None:
    owner = bridge_owner(settings)
    if owner == str(settings.state):
        return
    if owner is not None:
        raise LabError(
            f"bridge {settings.bridge} belongs to '{owner or 'something else'}', not to the lab in {settings.state}; "
            "choose another TRUSTEDVM_LAB_DIR"
        )
    prefix = settings.network.prefixlen
    _refuse_taken_network(settings)
    commands = [
        f"link add {settings.bridge} type bridge forward_delay 0 stp_state 0",
        f"link set {settings.bridge} alias {settings.state}",
        f"addr add {settings.gateway}/{prefix} dev {settings.bridge}",
        f"link set {settings.bridge} up",
    ]
    try:
        run("ip", "-batch", "-", text="\n".join(commands) + "\n")
    except LabError:
        remove_link(settings.bridge)
        raise


def _refuse_taken_network(settings: Settings) -> None:
    routes = run("ip", "-4", "route", "show", "root", str(settings.network)).strip()
    if routes:
        raise LabError(f"network {settings.network} is already in use ({routes.splitlines()[0].strip()}); "
                       "set TRUSTEDVM_LAB_NETWORK, for example to 10.123.0.0/24")


def remove_bridge(settings: Settings) -> None:
    if bridge_owner(settings) == str(settings.state):
        remove_link(settings.bridge)


def remove_link(name: str) -> None:
    """Remove a link and wait: a veth of a dying network namespace goes asynchronously."""
    if link_exists(name):
        # It can vanish by itself between the look and the removal.
        subprocess.run(["ip", "link", "del", name], capture_output=True, check=False)
    deadline = time.monotonic() + 10
    while link_exists(name):
        if time.monotonic() > deadline:
            raise LabError(f"link {name} does not go away")
        time.sleep(0.02)


def connect(settings: Settings, index: int, pid: int) -> None:
    """Plug a cable between the bridge and the network namespace of a process."""
    port, mac = settings.port(index), settings.mac(index)
    remove_link(port)
    run("ip", "-batch", "-", text=(
        f"link add {port} type veth peer name eth0 address {mac} netns {pid}\n"
        f"link set {port} master {settings.bridge}\n"
        f"link set {port} up\n"
    ))
    run("nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-batch", "-", text=(
        "link set lo up\n"
        f"addr add {settings.address(index)}/{settings.network.prefixlen} dev eth0\n"
        "link set eth0 up\n"
        f"route add default via {settings.gateway}\n"
    ))


def set_cable(settings: Settings, index: int, plugged: bool) -> None:
    run("ip", "link", "set", settings.port(index), "up" if plugged else "down")


def cable_plugged(settings: Settings, index: int) -> bool:
    """Whether the port is administratively up (bit IFF_UP of its flags)."""
    try:
        flags = Path("/sys/class/net", settings.port(index), "flags").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    return bool(int(flags, 16) & 1)
