# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Can the destination reach the disks of a VM that is off? A cold migration does not copy disks."""

import os
from typing import Any, Optional

from .._core.deps import etree, libvirt
from .._core.domains import definition
from .._core.errors import TrustedVMError
from .._domain.description import Disk, disks_of
from .request import Request
from .sharing import Sharing, probe
from .survey import Survey

# Pools whose volumes are files of a directory; the others are devices, or on the network.
FILE_POOLS = ("dir", "fs", "netfs")
_NETWORK_POOLS = ("rbd", "gluster", "iscsi", "iscsi-direct", "sheepdog", "vstorage")

_REACHED = Sharing(True, True)
_NO_SUCH = Sharing(False, False)


def disk_obstacles(survey: Survey, request: Request) -> list[TrustedVMError]:
    """One for each disk that is not there, or that may be another one."""
    if survey.here is None:
        return []
    found = [_obstacle(survey, disk, request.unsafe) for disk in disks_of(definition(survey.here))]
    return [obstacle for obstacle in found if obstacle is not None]


def _obstacle(survey: Survey, disk: Disk, unsafe: bool) -> Optional[TrustedVMError]:
    there = reach(survey, disk)
    if there.shared or (there.exists is not False and (unsafe or (_lent(disk) and there.exists))):
        return None
    host, name = survey.destination_host, survey.machine.name if survey.machine else ""
    if there.exists is False and there.shared is False:
        return TrustedVMError(
            "disk_not_on_destination",
            "Host %s does not have %s of VM '%s'" % (host, disk.label, name),
            found="no such disk there",
            hint="Put it there, or on storage that both hosts have: a cold migration does not copy disks",
        )
    if there.shared is False:
        return TrustedVMError(
            "disk_not_shared",
            "%s on host %s is not the disk of VM '%s', but another one of that name" % (disk.label, host, name),
            found="storage of its own on each host",
            hint="Move the disk to shared storage; or, if you copied it there, set unsafe=true",
        )
    return TrustedVMError(
        "disk_sharing_unknown",
        "It cannot be seen whether host %s has %s of VM '%s'" % (host, disk.label, name),
        found=there.reason,
        hint="If both hosts really have the same disk, set unsafe=true",
    )


def _lent(disk: Disk) -> bool:
    """An image that the VM only reads may be a copy."""
    return disk.readonly or disk.device in ("cdrom", "floppy")


def reach(survey: Survey, disk: Disk) -> Sharing:
    """Whether the destination has the disk, and whether it is the same one."""
    if disk.kind == "network" or not (disk.path or disk.pool):
        return _REACHED
    if disk.pool:
        return _volume_reach(survey, disk)
    return _path_reach(survey, disk.kind, disk.path or "")


def _path_reach(survey: Survey, kind: str, path: str) -> Sharing:
    if kind == "file" and survey.source_is_local:
        found = probe(survey.destination, os.path.dirname(path), [os.path.basename(path)])
        return _NO_SUCH if found.shared is False and not found.exists else found
    return Sharing(None, _known_path(survey.destination, path), "it is a device, or the source's libvirt is not on this machine")


def _known_path(destination: Any, path: str) -> Optional[bool]:
    """Whether a pool of the destination has it. A directory pool on /dev would open every device there."""
    try:
        destination.storageVolLookupByPath(path)
    except libvirt.libvirtError:
        return None
    return True


def _volume_reach(survey: Survey, disk: Disk) -> Sharing:
    try:
        pool = survey.source.storagePoolLookupByName(disk.pool)
        here = pool.storageVolLookupByName(disk.volume)
        there = survey.destination.storagePoolLookupByName(disk.pool).storageVolLookupByName(disk.volume)
    except libvirt.libvirtError as error:
        missing = error.get_error_code() in (libvirt.VIR_ERR_NO_STORAGE_POOL, libvirt.VIR_ERR_NO_STORAGE_VOL)
        return _NO_SUCH if missing else Sharing(None, None, str(error))
    kind = etree.fromstring(pool.XMLDesc(0).encode()).get("type")
    if kind in _NETWORK_POOLS:
        return _REACHED
    if kind in FILE_POOLS and here.path() == there.path():
        return _path_reach(survey, "file", here.path())
    return Sharing(None, True, "volumes of a pool of type %s" % kind)
