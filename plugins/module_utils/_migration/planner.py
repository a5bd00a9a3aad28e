# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""From one item to its change: look, decide, and the one step that migrates."""

import os
import time
from typing import Any, Callable, Mapping, Optional

from .._core.change import Change, Step
from .._core.connection import libvirt_failure
from .._core.deps import libvirt
from .._core.domains import DomainIndex
from .._core.errors import TrustedVMError
from .._core.host_paths import host_paths
from .._domain.lifecycle import power_state
from . import nvram_directory
from .aftermath import after_failure, prove, source_leftovers
from .destination import Destinations, unreachable, within
from .failures import migration_failure
from .job import JobReport, MigrationJob, Progress, completed_stats
from .obstacles import find_obstacles
from .qemu_log import is_vague, last_words
from .request import Request
from .sharing import NO_DIRECTORY
from .survey import Survey, find_here, find_there, look_at_state

# libvirt asks each QEMU binary once for its capabilities, which takes seconds on a slow host.
PREFLIGHT_SECONDS = 60.0

MIGRATED = "migrated"
ALREADY_THERE = "already_there"
CLEANED = "cleaned"


class MigrationPlanner:
    """Plans the migrations of one source host, one item at a time."""

    def __init__(
        self,
        source: Any,
        destinations: Destinations,
        check_mode: bool,
        on_progress: Optional[Progress] = None,
    ) -> None:
        self._source = source
        self._source_host = source.getHostname()
        self._domains = DomainIndex(source)
        self._paths = host_paths(source)
        self._destinations = destinations
        self._check_mode = check_mode
        self._on_progress = on_progress

    def plan(self, options: Mapping[str, Any]) -> Change:
        """The whole preflight; changes nothing.

        Raises:
            TrustedVMError: with all that was found out in its details.
        """
        started = time.monotonic()
        request = Request.from_options(options)
        survey = Survey(
            self._source,
            self._source_host,
            source_is_local=self._paths is not None,
            destination_uri=request.destination_uri,
        )
        try:
            find_here(survey, self._domains, request, self._paths)
            survey.destination = self._destinations.get(request.destination_uri, request.connect_timeout)
            self._look(survey, request)
        except TrustedVMError as error:
            error.details = {**self._known(survey), **error.details}
            raise
        except libvirt.libvirtError as error:
            failure = libvirt_failure(error, "looking at VM '%s' on both hosts" % request.vm)
            failure.details = {**self._known(survey), **failure.details}
            raise failure from error
        return self._change(survey, request, time.monotonic() - started)

    def _look(self, survey: Survey, request: Request) -> None:
        def work() -> None:
            survey.destination_host = survey.destination.getHostname()
            find_there(survey, self._domains, request, self._paths)
            look_at_state(survey, request)
            if not survey.already_there:
                _refuse(find_obstacles(survey, request, self._check_mode))

        within(PREFLIGHT_SECONDS, work, lambda why: unreachable(request.destination_uri, why))

    @staticmethod
    def _known(survey: Survey) -> dict[str, Any]:
        try:
            place = survey.running_on() if survey.machine else "unknown"
        except libvirt.libvirtError:
            place = "unknown"
        return {**survey.as_result(), "running_on": place}

    def _change(self, survey: Survey, request: Request, preflight_s: float) -> Change:
        where = {"host": survey.source_host if not survey.already_there else survey.destination_host}
        active = survey.there if survey.already_there else survey.here
        state = power_state(active).state
        change = Change(
            subject={"vm": request.vm},
            before={**where, "state": state},
            after={"host": survey.destination_host, "state": state},
            outcome=MIGRATED,
            idle_outcome=ALREADY_THERE,
            details={**survey.as_result(), "running_on": survey.running_on()},
        )
        if not survey.already_there:
            what = "migrate live to %s" % survey.destination_host
            change.steps.append(Step(what, lambda: self._migrate(survey, request, change, preflight_s)))
        else:
            change.details["source_leftovers"] = source_leftovers(survey) if survey.here is None else []
        if request.clean_source:
            self._plan_cleaning(survey, change)
        return change

    def _plan_cleaning(self, survey: Survey, change: Change) -> None:
        """The second step; alone where an earlier run moved the VM and did not get to it."""
        # Not at the top: it brings three rooms that a preflight need not compile (0.2 s a call).
        from .cleanup import clean, source_secrets

        if survey.already_there:
            left = change.details["source_leftovers"] + source_secrets(survey)
            if survey.here is not None or not clean(survey, left, check_mode=True).removed:
                return
            change.outcome = CLEANED
            change.before = {**change.before, "left_on": survey.source_host}
        change.steps.append(Step("clean %s" % survey.source_host, lambda: self._clean(survey, change)))

    def _clean(self, survey: Survey, change: Change) -> None:
        from .cleanup import clean, source_secrets

        done = clean(survey, source_leftovers(survey) + source_secrets(survey))
        change.details.update(source_removed=done.removed, source_leftovers=done.left)
        gone = [one["path"] for one in done.removed if one["kind"] == "secret"]
        for secret in change.details["secrets"]:
            secret["on_source"] = secret["on_source"] and secret["uuid"] not in gone

    def _migrate(self, survey: Survey, request: Request, change: Change, preflight_s: float) -> None:
        job = MigrationJob(survey.here, request, self._on_progress)
        host = survey.destination_host or request.destination_uri
        try:
            self._make_nvram_directory(survey)
            report = job.run()
            there, destination = prove(survey, request)
        except libvirt.libvirtError as error:
            timed_out = request.timeout if job.timed_out else None
            failure = migration_failure(error, request.vm, host, timed_out, self._last_words(error, survey, request))
            if survey.secrets and failure.code in ("destination_secret_missing", "destination_secret_wrong"):
                failure.details["secret_uuid"] = survey.secrets[0].uuid
            self._explain(failure, survey, request, change)
            raise failure from error
        except TrustedVMError as error:
            self._explain(error, survey, request, change)
            raise
        report.stats = completed_stats(there)
        change.details.update(_measured(report, preflight_s))
        change.details.update(running_on="destination", destination=destination)
        for secret in change.details["secrets"]:
            secret["on_destination"] = True
        change.details["source_leftovers"] = source_leftovers(survey) if request.undefine_source else []

    @staticmethod
    def _make_nvram_directory(survey: Survey) -> None:
        if survey.nvram is NO_DIRECTORY and survey.machine is not None and survey.machine.nvram:
            nvram_directory.make(survey.destination, os.path.dirname(survey.machine.nvram))

    def _last_words(self, error: Any, survey: Survey, request: Request) -> Optional[str]:
        if not is_vague(error) or survey.machine is None:
            return None
        name = survey.machine.name
        words: Optional[str] = self._quietly(request, lambda destination: last_words(destination, name))
        return words

    def _quietly(self, request: Request, work: Callable[[Any], Any]) -> Any:
        """Ask the destination for something after a failure; None where it cannot be had."""
        uri, seconds = request.destination_uri, request.connect_timeout
        try:
            fresh = self._destinations.again(uri, seconds)
            return within(seconds, lambda: work(fresh), lambda why: unreachable(uri, why))
        except (TrustedVMError, libvirt.libvirtError):
            return None

    def _explain(self, error: TrustedVMError, survey: Survey, request: Request, change: Change) -> None:
        """Add to the first error where the VM is now and what is left on the destination."""
        after = after_failure(survey, request, self._destinations)
        if survey.nvram is NO_DIRECTORY and survey.machine is not None and survey.machine.nvram:
            # Only if it is empty; else the file in it is among the leftovers.
            directory = os.path.dirname(survey.machine.nvram)
            self._quietly(request, lambda destination: nvram_directory.remove_empty(destination, directory))
        change.left_changed = after["running_on"] != "source"
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


def _measured(report: JobReport, preflight_s: float) -> dict[str, Any]:
    return {
        "timings": report.timings(preflight_s),
        "bytes": report.bytes(),
        "iterations": report.stats.get("memory_iteration"),
    }


def _refuse(obstacles: list[TrustedVMError]) -> None:
    """Raise the first obstacle; the others are told in its details, to be removed in one go."""
    if not obstacles:
        return
    first = obstacles[0]
    if len(obstacles) > 1:
        first.details["obstacles"] = [
            {"error_code": obstacle.code, "msg": str(obstacle)} for obstacle in obstacles
        ]
    raise first
