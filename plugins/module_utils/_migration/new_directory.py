# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""The directory of an NVRAM file or a TPM state at the destination, made over libvirt.

libvirt makes the file for an incoming VM, but not its directory (seen on 9.0.0: "Failed to create
file '….fd.new': No such file or directory").
"""

import os
import secrets
import stat
import time
from typing import Any

from .._core.deps import etree, libvirt
from .directory_pool import PREFIX, unlike_others

# As nvram_volume makes it: the VM's user has to get through to its file.
MODE_DEFAULT = 0o711


def make(destination: Any, directory: str) -> None:
    """Make it, with its parents, with the mode that it has here.

    Raises:
        libvirtError: libvirt's, as it is.
    """
    pool = destination.storagePoolCreateXML(
        _pool_xml(directory, _mode(directory)), libvirt.VIR_STORAGE_POOL_CREATE_WITH_BUILD
    )
    pool.destroy()


def remove_empty(destination: Any, directory: str) -> None:
    """Take it away again; a directory with something in it stays."""
    try:
        pool = destination.storagePoolDefineXML(_pool_xml(directory, MODE_DEFAULT), 0)
    except libvirt.libvirtError:
        return
    try:
        # For a directory pool libvirt's "delete" is rmdir (storage_util.c, virStorageBackendDeleteLocal).
        pool.delete(0)
    except libvirt.libvirtError:
        pass
    finally:
        pool.undefine()


def _mode(directory: str) -> int:
    try:
        return stat.S_IMODE(os.stat(directory).st_mode)
    except OSError:
        return MODE_DEFAULT


def _pool_xml(directory: str, mode: int) -> str:
    root = etree.Element("pool", type="dir")
    etree.SubElement(root, "name").text = "%s%d-%s" % (PREFIX, time.time(), secrets.token_hex(8))
    target = etree.SubElement(root, "target")
    etree.SubElement(target, "path").text = unlike_others(directory)
    etree.SubElement(etree.SubElement(target, "permissions"), "mode").text = "%04o" % mode
    return str(etree.tostring(root, encoding="unicode"))
