# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""The disks of a VM that runs: on the destination under the same name, and the same ones.

libvirt says so only once the migration has begun: error 81 for storage that it does not know to be
shared, and QEMU's own words for a file that is not there.
"""

import os
import re
from typing import Any, Optional

from .._core.deps import etree, libvirt
from .._core.errors import TrustedVMError
from .._domain.description import Disk, read_disk
from .disk_reach import FILE_POOLS, reach
from .request import Request
from .sharing import LOCAL_FILESYSTEMS, directory_exists, exists_there, filesystem_type
from .survey import Survey

QEMU_CONF = "/etc/libvirt/qemu.conf"


def storage_obstacles(survey: Survey, request: Request, tree: Any) -> list[TrustedVMError]:
    """At most one for each disk and each of its backing files.

    Args:
        tree: the live ``<domain>``; only that has the backing files.
    """
    found: list[Optional[TrustedVMError]] = []
    for element in tree.findall("devices/disk"):
        source = element.find("source")
        # With a startup policy the destination starts without a medium that it does not have.
        if source is None or source.get("startupPolicy") in ("optional", "requisite"):
            continue
        found.append(_disk(survey, request, read_disk(element)))
        found += [_backing_file(survey, path) for path in _backing_files(element)]
    return [obstacle for obstacle in found if obstacle is not None]


def _disk(survey: Survey, request: Request, disk: Disk) -> Optional[TrustedVMError]:
    if disk.kind == "network" or not (disk.path or disk.pool):
        return None
    inactive = _inactive_pool(survey, disk)
    if inactive is not None:
        return inactive
    path = _file_of(survey, disk)
    lent = disk.readonly or disk.device == "cdrom"
    if path is not None and not lent and not request.unsafe:
        kind = _local_filesystem(survey, path)
        if kind is not None:
            missing = exists_there(survey.destination, path) is False
            return _missing(survey, disk.label) if missing else _not_known_as_shared(survey, disk, kind)
    return _reach_obstacle(survey, disk, path, lent)


def _reach_obstacle(survey: Survey, disk: Disk, path: Optional[str], lent: bool) -> Optional[TrustedVMError]:
    there = reach(survey, disk)
    if there.exists is False and there.shared is False:
        return _missing(survey, disk.label)
    if there.exists is None and path is not None and directory_exists(survey.destination, os.path.dirname(path)) is False:
        return _missing(survey, disk.label)
    # What a link points to may be shared where the link is not.
    if lent or not there.exists or there.shared is not False or path is None or os.path.islink(path):
        return None
    return TrustedVMError(
        "disk_not_shared",
        "%s on host %s is not the disk of VM '%s', but another one of that name"
        % (disk.label, survey.destination_host, _name(survey)),
        found="a directory of its own on each host",
        wanted="one directory that both hosts see",
        hint="Move the disk to shared storage: after a live migration the VM would go on with the other disk's content",
    )


def _inactive_pool(survey: Survey, disk: Disk) -> Optional[TrustedVMError]:
    if not disk.pool:
        return None
    try:
        if survey.destination.storagePoolLookupByName(disk.pool).isActive():
            return None
    except libvirt.libvirtError:
        return None
    return TrustedVMError(
        "destination_pool_inactive",
        "Pool '%s' with a disk of VM '%s' is not active on host %s" % (disk.pool, _name(survey), survey.destination_host),
        found="defined, not active",
        wanted="active, with volume %s" % disk.volume,
        hint="Start it there (virsh pool-start %s; virsh pool-autostart %s)" % (disk.pool, disk.pool),
    )


def _file_of(survey: Survey, disk: Disk) -> Optional[str]:
    """The disk's file on the source; None for a device and where libvirt does not tell."""
    if not disk.pool:
        return disk.path if disk.kind == "file" else None
    try:
        pool = survey.source.storagePoolLookupByName(disk.pool)
        if etree.fromstring(pool.XMLDesc(0).encode()).get("type") not in FILE_POOLS:
            return None
        path: str = pool.storageVolLookupByName(disk.volume).path()
    except libvirt.libvirtError:
        return None
    return path


def _local_filesystem(survey: Survey, path: str) -> Optional[str]:
    """The type of a file system that libvirt does not take for shared (virfile.c, virFileIsSharedFSType); else None."""
    if not survey.source_is_local or _names_shared_filesystems():
        return None
    kind = filesystem_type(path)
    return kind if kind in LOCAL_FILESYSTEMS else None


def _names_shared_filesystems() -> bool:
    """Since 10.9 the administrator can say which directories are shared; then libvirt is the one to ask."""
    try:
        with open(QEMU_CONF, encoding="utf-8", errors="replace") as file:
            return re.search(r"^\s*shared_filesystems\s*=", file.read(), re.MULTILINE) is not None
    except OSError:
        return False


def _not_known_as_shared(survey: Survey, disk: Disk, kind: str) -> TrustedVMError:
    return TrustedVMError(
        "storage_not_shared",
        "libvirt on %s does not know %s of VM '%s' to be shared with host %s, and would refuse"
        % (survey.source_host, disk.label, _name(survey), survey.destination_host),
        found="a file on %s" % kind,
        wanted="a network or cluster file system",
        hint="If both hosts really see the same disk, set unsafe=true; a disk on a local file system has to be "
        "moved to shared storage first",
    )


def _backing_files(element: Any) -> list[str]:
    sources = [source for backing in element.iter("backingStore") for source in backing.findall("source")]
    return [source.get("file") for source in sources if source.get("file")]


def _backing_file(survey: Survey, path: str) -> Optional[TrustedVMError]:
    """Only a proof counts: a listing of a network file system may be old."""
    probed = reach(survey, Disk("", "disk", "file", path, None, None, None, None, True, False, None))
    gone = probed.exists is False and probed.shared is False
    gone = gone or (probed.exists is None and directory_exists(survey.destination, os.path.dirname(path)) is False)
    return _missing(survey, "the backing file %s" % path) if gone else None


def _missing(survey: Survey, label: str) -> TrustedVMError:
    return TrustedVMError(
        "disk_not_on_destination",
        "Host %s does not have %s of VM '%s'" % (survey.destination_host, label, _name(survey)),
        found="no such file or volume there",
        wanted="the same path or volume as on %s" % survey.source_host,
        hint="Mount or start the storage there that holds it (virsh pool-refresh for a volume that is new), "
        "eject a medium that the VM no longer needs, or move the disk to storage that both hosts have",
    )


def _name(survey: Survey) -> str:
    return survey.machine.name if survey.machine else ""
