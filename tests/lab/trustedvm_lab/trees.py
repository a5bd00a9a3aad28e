# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The root of a host: this machine's own, or a debootstrap tree of another Debian release."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from .errors import LabError
from .settings import Settings

RELEASES = ("bookworm", "trixie", "forky")
DEFAULT_RELEASE = "bookworm"
COMMANDS = {
    "libvirtd": "libvirt-daemon-system", "qemu-system-x86_64": "qemu-system-x86", "swtpm": "swtpm", "swtpm_setup": "swtpm-tools",
    "sshd": "openssh-server", "ip": "iproute2", "nsenter": "util-linux", "ssh-keygen": "openssh-client",
}


def machine_release() -> str:
    return platform.freedesktop_os_release().get("VERSION_CODENAME", "unknown")


def root_of(settings: Settings, release: str) -> Path:
    """Directory that becomes the lower layer of a host's root; '/' for this machine's own release."""
    if release == machine_release():
        missing = missing_packages()
        if missing:
            raise LabError(f"this machine lacks {', '.join(missing)}; 'apt-get install' the packages of tests/lab/packages.txt")
        return Path("/")
    tree = settings.trees / release
    if not (tree / "complete").exists():
        raise LabError(f"no tree of {release} in {settings.trees}; 'lab prepare --release {release}' makes it")
    return tree


def missing_packages() -> list[str]:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = [package for command, package in COMMANDS.items() if shutil.which(command, path=path) is None]
    probe = subprocess.run(["/usr/bin/python3", "-c", "import libvirt, lxml, cryptography"], capture_output=True, check=False)
    return missing + (["python3-libvirt, python3-lxml or python3-cryptography"] if probe.returncode else [])
