# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""The live migration of one VM, and what is told of it: also of one that failed."""

import os
from typing import Any, Callable, Mapping, Optional

from .._core.change import Change, Step
from .._core.deps import libvirt
from .._core.errors import TrustedVMError
from . import new_directory
from .aftermath import after_failure, prove, source_leftovers
from .destination import UNREACHABLE, Destinations
from .failures import migration_failure
from .job import JobReport, MigrationJob, Progress, completed_stats
from .qemu_log import is_vague, last_words
from .request import Request
from .sharing import NO_DIRECTORY
from .survey import Survey


class LiveMove:
    """One live migration whose preflight is done; ``change`` gets what is measured."""

    def __init__(
        self,
        survey: Survey,
        request: Request,
        destinations: Destinations,
        change: Change,
        preflight_s: float,
        on_progress: Optional[Progress] = None,
    ) -> None:
        self._survey = survey
        self._request = request
        self._destinations = destinations
        self._change = change
        self._preflight_s = preflight_s
        self._on_progress = on_progress

    def steps(self) -> list[Step]:
        return [Step("migrate live to %s" % self._survey.destination_host, self._migrate)]

    def _migrate(self) -> None:
        survey, request = self._survey, self._request
        job = MigrationJob(survey.here, request, self._on_progress)
        host = survey.destination_host or request.destination_uri
        try:
            self._make_directory()
            report = job.run()
            destination, report.stats = self._proof()
        except libvirt.libvirtError as error:
            timed_out = request.timeout if job.timed_out else None
            failure = migration_failure(error, request.vm, host, timed_out, self._last_words(error))
            if survey.secrets and failure.code in ("destination_secret_missing", "destination_secret_wrong"):
                failure.details["secret_uuid"] = survey.secrets[0].uuid
            self._explain(failure)
            raise failure from error
        except TrustedVMError as error:
            self._explain(error)
            raise
        self._tell(report, destination)

    def _tell(self, report: JobReport, destination: Mapping[str, Any]) -> None:
        details = self._change.details
        details.update(
            timings=report.timings(self._preflight_s),
            bytes=report.bytes(),
            iterations=report.stats.get("memory_iteration"),
            running_on="destination",
            destination=destination,
            source_leftovers=source_leftovers(self._survey) if self._request.undefine_source else [],
        )
        for secret in details["secrets"]:
            secret["on_destination"] = True

    def _proof(self) -> tuple[dict[str, Any], Mapping[str, Any]]:
        """What the destination shows of the VM, and its statistics; in limited time.

        The network may go right after the move, and libvirt's client would wait for as long as TCP does.
        """

        def look(destination: Any) -> tuple[dict[str, Any], Mapping[str, Any]]:
            there, told = prove(self._survey, self._request, destination)
            return told, completed_stats(there)

        try:
            return self._destinations.ask(self._request.destination_uri, self._request.connect_timeout, look)
        except TrustedVMError as error:
            if error.code != UNREACHABLE:
                raise
            raise TrustedVMError(
                "migration_unproven",
                "libvirt reported a finished migration of VM '%s', but %s cannot be asked about it"
                % (self._request.vm, self._survey.destination_host),
                found=error.found,
                wanted="running on %s only" % self._survey.destination_host,
                hint="See that the host is up and reached from here, then run again: that finds the VM there and finishes",
            ) from error

    def _make_directory(self) -> None:
        directory = self._new_directory()
        if directory is not None:
            new_directory.make(self._survey.destination, directory)

    def _new_directory(self) -> Optional[str]:
        machine = self._survey.machine
        if self._survey.nvram is NO_DIRECTORY and machine is not None and machine.nvram:
            return os.path.dirname(machine.nvram)
        return None

    def _last_words(self, error: Any) -> Optional[str]:
        if not is_vague(error) or self._survey.machine is None:
            return None
        name = self._survey.machine.name
        words: Optional[str] = self._quietly(lambda destination: last_words(destination, name))
        return words

    def _quietly(self, work: Callable[[Any], Any]) -> Any:
        """Ask the destination for something after a failure; None where it cannot be had."""
        try:
            return self._destinations.ask_anew(self._request.destination_uri, self._request.connect_timeout, work)
        except (TrustedVMError, libvirt.libvirtError):
            return None

    def _explain(self, error: TrustedVMError) -> None:
        """Add to the first error where the VM is now and what is left on the destination."""
        survey = self._survey
        after = after_failure(survey, self._request, self._destinations)
        directory = self._new_directory()
        if directory is not None:
            # Only if it is empty; else the file in it is among the leftovers.
            self._quietly(lambda destination: new_directory.remove_empty(destination, directory))
        self._change.left_changed = after["running_on"] != "source"
        error.details = {**survey.as_result(), **error.details, **after}
        error.hint = "%s%s" % (_reassurance(after["running_on"], survey), error.hint or "")


def _reassurance(place: str, survey: Survey) -> str:
    words = {
        "source": "The VM goes on running on %s. " % survey.source_host,
        "destination": "The VM runs on %s now; do not start it on %s. "
        % (survey.destination_host, survey.source_host),
        "both": "The VM runs on BOTH hosts: stop one of them at once. ",
        "neither": "The VM runs on neither host now. ",
    }
    return words.get(place, "It is not known where the VM runs now: look at both hosts. ")
