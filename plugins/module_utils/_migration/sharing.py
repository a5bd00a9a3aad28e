# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Whether a file of the source is the very same file at the destination.

Asked over libvirt only: a transient directory pool at the destination shows what is there, and a
marker file with a random name, made here and seen there, proves that it is one directory. Nothing
that exists is changed on either host, and the marker and the pool are gone afterwards.
"""

import os
import secrets
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Iterator, Optional, Sequence

from .._core.connection import libvirt_message
from .._core.deps import etree, libvirt

# On these, what one host writes the other sees at once, or never. A network file system may show an
# old listing for a while (NFS: acdirmax, 60 s): there, a marker that is not seen proves nothing.
LOCAL_FILESYSTEMS = frozenset(("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "tmpfs", "overlay"))

MARKER_PREFIX = ".trustedvm-probe-"
ENOENT = 2


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
        names: files that are in the directory here. Where the destination has none of them, its
            directory is another one; where it has one, the marker decides.
    """
    found = _look(destination, directory, names)
    filesystem = filesystem_type(directory)
    if found.shared is False and filesystem not in LOCAL_FILESYSTEMS:
        return Sharing(None, found.exists, "%s is on %s, which may show its changes late" % (directory, filesystem))
    return found


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


def _look(destination: Any, directory: str, names: Sequence[str]) -> Sharing:
    try:
        with directory_pool(destination, directory) as pool:
            if not any(_has_volume(pool, name) for name in names):
                return NOT_THERE
            return _probe_with_marker(pool, directory)
    except libvirt.libvirtError as error:
        # virReportSystemError puts errno into int1 (libvirt virerror.c), also over the wire.
        if error.get_error_code() == libvirt.VIR_ERR_SYSTEM_ERROR and error.get_int1() == ENOENT:
            return NO_DIRECTORY
        return Sharing(None, None, libvirt_message(error))


def exists_there(destination: Any, path: str) -> Optional[bool]:
    """Whether the destination has a file of that path; None where it cannot be seen."""
    try:
        with directory_pool(destination, os.path.dirname(path)) as pool:
            return _has_volume(pool, os.path.basename(path))
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_SYSTEM_ERROR and error.get_int1() == ENOENT:
            return False
        return None


def _probe_with_marker(pool: Any, directory: str) -> Sharing:
    marker = os.path.join(directory, MARKER_PREFIX + secrets.token_hex(12))
    try:
        # O_EXCL does not follow a link, so the owner of the directory cannot lead root elsewhere.
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except OSError as error:
        return Sharing(None, True, "no marker file can be made in %s: %s" % (directory, error.strerror))
    try:
        pool.refresh(0)
        return Sharing(_has_volume(pool, os.path.basename(marker)), True)
    finally:
        os.unlink(marker)


@contextmanager
def directory_pool(destination: Any, directory: str) -> Iterator[Any]:
    """A transient storage pool that shows a directory of the destination."""
    root = etree.Element("pool", type="dir")
    etree.SubElement(root, "name").text = "trustedvm-probe-" + secrets.token_hex(8)
    # libvirt refuses two pools with one target path, comparing the text: with "/." ours never
    # meets a pool that the operator has for this directory.
    etree.SubElement(etree.SubElement(root, "target"), "path").text = directory + "/."
    pool = destination.storagePoolCreateXML(etree.tostring(root, encoding="unicode"), 0)
    try:
        yield pool
    finally:
        pool.destroy()


def _has_volume(pool: Any, name: str) -> bool:
    try:
        pool.storageVolLookupByName(name)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_STORAGE_VOL:
            return False
        raise
    return True
