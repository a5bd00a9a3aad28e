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

MARKER_PREFIX = ".trustedvm-probe-"
ENOENT = 2


@dataclass(frozen=True)
class Sharing:
    """What was found.

    Attributes:
        shared: True only on proof; None where it could not be decided.
        exists: a file of that name is there; None where it could not be seen.
        reason: why it could not be decided.
    """

    shared: Optional[bool]
    exists: Optional[bool]
    reason: Optional[str] = None


NOT_THERE = Sharing(shared=False, exists=False)


def probe(destination: Any, directory: str, names: Sequence[str]) -> Sharing:
    """Compare a directory of this machine with the one of the same path at the destination.

    Args:
        destination: open ``virConnect``.
        names: files that are in the directory here. Where the destination has none of them, its
            directory is another one; where it has one, the marker decides.
    """
    try:
        with directory_pool(destination, directory) as pool:
            if not any(_has_volume(pool, name) for name in names):
                return NOT_THERE
            return _probe_with_marker(pool, directory)
    except libvirt.libvirtError as error:
        # virReportSystemError puts errno into int1 (libvirt virerror.c), also over the wire.
        if error.get_error_code() == libvirt.VIR_ERR_SYSTEM_ERROR and error.get_int1() == ENOENT:
            return NOT_THERE
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
