# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""The migration of a VM that is off: copy, prove, define there, and only then undefine here.

libvirt's own offline migration moves the definition only, and with "undefine source" it deletes the
TPM state (seen on 9.0.0, 11.3.0 and 12.8.0).
"""

import time
from functools import partial
from typing import Any, Callable, Optional

from .._core.change import Change, Step
from .._core.deps import libvirt
from .._core.domains import definition
from .._core.errors import TrustedVMError
from .._core.host_paths import HostPaths
from .._domain.undefine import undefine
from . import new_directory
from .aftermath import source_leftovers
from .cold_aftermath import DIRECTORY, DOMAIN, FILE, Made, as_failure, explain
from .cold_files import NVRAM, TPM_STATE, WORDS, StateFile, digests, opens_with, source_files
from .cold_xml import definition_for
from .destination import Destinations, unreachable, within
from .directory_pool import remove_strays
from .lookup import find_domain_by_uuid
from .machine import read_machine
from .remote_files import incoming, remote_directory
from .request import Request
from .survey import Survey

# For one step on the destination; a TPM state and an NVRAM have less than 1 MiB together.
STEP_SECONDS = 120.0


class ColdMove:
    """One cold migration whose preflight is done; ``change`` gets what is measured.

    Args:
        files: what both hosts do not share, compared with the destination.
        paths: of the source's libvirt.
    """

    def __init__(
        self,
        survey: Survey,
        request: Request,
        destinations: Destinations,
        change: Change,
        files: list[StateFile],
        preflight_s: float,
        paths: Optional[HostPaths],
    ) -> None:
        self._survey = survey
        self._request = request
        self._destinations = destinations
        self._change = change
        self._files = files
        self._paths = paths
        self._timings = {"preflight_s": preflight_s, "copy_s": 0.0, "define_s": 0.0}
        self._bytes = {NVRAM: 0, TPM_STATE: 0}
        self._made = Made()
        self._given_up = False

    def steps(self) -> list[Step]:
        here, there = self._survey.source_host, self._survey.destination_host
        steps = []
        for kind in (NVRAM, TPM_STATE):
            files = [one for one in self._files if one.kind == kind and not one.there]
            if files:
                steps.append(self._step("copy %s to %s" % (WORDS[kind], there), partial(self._copy, kind, files), "copy_s"))
        if self._survey.there is None:
            steps.append(self._step("define on %s" % there, self._define, "define_s"))
        elif self._autostart_differs():
            steps.append(self._step("set autostart on %s" % there, self._carry_autostart, "define_s"))
        if self._request.undefine_source:
            steps.append(self._step("undefine on %s" % here, self._undefine, "define_s"))
        if steps:
            steps[-1] = self._ending(steps[-1])
        return steps

    def _ending(self, last: Step) -> Step:
        """Whatever the last step is, what was measured is told after it."""

        def do() -> None:
            last.do()
            self._tell()

        return Step(last.what, do)

    def _step(self, what: str, work: Callable[[], None], timing: str) -> Step:
        def do() -> None:
            started = time.monotonic()
            try:
                work()
            except (TrustedVMError, libvirt.libvirtError, OSError) as error:
                failure = as_failure(error, "taking the step '%s'" % what, self._survey, self._files)
                self._change.left_changed = explain(failure, self._survey, self._request, self._destinations, self._made)
                raise failure from error
            finally:
                self._timings[timing] += time.monotonic() - started

        return Step(what, do)

    # copy

    def _copy(self, kind: str, files: list[StateFile]) -> None:
        self._on_destination(lambda destination: self._send(destination, files))
        self._bytes[kind] += sum(len(one.data) for one in files)

    def _send(self, destination: Any, files: list[StateFile]) -> None:
        directory = files[0].directory
        if files[0].new_directory:
            self._make_directory(destination, files[0].kind, directory)
        with remote_directory(destination, directory) as there:
            for one in files:
                self._go_on()
                self._made.note(FILE, one.path)
                there.put(one.name, one.data)
                self._prove_key(one, there.read(one.name) or b"")

    def _make_directory(self, destination: Any, kind: str, directory: str) -> None:
        state = self._survey.machine.tpm_state if self._survey.machine else None
        if kind == TPM_STATE and state is not None and state.container not in (directory, state.path):
            # libvirt's own place is a directory in the VM's directory; it goes only if it is empty.
            self._made.note(DIRECTORY, state.container)
        self._made.note(DIRECTORY, directory)
        new_directory.make(destination, directory)

    def _prove_key(self, one: StateFile, copied: bytes) -> None:
        """The key has opened the source's state; now the copy, as the destination gives it back."""
        location = self._survey.machine.tpm_state if self._survey.machine else None
        if not self._survey.key_opens or location is None or self._request.value is None or one.path != location.state_file:
            return
        if not opens_with(location, copied, self._request.value):
            raise TrustedVMError(
                "key_does_not_open_tpm_state",
                "The key does not open the TPM state that was copied to %s" % self._survey.destination_host,
                wanted="a copy that opens as the source's state does",
                hint="See the destination's storage; the source's state is untouched",
            )

    # define

    def _define(self) -> None:
        self._require_unchanged()
        self._on_destination(self._define_there)

    def _define_there(self, destination: Any) -> None:
        xml = definition_for(destination, self._survey.source, self._survey.here)
        self._drop_arrivals(destination)
        remove_strays(destination)
        self._go_on()
        self._made.note(DOMAIN, self._uuid())
        destination.defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
        there = self._require_same_machine(destination)
        if self._survey.here is not None and self._survey.here.autostart():
            there.setAutostart(1)
        self._survey.there = there

    def _drop_arrivals(self, destination: Any) -> None:
        """Of a run that was killed when all had arrived."""
        for one in self._files:
            if one.there:
                with remote_directory(destination, one.directory) as directory:
                    directory.delete(incoming(one.name))

    def _require_same_machine(self, destination: Any) -> Any:
        """The definition there must find the state where it was put."""
        there = find_domain_by_uuid(destination, self._uuid())
        if there is None:
            raise self._unproven("no VM with UUID %s" % self._uuid())
        ours, theirs = self._survey.machine, read_machine(definition(there), self._paths)
        if ours is None or (ours.nvram, ours.tpm_state, ours.secret_uuids) != (
            theirs.nvram,
            theirs.tpm_state,
            theirs.secret_uuids,
        ):
            raise self._unproven("NVRAM %s, TPM state %s" % (theirs.nvram, theirs.tpm_state and theirs.tpm_state.path))
        return there

    def _unproven(self, found: str) -> TrustedVMError:
        machine = self._survey.machine
        state = machine.tpm_state.path if machine and machine.tpm_state else None
        return TrustedVMError(
            "migration_unproven",
            "%s holds another definition of VM '%s' than %s"
            % (self._survey.destination_host, self._request.vm, self._survey.source_host),
            found=found,
            wanted="NVRAM %s, TPM state %s" % (machine.nvram if machine else None, state),
            hint="Name loader and NVRAM in the VM's definition, so that both releases of libvirt choose the same",
        )

    def _autostart_differs(self) -> bool:
        here, there = self._survey.here, self._survey.there
        return here is not None and there is not None and bool(here.autostart()) and not there.autostart()

    def _carry_autostart(self) -> None:
        self._on_destination(lambda destination: self._require_same_machine(destination).setAutostart(1))

    # the source

    def _undefine(self) -> None:
        self._require_unchanged()
        here = self._survey.here
        if here is not None:
            undefine(self._survey.source, here, definition(here), keep_nvram=True, keep_tpm=True)
        self._survey.here = None

    def _require_unchanged(self) -> None:
        """Nobody has started the VM on the source meanwhile."""
        here = self._survey.here
        copied = {one.path: one.data for one in self._files}
        now = {one.path: one.data for one in source_files(self._survey)}
        if here is None or here.isActive() or copied != now:
            raise TrustedVMError(
                "vm_started_meanwhile",
                "VM '%s' was started on %s while it was migrated" % (self._request.vm, self._survey.source_host),
                found="running" if here is not None and here.isActive() else "other NVRAM or TPM state than before",
                wanted="shut off, as at the beginning",
                hint="See who starts it there (autostart, another playbook), then migrate again",
            )

    def _tell(self) -> None:
        total = sum(self._timings.values())
        timings = {**self._timings, "total_s": total - self._timings["preflight_s"]}
        self._change.details.update(
            timings={name: round(seconds, 3) for name, seconds in timings.items()},
            bytes=dict(self._bytes),
            digests=digests(self._files, self._survey.machine),
            destination={"state": "stopped", "persistent": True},
            source_leftovers=source_leftovers(self._survey) if self._request.undefine_source else [],
        )

    # the destination, and failures

    def _uuid(self) -> str:
        return self._survey.machine.uuid if self._survey.machine else ""

    def _on_destination(self, work: Callable[[Any], None]) -> None:
        limit = float(self._request.timeout or STEP_SECONDS)
        try:
            within(limit, lambda: work(self._survey.destination), partial(unreachable, self._request.destination_uri))
        finally:
            self._given_up = True
        self._given_up = False

    def _go_on(self) -> None:
        """A thread that was given up must not do any more when its host answers at last."""
        if self._given_up:
            raise unreachable(self._request.destination_uri, "the step was given up")
