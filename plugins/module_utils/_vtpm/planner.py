# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""From the vTPM that a VM has to the one that an item asks for: find, compare, say the steps."""

import copy
from typing import Any, Mapping, Optional

from .._core.change import Change, Step
from .._core.domains import DomainIndex, as_uuid, definition, definition_text
from .._core.errors import TrustedVMError
from .._core.host_paths import host_paths
from .._domain.metadata import Marks, read_marks
from .._secret.held import held_value
from .._tpm import key_check
from .._tpm.device import TpmSpec, apply_tpm, read_tpm, remove_tpm
from .._tpm.removal import StateRemoval, holds_something
from .._tpm.requirements import VtpmSupport
from .._tpm.state_dir import ABSENT, EMPTY, PRESENT, TpmState, locate
from . import refusals
from .reset_note import note_reset, read_reset_note
from .wanted import WantedVtpm, wanted_vtpm


class VtpmPlanner:
    """Plans items against one connection; domains are listed once."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._paths = host_paths(connection)
        self._domains = DomainIndex(connection)
        self._support = VtpmSupport(connection)
        self._planned: set[str] = set()

    def plan(self, item: Mapping[str, Any]) -> Change:
        """The change for one item. Reads only."""
        wanted = wanted_vtpm(item)
        domain = self._find(wanted)
        if wanted.moved and domain is not None:
            raise refusals.vm_defined_here(domain)
        vm_uuid = wanted.vm if domain is None else domain.UUIDString()
        if vm_uuid in self._planned:
            raise TrustedVMError(
                "duplicate_item", "The list has two items for this VM", hint="Give each VM one item"
            )
        self._planned.add(vm_uuid)
        if domain is None:
            return self._plan_stray_state(wanted)
        subject = {"vm": domain.name(), "uuid": vm_uuid}
        xml = definition(domain, secure=True)
        plan = {"present": self._plan_present, "absent": self._plan_absent, "reset": self._plan_reset}
        return plan[wanted.state](wanted, subject, domain, xml)

    def _find(self, wanted: WantedVtpm) -> Optional[Any]:
        # A removal can be repeated after the VM itself is gone; its UUID still says where the state is.
        if wanted.state == "absent" and as_uuid(wanted.vm) is not None:
            return self._domains.get(wanted.vm)
        return self._domains.find(wanted.vm)

    def _state(self, vm_uuid: str, spec: Optional[TpmSpec]) -> Optional[TpmState]:
        return None if self._paths is None else TpmState(locate(self._paths, vm_uuid, spec))

    def _local_state(self, vm_uuid: str, spec: Optional[TpmSpec]) -> TpmState:
        state = self._state(vm_uuid, spec)
        if state is None:
            raise refusals.state_not_local(self._connection.getURI())
        return state

    # present

    def _plan_present(self, wanted: WantedVtpm, subject: dict[str, Any], domain: Any, xml: Any) -> Change:
        found = read_tpm(xml)
        target = wanted.device(found)
        new_xml = copy.deepcopy(xml)
        differs = apply_tpm(new_xml, target)
        state = self._state(subject["uuid"], target)
        tpm_state = self._check_state(wanted, target, state, read_marks(xml))
        steps = []
        if differs:
            refusals.refuse_busy_vm(domain)
            self._support.require(new_xml, target)
            steps.append(Step("define vTPM device", lambda: self._define(new_xml)))
        tidy = [] if state is None else _tidy_steps(domain, state, tpm_state)
        steps += tidy
        return Change(
            subject=subject,
            before=_picture(found, state),
            after=_picture(
                target,
                state,
                status=ABSENT if tidy and tpm_state == key_check.NONE else None,
                asides=0 if _proven(tpm_state) else None,
            ),
            outcome="created" if found is None else "updated",
            steps=steps,
            details={"device": target.as_result(), "tpm_state": tpm_state},
            undo=lambda: self._define(xml),
        )

    def _check_state(self, wanted: WantedVtpm, target: TpmSpec, state: Optional[TpmState], marks: Marks) -> str:
        if state is None:
            return key_check.NOT_CHECKED
        passphrase = wanted.value
        if passphrase is None and target.secret_uuid is not None and state.status() == PRESENT:
            passphrase = held_value(self._connection, target.secret_uuid, self._paths)
        tpm_state = key_check.check_state(state, target.secret_uuid is not None, passphrase)
        if tpm_state == key_check.NONE and wanted.require_state and not marks.tpm_reset:
            raise refusals.state_missing(state)
        return tpm_state

    def _define(self, xml: Any) -> None:
        self._connection.defineXML(definition_text(xml))

    # absent

    def _plan_absent(self, wanted: WantedVtpm, subject: dict[str, Any], domain: Any, xml: Any) -> Change:
        found = read_tpm(xml)
        state = self._local_state(subject["uuid"], found)
        change = self._removal(wanted, subject, state, found, read_marks(xml).tpm_state)
        removal = StateRemoval(state, "removed")
        steps = _take_away_steps(state, removal)
        if found is not None:
            new_xml = copy.deepcopy(xml)
            remove_tpm(new_xml)
            # A device added later starts with a new state; the old one was given up here.
            note_reset(new_xml, None)
            steps.append(Step("remove vTPM device", lambda: self._define(new_xml)))
        if steps:
            refusals.refuse_busy_vm(domain)
        change.steps = steps + _copies_steps(state, removal)

        def undo() -> None:
            removal.undo()
            self._define(xml)

        change.undo = undo
        return change

    def _plan_stray_state(self, wanted: WantedVtpm) -> Change:
        """The state of a VM that is not defined here (any more)."""
        vm_uuid = str(as_uuid(wanted.vm))
        state = self._local_state(vm_uuid, None)
        change = self._removal(wanted, {"vm": wanted.vm, "uuid": vm_uuid}, state, None, False)
        removal = StateRemoval(state, "removed")
        change.steps = _take_away_steps(state, removal) + _copies_steps(state, removal)
        change.undo = removal.undo
        return change

    def _removal(
        self, wanted: WantedVtpm, subject: dict[str, Any], state: TpmState, found: Optional[TpmSpec], marked: bool
    ) -> Change:
        # Marked and not to be seen: perhaps the storage is not mounted.
        there = (marked and found is not None) or holds_something(state) or bool(state.aside_copies())
        if there and not (wanted.remove_state or wanted.moved):
            raise refusals.state_would_be_lost(state)
        return Change(
            subject=subject,
            before=_picture(found, state),
            outcome="removed",
            details={"device": None, "tpm_state": key_check.NONE},
        )

    # reset

    def _plan_reset(self, wanted: WantedVtpm, subject: dict[str, Any], domain: Any, xml: Any) -> Change:
        found = read_tpm(xml)
        if found is None:
            raise refusals.vtpm_not_found()
        state = self._local_state(subject["uuid"], found)
        noted = read_reset_note(xml)
        change = Change(
            subject=subject,
            before={**_picture(found, state), "reset_id": noted},
            after={**_picture(found, state), "reset_id": noted},
            outcome="reset",
            details={"device": found.as_result(), "tpm_state": key_check.NONE, "reset_id": noted},
        )
        if wanted.reset_id is not None and wanted.reset_id == noted:
            change.details["tpm_state"] = _rough_state(state)
            return change
        something = holds_something(state)
        if (something or read_marks(xml).tpm_state) and not wanted.accept_data_loss:
            raise refusals.data_loss_not_accepted(state)
        removal = StateRemoval(state, "reset")
        change.steps = _take_away_steps(state, removal)
        new_xml = copy.deepcopy(xml)
        if note_reset(new_xml, wanted.reset_id):
            change.steps.append(Step("note the reset", lambda: self._define(new_xml)))
        if change.steps:
            refusals.refuse_busy_vm(domain)
        change.details["reset_id"] = read_reset_note(new_xml)
        change.after = {
            **_picture(found, state, status=ABSENT, asides=len(state.aside_copies()) + int(something)),
            "reset_id": read_reset_note(new_xml),
        }
        change.undo = removal.undo
        return change


def _take_away_steps(state: TpmState, removal: StateRemoval) -> list[Step]:
    if holds_something(state):
        return [Step("set aside TPM state", removal.set_aside)]
    if state.status() == EMPTY:
        return [Step("remove empty TPM state directory", removal.remove_leftovers)]
    return []


def _copies_steps(state: TpmState, removal: StateRemoval) -> list[Step]:
    if holds_something(state) or state.aside_copies():
        return [Step("remove TPM state", removal.remove_copies)]
    return []


def _tidy_steps(domain: Any, state: TpmState, tpm_state: str) -> list[Step]:
    """What ``present`` puts in order around the state."""
    removal = StateRemoval(state, "present")
    if _proven(tpm_state) and state.aside_copies():
        # Design, module contract 5: a copy is kept until the new state is proven. It is.
        return [Step("remove set-aside TPM state", removal.remove_copies)]
    if state.status() == EMPTY and state.has_only_leftovers() and not domain.isActive():
        return [Step("remove empty TPM state directory", removal.remove_leftovers)]
    return []


def _proven(tpm_state: str) -> bool:
    return tpm_state in (key_check.OPENED, key_check.PLAIN)


def _rough_state(state: TpmState) -> str:
    return key_check.NOT_CHECKED if holds_something(state) else key_check.NONE


def _picture(
    spec: Optional[TpmSpec], state: Optional[TpmState], status: Optional[str] = None, asides: Optional[int] = None
) -> dict[str, Any]:
    """Device and state for the diff; ``status`` and ``asides`` are what they will be. Empty: nothing is there."""
    picture: dict[str, Any] = {"device": None if spec is None else spec.as_result()}
    if state is not None:
        picture["tpm_state"] = status or state.status()
        picture["set_aside"] = len(state.aside_copies()) if asides is None else asides
    nothing = spec is None and picture.get("tpm_state", ABSENT) == ABSENT and not picture.get("set_aside")
    return {} if nothing else picture
