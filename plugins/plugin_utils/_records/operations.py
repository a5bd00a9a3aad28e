# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Operations of a run: from options to a change of the journal."""
from __future__ import annotations

import dataclasses
import uuid
from datetime import datetime
from typing import Any, Callable, Mapping, Optional, Sequence

from .._core.change import Change
from .._core.holder import is_gone
from .._registry.engine import Registry, Session
from .._registry.operation_records import Holder, OperationRecord
from .._registry.operations import lease_lost, vm_in_use
from .._registry.records import Placement, VmRecord, timestamp
from .._registry.vms import vm_record_conflict
from .lookup import VmLookup
from .runner import Item, given, refuse_duplicates

# A run has one operation on a VM, so check mode can foretell its identity.
OPERATION_NAMESPACE = uuid.UUID("0e6b3a52-7a40-5d0c-8f5e-52a3b1a4f9d7")
FIRST_PHASE = "begun"
KEEP_DAYS = 90


def operation_subject(item: Item) -> dict[str, Any]:
    return given(item, "vm")


def is_unfinished(record: OperationRecord, current: datetime) -> bool:
    """Open, and nobody works on it any more: the lease ran out, or its process has certainly ended."""
    if not record.is_open or record.lease_until is None:
        return False
    holder = record.holder
    return record.lease_until < current or is_gone(holder.machine, holder.pid, holder.started)


def operation_view(record: OperationRecord, current: Optional[datetime] = None) -> dict[str, Any]:
    """A row as results show it."""
    view: dict[str, Any] = {
        "id": record.id,
        "kind": record.kind,
        "vm": record.vm_uuid,
        "name": record.vm_name,
        "run": record.run,
        "holder": str(record.holder),
        "phase": record.phase,
        "facts": dict(record.facts),
        "outcome_of_operation": record.outcome,
        "message": record.message,
    }
    if current is not None:
        view.update(
            started_at=timestamp(record.started_at),
            lease_until=timestamp(record.lease_until),
            ended_at=timestamp(record.ended_at),
            open=record.is_open,
            unfinished=is_unfinished(record, current),
        )
    return view


def read_operations(registry: Registry, vms: Optional[Sequence[str]], open_only: bool, unfinished_only: bool) -> dict[str, Any]:
    with registry.read() as session:
        records = session.operations.listed(open_only or unfinished_only)
        current = session.operations.now()
        if vms is not None:
            lookup = VmLookup(session, vms)
            wanted = {lookup.uuid(vm) for vm in vms}
            records = [record for record in records if record.vm_uuid in wanted]
    if unfinished_only:
        records = [record for record in records if is_unfinished(record, current)]
    return {"operations": [operation_view(record, current) for record in records]}


class OperationPlanner:
    """Plans one item at a time on a snapshot that it reads once."""

    def __init__(self, session: Session, items: Sequence[Item], holder: Holder) -> None:
        self._lookup = VmLookup(session, [item["vm"] for item in items])
        refuse_duplicates(items, lambda item: self._lookup.uuid(item["vm"]))
        vms = [self._lookup.uuid(item["vm"]) for item in items]
        self._open = session.operations.open_of(vms)
        ended = session.operations.ended_of(vms, [item["run"] for item in items])
        self._ended = {(record.vm_uuid, record.run): record for record in ended}
        self._now = session.operations.now()
        self._holder = holder

    def plan(self, item: Item) -> Change:
        """Raises:
        ControllerError: ``vm_in_use``, ``operation_unfinished``, ``lease_lost``, ``vm_record_conflict``,
            ``vm_unknown``, ``vm_name_ambiguous``.
        """
        vm = self._lookup.uuid(item["vm"])
        found = self._open.get(vm)
        plans: Mapping[str, Callable[[Item, str, Optional[OperationRecord]], Change]] = {
            "open": self._begin,
            "renewed": self._renew,
            "taken_over": self._take_over,
            "released": self._give_up,
            "closed": self._end,
        }
        return plans[item["state"]](item, vm, found)

    def _begin(self, item: Item, vm: str, found: Optional[OperationRecord]) -> Change:
        record = self._lookup.record(item["vm"])
        if found is not None and found.run == item["run"]:
            return _change(item, found, found)
        if found is not None:
            raise vm_in_use(found.vm_name, found, self._now, is_unfinished(found, self._now))
        _refuse_moved(item, vm, record)
        if (vm, item["run"]) in self._ended:
            self._held(item, vm, None)
        wanted = OperationRecord(
            id=str(uuid.uuid5(OPERATION_NAMESPACE, "%s %s" % (item["run"], vm))),
            kind=item["kind"],
            vm_uuid=vm,
            vm_name=record.name if record else item["vm"],
            run=item["run"],
            holder=self._holder,
            phase=item.get("phase") or FIRST_PHASE,
            facts=item.get("facts") or {},
        )

        def begin(session: Session) -> None:
            session.operations.forget_older(KEEP_DAYS)
            session.operations.begin(wanted, item["lease"])
            # Whoever moved it in between had the lease then; now nobody else can get it.
            _refuse_moved(item, vm, session.vms.get(vm))

        return _change(item, None, wanted, "opened", begin)

    def _renew(self, item: Item, vm: str, found: Optional[OperationRecord]) -> Change:
        held = self._held(item, vm, found)
        facts = held.facts if item.get("facts") is None else {**held.facts, **item["facts"]}
        wanted = dataclasses.replace(held, phase=item.get("phase") or held.phase, facts=facts)
        return _change(
            item, held, wanted, "renewed", lambda session: session.operations.renew(held, item["lease"], wanted.phase, wanted.facts)
        )

    def _take_over(self, item: Item, vm: str, found: Optional[OperationRecord]) -> Change:
        if found is None:
            return Change(operation_subject(item), outcome="not_open")
        if found.run == item["run"]:
            return _change(item, found, found)
        if not is_unfinished(found, self._now):
            raise vm_in_use(found.vm_name, found, self._now)
        wanted = dataclasses.replace(found, run=item["run"], holder=self._holder)
        return _change(
            item, found, wanted, "taken_over", lambda session: session.operations.take_over(found, item["run"], self._holder, item["lease"])
        )

    def _give_up(self, item: Item, vm: str, found: Optional[OperationRecord]) -> Change:
        held = self._held(item, vm, found)
        message = item.get("message") or "left by its run"
        wanted = dataclasses.replace(held, message=message)
        return _change(item, held, wanted, "released", lambda session: session.operations.give_up(held, message))

    def _end(self, item: Item, vm: str, found: Optional[OperationRecord]) -> Change:
        ended = self._ended.get((vm, item["run"]))
        if ended is not None and (found is None or found.run != item["run"]):
            return _change(item, ended, ended)
        held = self._held(item, vm, found)
        outcome = item.get("outcome") or "done"
        wanted = dataclasses.replace(held, outcome=outcome, message=item.get("message"))
        return _change(item, held, wanted, "closed", lambda session: session.operations.end(held, outcome, wanted.message))

    def _held(self, item: Item, vm: str, found: Optional[OperationRecord]) -> OperationRecord:
        if found is None or found.run != item["run"]:
            asked = OperationRecord("", item["kind"], vm, item["vm"], item["run"], self._holder, "")
            raise lease_lost(asked, found or self._ended.get((vm, item["run"])))
        return found


def _refuse_moved(item: Item, vm: str, record: Optional[VmRecord]) -> None:
    """What the run planned on must still be so: another run may have moved the VM between its plan and the lease."""
    expect = item.get("expect") or {}
    wanted = Placement(expect.get("host"), expect.get("generation"))
    if wanted == Placement():
        return
    if record is None or wanted.host not in (None, record.host) or wanted.generation not in (None, record.generation):
        raise vm_record_conflict(vm, wanted, record)


def _change(
    item: Item,
    before: Optional[OperationRecord],
    after: OperationRecord,
    outcome: str = "unchanged",
    apply: Optional[Callable[[Session], None]] = None,
) -> Change:
    view = operation_view(after)
    return Change(
        operation_subject(item), before=operation_view(before) if before else {}, after=view, outcome=outcome, details={"operation": view}, apply=apply
    )
