# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The root of a host: this machine's own, or a debootstrap tree of another Debian release."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from .errors import LabError
from .settings import Settings

RELEASES = ("bookworm", "trixie", "forky")
DEFAULT_RELEASE = "bookworm"
COMMANDS = {
    "libvirtd": "libvirt-daemon-system", "qemu-system-x86_64": "qemu-system-x86", "swtpm": "swtpm", "swtpm_setup": "swtpm-tools",
    "sshd": "openssh-server", "ip": "iproute2", "nsenter": "util-linux", "ssh-keygen": "openssh-client",
}

SCRIPTS = Path("/usr/share/debootstrap/scripts")
TREE_PACKAGES = (
    "libvirt-daemon-system", "libvirt-daemon-driver-secret", "libvirt-clients", "qemu-system-x86", "qemu-utils", "swtpm", "swtpm-tools",
    "ovmf", "openssh-server", "iproute2", "procps", "python3", "python3-apt", "python3-cryptography", "python3-libvirt", "python3-lxml",
)
TREE_ENVIRONMENT = ("PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive")
TREE_FILES = {
    # No daemon starts while packages are installed.
    "usr/sbin/policy-rc.d": "#!/bin/sh\nexit 101\n",
    "etc/apt/apt.conf.d/90lab": 'APT::Install-Recommends "false";\nAcquire::Check-Valid-Until "false";\n',
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
    if not tree.is_dir():
        raise LabError(f"no tree of {release} in {settings.trees}; 'lab prepare --release {release}' makes it")
    return tree


def missing_packages() -> list[str]:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = [package for command, package in COMMANDS.items() if shutil.which(command, path=path) is None]
    probe = subprocess.run(["/usr/bin/python3", "-c", "import libvirt, lxml, cryptography"], capture_output=True, check=False)
    return missing + (["python3-libvirt, python3-lxml or python3-cryptography"] if probe.returncode else [])


def prepare(settings: Settings, releases: list[str], say: Callable[[str], None]) -> None:
    """Make the trees that are missing; of this machine's own release only the packages are checked."""
    for release in releases:
        if release == machine_release():
            root_of(settings, release)
            say(f"{release}: this machine's own root, all packages are there")
            continue
        settings.trees.mkdir(parents=True, exist_ok=True)
        with (settings.trees / f"{release}.lock").open("w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if (settings.trees / release).is_dir():
                say(f"{release}: {settings.trees / release} is there")
                continue
            say(f"{release}: making {settings.trees / release}, some minutes")
            _make_tree(settings.trees / release, release)
            say(f"{release}: done")


def _make_tree(tree: Path, release: str) -> None:
    """Build beside the final place, so that a tree that is there is a whole one."""
    work, log = tree.with_name(tree.name + ".new"), tree.with_name(tree.name + ".log")
    if work.exists():
        shutil.rmtree(work)
    script = SCRIPTS / release
    # No --include: debootstrap's resolver fails on libvirt.
    debootstrap = ["debootstrap", "--variant=minbase", release, str(work), mirror()]
    _run_logged(debootstrap if script.exists() else [*debootstrap, str(SCRIPTS / "sid")], log)
    for name, text in TREE_FILES.items():
        (work / name).write_text(text, encoding="utf-8")
        (work / name).chmod(0o755)
    for command in (["apt-get", "-q", "update"], ["apt-get", "-q", "-y", "install", *TREE_PACKAGES], ["apt-get", "clean"]):
        # In namespaces of its own, so that a mount or a daemon of a package's script cannot stay.
        inside = ["unshare", "--mount", "--pid", "--fork", "--kill-child", f"--mount-proc={work}/proc", "chroot", str(work)]
        _run_logged([*inside, "env", "-i", *TREE_ENVIRONMENT, *command], log)
    work.rename(tree)


def mirror() -> str:
    """The mirror that this machine's apt uses, or TRUSTEDVM_DEBIAN_MIRROR."""
    chosen = os.environ.get("TRUSTEDVM_DEBIAN_MIRROR")
    if chosen:
        return chosen
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(ORIGIN)", "Created-By: Packages"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        uri, codename, origin = (*line.split(" ", 2), "", "")[:3]
        if origin == "Debian" and codename == machine_release():
            return uri
    raise LabError("apt knows no Debian mirror; run 'apt-get update', or set TRUSTEDVM_DEBIAN_MIRROR")


def _run_logged(command: list[str], log: Path) -> None:
    with log.open("ab") as output:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False)
    if done.returncode:
        tail = "\n  ".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-10:])
        raise LabError(f"'{' '.join(command[:12])} …' failed with exit status {done.returncode}; {log} ends with:\n  {tail}")
