# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Carries out a VM's plan step by step, and remembers what it made so that a failure can undo it."""

from typing import TYPE_CHECKING, Any, Callable, Optional

from .._core.connection import libvirt_message
from .._core.deps import libvirt
from .._core.domains import Entry, definition, definition_text
from .._core.errors import TrustedVMError
from .._nvram.volume import Decision
from .._tpm.state_dir import ABSENT, TpmState
from . import lifecycle
from .compare import contains
from .definition_plan import Draft
from .description import nvram_of
from .disks import DiskSpec, read_back
from .metadata import set_marks
from .spec import VmSpec
from .undefine import undefine

if TYPE_CHECKING:
    from .planner import VmPlanner

# libvirt's answers to a definition that it does not take.
_XML_ERRORS = ("VIR_ERR_XML_ERROR", "VIR_ERR_XML_DETAIL", "VIR_ERR_XML_INVALID_SCHEMA", "VIR_ERR_CONFIG_UNSUPPORTED")


class Applier:
    """The steps of one VM."""

    def __init__(
        self,
        planner: "VmPlanner",
        spec: VmSpec,
        entry: Optional[Entry],
        draft: Draft,
        tpm_state: Optional[TpmState],
    ) -> None:
        self._p = planner
        self._spec = spec
        self._entry = entry
        self._draft = draft
        self._tpm_state = tpm_state
        self._had_tpm_state = True
        self._uuid: str = draft.tree.findtext("uuid")
        self._old_xml: Optional[str] = None
        self._found_nvram = False
        # How each step is taken back, in the order in which they were done.
        self._undo: list[Callable[[], Any]] = []

    @property
    def domain(self) -> Any:
        entry = self._entry or self._p.inventory.by_uuid(self._uuid)
        if entry is None:
            raise TrustedVMError("vm_not_found", "The VM vanished while it was worked on", hint="Run again")
        return entry.domain

    def create_disk(self, spec: DiskSpec) -> None:
        self._p.disks.create(spec)
        self._undo.append(lambda: self._p.disks.remove(read_back(spec)))

    def nvram(self, decision: Decision) -> None:
        backend, path = self._p.guard.backend, decision.path
        # What is rebuilt was never used, so it is small.
        before = backend.read(path) if decision.action == "rebuild" else None
        self._p.guard.carry_out(decision)
        if before is not None:
            self._undo.append(lambda: backend.replace(path, before, keep_copy=False))
        else:
            self._undo.append(lambda: backend.remove(path))

    def define(self) -> None:
        """Define, for an existing VM on top of its definition with passwords, which reads leave out."""
        tree = self._draft.tree
        if self._entry is not None:
            full = definition(self._entry.domain, secure=True)
            self._old_xml = definition_text(full)
            tree = self._p.definitions.draft(self._spec, full).tree
        flags = libvirt.VIR_DOMAIN_DEFINE_VALIDATE if self._draft.validate else 0
        try:
            self._p.connection.defineXMLFlags(definition_text(tree), flags)
        except libvirt.libvirtError as error:
            raise _definition_refused(error) from error
        self._undo.append(self._undefine)
        self._found_nvram = self._has_nvram_file()
        self._had_tpm_state = self._tpm_state is None or self._tpm_state.status() != ABSENT
        self._entry = self._p.inventory.refresh(self._uuid)
        if self._spec.xml is not None and self._entry is not None and not contains(self._entry.tree, tree):
            set_marks(self._entry.domain, self._entry.tree, rewritten=True)
            self._entry = self._p.inventory.refresh(self._uuid)

    def _has_nvram_file(self) -> bool:
        nvram = nvram_of(self._draft.tree)
        return nvram is not None and nvram.path is not None and self._p.guard.backend.probe(nvram.path).exists

    def set_autostart(self) -> None:
        before = self.domain.autostart()
        self.domain.setAutostart(1 if self._spec.autostart else 0)
        self._undo.append(lambda: self.domain.setAutostart(before))

    def stop(self, policy: lifecycle.StopPolicy) -> None:
        self._p.ask_all_to_stop()
        self._p.stopper.stop(self.domain, policy)
        self._p.inventory.refresh(self._uuid)

    def bring_up(self, way: str) -> None:
        if way == "start":
            lifecycle.start(self.domain)
        elif way == "resume":
            self.domain.resume()
        else:
            self.domain.pMWakeup(0)
        self._entry = self._p.inventory.refresh(self._uuid)

    def mark(self, tpm_state: Optional[bool] = None, nvram: Optional[bool] = None) -> None:
        """Marks are a safeguard on top: a VM that runs well must not be undone for want of one."""
        try:
            domain = self.domain
            set_marks(domain, definition(domain), tpm_state=tpm_state, nvram=nvram)
            self._entry = self._p.inventory.refresh(self._uuid)
        except libvirt.libvirtError:
            # The next run sees the VM or its TPM state and tries again.
            pass

    def undo(self) -> None:
        """Put back what the steps made, all that can be; the first failure is told at the end."""
        failure: Optional[Exception] = None
        while self._undo:
            try:
                self._undo.pop()()
            except Exception as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def _undefine(self) -> None:
        """The old definition; a VM that was made here never ran, so nothing of it is lost."""
        if self._old_xml is not None:
            self._p.connection.defineXML(self._old_xml)
        else:
            domain = self.domain
            undefine(self._p.connection, domain, definition(domain), self._found_nvram, self._had_tpm_state)
        self._p.inventory.refresh(self._uuid)


def _definition_refused(error: Any) -> TrustedVMError:
    code = error.get_error_code()
    xml = code in [getattr(libvirt, name) for name in _XML_ERRORS]
    return TrustedVMError(
        "xml_invalid" if xml else "libvirt_error",
        "libvirt does not take the VM's definition: %s" % libvirt_message(error),
        hint="Correct the option or the part of the XML that libvirt names",
        details={"libvirt_error": code},
    )
