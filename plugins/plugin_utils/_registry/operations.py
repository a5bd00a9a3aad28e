# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal: who works on which VM, until when, and how far it is.

A VM has at most one open operation (a unique index sees to it). Its run renews the lease while it works; a lease
that ran out does not end the operation: only what looks at the hosts (``reconcile``) may finish or undo it.
"""
from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta
from typing import Any, Iterable, Mapping, Optional

from .._core.errors import ControllerError
from .operation_records import Holder, OperationRecord
from .records import now, timestamp, utc
from .schema import tables
from .sql import add_if_absent, chunks, sa


class OperationRepository:
    """The table ``operations``; belongs to one connection."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def now(self) -> datetime:
        """The registry's clock: the controllers' own may differ by more than a lease."""
        if self._connection.dialect.name == "postgresql":
            return utc(self._connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one())
        return now()

    def open_of(self, vm_uuids: Iterable[str]) -> dict[str, OperationRecord]:
        """The open operation of each VM that has one."""
        found: dict[str, OperationRecord] = {}
        for chunk in chunks(vm_uuids):
            condition = sa.and_(tables().operations.c.vm_uuid.in_(chunk), _is_open())
            found.update((record.vm_uuid, record) for record in self._select(condition))
        return found

    def ended_of(self, vm_uuids: Iterable[str], runs: Iterable[str]) -> list[OperationRecord]:
        """What these runs have ended on these VMs."""
        columns, found = tables().operations.c, []
        wanted_runs = list(dict.fromkeys(runs))
        for chunk in chunks(vm_uuids):
            found += self._select(sa.and_(columns.vm_uuid.in_(chunk), columns.run.in_(wanted_runs), columns.ended_at.is_not(None)))
        return found

    def listed(self, open_only: bool = True) -> list[OperationRecord]:
        """The oldest first."""
        return self._select(_is_open() if open_only else sa.true())

    def get(self, identity: str) -> Optional[OperationRecord]:
        return next(iter(self._select(tables().operations.c.id == identity)), None)

    def begin(self, record: OperationRecord, lease_seconds: int) -> None:
        """Open an operation; it holds the VM from now on.

        Raises:
            ControllerError: ``vm_in_use``, ``operation_unfinished``.
        """
        current = self.now()
        row = _row(dataclasses.replace(record, started_at=current, lease_until=current + timedelta(seconds=lease_seconds)))
        if not add_if_absent(self._connection, tables().operations, row, any_conflict=True):
            found = self.open_of([record.vm_uuid]).get(record.vm_uuid)
            raise vm_in_use(record.vm_name, found, current)

    def renew(self, record: OperationRecord, lease_seconds: int, phase: Optional[str] = None, facts: Optional[Mapping[str, Any]] = None) -> None:
        """Hold the VM for longer, and note how far the run is.

        Raises:
            ControllerError: ``lease_lost``: another run has taken the operation over.
        """
        values: dict[str, Any] = {"lease_until": self.now() + timedelta(seconds=lease_seconds)}
        if phase is not None:
            values["phase"] = phase
        if facts is not None:
            values["facts"] = dict(facts)
        self._write(record, values)

    def take_over(self, record: OperationRecord, run: str, holder: Holder, lease_seconds: int) -> None:
        """Go on with another run's operation, exactly as it was read: of two that try, one gets it.

        Raises:
            ControllerError: ``lease_lost``.
        """
        values = {"run": run, "lease_until": self.now() + timedelta(seconds=lease_seconds), **_holder_columns(holder)}
        self._write(record, values, tables().operations.c.lease_until == record.lease_until)

    def give_up(self, record: OperationRecord, message: str) -> None:
        """Leave the operation open, and its lease to whoever comes next.

        Raises:
            ControllerError: ``lease_lost``.
        """
        self._write(record, {"lease_until": self.now() - timedelta(seconds=1), "message": message})

    def end(self, record: OperationRecord, outcome: str, message: Optional[str] = None) -> None:
        """Raises:
        ControllerError: ``lease_lost``.
        """
        self._write(record, {"ended_at": self.now(), "outcome": outcome, "message": message})

    def forget_older(self, days: int) -> int:
        """Remove ended operations from the journal; how many."""
        columns = tables().operations.c
        before = self.now() - timedelta(days=days)
        statement = sa.delete(tables().operations).where(columns.ended_at.is_not(None), columns.ended_at < before)
        return int(self._connection.execute(statement).rowcount)

    def _write(self, record: OperationRecord, values: Mapping[str, Any], *conditions: Any) -> None:
        columns = tables().operations.c
        same = sa.and_(columns.id == record.id, columns.run == record.run, _is_open(), *conditions)
        if self._connection.execute(sa.update(tables().operations).where(same).values(dict(values))).rowcount != 1:
            raise lease_lost(record, self.get(record.id))

    def _select(self, condition: Any) -> list[OperationRecord]:
        table = tables().operations
        rows = self._connection.execute(sa.select(table).where(condition).order_by(table.c.started_at, table.c.id)).mappings()
        return [_record(row) for row in rows]


def vm_in_use(vm: str, found: Optional[OperationRecord], current: datetime, holder_gone: bool = False) -> ControllerError:
    """Another run has the VM, or had it and did not come to an end."""
    if found is None:  # ended between our two statements
        return ControllerError("vm_in_use", "VM %s was in use by another run just now" % vm, hint="Run it again")
    who = "%s of run %s by %s since %s, phase %s" % (found.kind, found.run, found.holder, timestamp(found.started_at), found.phase)
    details = {"operation": found.id, "run": found.run}
    if holder_gone or (found.lease_until is not None and found.lease_until < current):
        return ControllerError(
            "operation_unfinished",
            "An earlier run on VM %s did not come to an end" % vm,
            found=who,
            hint="Run the playbook trustedvm.libvirt.reconcile; it looks at the hosts and finishes or undoes it",
            details=details,
        )
    return ControllerError(
        "vm_in_use",
        "VM %s is in use by another run" % vm,
        found=who,
        hint="Wait for it. If that run is dead, trustedvm.libvirt.reconcile takes over after %s" % timestamp(found.lease_until),
        details=details,
    )


def lease_lost(record: OperationRecord, found: Optional[OperationRecord]) -> ControllerError:
    if found is None:
        state = "no such operation"
    elif not found.is_open:
        state = "ended as %s at %s" % (found.outcome, timestamp(found.ended_at))
    else:
        state = "taken over by run %s (%s)" % (found.run, found.holder)
    return ControllerError(
        "lease_lost",
        "This run no longer holds the %s of VM %s" % (record.kind, record.vm_name),
        found=state,
        wanted="held by run %s" % record.run,
        hint="Look at vm_operation_info and at the hosts; do nothing more with this VM in this run",
    )


def _is_open() -> Any:
    return tables().operations.c.ended_at.is_(None)


def _holder_columns(holder: Holder) -> dict[str, Any]:
    return {"holder_" + name: value for name, value in dataclasses.asdict(holder).items()}


def _row(record: OperationRecord) -> dict[str, Any]:
    row = {field.name: getattr(record, field.name) for field in dataclasses.fields(record) if field.name != "holder"}
    return {**row, "facts": dict(record.facts), **_holder_columns(record.holder)}


def _record(row: Mapping[str, Any]) -> OperationRecord:
    values = {name: value for name, value in row.items() if not name.startswith("holder_")}
    for name in ("started_at", "lease_until", "ended_at"):
        values[name] = None if values[name] is None else utc(values[name])
    names = [field.name for field in dataclasses.fields(Holder)]
    return OperationRecord(holder=Holder(**{name: row["holder_" + name] for name in names}), **values)
