# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Whether a file of the source is the very same file at the destination.

Asked over libvirt only, through a transient directory pool at the destination. An empty marker file
with a random name, made on one host and seen on the other, proves that it is one directory. One made
there and not seen here proves the opposite where this host's file system is its own: what a client
makes on a file system that this host exports, this host sees at once. The reverse proves nothing, for
the client may answer from an old listing (NFS: acdirmax, 60 s). Nothing that exists is changed on
either host, and the markers and the pool are gone afterwards.
"""

import errno
import os
import secrets
from dataclasses import dataclass
from typing import Any, Optional, Sequence

from .._core.connection import libvirt_message
from .._core.deps import etree, libvirt
from .directory_pool import directory_pool
from .lookup import find_volume

# What is made on these, by this host or by a client that it exports them to, is seen here at once.
LOCAL_FILESYSTEMS = frozenset(("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "tmpfs", "overlay"))

MARKER_PREFIX = ".trustedvm-probe-"


@dataclass(frozen=True)
class Sharing:
    """What was found.

    Attributes:
        shared: True only on proof; None where it could not be decided.
        exists: a file of that name is there; None where it could not be seen.
        reason: why it could not be decided, or that not even the directory is there.
    """

    shared: Optional[bool]
    exists: Optional[bool]
    reason: Optional[str] = None


NOT_THERE = Sharing(shared=False, exists=False)
NO_DIRECTORY = Sharing(shared=False, exists=False, reason="no such directory")


def probe(destination: Any, directory: str, names: Sequence[str]) -> Sharing:
    """Compare a directory of this machine with the one of the same path at the destination.

    Args:
        destination: open ``virConnect``.
        names: files that are in the directory here; the answer says whether the destination has one of them.
    """
    try:
        with directory_pool(destination, directory) as pool:
            exists = any(find_volume(pool, name) is not None for name in names)
            return _decide(pool, directory, exists)
    except libvirt.libvirtError as error:
        if is_missing(error):
            return _no_directory(directory)
        return Sharing(None, None, libvirt_message(error))


def _decide(pool: Any, directory: str, exists: bool) -> Sharing:
    """A marker of theirs decides; one of ours can only prove that it is one directory."""
    seen, why_not = _marker_of_theirs(pool, directory)
    if seen:
        return Sharing(True, exists)
    filesystem = filesystem_type(directory)
    if why_not is None and filesystem in LOCAL_FILESYSTEMS:
        return Sharing(False, exists)
    seen, why_not_ours = _marker_of_ours(pool, directory)
    if seen:
        return Sharing(True, exists)
    return Sharing(None, exists, why_not or why_not_ours or _late(directory, filesystem))


def _no_directory(directory: str) -> Sharing:
    filesystem = filesystem_type(directory)
    return NO_DIRECTORY if filesystem in LOCAL_FILESYSTEMS else Sharing(None, None, _late(directory, filesystem))


def _late(directory: str, filesystem: str) -> str:
    return "%s is on %s, which may show its changes late" % (directory, filesystem)


def filesystem_type(directory: str) -> str:
    """The type of the file system that a directory is on, as the kernel names it (``ext4``, ``nfs4``, ``fuse.glusterfs``)."""
    real = os.path.realpath(directory)
    best, kind = "", "unknown"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
        for line in mounts:
            # man 5 proc: … mount-point options … - type source options; blanks are written as \\040
            before, after = line.rstrip("\n").split(" - ", 1)
            point = before.split()[4].replace("\\040", " ")
            below = real == point or real.startswith(point.rstrip("/") + "/")
            # Of two on one mount point the later one is what is seen.
            if below and len(point) >= len(best):
                best, kind = point, after.split()[0]
    return kind


def is_missing(error: Any) -> bool:
    """Whether a libvirtError says that a directory or file is not there."""
    # virReportSystemError puts errno into int1 (libvirt virerror.c), also over the wire.
    return bool(error.get_error_code() == libvirt.VIR_ERR_SYSTEM_ERROR and error.get_int1() == errno.ENOENT)


def exists_there(destination: Any, path: str) -> Optional[bool]:
    """Whether the destination has a file of that path; None where it cannot be seen."""
    try:
        with directory_pool(destination, os.path.dirname(path)) as pool:
            return find_volume(pool, os.path.basename(path)) is not None
    except libvirt.libvirtError as error:
        if is_missing(error):
            return False
        return None


def directory_exists(destination: Any, directory: str) -> Optional[bool]:
    """Whether the destination has a directory of that path; None where it cannot be seen."""
    try:
        with directory_pool(destination, directory):
            return True
    except libvirt.libvirtError as error:
        return False if is_missing(error) else None


def _marker_of_theirs(pool: Any, directory: str) -> tuple[bool, Optional[str]]:
    """Whether a marker that the destination makes is seen here, and why none could be made."""
    name = MARKER_PREFIX + secrets.token_hex(12)
    volume = etree.Element("volume")
    etree.SubElement(volume, "name").text = name
    etree.SubElement(volume, "capacity").text = "0"
    target = etree.SubElement(volume, "target")
    etree.SubElement(target, "format", type="raw")
    etree.SubElement(etree.SubElement(target, "permissions"), "mode").text = "0600"
    try:
        made = pool.createXML(etree.tostring(volume, encoding="unicode"), 0)
    except libvirt.libvirtError as error:
        return False, "no marker file can be made in %s at the destination: %s" % (directory, libvirt_message(error))
    try:
        return os.path.lexists(os.path.join(directory, name)), None
    finally:
        made.delete(0)


def _marker_of_ours(pool: Any, directory: str) -> tuple[bool, Optional[str]]:
    """Whether a marker that is made here is seen at the destination, and why none could be made."""
    marker = os.path.join(directory, MARKER_PREFIX + secrets.token_hex(12))
    try:
        # O_EXCL does not follow a link, so the owner of the directory cannot lead root elsewhere.
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except OSError as error:
        return False, "no marker file can be made in %s: %s" % (directory, error.strerror)
    try:
        pool.refresh(0)
        return find_volume(pool, os.path.basename(marker)) is not None, None
    finally:
        os.unlink(marker)
