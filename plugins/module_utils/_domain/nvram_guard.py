# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""The NVRAM volume of a domain, looked at before anything is handed to a start (N1, N2, N4, N7)."""

from dataclasses import dataclass, replace
from typing import Any, Optional

from .._core.domains import Entry
from .._core.errors import TrustedVMError
from .._nvram.backends.directory import DirectoryBackend
from .._nvram.firmware import FirmwareCatalogue
from .._nvram.volume import BLANK, READ_LIMIT, Decision, Template, decide, held_by_another, missing, never_used
from .description import has_secure_boot, libvirt_chooses_nvram, nvram_of
from .firmware_edits import template_for, template_from, template_path
from .inventory import Inventory


@dataclass(frozen=True)
class NvramPlan:
    """What becomes of a domain's NVRAM.

    Attributes:
        path: None for a block or network volume, and where libvirt chooses.
        needed: the VM has a vTPM or Secure Boot, so the volume is ours to look after (N1).
        decision: what to do; None: leave it to libvirt or to whoever made it.
    """

    path: Optional[str]
    kind: str
    needed: bool
    decision: Optional[Decision] = None

    @property
    def changes(self) -> bool:
        return self.decision is not None and self.decision.changes

    def as_result(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "type": self.kind,
            "needed": self.needed,
            "action": self.decision.action if self.decision else "none",
        }


class NvramGuard:
    """Decides on volumes and carries the decisions out."""

    def __init__(self, inventory: Inventory, catalogue: FirmwareCatalogue, backend: DirectoryBackend) -> None:
        self._inventory = inventory
        self._catalogue = catalogue
        self.backend = backend
        self._templates: Optional[list[bytes]] = None
        self._known_templates: dict[str, Template] = {}

    def plan(
        self,
        tree: Any,
        has_tpm: bool,
        spec_template: Optional[str],
        was_used: bool,
        starting: bool,
        check: bool = True,
        new_template: bool = False,
    ) -> Optional[NvramPlan]:
        """What to do about the volume of a domain that is off; None for a domain without NVRAM.

        Args:
            check: False: only say what there is (a running VM, another machine).
            new_template: the definition changes to another template (Secure Boot is turned on, say):
                a volume that nothing was written to is made anew from it.

        Raises:
            TrustedVMError: those of ``decide``, ``nvram_in_use``, ``nvram_storage_unsuitable``.
        """
        nvram = nvram_of(tree)
        if nvram is None:
            return None
        plan = NvramPlan(nvram.path, nvram.kind, has_tpm or has_secure_boot(tree))
        if not check or nvram.path is None:
            return plan
        facts = self.backend.probe(nvram.path)
        if not facts.exists and (was_used or not plan.needed):
            # A VM without vTPM and Secure Boot gets its NVRAM from libvirt; one that ran keeps its own.
            if was_used and starting:
                raise missing(nvram.path)
            return plan
        template = self._template(template_path(tree, spec_template, self._catalogue))
        path = nvram.path
        decision = decide(path, facts, template, was_used, lambda: self.pristine(path, template))
        if new_template and decision.action == "use" and not was_used and self._is_another_template(path, template):
            decision = replace(decision, action="rebuild")
        if decision.changes:
            self.backend.require_room(path, template.size)
        if decision.changes or starting:
            self._require_own(path, tree.findtext("uuid"))
        return replace(plan, decision=decision)

    def _template(self, path: Optional[str]) -> Template:
        """Looked at once a task: hundreds of VMs start from the same few."""
        if path is None:
            return BLANK
        if path not in self._known_templates:
            self._known_templates[path] = template_from(path)
        return self._known_templates[path]

    def _is_another_template(self, path: str, template: Template) -> bool:
        return self.pristine(path, template) and self.backend.read(path) != template.read()

    def require_same_place(self, entry: Entry, after: Any) -> None:
        """A definition that points elsewhere would start with other variables than the VM has.

        Raises:
            TrustedVMError: ``nvram_elsewhere``.
        """
        old, new = self._inventory.nvram_path(entry), nvram_of(after)
        if old is None or (new is not None and new.path == old) or (new is None and libvirt_chooses_nvram(after)):
            return
        template = template_for(entry.tree, None, self._catalogue)
        if not self.backend.probe(old).exists or self.pristine(old, template):
            return
        raise TrustedVMError(
            "nvram_elsewhere",
            "The VM's NVRAM volume is %s, and the definition would leave it behind" % old,
            found=old,
            wanted=(new.path or new.kind) if new else "no NVRAM",
            hint="Move the file to the wanted path while the VM is off, or reset it first "
            "(nvram_volume state=reset, accept_data_loss=true)",
        )

    def pristine(self, path: str, template: Optional[Template]) -> bool:
        """Whether nothing was ever written to the volume; reads it."""
        facts = self.backend.probe(path)
        if facts.header is None or facts.size > READ_LIMIT:
            return False
        own = [template.read()] if template is not None else []
        return never_used(self.backend.read(path), own + self.host_templates())

    def host_templates(self) -> list[bytes]:
        if self._templates is None:
            self._templates = []
            for path in self._catalogue.templates():
                try:
                    self._templates.append(template_from(path).read())
                except (TrustedVMError, OSError):
                    continue
        return self._templates

    def carry_out(self, decision: Decision) -> None:
        """Make or rebuild the volume."""
        content = decision.template.read()
        if decision.action == "create":
            self.backend.create(decision.path, content)
        elif decision.action == "rebuild":
            self.backend.replace(decision.path, content, keep_copy=False)

    def _require_own(self, path: str, uuid: str) -> None:
        holder = self._inventory.nvram_holder(path, uuid)
        if holder is not None:
            raise held_by_another(path, holder.name)
