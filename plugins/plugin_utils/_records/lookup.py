# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which VM is meant: a libvirt domain UUID, or a name that the registry knows."""
from __future__ import annotations

import uuid
from typing import Iterable, Mapping, Optional, Sequence

from .._core.errors import ControllerError
from .._registry.engine import Session
from .._registry.records import VmRecord


def as_uuid(text: str) -> Optional[str]:
    """The UUID in libvirt's spelling, None if the text is none. Hex digits without dashes are a name."""
    if len(text) != 36:
        return None
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return None


def valid_uuid(text: str, option: str) -> str:
    """Raises:
    ControllerError: ``uuid_invalid``.
    """
    found = as_uuid(text)
    if found is None:
        raise ControllerError(
            "uuid_invalid",
            "The option %s is not a UUID" % option,
            found=text,
            wanted="a UUID such as virsh domuuid prints",
        )
    return found


def vm_name_ambiguous(name: str, records: Sequence[VmRecord]) -> ControllerError:
    return ControllerError(
        "vm_name_ambiguous",
        "Several VMs in the registry have the name %s" % name,
        found=", ".join("%s on %s" % (record.uuid, record.host) for record in records),
        hint="Give the UUID",
    )


class VmLookup:
    """Resolves names and UUIDs; reads all that it is asked for at once."""

    def __init__(self, session: Session, vms: Iterable[str]) -> None:
        wanted = list(vms)
        self._where = session.where
        self._by_uuid = session.vms.by_uuid(found for found in map(as_uuid, wanted) if found)
        self._by_name = session.vms.by_name(name for name in wanted if as_uuid(name) is None)

    def record(self, vm: str) -> Optional[VmRecord]:
        """The record, None if there is none.

        Raises:
            ControllerError: ``vm_name_ambiguous``.
        """
        found = as_uuid(vm)
        if found:
            return self._by_uuid.get(found)
        records = self._by_name.get(vm, [])
        if len(records) > 1:
            raise vm_name_ambiguous(vm, records)
        return records[0] if records else None

    def uuid(self, vm: str) -> str:
        """The VM's UUID; a UUID needs no record.

        Raises:
            ControllerError: ``vm_unknown``, ``vm_name_ambiguous``.
        """
        record = self.record(vm)
        found = record.uuid if record else as_uuid(vm)
        if found is None:
            raise ControllerError(
                "vm_unknown",
                "The registry %s has no VM of the name %s" % (self._where, vm),
                hint="Give the VM's UUID, or look at vm_record_info",
            )
        return found

    def records(self) -> Mapping[str, VmRecord]:
        """All that were found, by UUID."""
        named = {record.uuid: record for records in self._by_name.values() for record in records}
        return {**named, **self._by_uuid}
