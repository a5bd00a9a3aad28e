# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""The preflight of a cold migration; changes nothing."""

from .._core.deps import libvirt
from .._core.errors import TrustedVMError
from .cold_files import NVRAM, TPM_STATE, StateFile, compare, compare_kind, source_files
from .cold_obstacles import find_cold_obstacles
from .obstacles import refuse
from .request import Request
from .survey import Survey

DIFFERS = "the destination has no equal copy, so this may be the only one; remove it by hand when you know"


def look(survey: Survey, request: Request, check_mode: bool) -> list[StateFile]:
    """The files that have to be at the destination, each with whether it is.

    Raises:
        TrustedVMError: the first obstacle, with the others in its details.
    """
    obstacles = find_cold_obstacles(survey, request, check_mode)
    files: list[StateFile] = []
    if not obstacles:
        try:
            files = compare(survey, source_files(survey))
            _refuse_unequal(survey, files)
        except TrustedVMError as error:
            obstacles.append(error if survey.there is None else _defined_there_too(survey, error))
    refuse(obstacles)
    return files


def proven_leftovers(survey: Survey, leftovers: list[dict[str, str]]) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Which of the source's files may go, and which stay, with the reason.

    The VM is off at the destination, so nothing shows that what it has there is what it had here.
    """
    goes, stays = [], []
    for one in leftovers:
        if one["kind"] in (NVRAM, TPM_STATE) and not _copied(survey, one["kind"]):
            stays.append({**one, "reason": DIFFERS})
        else:
            goes.append(one)
    if any(one["kind"] == TPM_STATE for one in stays):
        # What stays of the TPM still needs its key.
        stays += [{**one, "reason": "the TPM state needs it"} for one in goes if one["kind"] == "secret"]
        goes = [one for one in goes if one["kind"] != "secret"]
    return goes, stays


def _copied(survey: Survey, kind: str) -> bool:
    try:
        return all(one.there for one in compare_kind(survey, kind, source_files(survey)))
    except (TrustedVMError, OSError, libvirt.libvirtError):
        return False


def _refuse_unequal(survey: Survey, files: list[StateFile]) -> None:
    missing = [one.path for one in files if not one.there]
    if survey.there is not None and missing:
        raise TrustedVMError("state_differs", "", found="no equal %s there" % ", ".join(missing))


def _defined_there_too(survey: Survey, error: TrustedVMError) -> TrustedVMError:
    """Both have the definition: a run that was killed left it so only after all had been copied."""
    name = survey.machine.name if survey.machine else ""
    return TrustedVMError(
        "vm_already_on_destination",
        "VM '%s' is defined on %s too, and not with the same NVRAM and TPM state" % (name, survey.destination_host),
        found=error.found,
        wanted="none there, or an equal one",
        hint="Decide which of the two is the VM and undefine the other one, keeping its NVRAM and TPM state "
        "(virsh undefine --keep-nvram --keep-tpm)",
        details=error.details,
    )
