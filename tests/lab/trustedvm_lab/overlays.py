# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which overlay mounts make a private, writable copy of this machine's root."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# Own, or made anew at each boot: never this machine's content.
SKIPPED = frozenset(("dev", "proc", "sys", "run", "tmp", "mnt", "media", "srv", "root", "home", "lost+found"))
WANTED = frozenset(("bin", "boot", "etc", "lib", "lib32", "lib64", "libx32", "opt", "sbin", "usr", "var"))


@dataclass(frozen=True)
class Overlay:
    lower: Path
    """The directory of this machine, or the tree, that is only read."""
    layers: Path
    """Holds the writable layer and overlayfs's work directory."""
    target: Path

    @property
    def options(self) -> str:
        return f"lowerdir={self.lower},upperdir={self.layers}/upper,workdir={self.layers}/work"

    def make_directories(self) -> None:
        for directory in (self.layers / "upper", self.layers / "work", self.target):
            directory.mkdir(parents=True, exist_ok=True)
        # The merged directory takes owner and mode from the upper layer.
        status = self.lower.stat()
        upper = self.layers / "upper"
        if not any(upper.iterdir()):
            upper.chmod(status.st_mode & 0o7777)
            shutil.chown(upper, status.st_uid, status.st_gid)


def tree_overlay(tree: Path, layers: Path, root: Path) -> list[Overlay]:
    """A host whose root is a debootstrap tree: one overlay."""
    return [Overlay(tree, layers, root)]


def machine_overlays(layers: Path, root: Path, machine: Path = Path("/")) -> list[Overlay]:
    """A host whose root is this machine's own: an overlay per directory.

    overlayfs refuses an upper directory inside its lower one (ELOOP), and the layers do lie somewhere
    below '/'. So a directory on the way to the layers becomes a plain one, with overlays for its children;
    from the third level on (/var/cache/NAME) it is left out, as it belongs to the lab. Symbolic links and
    files found on the way are copied once.
    """
    names = sorted(entry.name for entry in machine.iterdir() if entry.name in WANTED and entry.name not in SKIPPED)
    return list(_plan([machine / name for name in names], layers, root, machine))


def _plan(entries: Iterable[Path], layers: Path, root: Path, machine: Path) -> Iterable[Overlay]:
    for entry in entries:
        relative = entry.relative_to(machine)
        target = root / relative
        if entry.is_symlink() or not entry.is_dir():
            _copy_once(entry, target)
        elif layers.is_relative_to(entry):
            if len(relative.parts) < 3:
                _plain_directory(entry, target)
                yield from _plan(sorted(entry.iterdir()), layers, root, machine)
        else:
            yield Overlay(entry, layers / str(relative).replace("/", "%"), target)


def _copy_once(entry: Path, target: Path) -> None:
    if not (target.is_symlink() or target.exists()) and (entry.is_symlink() or entry.is_file()):
        shutil.copy2(entry, target, follow_symlinks=False)


def _plain_directory(entry: Path, target: Path) -> None:
    if not target.exists():
        target.mkdir()
        status = entry.stat()
        target.chmod(status.st_mode & 0o7777)
        shutil.chown(target, status.st_uid, status.st_gid)
