# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""What libvirt does not let go while the VM runs: snapshots and block jobs (qemu_migration.c, qemuMigrationSrcIsAllowed).

Checkpoints are no obstacle here: libvirt 9.0 to 12.8 migrates with them and keeps their bitmaps.
"""

from typing import Any

from .._core.deps import libvirt
from .._core.errors import TrustedVMError
from .._domain.description import disks_of
from .survey import Survey


def state_obstacles(survey: Survey, tree: Any) -> list[TrustedVMError]:
    """Of a VM that runs.

    Args:
        tree: its live ``<domain>``.
    """
    return _snapshots(survey) + _block_jobs(survey, tree)


def _snapshots(survey: Survey) -> list[TrustedVMError]:
    domain = survey.here
    try:
        number = domain.snapshotNum(0) if domain is not None else 0
    except libvirt.libvirtError:
        return []
    if not number:
        return []
    return [
        TrustedVMError(
            "snapshots_exist",
            "libvirt does not migrate VM '%s' from %s with snapshots" % (_name(survey), survey.source_host),
            found="%d snapshots" % number,
            wanted="none",
            hint="Remove them first (virsh snapshot-list, virsh snapshot-delete)",
        )
    ]


def _block_jobs(survey: Survey, tree: Any) -> list[TrustedVMError]:
    busy = [disk.target for disk in disks_of(tree) if disk.device == "disk" and _has_job(survey.here, disk.target)]
    if not busy:
        return []
    return [
        TrustedVMError(
            "block_job_active",
            "libvirt does not migrate VM '%s' from %s while a job works on its disks" % (_name(survey), survey.source_host),
            found="a job on %s" % ", ".join(busy),
            wanted="none",
            hint="Wait for it (virsh blockjob VM DISK --info) or end it (virsh blockjob VM DISK --abort)",
        )
    ]


def _has_job(domain: Any, target: str) -> bool:
    try:
        return bool(domain.blockJobInfo(target, 0))
    except libvirt.libvirtError:
        # An empty drive, or a driver without block jobs.
        return False


def _name(survey: Survey) -> str:
    return survey.machine.name if survey.machine else ""
