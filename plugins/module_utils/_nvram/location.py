# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Where a VM's NVRAM volume is, or is to be (requirements N2 and N7)."""

import os
from typing import Any, Optional

from .._core.deps import etree, libvirt
from .._core.errors import TrustedVMError
from .._domain.description import Disk
from .backends.directory import SUFFIX, unsuitable

# Where no connection tells it (a test driver): libvirt's own place of the system instance.
DEFAULT_DIRECTORY = "/var/lib/libvirt/qemu/nvram"

# Pools whose volumes are files in a directory that the host can reach by path.
_FILE_POOLS = ("dir", "fs", "netfs")


def volume_path(
    uuid: str,
    path: Optional[str] = None,
    directory: Optional[str] = None,
    root_directory: Optional[str] = None,
    default_directory: str = DEFAULT_DIRECTORY,
) -> str:
    """The path of a VM's volume: as given, in the directory given, else on the root disk's storage.

    Args:
        root_directory: the directory of the root disk; None for a VM without disks.
        default_directory: libvirt's own NVRAM directory, for a VM without disks.

    Raises:
        TrustedVMError: ``vm_options_invalid`` for a path that is not absolute.
    """
    for option, value in (("path", path), ("directory", directory)):
        if value is not None and not os.path.isabs(value):
            raise TrustedVMError(
                "vm_options_invalid",
                "The NVRAM volume's %s has to be absolute" % option,
                found=value,
            )
    if path:
        return os.path.normpath(path)
    if not directory:
        directory = os.path.join(root_directory, "nvram") if root_directory else default_directory
    return os.path.join(os.path.normpath(directory), uuid, uuid + SUFFIX)


def root_directory(connection: Any, disk: Optional[Disk], wanted: str = "its NVRAM volume") -> Optional[str]:
    """The directory of the root disk; None for a VM without disks.

    Args:
        wanted: what is to be put there, for the message.

    Raises:
        TrustedVMError: ``nvram_storage_unsuitable``: the root disk is no file.
    """
    if disk is None:
        return None
    if disk.kind == "file" and disk.path:
        return os.path.dirname(disk.path)
    if disk.kind == "volume" and disk.pool:
        return _pool_directory(connection, disk.pool, wanted)
    raise unsuitable(wanted, "root disk %s is on %s storage, which holds no files" % (disk.label, disk.kind))


def _pool_directory(connection: Any, name: str, wanted: str) -> str:
    try:
        pool = etree.fromstring(connection.storagePoolLookupByName(name).XMLDesc(0).encode())
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_POOL:
            raise
        raise TrustedVMError(
            "storage_pool_not_found",
            "The root disk's storage pool '%s' is not defined on this host" % name,
            hint="Define the pool, or correct its name",
        ) from error
    kind, target = pool.get("type"), pool.findtext("target/path")
    if kind not in _FILE_POOLS or not target:
        raise unsuitable(wanted, "storage pool '%s' is of type %s, which holds no files" % (name, kind))
    return str(target)
