# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""What ``vtpm_info`` tells of a VM."""

from typing import Any, Mapping, Optional, Sequence

from .._core.connection import host_name
from .._core.deps import libvirt
from .._core.domains import DomainIndex, definition, gone
from .._core.errors import TrustedVMError
from .._core.host_paths import host_paths
from .._core.runner import failed_result
from .._domain.metadata import read_marks
from .._secret.value import given_value
from .._tpm.device import read_tpm
from .._tpm.key_check import inspect
from .._tpm.state_dir import ABSENT, EMPTY, TpmState, locate
from .reset_note import read_reset_note


def read_all(connection: Any, items: Optional[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """An entry for each item, or for each VM of the host; one that fails says why."""
    reader = VtpmReader(connection)
    if items is None:
        return reader.read_every_vm()
    entries = []
    for item in items:
        try:
            entries.append(reader.read(item))
        except TrustedVMError as error:
            entries.append(failed_result({"vm": item["vm"]}, error, host_name(connection)))
    return entries


class VtpmReader:
    """Reads vTPMs through one connection; changes nothing."""

    def __init__(self, connection: Any) -> None:
        self._domains = DomainIndex(connection)
        self._paths = host_paths(connection)

    def read_every_vm(self) -> list[dict[str, Any]]:
        """All VMs of the host, but for those that go away meanwhile."""
        entries = []
        for domain in self._domains.all():
            try:
                entries.append(self._read_domain(domain, None))
            except libvirt.libvirtError as error:
                if not gone(error):
                    raise
        return entries

    def read(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """One VM.

        Raises:
            TrustedVMError: ``vm_not_found`` and those of :func:`.._secret.value.given_value`.
        """
        passphrase = given_value(item)
        return self._read_domain(self._domains.find(item["vm"]), passphrase)

    def _read_domain(self, domain: Any, passphrase: Optional[bytes]) -> dict[str, Any]:
        xml = definition(domain)
        spec = read_tpm(xml)
        vm_uuid = domain.UUIDString()
        entry: dict[str, Any] = {
            "vm": domain.name(),
            "uuid": vm_uuid,
            "active": bool(domain.isActive()),
            "device": None if spec is None else spec.as_result(),
            "reset_id": read_reset_note(xml),
            "tpm_state": None,
            "key_opens": None,
        }
        if self._paths is not None:
            state = TpmState(locate(self._paths, vm_uuid, spec))
            told, entry["key_opens"] = read_state(state, passphrase)
            told["reset_pending"] = read_marks(xml).tpm_reset and told["status"] in (ABSENT, EMPTY)
            entry["tpm_state"] = told
        return entry


def read_state(state: TpmState, passphrase: Optional[bytes]) -> tuple[dict[str, Any], Optional[bool]]:
    """A state, and whether the key opens it (None where there is no state, no key or no encryption).

    A state that cannot be read is told as such; it is what an info module is asked about.
    """
    told: dict[str, Any] = {"path": state.location.path, "status": "unreadable"}
    told["set_aside"] = [{"path": copy.path, "reason": copy.reason} for copy in state.aside_copies()]
    try:
        told["status"] = state.status()
        report = inspect(state, passphrase)
    except TrustedVMError as error:
        told["status"] = "damaged" if error.code == "tpm_state_damaged" else "unreadable"
        told.update(error.as_result())
        return told, None
    if report is None:
        return told, None
    told.update(
        encrypted=report.encrypted, bytes=report.size, sha256=report.sha256, changed_at=state.changed_at()
    )
    return told, report.opens if report.encrypted else None
