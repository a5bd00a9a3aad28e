# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""A transient storage pool that shows a directory of the destination for a moment."""

import re
import secrets
import time
from contextlib import contextmanager
from typing import Any, Iterator

from .._core.deps import etree, libvirt

PREFIX = "trustedvm-probe-"
_MOST_DOTS = 8
_DOTS = re.compile(r"(/\.)+(?=/)")
_TRIES = 5
_STRAY_SECONDS = 3600


@contextmanager
def directory_pool(destination: Any, directory: str) -> Iterator[Any]:
    """Show a directory that exists; the pool is gone afterwards.

    Raises:
        libvirtError: the directory is not there (:func:`.sharing.is_missing`), or cannot be read.
    """
    try:
        pool = _create(destination, directory)
        try:
            yield pool
        finally:
            pool.destroy()
    except libvirt.libvirtError as error:
        tidy(error)
        raise


def tidy(error: Any) -> None:
    """People read libvirt's message, and know the path without our dots."""
    if error.err is not None and error.err[2]:
        error.err = (*error.err[:2], _DOTS.sub("", error.err[2]), *error.err[3:])


def unlike_others(directory: str) -> str:
    """The directory in other words. libvirt refuses two pools with one target path, but compares the text.

    So ours hardly ever meets one of another run or one that a killed run left, and never one that the
    operator has.
    """
    parts = directory.strip("/").split("/")
    return "/." + "".join("/." * secrets.randbelow(_MOST_DOTS) + "/" + part for part in parts)


def _create(destination: Any, directory: str) -> Any:
    for left in reversed(range(_TRIES)):
        root = etree.Element("pool", type="dir")
        etree.SubElement(root, "name").text = "%s%d-%s" % (PREFIX, time.time(), secrets.token_hex(8))
        etree.SubElement(etree.SubElement(root, "target"), "path").text = unlike_others(directory)
        try:
            return destination.storagePoolCreateXML(etree.tostring(root, encoding="unicode"), 0)
        except libvirt.libvirtError as error:
            if not left or error.get_error_code() != libvirt.VIR_ERR_OPERATION_FAILED:
                raise
    return None


def remove_strays(destination: Any) -> None:
    """Remove pools that killed runs left, best effort; the directories and what is in them stay."""
    for pool in destination.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_TRANSIENT):
        made_at = pool.name()[len(PREFIX) :].split("-")[0] if pool.name().startswith(PREFIX) else ""
        if made_at.isdigit() and time.time() - int(made_at) > _STRAY_SECONDS:
            try:
                pool.destroy()
            except libvirt.libvirtError:
                # Another run was faster.
                continue
