# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""VMs, their vTPMs and NVRAM volumes. Every change of placement is one conditional UPDATE."""
from __future__ import annotations

import contextlib
import dataclasses
import functools
from typing import Any, Iterable, Iterator, Mapping, Optional

from .._core.errors import ControllerError
from .records import NvramRecord, Placement, VmRecord, VtpmRecord, now, vm_from_row
from .schema import tables
from .sql import add_if_absent, chunks, put, sa


def vm_record_conflict(vm: str, wanted: Placement, found: Optional[VmRecord]) -> ControllerError:
    """Somebody else moved, stopped, started, made or removed the VM's record."""
    state = "no record" if found is None else "%s (%s)" % (found.placement, found.state)
    return ControllerError(
        "vm_record_conflict",
        "The record of VM %s is not as expected; nothing was written" % vm,
        found=state,
        wanted=str(wanted),
        hint="Look at vm_record_info and at the hosts, then decide which of the two is right",
        details={} if found is None else {"found_host": found.host, "found_generation": found.generation},
    )


def vm_name_taken(name: str, host: str, owner: str) -> ControllerError:
    return ControllerError(
        "vm_name_taken",
        "There cannot be two VMs of the name %s on host %s" % (name, host),
        found="VM %s" % owner,
        hint="Take another name, or remove the record of the VM that is gone",
    )


class VmRepository:
    """The table ``vms`` with what hangs on it; belongs to one connection."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def by_uuid(self, uuids: Iterable[str]) -> dict[str, VmRecord]:
        found: dict[str, VmRecord] = {}
        for chunk in chunks(uuids):
            found.update(self._select(tables().vms.c.uuid.in_(chunk)))
        return found

    def by_name(self, names: Iterable[str]) -> dict[str, list[VmRecord]]:
        """A name can be taken on several hosts, so each has a list."""
        found: dict[str, list[VmRecord]] = {}
        for chunk in chunks(names):
            for record in self._select(tables().vms.c.name.in_(chunk)).values():
                found.setdefault(record.name, []).append(record)
        return found

    def get(self, uuid: str, keep: bool = False) -> Optional[VmRecord]:
        """With ``keep`` nobody else changes the record until the transaction ends."""
        return self._select(tables().vms.c.uuid == uuid, keep).get(uuid)

    def listed(self, host: Optional[str] = None, state: Optional[str] = None) -> list[VmRecord]:
        columns = tables().vms.c
        conditions = [
            column == value for column, value in ((columns.host, host), (columns.state, state)) if value is not None
        ]
        records = self._select(sa.and_(sa.true(), *conditions)).values()
        return sorted(records, key=lambda record: (record.name, record.uuid))

    def create(self, record: VmRecord) -> None:
        """Add a record with its vTPM and NVRAM.

        Raises:
            ControllerError: ``vm_record_conflict``: there is one by now; ``vm_name_taken``.
        """
        row = dataclasses.asdict(record)
        del row["vtpm"], row["nvram"]
        with self._one_name_on_a_host(record.uuid, row):
            made = add_if_absent(self._connection, tables().vms, row)
        if not made:
            raise vm_record_conflict(record.uuid, Placement(), self.get(record.uuid))
        if record.vtpm is not None:
            self.put_vtpm(record.vtpm)
        if record.nvram is not None:
            self.put_nvram(record.nvram)

    def update(self, uuid: str, expected: Placement, values: Mapping[str, Any]) -> None:
        """Compare-and-set in one statement (requirement S2).

        A change of host or state makes the generation one higher. Without values it only makes sure of the
        placement; either way nobody else changes the record until the transaction ends.

        Raises:
            ControllerError: ``vm_record_conflict``; says what was found. ``vm_name_taken``.
        """
        columns = tables().vms.c
        changes = {**values, "updated_at": now()}
        if "host" in values or "state" in values:
            changes["generation"] = columns.generation + 1
        statement = sa.update(tables().vms).where(self._matches(uuid, expected)).values(changes)
        with self._one_name_on_a_host(uuid, values):
            self._exactly_one(statement, uuid, expected)

    def remove(self, uuid: str, expected: Placement) -> None:
        """Remove the record with its vTPM and NVRAM, if it is still as expected.

        Raises:
            ControllerError: ``vm_record_conflict``.
        """
        self._exactly_one(sa.delete(tables().vms).where(self._matches(uuid, expected)), uuid, expected)

    def put_vtpm(self, record: VtpmRecord) -> None:
        """Raises:
        ControllerError: ``secret_uuid_taken``: another VM's vTPM has this secret.
        """
        self._refuse_taken_secret(record)
        put(self._connection, tables().vtpms, dataclasses.asdict(record))

    def remove_vtpm(self, vm_uuid: str) -> None:
        self._connection.execute(sa.delete(tables().vtpms).where(tables().vtpms.c.vm_uuid == vm_uuid))

    def put_nvram(self, record: NvramRecord) -> None:
        put(self._connection, tables().nvram_volumes, dataclasses.asdict(record))

    def remove_nvram(self, vm_uuid: str) -> None:
        self._connection.execute(sa.delete(tables().nvram_volumes).where(tables().nvram_volumes.c.vm_uuid == vm_uuid))

    def _select(self, condition: Any, keep: bool = False) -> dict[str, VmRecord]:
        """One statement for the VMs and what hangs on them, whatever their number."""
        vms, vtpms, nvram = tables().vms, tables().vtpms, tables().nvram_volumes
        joined = vms.outerjoin(vtpms, vtpms.c.vm_uuid == vms.c.uuid).outerjoin(nvram, nvram.c.vm_uuid == vms.c.uuid)
        columns = [
            *vms.c,
            *(column.label("vtpm_" + column.name) for column in vtpms.c),
            *(column.label("nvram_" + column.name) for column in nvram.c),
        ]
        statement = sa.select(*columns).select_from(joined).where(condition)
        if keep:
            # Left out on SQLite, where a transaction that writes is the only one from its start.
            statement = statement.with_for_update(read=True, of=vms)
        rows = self._connection.execute(statement).mappings()
        return {row["uuid"]: _vm(row) for row in rows}

    def _matches(self, uuid: str, expected: Placement) -> Any:
        columns = tables().vms.c
        conditions = [columns.uuid == uuid]
        if expected.host is not None:
            conditions.append(columns.host == expected.host)
        if expected.generation is not None:
            conditions.append(columns.generation == expected.generation)
        return sa.and_(*conditions)

    def _exactly_one(self, statement: Any, uuid: str, expected: Placement) -> None:
        if self._connection.execute(statement).rowcount != 1:
            raise vm_record_conflict(uuid, expected, self.get(uuid))

    @contextlib.contextmanager
    def _one_name_on_a_host(self, uuid: str, values: Mapping[str, Any]) -> Iterator[None]:
        """The database refuses a second VM of one name on one host, also one that another transaction has just
        made; this says which VM has the name."""
        if "host" not in values and "name" not in values:
            yield
            return
        try:
            with self._connection.begin_nested():
                yield
        except sa.exc.IntegrityError:
            self._refuse_taken_name(uuid, values)
            raise

    def _refuse_taken_name(self, uuid: str, values: Mapping[str, Any]) -> None:
        own = self.get(uuid)
        host = values.get("host") or (own.host if own else None)
        name = values.get("name") or (own.name if own else "")
        owners = [record for record in self.by_name([name]).get(name, []) if record.host == host and record.uuid != uuid]
        if owners:
            raise vm_name_taken(name, str(host), owners[0].uuid) from None

    def _refuse_taken_secret(self, record: VtpmRecord) -> None:
        parameters = {"secret": record.secret_uuid, "vm": record.vm_uuid}
        owner = self._connection.execute(_other_owner_of_secret(), parameters).scalar_one_or_none()
        if owner is not None:
            raise ControllerError(
                "secret_uuid_taken",
                "The secret %s cannot be the one of VM %s" % (record.secret_uuid, record.vm_uuid),
                found="it belongs to the vTPM of VM %s" % owner,
                wanted="one secret per vTPM",
                hint="Leave secret_uuid out to get the VM's own",
            )


@functools.cache
def _other_owner_of_secret() -> Any:
    columns = tables().vtpms.c
    return sa.select(columns.vm_uuid).where(
        columns.secret_uuid == sa.bindparam("secret"), columns.vm_uuid != sa.bindparam("vm")
    )


def _vm(row: Mapping[str, Any]) -> VmRecord:
    vtpm = nvram = None
    if row["vtpm_vm_uuid"] is not None:
        vtpm = VtpmRecord(**_prefixed(row, "vtpm_"))
    if row["nvram_vm_uuid"] is not None:
        nvram = NvramRecord(**_prefixed(row, "nvram_"))
    return vm_from_row(row, vtpm, nvram)


def _prefixed(row: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name[len(prefix):]: value for name, value in row.items() if name.startswith(prefix)}
