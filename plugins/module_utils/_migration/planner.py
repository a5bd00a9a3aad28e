# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""From one item to its change: look, decide, and say the steps."""

import time
from functools import partial
from typing import Any, Mapping, Optional

from .._core.change import Change, Step
from .._core.connection import libvirt_failure
from .._core.deps import libvirt
from .._core.domains import DomainIndex, definition
from .._core.errors import TrustedVMError
from .._core.host_paths import host_paths
from .._domain.lifecycle import power_state
from .._domain.undefine import undefine
from .aftermath import source_leftovers
from .destination import Destinations, unreachable, within
from .job import Progress
from .live import LiveMove
from .obstacles import find_obstacles, refuse
from .request import COLD, Request
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
            files = self._look(survey, request)
        except TrustedVMError as error:
            error.details = {**self._known(survey), **error.details}
            raise
        except libvirt.libvirtError as error:
            failure = libvirt_failure(error, "looking at VM '%s' on both hosts" % request.vm)
            failure.details = {**self._known(survey), **failure.details}
            raise failure from error
        return self._change(survey, request, files, time.monotonic() - started)

    def _look(self, survey: Survey, request: Request) -> list[Any]:
        """Look at both hosts; returns the files that a cold migration has to see to."""

        def work() -> list[Any]:
            survey.destination_host = survey.destination.getHostname()
            find_there(survey, self._domains, request, self._paths)
            look_at_state(survey, request)
            if survey.already_there:
                return []
            if survey.mode == COLD:
                # Not at the top: a live migration need not compile it.
                from .cold_plan import look

                return list(look(survey, request, self._check_mode))
            refuse(find_obstacles(survey, request, self._check_mode))
            return []

        return within(PREFLIGHT_SECONDS, work, lambda why: unreachable(request.destination_uri, why))

    @staticmethod
    def _known(survey: Survey) -> dict[str, Any]:
        try:
            place = survey.running_on() if survey.machine else "unknown"
        except libvirt.libvirtError:
            place = "unknown"
        return {**survey.as_result(), "running_on": place}

    def _change(self, survey: Survey, request: Request, files: list[Any], preflight_s: float) -> Change:
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
        if survey.already_there:
            self._plan_undefine(survey, request, change)
            change.details["source_leftovers"] = [] if _stays(survey, change) else source_leftovers(survey)
        elif survey.mode == COLD:
            from .cold import ColdMove

            change.steps += ColdMove(survey, request, self._destinations, change, files, preflight_s, self._paths).steps()
        else:
            change.steps += LiveMove(survey, request, self._destinations, change, preflight_s, self._on_progress).steps()
        if request.clean_source:
            self._plan_cleaning(survey, change)
        return change

    def _plan_undefine(self, survey: Survey, request: Request, change: Change) -> None:
        """An earlier run ended after the VM had arrived; what it left here could be started a second time."""
        if survey.here is None or not request.undefine_source:
            return
        if request.persist_destination and survey.there is not None and not survey.there.isPersistent():
            raise _not_persistent(survey)
        change.outcome = CLEANED
        change.before = {**change.before, "defined_on": survey.source_host}
        change.steps.append(Step("undefine on %s" % survey.source_host, lambda: self._undefine(survey)))

    def _undefine(self, survey: Survey) -> None:
        undefine(survey.source, survey.here, definition(survey.here), keep_nvram=True, keep_tpm=True)
        self._domains.forget()
        survey.here = None

    def _plan_cleaning(self, survey: Survey, change: Change) -> None:
        """The last step; without the first where an earlier run moved the VM and did not get to it."""
        # Not at the top: it brings three rooms that a preflight need not compile (0.2 s a call).
        from .cleanup import clean

        if survey.already_there:
            if _stays(survey, change):
                return
            left, _kept = _removable(survey)
            # What a definition that is about to go still names counts as removable.
            if not (left if change.steps else clean(survey, left, check_mode=True).removed):
                return
            change.outcome = CLEANED
            change.before = {**change.before, "left_on": survey.source_host}
        elif not change.steps:
            return
        change.steps.append(Step("clean %s" % survey.source_host, lambda: self._clean(survey, change)))

    def _clean(self, survey: Survey, change: Change) -> None:
        from .cleanup import clean

        try:
            left, kept = within(PREFLIGHT_SECONDS, lambda: _removable(survey), partial(unreachable, survey.destination_uri or ""))
        except (TrustedVMError, libvirt.libvirtError) as error:
            # The VM has arrived; what cannot be proven stays.
            left, kept = [], [{**one, "reason": str(error)} for one in source_leftovers(survey)]
        done = clean(survey, left)
        change.details.update(source_removed=done.removed, source_leftovers=done.left + kept)
        gone = [one["path"] for one in done.removed if one["kind"] == "secret"]
        for secret in change.details["secrets"]:
            secret["on_source"] = secret["on_source"] and secret["uuid"] not in gone


def _removable(survey: Survey) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """What cleaning the source removes, and what stays with a reason."""
    from .cleanup import source_secrets

    left = source_leftovers(survey) + source_secrets(survey)
    if survey.mode != COLD or (survey.there is not None and survey.there.isActive()):
        return left, []
    from .cold_plan import proven_leftovers

    return proven_leftovers(survey, left)


def _stays(survey: Survey, change: Change) -> bool:
    """Whether the source keeps its definition, and so everything that it names."""
    return survey.here is not None and not change.steps


def _not_persistent(survey: Survey) -> TrustedVMError:
    name = survey.machine.name if survey.machine else ""
    return TrustedVMError(
        "destination_not_persistent",
        "VM '%s' runs on %s, but only %s has its definition" % (name, survey.destination_host, survey.source_host),
        found="a transient VM on %s" % survey.destination_host,
        wanted="a persistent one",
        hint="Define it there from its XML (virsh dumpxml, virsh define), then run again; or set persist_destination=false, "
        "which gives the definition up",
    )
