# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""What speaks against a migration, all of it, before anything moves."""

from functools import partial
from typing import Any, Optional, Sequence

from .._core.deps import libvirt
from .._core.domains import definition
from .._core.errors import TrustedVMError
from .._tpm.key_check import OPENED, check_state
from .._tpm.state_dir import TpmState
from . import capabilities
from .checks import Checks
from .dest_secrets import TpmSecret
from .machine import Machine
from .obstacles_host import host_obstacles
from .obstacles_hostdev import stuck_obstacles
from .obstacles_state import state_obstacles
from .obstacles_storage import storage_obstacles
from .request import SHARING_DETECT, Request
from .survey import Survey


def find_obstacles(survey: Survey, request: Request, check_mode: bool) -> list[TrustedVMError]:
    """All reasons against a migration of a VM that runs here; the first is the one to report."""
    machine, host = survey.machine, survey.destination_host or ""
    if machine is None or survey.here is None:
        return []
    domain, tree = survey.here, definition(survey.here, inactive=False)
    provided = request.provided_secrets if check_mode else ()
    checks = Checks(survey)
    checks.run("the jobs of the VM", lambda: [_job_obstacle(domain, machine)])
    checks.run("its key", lambda: [key_obstacle(survey, request)])
    for secret in survey.secrets:
        checks.run("secret %s" % secret.uuid, partial(_secret_obstacles, secret, host, provided))
    checks.run("its TPM state", lambda: [_tpm_state_obstacle(survey, request)])
    checks.run("what the host can run", lambda: capabilities.obstacles(survey.source, survey.destination, machine, host))
    checks.run("its snapshots and block jobs", lambda: state_obstacles(survey, tree))
    checks.run("its host devices", lambda: stuck_obstacles(survey, tree))
    checks.run("its disks", lambda: storage_obstacles(survey, request, tree))
    return checks.found + host_obstacles(survey)


def _secret_obstacles(secret: TpmSecret, host: str, provided: Sequence[str]) -> list[Optional[TrustedVMError]]:
    return [secret.obstacle(host, provided)]


def _job_obstacle(domain: Any, machine: Machine) -> Optional[TrustedVMError]:
    if domain.jobInfo()[0] == libvirt.VIR_DOMAIN_JOB_NONE:
        return None
    return TrustedVMError(
        "migration_in_progress",
        "libvirt is busy with VM '%s': a migration, save, dump or backup runs" % machine.name,
        hint="Wait for it (virsh domjobinfo) or abort it (virsh domjobabort)",
    )


def key_obstacle(survey: Survey, request: Request) -> Optional[TrustedVMError]:
    """The key that the destination's secret will get must open the state that travels there."""
    machine = survey.machine
    if request.value is None or machine is None or machine.tpm_state is None or not machine.secret_uuids:
        return None
    try:
        found = check_state(TpmState(machine.tpm_state), encrypted=True, passphrase=request.value)
    except TrustedVMError as error:
        return error
    survey.key_opens = True if found == OPENED else None
    return None


def _tpm_state_obstacle(survey: Survey, request: Request) -> Optional[TrustedVMError]:
    """A failed migration deletes the TPM state at the destination.

    Where that is the running VM's own state and libvirt does not know the file system for shared,
    the TPM is lost (seen on 9.0.0, with persistent_state yes and no).
    """
    machine, sharing = survey.machine, survey.tpm_state
    if request.tpm_state_sharing != SHARING_DETECT or machine is None:
        return None
    if sharing is None or sharing.shared is False:
        return None
    path = machine.tpm_state.path if machine.tpm_state else "the place that libvirt chose"
    if sharing.shared:
        return TrustedVMError(
            "tpm_state_shared_unrecognised",
            "%s and %s share the TPM state of VM '%s' at %s; a live migration that fails would delete it"
            % (survey.source_host, survey.destination_host, machine.name, path),
            found="one directory at both ends",
            wanted="a directory of its own on each host",
            hint="Give each host its own directory; or, only if libvirt on both hosts recognises this file system "
            "as shared and swtpm is 0.8 or newer, set tpm_state_sharing=shared",
        )
    return TrustedVMError(
        "tpm_state_sharing_unknown",
        "It cannot be seen whether %s and %s share the TPM state of VM '%s' at %s"
        % (survey.source_host, survey.destination_host, machine.name, path),
        found=sharing.reason,
        hint="Set tpm_state_sharing=local if each host has its own directory; a live migration "
        "that fails deletes a shared one",
    )


def refuse(obstacles: list[TrustedVMError]) -> None:
    """Raise the first obstacle; the others are told in its details, to be removed in one go."""
    if not obstacles:
        return
    first = obstacles[0]
    if len(obstacles) > 1:
        first.details["obstacles"] = [_as_result(obstacle) for obstacle in obstacles]
    raise first


def _as_result(obstacle: TrustedVMError) -> dict[str, Any]:
    return {
        "error_code": obstacle.code,
        "msg": str(obstacle),
        "found": obstacle.found,
        "wanted": obstacle.wanted,
        "hint": obstacle.hint,
    }
