# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""A cold migration that failed: what it made on the destination goes again, and the error says where the VM is."""

import os
from typing import Any, Optional

from .._core.connection import libvirt_failure, libvirt_message
from .._core.deps import libvirt
from .._core.domains import definition
from .._core.errors import TrustedVMError
from .._core.runner import host_file_failure
from .._domain.undefine import undefine
from . import new_directory
from .aftermath import running_on
from .cold_files import StateFile
from .destination import Destinations
from .lookup import find_domain_by_uuid
from .remote_files import incoming, no_space, remote_directory
from .request import Request
from .survey import Survey

DIRECTORY = "directory"
FILE = "file"
DOMAIN = "domain"

TAKE_BACK_SECONDS = 60.0


class Made:
    """What this run made there; noted before it is made, for a call that failed for us may have succeeded."""

    def __init__(self) -> None:
        self._entries: list[tuple[str, str]] = []
        self.runs_there: Optional[Any] = None

    def note(self, kind: str, what: str) -> None:
        if (kind, what) not in self._entries:
            self._entries.append((kind, what))

    def as_leftovers(self) -> list[dict[str, str]]:
        return [{"kind": kind, "path": what} for kind, what in self._entries]

    def take_back(self, destination: Any) -> None:
        """Remove it, last first, each by itself; what cannot be removed stays noted.

        A VM that somebody has started there meanwhile keeps all that it runs with.
        """
        for kind, what in self._entries:
            there = find_domain_by_uuid(destination, what) if kind == DOMAIN else None
            if there is not None and there.isActive():
                self.runs_there = there
                return
        for entry in reversed(list(self._entries)):
            try:
                _REMOVALS[entry[0]](destination, entry[1])
            except libvirt.libvirtError:
                continue
            self._entries.remove(entry)


def _remove_domain(destination: Any, uuid: str) -> None:
    there = find_domain_by_uuid(destination, uuid)
    if there is not None:
        # The files are noted by themselves; what was there before stays.
        undefine(destination, there, definition(there), keep_nvram=True, keep_tpm=True)


def _remove_file(destination: Any, path: str) -> None:
    with remote_directory(destination, os.path.dirname(path)) as directory:
        directory.delete(os.path.basename(path))
        directory.delete(incoming(os.path.basename(path)))


_REMOVALS = {DOMAIN: _remove_domain, FILE: _remove_file, DIRECTORY: new_directory.remove_empty}


def as_failure(error: Exception, doing: str, survey: Survey, files: list[StateFile]) -> TrustedVMError:
    """Whatever a step raised, as ours."""
    if isinstance(error, TrustedVMError):
        return error
    if isinstance(error, OSError):
        return host_file_failure(error)
    if error.get_error_code() in (libvirt.VIR_ERR_XML_INVALID_SCHEMA, libvirt.VIR_ERR_CONFIG_UNSUPPORTED):  # type: ignore[attr-defined]
        return TrustedVMError(
            "destination_definition_refused",
            "libvirt on %s does not take the VM's definition" % survey.destination_host,
            found=libvirt_message(error),
            wanted="a definition that both releases of libvirt know",
            hint="Take out of the definition what only newer releases know, or move the VM to a host with a newer one",
            details={"libvirt_error": error.get_error_code()},  # type: ignore[attr-defined]
        )
    if not no_space(error):
        return libvirt_failure(error, doing)
    return TrustedVMError(
        "destination_disk_full",
        "%s has no room for the VM's NVRAM and TPM state" % survey.destination_host,
        found=libvirt_message(error),
        wanted="room for twice the %d bytes of %s" % (sum(len(one.data) for one in files), ", ".join(one.path for one in files)),
        hint="Make room there, then run again",
    )


def explain(error: TrustedVMError, survey: Survey, request: Request, destinations: Destinations, made: Made) -> bool:
    """Take back what was made there, as long as the source has the VM, and add to the error where it is.

    Returns:
        Whether anything is different from before.
    """
    uuid = survey.machine.uuid if survey.machine else ""
    here, known = None, True
    try:
        here = find_domain_by_uuid(survey.source, uuid)
    except libvirt.libvirtError:
        known = False
    if here is not None:
        _take_back(request, destinations, made)
    left = made.as_leftovers()
    both = any(one["kind"] == DOMAIN for one in left)
    place = ("both" if both else "source") if here is not None else "destination" if known else "unknown"
    error.details = {
        **survey.as_result(),
        **error.details,
        "running_on": _running_on(here, made.runs_there) if known else "unknown",
        "defined_on": place,
        "leftovers": left if here is not None else [],
    }
    error.hint = (_reassurance(place, survey) + (error.hint or "")).strip()
    return bool(left) or here is None


def _running_on(here: Optional[Any], there: Optional[Any]) -> str:
    try:
        return running_on(here, there)
    except libvirt.libvirtError:
        return "unknown"


def _take_back(request: Request, destinations: Destinations, made: Made) -> None:
    if not made.as_leftovers():
        return
    try:
        destinations.ask_anew(request.destination_uri, request.connect_timeout, made.take_back, TAKE_BACK_SECONDS)
    except (TrustedVMError, libvirt.libvirtError):
        # The first error is the one to report; what is still noted is told as leftovers.
        pass


def _reassurance(place: str, survey: Survey) -> str:
    words = {
        "source": "The VM is on %s as before. " % survey.source_host,
        "destination": "The VM is on %s now. " % survey.destination_host,
        "both": "The VM is on %s as before, and %s may have its definition too: do not start it there. "
        % (survey.source_host, survey.destination_host),
    }
    return words.get(place, "It is not known whether %s still has the VM: look before it is started. " % survey.source_host)
