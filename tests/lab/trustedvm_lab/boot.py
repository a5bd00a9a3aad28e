# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""First stage of a host's boot: namespaces, root, and then the host's own init.

Runs as a program of its own: boot.py HOST_JSON TREE_OR_SLASH SHARED CACHE. Its standard input is the
"power good" line: it waits there until the network cable is in, and ends if the line is cut.
It prints the PID of the host's init, as this machine sees it, and leaves.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    sys.dont_write_bytecode = True

from trustedvm_lab import hostfiles, overlays
from trustedvm_lab.records import HostRecord, load_record

# linux/sched.h; os.unshare() came with Python 3.12 only.
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000
DEVICES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))
OPTIONAL_DEVICES = ("kvm", "net/tun", "fuse")
INIT = "run/lab-init.py"


def unshare(flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags):
        number = ctypes.get_errno()
        raise OSError(number, f"unshare: {os.strerror(number)}")


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def mount_root(record: HostRecord, tree: Path) -> None:
    layers, root = record.path / "layers", record.root
    root.mkdir(exist_ok=True)
    layers.mkdir(exist_ok=True)
    if tree == Path("/"):
        # pivot_root wants a mount point; the skeleton itself is a plain directory that persists.
        mount("--bind", str(root), str(root))
        plan = overlays.machine_overlays(layers, root)
    else:
        plan = overlays.tree_overlay(tree, layers, root)
    for overlay in plan:
        overlay.make_directories()
        mount("-t", "overlay", "overlay", "-o", overlay.options, str(overlay.target))


def mount_kernel_file_systems(root: Path) -> None:
    for name in ("proc", "sys", "dev", "run", "tmp", "srv", "mnt", "root", "home", "var/tmp"):
        (root / name).mkdir(parents=True, exist_ok=True)
    mount("-t", "proc", "proc", str(root / "proc"))
    mount("-t", "sysfs", "sysfs", str(root / "sys"))
    mount("-t", "tmpfs", "-o", "mode=755,size=64m", "tmpfs", str(root / "run"))
    mount("-t", "tmpfs", "-o", "mode=755,size=1m", "tmpfs", str(root / "dev"))
    (root / "run/lock").mkdir(mode=0o1777)
    (root / "root").chmod(0o700)
    for entry in (root / "tmp").iterdir():
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    for name in ("tmp", "var/tmp"):
        (root / name).chmod(0o1777)


def make_devices(dev: Path) -> None:
    for name, major, minor in DEVICES:
        os.mknod(dev / name, 0o20666, os.makedev(major, minor))
        (dev / name).chmod(0o666)
    # /dev/kvm comes along although guests may hang on it: nothing may choose KVM for its mere presence.
    for name in OPTIONAL_DEVICES:
        outer = Path("/dev", name)
        if outer.is_char_device():
            (dev / name).parent.mkdir(exist_ok=True)
            status = outer.stat()
            os.mknod(dev / name, status.st_mode, status.st_rdev)
            os.chown(dev / name, status.st_uid, status.st_gid)
    for name in ("pts", "shm"):
        (dev / name).mkdir()
    mount("-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=0620,gid=5", "devpts", str(dev / "pts"))
    mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", str(dev / "shm"))
    for name, target in (("ptmx", "pts/ptmx"), ("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        (dev / name).symlink_to(target)


def hide(root: Path, directory: Path) -> None:
    """Trees and states of labs are none of a host's business."""
    inside = root / directory.relative_to("/")
    if inside.is_dir():
        mount("-t", "tmpfs", "-o", "ro,mode=755", "tmpfs", str(inside))


def mount_storage(record: HostRecord, shared: Path) -> None:
    for name, source in (("shared", shared), ("local", record.local)):
        target = record.root / "srv" / name
        target.mkdir(exist_ok=True)
        mount("--bind", str(source), str(target))


def enter_root(root: Path) -> None:
    old = root / "run/outside"
    old.mkdir()
    os.chdir(root)
    subprocess.run(["pivot_root", ".", "run/outside"], check=True)
    os.chdir("/")
    subprocess.run(["umount", "--lazy", "/run/outside"], check=True)
    Path("/run/outside").rmdir()


def boot(record: HostRecord, tree: Path, shared: Path, cache: Path) -> None:
    """As PID 1 of the new namespaces: build the root, wait for the cable, become init."""
    mount("--make-rprivate", "/")
    mount_root(record, tree)
    hide(record.root, cache)
    mount_kernel_file_systems(record.root)
    make_devices(record.root / "dev")
    mount_storage(record, shared)
    hostfiles.install(record)
    shutil.copyfile(Path(__file__).with_name("init.py"), record.root / INIT)
    socket.sethostname(record.name)
    if sys.stdin.readline().strip() != "go":
        raise SystemExit("the lab gave up before the network was there")
    enter_root(record.root)
    os.execve("/usr/bin/python3", ["lab-init", "-I", "-B", "/" + INIT], hostfiles.ENVIRONMENT)


def main(arguments: list[str]) -> int:
    record = load_record(Path(arguments[0]).parent)
    if record is None:
        raise SystemExit(f"{arguments[0]} is not there")
    unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET)
    pid = os.fork()
    if pid:
        print(pid, flush=True)
        return 0
    os.setsid()
    # The pipe that carries the PID must not stay open; what follows goes to the boot log.
    os.dup2(2, 1)
    boot(record, *map(Path, arguments[1:4]))
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
