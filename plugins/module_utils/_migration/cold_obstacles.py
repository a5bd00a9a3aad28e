# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""What speaks against a cold migration: what would be lost with the definition, and disks that are not there."""

from typing import Any, Callable, Optional

from .._core.deps import libvirt
from .._core.errors import TrustedVMError
from .._tpm.removal import refuse_locked
from .._tpm.state_dir import TpmState
from . import capabilities
from .disk_reach import disk_obstacles
from .machine import Machine
from .obstacles import key_obstacle
from .obstacles_host import host_obstacles
from .request import Request
from .sharing import Sharing
from .survey import Survey


def find_cold_obstacles(survey: Survey, request: Request, check_mode: bool) -> list[TrustedVMError]:
    """All reasons against the move of a VM that is off; the first is the one to report."""
    machine, host = survey.machine, survey.destination_host or ""
    if machine is None or survey.here is None:
        return []
    found = [
        _place_obstacle(survey),
        *_kept_with_the_definition(survey.here, machine),
        key_obstacle(survey, request),
        _lock_obstacle(machine),
        _undecided(survey, "nvram_sharing_unknown", "NVRAM", machine.nvram, survey.nvram),
        _undecided(
            survey,
            "tpm_state_sharing_unknown",
            "TPM state",
            machine.tpm_state.path if machine.tpm_state else None,
            survey.tpm_state,
        ),
    ]
    if survey.there is None:
        provided = request.provided_secrets if check_mode else ()
        found += [secret.obstacle(host, provided) for secret in survey.secrets]
        found += capabilities.obstacles(survey.source, survey.destination, machine, host)
        found += disk_obstacles(survey, request)
        found += host_obstacles(survey)
    return [obstacle for obstacle in found if obstacle is not None]


def _place_obstacle(survey: Survey) -> Optional[TrustedVMError]:
    if survey.source_is_local:
        return None
    return TrustedVMError(
        "source_not_local",
        "A cold migration reads the VM's NVRAM and TPM state from files, and libvirt at %s may be on another machine"
        % survey.source.getURI(),
        hint="Run the task on the hypervisor itself, with uri=qemu:///system",
    )


def _kept_with_the_definition(domain: Any, machine: Machine) -> list[Optional[TrustedVMError]]:
    """libvirt keeps these with the definition on the source, and does not move them."""
    saved = _count(lambda: domain.hasManagedSaveImage(0))
    snapshots = _count(lambda: domain.snapshotNum(0))
    checkpoints = _count(lambda: len(domain.listAllCheckpoints(0)))
    hint = "Remove them (virsh %s), or start the VM and migrate it live"
    return [
        _kept("managed_save_exists", machine, saved, "The VM's memory is saved on disk", hint % "managedsave-remove"),
        _kept("snapshots_exist", machine, snapshots, "snapshots", "Remove them first (virsh snapshot-delete)"),
        _kept("checkpoints_exist", machine, checkpoints, "checkpoints", "Remove them first (virsh checkpoint-delete)"),
    ]


def _kept(code: str, machine: Machine, count: int, what: str, hint: str) -> Optional[TrustedVMError]:
    if not count:
        return None
    found = what if code == "managed_save_exists" else "%d %s" % (count, what)
    return TrustedVMError(
        code, "VM '%s' has what cannot go with it to another host" % machine.name, found=found, wanted="none", hint=hint
    )


def _count(ask: Callable[[], int]) -> int:
    try:
        return int(ask())
    except libvirt.libvirtError as error:
        # A driver without checkpoints or snapshots has none.
        if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
            return 0
        raise


def _lock_obstacle(machine: Machine) -> Optional[TrustedVMError]:
    """Off here, but in use: on storage that another host, on which the VM runs, shares."""
    if machine.tpm_state is None:
        return None
    try:
        refuse_locked(TpmState(machine.tpm_state))
    except TrustedVMError as error:
        return error
    return None


def _undecided(
    survey: Survey, code: str, what: str, path: Optional[str], sharing: Optional[Sharing]
) -> Optional[TrustedVMError]:
    if path is None or sharing is None or sharing.shared is not None:
        return None
    return TrustedVMError(
        code,
        "It cannot be seen whether %s and %s share the %s of the VM at %s"
        % (survey.source_host, survey.destination_host, what, path),
        found=sharing.reason,
        wanted="one directory at both ends, or two that are proven to be different",
        hint="See that root can write to that directory on both hosts"
        + ("; or set tpm_state_sharing=local or shared if you know" if code.startswith("tpm") else ""),
    )
