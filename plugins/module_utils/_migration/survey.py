# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""The look at both hosts before a migration. It changes nothing on either."""

import os
from dataclasses import dataclass, field
from typing import Any, Optional

from .._core.deps import etree
from .._core.domains import DomainIndex, definition
from .._core.errors import TrustedVMError
from .._core.host_paths import HostPaths
from .._domain.lifecycle import power_state
from .dest_secrets import TpmSecret
from .lookup import find_domain
from .machine import Machine, read_machine
from .request import AUTO, COLD, LIVE, SHARING_LOCAL, SHARING_SHARED, Request
from .sharing import NOT_THERE, Sharing, probe


@dataclass
class Survey:
    """What is known of one migration, filled as the look goes on.

    Attributes:
        source_is_local: the source's libvirt runs on this machine, so its files can be seen.
        here: the ``virDomain`` on the source, None where it has none.
        there: the one with the same UUID on the destination.
        mode: ``live`` or ``cold``, decided once both hosts were asked.
        already_there: it runs on the destination and not here; or it is off, and only the destination has it.
        nvram: whether the NVRAM file is one and the same at both ends; None without a file.
        tpm_state: the same for the emulated TPM's state.
        key_opens: the key given with the request opens the TPM state; None if it was not tried.
    """

    source: Any
    source_host: str
    source_is_local: bool = True
    destination: Any = None
    destination_host: Optional[str] = None
    destination_uri: Optional[str] = None
    machine: Optional[Machine] = None
    here: Optional[Any] = None
    there: Optional[Any] = None
    mode: str = LIVE
    already_there: bool = False
    secrets: list[TpmSecret] = field(default_factory=list)
    nvram: Optional[Sharing] = None
    tpm_state: Optional[Sharing] = None
    key_opens: Optional[bool] = None

    def running_on(self) -> str:
        here = self.here is not None and bool(self.here.isActive())
        there = self.there is not None and bool(self.there.isActive())
        return {(True, False): "source", (False, True): "destination", (True, True): "both"}.get(
            (here, there), "neither"
        )

    def as_result(self) -> dict[str, Any]:
        """The fields of the item's result; those that are not known yet are null."""
        machine = self.machine
        nvram = _place(machine.nvram if machine else None, self.nvram)
        if nvram is not None and machine is not None:
            nvram["template"] = machine.nvram_template
        return {
            "uuid": machine.uuid if machine else None,
            "name": machine.name if machine else None,
            "source_host": self.source_host,
            "destination_host": self.destination_host,
            "destination_uri": self.destination_uri,
            "mode": self.mode,
            "key_opens": self.key_opens,
            "secrets": [secret.as_result() for secret in self.secrets],
            "nvram": nvram,
            "tpm_state": _place(
                machine.tpm_state.path if machine and machine.tpm_state else None, self.tpm_state
            ),
        }


def _place(path: Optional[str], sharing: Optional[Sharing]) -> Optional[dict[str, Any]]:
    if path is None or sharing is None:
        return None
    return {"path": path, "shared": sharing.shared, "existed_on_destination": sharing.exists}


def find_here(survey: Survey, domains: DomainIndex, request: Request, paths: Optional[HostPaths]) -> None:
    """Find the VM on the source, before the destination is asked for anything."""
    survey.here = domains.get(request.vm)
    if survey.here is not None:
        survey.machine = _read(survey.here, paths)


def find_there(survey: Survey, domains: DomainIndex, request: Request, paths: Optional[HostPaths]) -> None:
    """Find the VM on the destination and decide which of the two is the one that runs.

    Raises:
        TrustedVMError: ``vm_not_found``, ``vm_not_running``, ``same_host``,
            ``vm_already_on_destination``, ``vm_name_taken``.
    """
    wanted = request.vm if survey.here is None else survey.here.UUIDString()
    survey.there = find_domain(survey.destination, wanted)
    if survey.here is None and survey.there is None:
        raise _not_found(survey, request.vm, len(domains.all()))
    running = survey.running_on()
    survey.mode = _mode(request, running)
    survey.already_there = running == "destination" or (
        survey.mode == COLD and running == "neither" and survey.here is None
    )
    if survey.here is None or survey.already_there:
        survey.machine = _read(survey.there, paths)
    if running == "both":
        raise _running_on_both(survey)
    if survey.already_there:
        return
    if survey.mode == COLD:
        _refuse_cold(survey, request, running)
    elif running == "neither":
        raise _not_running(survey)
    else:
        _refuse_defined(survey)
    _refuse_namesake(survey)


def _mode(request: Request, running: str) -> str:
    if request.mode != AUTO:
        return request.mode
    return COLD if running == "neither" else LIVE


def _refuse_cold(survey: Survey, request: Request, running: str) -> None:
    name = survey.machine.name if survey.machine else ""
    if _host_uuid(survey.source) == _host_uuid(survey.destination):
        raise _same_host(survey, name, "neither")
    if running != "neither":
        raise TrustedVMError(
            "vm_running",
            "VM '%s' runs on %s, and a cold migration moves only what is off" % (name, survey.source_host),
            found="running or paused",
            wanted="shut off",
            hint="Shut it down, or set mode=live or mode=auto",
        )
    if not request.persist_destination:
        raise TrustedVMError(
            "invalid_option",
            "VM '%s' is off, and persist_destination=false would leave it defined nowhere" % name,
            hint="Leave persist_destination at its default",
        )


def _read(domain: Any, paths: Optional[HostPaths]) -> Machine:
    return read_machine(definition(domain, inactive=not domain.isActive()), paths)


def _not_found(survey: Survey, vm: str, others: int) -> TrustedVMError:
    return TrustedVMError(
        "vm_not_found",
        "Neither %s nor %s has a VM '%s'" % (survey.source_host, survey.destination_host, vm),
        found="%d other VMs on %s" % (others, survey.source_host),
        hint="See 'virsh list --all' on the source for names and UUIDs",
    )


def _running_on_both(survey: Survey) -> TrustedVMError:
    """Active at both ends: one host seen twice, or two running copies."""
    name = survey.machine.name if survey.machine else ""
    if _host_uuid(survey.source) == _host_uuid(survey.destination):
        return _same_host(survey, name, "source")
    return TrustedVMError(
        "vm_already_on_destination",
        "VM '%s' runs on %s and on %s at the same time" % (name, survey.source_host, survey.destination_host),
        hint="Decide which of the two is the real one and stop the other, without removing its TPM state or NVRAM",
    )


def _not_running(survey: Survey) -> TrustedVMError:
    name = survey.machine.name if survey.machine else ""
    place = survey.source_host if survey.here is not None else survey.destination_host
    return TrustedVMError(
        "vm_not_running",
        "VM '%s' is defined on %s but does not run, and a live migration moves only what runs" % (name, place),
        found="state shut off",
        wanted="running or paused",
        hint="Start the VM first, or set mode=cold or mode=auto"
        if survey.here is not None
        else "There is nothing to migrate on %s; start the VM on %s" % (survey.source_host, place),
    )


def _same_host(survey: Survey, name: str, running: str) -> TrustedVMError:
    return TrustedVMError(
        "same_host",
        "%s is the host on which VM '%s' is already" % (survey.destination_uri, name),
        found="host %s at both ends" % survey.source_host,
        wanted="another host",
        hint="Name a destination that is not the source; hosts cloned from one image need a host_uuid each (libvirtd.conf)",
        details={"running_on": running},
    )


def _refuse_defined(survey: Survey) -> None:
    machine = survey.machine
    if machine is None:
        return
    # What a migration away without "undefine source" left is no obstacle: the VM comes back.
    if survey.there is not None and not power_state(survey.there).migrated_away:
        raise TrustedVMError(
            "vm_already_on_destination",
            "VM '%s' is defined on %s too" % (machine.name, survey.destination_host),
            found="a shut-off VM with UUID %s there" % machine.uuid,
            wanted="none",
            hint="See that it is not needed and undefine it there, keeping its NVRAM and TPM state "
            "(virsh undefine --keep-nvram --keep-tpm)",
        )


def _refuse_namesake(survey: Survey) -> None:
    machine = survey.machine
    if machine is None:
        return
    namesake = find_domain(survey.destination, machine.name)
    if namesake is not None and namesake.UUIDString() != machine.uuid:
        raise TrustedVMError(
            "vm_name_taken",
            "Host %s has another VM with the name '%s'" % (survey.destination_host, machine.name),
            found="UUID %s" % namesake.UUIDString(),
            wanted="UUID %s or none" % machine.uuid,
            hint="Rename one of the two (virsh domrename, while it is shut off)",
        )


def _host_uuid(connection: Any) -> Optional[str]:
    found: Optional[str] = etree.fromstring(connection.getCapabilities().encode()).findtext("host/uuid")
    return found


def look_at_state(survey: Survey, request: Request) -> None:
    """Fill in the secrets, and whether NVRAM and TPM state are the same files at both ends."""
    machine = survey.machine
    if machine is None:
        return
    survey.secrets = [TpmSecret(uuid, survey.source, survey.destination) for uuid in machine.secret_uuids]
    if machine.nvram is not None:
        survey.nvram = _sharing(survey, machine.nvram)
    if machine.needs_tpm_emulator:
        survey.tpm_state = _tpm_sharing(survey, request, machine)


def _sharing(survey: Survey, path: str) -> Sharing:
    if not survey.source_is_local:
        return Sharing(None, None, "the source's libvirt is not on this machine")
    return probe(survey.destination, os.path.dirname(path), [os.path.basename(path)])


def _tpm_sharing(survey: Survey, request: Request, machine: Machine) -> Sharing:
    if request.tpm_state_sharing == SHARING_LOCAL:
        return NOT_THERE
    if request.tpm_state_sharing == SHARING_SHARED:
        return Sharing(True, True)
    return _sharing(survey, machine.tpm_state.state_file if machine.tpm_state else "")
