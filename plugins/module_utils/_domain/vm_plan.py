# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Plans one VM: from what libvirt and the storage say to what the item wants, as one Change."""

from functools import partial
from typing import TYPE_CHECKING, Any, Mapping, Optional

from .._core.change import Change, Step
from .._core.domains import Entry, definition
from .._core.errors import TrustedVMError
from .._secret.held import held_value
from .._tpm.device import read_tpm
from .._tpm.removal import StateRemoval
from .._tpm.state_dir import EMPTY, PRESENT
from . import preflight
from .applier import Applier
from .definition_plan import Draft
from .description import describe, differs_from_running, disks_of, has_secure_boot, loader_of, nvram_of
from .disks import DiskSpec
from .lifecycle import Power, StopPolicy, path_to_running, power_state
from .metadata import read_marks
from .nvram_guard import NvramPlan
from .spec import VmSpec

if TYPE_CHECKING:
    from .planner import VmPlanner

# What a check mode run may have to take as there, because an earlier task of the play makes it.
_PREPARED_CODES = (
    "secret_missing",
    "key_does_not_open_tpm_state",
    "disk_missing",
    "disk_create_failed",
    "nvram_missing",
    "nvram_storage_unsuitable",
    "tpm_state_missing",
)

_OFF = Power("stopped", 0)


class VmPlan:
    """The plan of one VM that is to be defined, running or stopped."""

    def __init__(self, planner: "VmPlanner", item: Mapping[str, Any], spec: VmSpec, entry: Optional[Entry]) -> None:
        self.p = planner
        self.item = item
        self.spec = spec
        self.entry = entry
        self.power = power_state(entry.domain) if entry is not None and entry.active else self._power_when_off()
        self.draft: Draft = planner.definitions.draft(spec, entry.tree if entry else None)
        self.uuid: str = self.draft.tree.findtext("uuid")
        self.marks = read_marks(self.draft.before) if entry else read_marks(self.draft.tree)
        self.tpm = read_tpm(self.draft.tree)
        self.tpm_state = preflight.tpm_state_of(planner.paths, self.uuid, self.tpm)
        self.has_tpm_state = self.tpm_state is not None and self.tpm_state.status() == PRESENT

    def _power_when_off(self) -> Power:
        # One round trip per VM, and only a start needs to know why it is off.
        if self.entry is None or self.item["state"] != "running":
            return _OFF
        return power_state(self.entry.domain)

    def change(self) -> Change:
        stops = self.item["state"] == "stopped" and not self.power.off
        way_up = path_to_running(self.power, self.item["start_migrated"]) if self.item["state"] == "running" else None
        new_disks = self._new_disks()
        nvram = self._nvram(way_up == "start")
        if way_up == "start":
            self._preflight(new_disks)
        applier = Applier(self.p, self.spec, self.entry, self.draft, self.tpm_state)
        steps = self._definition_steps(applier, new_disks, nvram)
        if stops:
            steps.append(self._stop_step(applier))
        if way_up == "start" and self.tpm_state is not None and self.tpm_state.status() == EMPTY:
            removal = StateRemoval(self.tpm_state, "start")
            steps.append(Step("remove empty TPM state directory", removal.remove_leftovers))
        if way_up is not None:
            steps.append(Step({"start": "start VM"}.get(way_up, way_up + " VM"), lambda: applier.bring_up(way_up)))
        marks_due = self._marks_due(way_up)
        if marks_due:
            steps.append(Step("mark VM", lambda: applier.mark(**marks_due), counts=False))
        return self._describe(steps, applier, new_disks, nvram, way_up, stops)

    def _definition_steps(
        self, applier: Applier, new_disks: list[DiskSpec], nvram: Optional[NvramPlan]
    ) -> list[Step]:
        steps = []
        for spec in new_disks:
            steps.append(Step("create disk %s" % spec.label, partial(applier.create_disk, spec)))
        if nvram is not None and nvram.decision is not None and nvram.changes:
            decision = nvram.decision
            what = "%s NVRAM volume %s" % (decision.action, decision.path)
            steps.append(Step(what, lambda: applier.nvram(decision)))
        if self.draft.changed:
            steps.append(Step("define VM" if self.entry is None else "update definition", applier.define))
        if self._autostart_differs():
            steps.append(Step("set autostart %s" % ("on" if self.spec.autostart else "off"), applier.set_autostart))
        return steps

    def _stop_step(self, applier: Applier) -> Step:
        tpm = read_tpm(self.entry.tree) if self.entry else None
        if self.entry and tpm and not tpm.persistent_state and not self.entry.domain.isPersistent():
            raise TrustedVMError(
                "tpm_state_would_be_lost",
                "The VM is transient and libvirt deletes its TPM state when it stops",
                found="a transient VM without persistent_state='yes' in its <tpm>",
                hint="Define it first (state=defined with its xml), then stop it",
            )
        policy = StopPolicy(self.item["stop_timeout"], self.item["force_stop"])
        return Step("stop VM", lambda: applier.stop(policy))

    def _new_disks(self) -> list[DiskSpec]:
        missing = []
        for spec in self.spec.disks or ():
            if spec.size is None and spec.image is None or self.p.disks.exists(spec) is not False:
                continue
            self._tolerate(partial(self.p.disks.require_creatable, spec))
            missing.append(spec)
        return missing

    def _nvram(self, starting: bool) -> Optional[NvramPlan]:
        guard, local = self.p.guard, self.p.paths is not None
        if self.draft.changed and self.entry is not None and local:
            guard.require_same_place(self.entry, self.draft.tree)
        check = local and self.power.off and self.item["state"] != "stopped"
        used = self.marks.nvram or self.item["expect_state"] is True
        arguments = (self.draft.tree, self.tpm is not None, self.spec.nvram_template, used, starting)
        try:
            return guard.plan(*arguments, check=check, new_template=self._template_changes())
        except TrustedVMError as error:
            if not self._is_prepared(error):
                raise
            return guard.plan(*arguments, check=False)

    def _template_changes(self) -> bool:
        if self.entry is None or not self.draft.changed:
            return False
        before, after = nvram_of(self.draft.before), nvram_of(self.draft.tree)
        return before is not None and after is not None and before.template != after.template

    def _preflight(self, new_disks: list[DiskSpec]) -> None:
        tree, local = self.draft.tree, self.p.paths is not None
        expected = self.item["expect_state"] is True
        held = partial(held_value, self.p.connection, paths=self.p.paths)
        self._tolerate(lambda: preflight.require_tpm_state(self.tpm_state, self.tpm, self.marks, expected, held))
        self._tolerate(lambda: preflight.require_secrets(self.p.connection, tree))
        if local:
            preflight.require_loader(tree)
            made = {spec.target for spec in new_disks}
            self._tolerate(lambda: preflight.require_disks(self.p.disks, tree, made))

    def _tolerate(self, check: Any) -> None:
        try:
            check()
        except TrustedVMError as error:
            if not self._is_prepared(error):
                raise

    def _is_prepared(self, error: TrustedVMError) -> bool:
        return self.p.check_mode and self.item["prepared_by_play"] and error.code in _PREPARED_CODES

    def _autostart_differs(self) -> bool:
        if self.spec.autostart is None:
            return False
        found = self.entry is not None and self.p.inventory.autostarts(self.entry)
        return found != self.spec.autostart

    def _marks_due(self, way_up: Optional[str]) -> dict[str, bool]:
        """Marks that the VM earns by running now, or by a TPM state that is there already."""
        runs = way_up is not None or not self.power.off
        tree = self.draft.tree
        due = {}
        if self.tpm_state is not None and not self.marks.tpm_state:
            if runs or self.has_tpm_state:
                due["tpm_state"] = True
        if runs and not self.marks.nvram and tree.find("os/nvram") is not None:
            due["nvram"] = True
        return due

    def _describe(
        self,
        steps: list[Step],
        applier: Applier,
        new_disks: list[DiskSpec],
        nvram: Optional[NvramPlan],
        way_up: Optional[str],
        stops: bool,
    ) -> Change:
        tree = self.draft.tree
        state = "running" if way_up else "stopped" if stops else self.power.state
        stays_up = not self.power.off and not stops
        details = {
            "state": state,
            "started": way_up == "start",
            "restart_required": self._restart_required(stays_up),
            "nvram": nvram.as_result() if nvram else None,
            "tpm": self.tpm.as_result() if self.tpm else None,
            "tpm_state_exists": self._state_exists(way_up),
            "firmware": _firmware(tree),
            "disks": _disk_results(tree, new_disks),
        }
        change = Change(
            subject={"name": tree.findtext("name"), "uuid": self.uuid},
            outcome=self._outcome(way_up, stops),
            steps=steps,
            details=details,
            undo=applier.undo,
        )
        # Describing costs as much as all the comparing, and an unchanged VM has nothing to show.
        if change.changed:
            change.before = {} if self.entry is None else {"state": self.power.state, **describe(self.draft.before)}
            change.after = {"state": state, **describe(tree)}
        return change

    def _outcome(self, way_up: Optional[str], stops: bool) -> str:
        if self.entry is None:
            return "created"
        if way_up is not None:
            return {"start": "started", "resume": "resumed"}.get(way_up, "woken")
        return "stopped" if stops else "updated"

    def _state_exists(self, way_up: Optional[str]) -> Optional[bool]:
        if self.tpm_state is None:
            return None
        return way_up is not None or self.has_tpm_state

    def _restart_required(self, stays_up: bool) -> bool:
        if not stays_up or self.entry is None:
            return False
        # virDomainIsUpdated tells nothing here: QEMU's driver never sets it (seen on 9.0).
        return differs_from_running(definition(self.entry.domain, inactive=False), self.draft.tree)


def _firmware(tree: Any) -> Optional[dict[str, Any]]:
    loader = loader_of(tree)
    return None if loader is None else {"loader": loader, "secure_boot": has_secure_boot(tree)}


def _disk_results(tree: Any, new_disks: list[DiskSpec]) -> list[dict[str, Any]]:
    created = {spec.target for spec in new_disks}
    return [{**disk.as_result(), "created": disk.target in created} for disk in disks_of(tree)]
