# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""A transient storage pool that shows a directory of the destination for a moment."""

import secrets
import time
from contextlib import contextmanager
from typing import Any, Iterator

from .._core.deps import etree, libvirt

_PREFIX = "trustedvm-probe-"
_MOST_DOTS = 200
_TRIES = 5
_STRAY_SECONDS = 3600


@contextmanager
def directory_pool(destination: Any, directory: str) -> Iterator[Any]:
    """Show a directory that exists; the pool is gone afterwards.

    Raises:
        libvirtError: the directory is not there (:func:`.sharing.is_missing`), or cannot be read.
    """
    pool = _create(destination, directory)
    try:
        yield pool
    finally:
        pool.destroy()


def _create(destination: Any, directory: str) -> Any:
    """libvirt refuses two pools with one target path, but compares the text.

    So ours never meets one that the operator has for this directory, nor that of another run, nor one
    that a killed run left.
    """
    for left in reversed(range(_TRIES)):
        root = etree.Element("pool", type="dir")
        etree.SubElement(root, "name").text = "%s%d-%s" % (_PREFIX, time.time(), secrets.token_hex(8))
        path = directory + "/." * (1 + secrets.randbelow(_MOST_DOTS))
        etree.SubElement(etree.SubElement(root, "target"), "path").text = path
        try:
            return destination.storagePoolCreateXML(etree.tostring(root, encoding="unicode"), 0)
        except libvirt.libvirtError as error:
            if not left or error.get_error_code() != libvirt.VIR_ERR_OPERATION_FAILED:
                raise
    return None


def remove_strays(destination: Any) -> None:
    """Remove pools that killed runs left; the directories and what is in them stay."""
    for pool in destination.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_TRANSIENT):
        made_at = pool.name()[len(_PREFIX) :].split("-")[0] if pool.name().startswith(_PREFIX) else ""
        if made_at.isdigit() and time.time() - int(made_at) > _STRAY_SECONDS:
            pool.destroy()
