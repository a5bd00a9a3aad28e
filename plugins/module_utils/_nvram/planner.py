# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Plans one NVRAM volume: present, absent or reset."""

import os
from typing import Any, Mapping, Optional

from .._core.change import Change, Step
from .._core.deps import require_lxml
from .._core.domains import Entry
from .._core.errors import TrustedVMError
from .._core.host_paths import host_paths
from .._core.texts import fits_xml
from .._domain.firmware_edits import nvram_needed, template_for, template_from
from .._domain.inventory import Inventory
from .._domain.metadata import set_marks
from .._domain.nvram_guard import NvramGuard
from .backends.directory import DirectoryBackend
from .firmware import FirmwareCatalogue, FirmwareWish
from .location import DEFAULT_DIRECTORY
from .reset import VolumeReset
from .target import Target, TargetFinder
from .volume import Decision, Facts, Template, as_result, decide, held_by_another, missing


class NvramPlanner:
    """Plans the items of one task over one connection and one enumeration."""

    def __init__(self, connection: Any, catalogue: Optional[FirmwareCatalogue] = None) -> None:
        require_lxml()
        self._connection = connection
        self._catalogue = catalogue or FirmwareCatalogue()
        self._backend = DirectoryBackend()
        self.inventory = Inventory(connection)
        self._guard = NvramGuard(self.inventory, self._catalogue, self._backend)
        paths = host_paths(connection)
        self._targets = TargetFinder(self.inventory, paths.nvram if paths else DEFAULT_DIRECTORY)

    def __call__(self, item: Mapping[str, Any]) -> Change:
        target = self._targets.find(item)
        if item["state"] == "absent":
            return self._absent(item, target)
        if target.libvirts and not item.get("template"):
            return self._libvirts_own(item, target)
        template = self._template(item, target)
        if item["state"] == "reset":
            return self._reset(item, target, template)
        return self._present(item, target, template)

    def _libvirts_own(self, item: Mapping[str, Any], target: Target) -> Change:
        """A volume that libvirt makes and finds by itself is left alone."""
        if item["state"] == "reset":
            raise TrustedVMError(
                "nvram_not_managed",
                "libvirt chooses this VM's firmware and NVRAM template at each start, so nobody knows what to reset it to",
                found="firmware='efi', and no <nvram> in the definition",
                hint="Give the VM explicit firmware with the vm module (secure_boot), or name the template",
            )
        return self._change(target, self._backend.probe(target.path), None, [], self._needed(target))

    def _template(self, item: Mapping[str, Any], target: Target) -> Template:
        """What a new volume starts from: as told, as the VM's definition says, else by features."""
        if item.get("template"):
            return template_from(item["template"])
        if target.entry is not None:
            return template_for(target.entry.tree, None, self._catalogue)
        secure_boot = bool(item.get("secure_boot"))
        keys = item.get("enrolled_keys")
        wish = FirmwareWish(
            secure_boot,
            (True if keys is None else keys) if secure_boot else None,
            item.get("architecture") or os.uname().machine,
            item.get("machine") or "q35",
        )
        return template_from(self._catalogue.choose(wish).template)

    def _present(self, item: Mapping[str, Any], target: Target, template: Template) -> Change:
        facts = self._backend.probe(target.path)
        needed = self._needed(target)
        steps: list[Step] = []
        decision = None
        if needed or item.get("path") or item.get("directory"):
            decision = self._decide(item, target, template, facts)
        if decision is not None and decision.changes:
            steps.append(Step("%s volume" % decision.action, lambda: self._guard.carry_out(decision)))
        copy_steps = self._copy_steps(item, target)
        change = self._change(target, facts, template, steps + copy_steps, needed)
        if copy_steps:
            change.details["copies"] = []
        action = decision.action if decision else "use"
        change.outcome = {"create": "created", "rebuild": "rebuilt"}.get(action, "updated")
        if steps and decision is not None and decision.changes:
            change.details.update(exists=True, size=template.size, format="raw", ready=True)
        change.after = self._state(change)
        return change

    def _decide(self, item: Mapping[str, Any], target: Target, template: Template, facts: Facts) -> Decision:
        self._refuse_second_volume(target)
        self._require_own(target)
        if target.active and facts.exists:
            # The firmware writes to it now; what counts is the next start.
            return Decision("use", target.path, template)
        used = target.marks.nvram or item.get("expect_state") is True
        if used and not facts.exists and item["accept_data_loss"]:
            used = False
        decision = decide(target.path, facts, template, used, lambda: self._guard.pristine(target.path, template))
        if decision.changes:
            self._require_off(target)
            self._backend.require_room(target.path, template.size)
        return decision

    def _refuse_second_volume(self, target: Target) -> None:
        """A new volume elsewhere, while the VM has one with something in it, would be another VM's life."""
        own = target.own_path
        if own is None or own == target.path or not self._backend.probe(own).exists:
            return
        template = template_for(target.entry.tree, None, self._catalogue) if target.entry else None
        if self._guard.pristine(own, template):
            return
        raise TrustedVMError(
            "nvram_elsewhere",
            "The VM has NVRAM volume %s, with variables in it" % own,
            found=own,
            wanted=target.path,
            hint="Move that file while the VM is off and change nvram.path with the vm module",
        )

    def _reset(self, item: Mapping[str, Any], target: Target, template: Template) -> Change:
        reset_id, noted = item.get("reset_id") or None, target.marks.nvram_reset
        _refuse_odd_reset_id(reset_id, target)
        facts = self._backend.probe(target.path)
        if reset_id is not None and reset_id == noted:
            change = self._change(target, facts, template, [], self._needed(target))
            change.details["reset_id"] = noted
            return change
        self._require_off(target)
        self._require_own(target)
        steps: list[Step] = []
        copies = self._backend.copies(target.path)
        reset = VolumeReset(self._backend, target.path, template)
        if not facts.exists:
            if target.marks.nvram and not item["accept_data_loss"]:
                raise missing(target.path)
            self._backend.require_room(target.path, template.size)
            steps.append(Step("create volume", reset.create))
        elif not self._equals(target.path, facts, template):
            self._require_consent(item, target, template)
            self._backend.require_room(target.path, template.size)
            copies = sorted([*copies, self._backend.next_copy(target.path)])
            steps.append(Step("reset volume", reset.swap))
        entry = target.entry
        if reset_id is not None and entry is not None:
            steps.append(Step("note the reset", lambda: self._note_reset(entry, reset_id)))
        change = self._change(target, facts, template, steps, self._needed(target))
        change.outcome = "reset"
        change.undo = reset.undo
        change.details["reset_id"] = reset_id or noted
        if steps:
            change.details.update(exists=True, size=template.size, format="raw", ready=True, copies=copies)
        change.after = self._state(change)
        return change

    def _note_reset(self, entry: Entry, reset_id: str) -> None:
        set_marks(entry.domain, entry.tree, nvram_reset=reset_id)
        self.inventory.refresh(entry.uuid)

    def _absent(self, item: Mapping[str, Any], target: Target) -> Change:
        facts = self._backend.probe(target.path)
        copies = self._backend.copies(target.path)
        steps: list[Step] = []
        holder = self._require_removable(item, target)
        if facts.exists or copies:
            if not item["moved"]:
                self._require_consent(item, target, self._known_template(item, target))
            steps.append(Step("remove volume", lambda: self._remove(target.path)))
        if holder is not None and target.marks.nvram and item["accept_data_loss"]:
            steps.append(Step("clear mark", lambda: self._clear_mark(holder), counts=bool(steps)))
        change = self._change(target, facts, None, steps, None)
        change.outcome = "removed"
        if steps:
            change.details.update(exists=False, size=None, format=None, copies=[])
            change.after = {}
        return change

    def _require_removable(self, item: Mapping[str, Any], target: Target) -> Optional[Entry]:
        """Refuse while a VM runs with the volume, or where it belongs to another one."""
        holder = self.inventory.nvram_holder(target.path, None)
        if holder is None:
            return None
        if item["moved"]:
            raise held_by_another(
                target.path, holder.name, "The VM is defined on this host, so its volume did not move away; drop moved"
            )
        if target.uuid is not None and holder.uuid != target.uuid:
            raise held_by_another(target.path, holder.name, "Name that VM, or another path")
        self._require_off(Target(target.path, holder, holder.uuid))
        return holder

    def _known_template(self, item: Mapping[str, Any], target: Target) -> Optional[Template]:
        try:
            return self._template(item, target)
        except TrustedVMError:
            # The firmware may be gone before the volume; then only the host's templates count as pristine.
            return None

    def _remove(self, path: str) -> None:
        self._backend.drop_copies(path)
        self._backend.remove(path)

    def _clear_mark(self, entry: Entry) -> None:
        set_marks(entry.domain, entry.tree, nvram=False)
        self.inventory.refresh(entry.uuid)

    def _copy_steps(self, item: Mapping[str, Any], target: Target) -> list[Step]:
        """Drop what earlier resets kept, once the VM has proven that it runs without it."""
        copies = self._backend.copies(target.path)
        if not item["drop_copies"] or not copies:
            return []
        template = self._known_template(item, target)
        if not self._backend.probe(target.path).exists or self._guard.pristine(target.path, template):
            raise TrustedVMError(
                "nvram_not_proven",
                "NVRAM volume %s was not booted from since its reset, so the copies of before stay" % target.path,
                found="%d copies, and a volume that no firmware wrote to" % len(copies),
                hint="Start the VM, see that it boots, and run again",
            )
        return [Step("drop copies", lambda: self._backend.drop_copies(target.path))]

    def _equals(self, path: str, facts: Facts, template: Template) -> bool:
        return facts.header is not None and facts.size == template.size and self._backend.read(path) == template.read()

    def _require_consent(self, item: Mapping[str, Any], target: Target, template: Optional[Template]) -> None:
        facts = self._backend.probe(target.path)
        if item["accept_data_loss"] or not facts.exists or self._guard.pristine(target.path, template):
            return
        raise TrustedVMError(
            "nvram_would_be_lost",
            "NVRAM volume %s holds variables of a guest: boot entries, Secure Boot keys" % target.path,
            found="a volume that was written to",
            hint="Set accept_data_loss=true if they may go",
        )

    def _require_off(self, target: Target) -> None:
        if target.active:
            raise TrustedVMError(
                "vm_running",
                "VM %s runs with NVRAM volume %s" % (target.entry.name if target.entry else "", target.path),
                hint="Stop the VM first",
            )

    def _require_own(self, target: Target) -> None:
        holder = self.inventory.nvram_holder(target.path, target.uuid)
        if holder is not None and target.uuid is not None:
            raise held_by_another(target.path, holder.name)

    def _needed(self, target: Target) -> bool:
        """A volume asked for by path, or for a VM that is not defined yet, is taken as needed."""
        return target.entry is None or nvram_needed(target.entry.tree)

    def _change(
        self, target: Target, facts: Facts, template: Optional[Template], steps: list[Step], needed: Optional[bool]
    ) -> Change:
        entry = target.entry
        details = {
            **as_result(target.path, facts, template),
            "needed": needed,
            "template": template.path if template else None,
            "copies": self._backend.copies(target.path),
            "strays": self._backend.strays(target.path),
        }
        uuid = target.uuid or (entry.uuid if entry else None)
        subject = {"vm": entry.name if entry else None, "uuid": uuid, "path": details.pop("path")}
        change = Change(subject=subject, steps=steps, details=details)
        change.before = self._state(change) if facts.exists else {}
        change.after = change.before
        return change

    @staticmethod
    def _state(change: Change) -> dict[str, Any]:
        names = ("exists", "size", "format", "ready", "copies")
        return {"path": change.subject["path"], **{name: change.details[name] for name in names}}


def _refuse_odd_reset_id(reset_id: Optional[str], target: Target) -> None:
    if reset_id is None:
        return
    if not fits_xml(reset_id):
        raise TrustedVMError("reset_id_invalid", "The option reset_id holds a control character")
    if target.entry is None:
        raise TrustedVMError(
            "vm_not_found",
            "A reset_id is noted in the VM's definition, and no VM of this host has volume %s" % target.path,
            hint="Define the VM first, or leave reset_id out",
        )
