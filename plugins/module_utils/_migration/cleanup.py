# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Removing from the source what a VM that runs elsewhere left there.

Each removal is the one of its own module, with all its refusals: an NVRAM file that a domain of
this host names, TPM state that a swtpm has locked and a secret that a domain uses all stay. So do the
copies that a reset set aside: only the VM's owner knows whether the new state is proven.
"""

from dataclasses import dataclass, field
from typing import Any, Callable

from .._core.change import Change, Step
from .._core.connection import libvirt_failure
from .._core.deps import libvirt
from .._core.errors import TrustedVMError
from .._core.runner import host_file_failure
from .._nvram.backends.directory import DirectoryBackend
from .._nvram.planner import NvramPlanner
from .._secret.planner import SecretPlanner
from .._tpm.removal import StateRemoval, refuse_locked
from .._tpm.state_dir import ABSENT, TpmState
from .aftermath import REMOVED, only_here
from .survey import Survey

Leftover = dict[str, str]


UNPROVEN = (
    "A reset of the VM set it aside, and it stays until the VM is seen to work without it; remove it by hand then"
)


@dataclass
class Cleaning:
    """What came of it."""

    removed: list[Leftover] = field(default_factory=list)
    left: list[Leftover] = field(default_factory=list)


def source_secrets(survey: Survey) -> list[Leftover]:
    """The secrets that only the VM's TPM needed here, as leftovers."""
    return [{"kind": "secret", "path": secret.uuid} for secret in survey.secrets if secret.on_source]


def clean(survey: Survey, leftovers: list[Leftover], check_mode: bool = False) -> Cleaning:
    """Remove them, best effort: what cannot be removed stays in the list, with the reason.

    A VM that has arrived has arrived; a file that stays behind does not make that a failure.

    Args:
        check_mode: only tell what would be removed.
    """
    result = Cleaning(left=_copies_of_resets(survey))
    for leftover in leftovers:
        try:
            change = _REMOVALS[leftover["kind"]](survey, leftover["path"])
            if change.changed:
                if not check_mode:
                    change.apply()
                result.removed.append(leftover)
        except TrustedVMError as error:
            result.left.append({**leftover, "reason": str(error)})
        except OSError as error:
            result.left.append({**leftover, "reason": str(host_file_failure(error))})
        except libvirt.libvirtError as error:
            failure = libvirt_failure(error, "removing %s %s" % (leftover["kind"], leftover["path"]))
            result.left.append({**leftover, "reason": str(failure)})
    return result


def _copies_of_resets(survey: Survey) -> list[Leftover]:
    """What resets set aside on the source; it is told, and stays."""
    machine = survey.machine
    if machine is None:
        return []
    found = []
    if machine.nvram is not None and only_here(survey, survey.nvram):
        found += [("nvram_copy", path) for path in DirectoryBackend().copies(machine.nvram)]
    if machine.tpm_state is not None and only_here(survey, survey.tpm_state):
        copies = TpmState(machine.tpm_state).aside_copies()
        found += [("tpm_state_copy", copy.path) for copy in copies if copy.reason != REMOVED]
    return [{"kind": kind, "path": path, "reason": UNPROVEN} for kind, path in found]


def _nvram(survey: Survey, path: str) -> Change:
    item = {"path": path, "state": "absent", "moved": True, "accept_data_loss": False}
    change = NvramPlanner(survey.source)(item)
    if change.steps:
        # Its own step removes the copies as well.
        change.steps = [Step("remove volume", lambda: DirectoryBackend().remove(path))]
    return change


def _tpm_state(survey: Survey, path: str) -> Change:
    change = Change(subject={"path": path})
    if survey.machine is None or survey.machine.tpm_state is None:
        return change
    state = TpmState(survey.machine.tpm_state)
    refuse_locked(state)
    removal = StateRemoval(state, REMOVED)
    if state.status() != ABSENT:
        change.steps.append(Step("set aside", removal.set_aside))
    change.steps.append(Step("remove", lambda: _remove_moved(state)))
    change.undo = removal.undo
    return change


def _remove_moved(state: TpmState) -> None:
    for copy in state.aside_copies():
        if copy.reason == REMOVED:
            state.remove_aside(copy)


def _secret(survey: Survey, uuid: str) -> Change:
    """No change for a secret that another domain uses."""
    usage_types = [secret.definition.usage_type for secret in survey.secrets if secret.uuid == uuid]
    item: dict[str, Any] = {
        "uuid": uuid,
        "usage_type": usage_types[0],
        "private": True,
        "ephemeral": False,
        "in_use": "keep",
        "state": "absent",
    }
    return SecretPlanner(survey.source).plan(item)


_REMOVALS: dict[str, Callable[[Survey, str], Change]] = {
    "nvram": _nvram,
    "tpm_state": _tpm_state,
    "secret": _secret,
}
