# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""The look at both hosts after a migration: the proof that it worked, or what a failure left."""

import os
import time
from typing import Any, Optional

from .._core.deps import libvirt
from .._core.errors import TrustedVMError
from .._domain.lifecycle import power_state
from .._tpm.state_dir import TpmState
from .destination import Destinations
from .lookup import find_domain_by_uuid
from .request import Request
from .sharing import Sharing, exists_there
from .survey import Survey

# How long libvirt on the destination has to remove a VM that did not arrive, and its TPM state.
CLEANUP_SECONDS = 10.0

# The reason in the name of a TPM state that moved away, between its renaming and its deletion.
REMOVED = "removed"


def prove(survey: Survey, request: Request, destination: Any) -> tuple[Any, dict[str, Any]]:
    """See that the VM runs on the destination and not here.

    Args:
        destination: the ``virConnect`` to ask; the one of the survey may have died meanwhile.

    Returns:
        The destination's ``virDomain`` and what is to be told of it.

    Raises:
        TrustedVMError: ``migration_unproven``: libvirt said that all went well, but it did not.
    """
    machine = survey.machine
    uuid = machine.uuid if machine else ""
    there = find_domain_by_uuid(destination, uuid)
    here = find_domain_by_uuid(survey.source, uuid)
    wrong = []
    if there is None or not there.isActive():
        wrong.append("it does not run on %s" % survey.destination_host)
    elif bool(there.isPersistent()) != request.persist_destination:
        wrong.append("persistent on %s: %s" % (survey.destination_host, bool(there.isPersistent())))
    if here is not None and here.isActive():
        wrong.append("it still runs on %s" % survey.source_host)
    if here is not None and request.undefine_source:
        wrong.append("it is still defined on %s" % survey.source_host)
    if wrong or there is None:
        raise TrustedVMError(
            "migration_unproven",
            "libvirt reported a finished migration of VM '%s', but the hosts show something else" % request.vm,
            found=", ".join(wrong),
            wanted="running on %s only" % survey.destination_host,
            hint="Look at the VM on both hosts (virsh dominfo) before anything else is done with it",
            details={"running_on": running_on(here, there)},
        )
    return there, {"state": power_state(there).state, "persistent": bool(there.isPersistent())}


def source_leftovers(survey: Survey) -> list[dict[str, str]]:
    """Files of the VM that libvirt left on the source, and that are not the destination's as well.

    The NVRAM file always stays. The TPM state stays with persistent_state='yes' and goes without
    (both seen on 9.0.0, live and peer to peer with "undefine source").
    """
    machine = survey.machine
    if machine is None:
        return []
    found = []
    if machine.nvram and only_here(survey, survey.nvram) and os.path.exists(machine.nvram):
        found.append({"kind": "nvram", "path": machine.nvram})
    state = machine.tpm_state
    if state and only_here(survey, survey.tpm_state) and (os.path.exists(state.path) or _half_removed(TpmState(state))):
        found.append({"kind": "tpm_state", "path": state.path})
    return found


def only_here(survey: Survey, sharing: Optional[Sharing]) -> bool:
    """Whether the source's files can be seen, and were proven not to be the destination's as well."""
    return survey.source_is_local and sharing is not None and sharing.shared is False


def _half_removed(state: TpmState) -> bool:
    """A run that cleaned was killed between renaming the state and deleting it."""
    return any(copy.reason == REMOVED for copy in state.aside_copies())


def after_failure(survey: Survey, request: Request, destinations: Destinations) -> dict[str, Any]:
    """Where the VM is after a failure, and what the failure left on the destination.

    Never raises: the first error is the one to report (requirement M4).
    """
    uri, seconds = request.destination_uri, request.connect_timeout
    uuid = survey.machine.uuid if survey.machine else ""
    try:
        here: Optional[Any] = find_domain_by_uuid(survey.source, uuid)
        here_active = here is not None and bool(here.isActive())
    except libvirt.libvirtError:
        return {"running_on": "unknown", "leftovers": []}
    try:
        return destinations.ask_anew(
            uri, seconds, lambda fresh: _there_after_failure(survey, fresh, uuid, here), seconds + CLEANUP_SECONDS
        )
    except (TrustedVMError, libvirt.libvirtError):
        # A VM that runs here cannot run there: libvirt resumes it here only after giving up there.
        return {"running_on": "source" if here_active else "unknown", "leftovers": []}


def _there_after_failure(survey: Survey, destination: Any, uuid: str, here: Any) -> dict[str, Any]:
    """libvirt may report the failure here before the destination has cleaned up, so look again."""
    ended = time.monotonic() + CLEANUP_SECONDS
    while True:
        there = find_domain_by_uuid(destination, uuid)
        place = running_on(here, there)
        if place in ("destination", "both"):
            return {"running_on": place, "leftovers": []}
        found = _leftovers(survey, destination, there)
        if {one["kind"] for one in found} <= {"nvram"} or time.monotonic() > ended:
            return {"running_on": place, "leftovers": found}
        time.sleep(0.2)


def _leftovers(survey: Survey, destination: Any, there: Any) -> list[dict[str, str]]:
    """What was not there before and is there now.

    Only on proof that it is not the source's own: the undo of the migration deletes what is named here.
    """
    machine = survey.machine
    found = []
    if machine is None:
        return []
    if there is not None and survey.there is None:
        found.append({"kind": "domain", "path": machine.name})
    if machine.nvram and _was_not_there(survey.nvram):
        if exists_there(destination, machine.nvram):
            found.append({"kind": "nvram", "path": machine.nvram})
    state = machine.tpm_state
    if state and _was_not_there(survey.tpm_state):
        if exists_there(destination, state.state_file):
            found.append({"kind": "tpm_state", "path": state.path})
    return found


def _was_not_there(sharing: Optional[Sharing]) -> bool:
    return sharing is not None and sharing.shared is False and sharing.exists is False


def running_on(here: Optional[Any], there: Optional[Any]) -> str:
    """``source``, ``destination``, ``both`` or ``neither``."""
    at_source = here is not None and bool(here.isActive())
    # A paused QEMU that waits for its data is no running copy.
    at_destination = there is not None and bool(there.isActive()) and not power_state(there).migrating
    if at_source:
        return "both" if at_destination else "source"
    return "destination" if at_destination else "neither"
