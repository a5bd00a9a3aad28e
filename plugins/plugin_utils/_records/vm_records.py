# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a VM's record should be: from options to a change, with compare-and-set on host and generation."""
from __future__ import annotations

from typing import Any, Optional, Sequence

from .._core.change import Change
from .._core.errors import ControllerError
from .._registry.engine import Session
from .._registry.key_providers import key_provider_unknown
from .._registry.records import VTPM, Placement, ResourceKeyRecord, VmRecord
from .._registry.vms import vm_record_conflict
from .lookup import VmLookup, as_uuid, valid_uuid, vm_name_ambiguous
from .runner import Item, given, refuse_duplicates
from .views import vm_view
from .vm_wanted import Names, changed_record, new_record, refuse_contradiction


def vm_record_subject(item: Item) -> dict[str, Any]:
    return given(item, "uuid", "name")


class VmRecordPlanner:
    """Plans one item at a time on a snapshot that it reads once.

    Args:
        check_mode: an item with ``prepared_by_play`` may then name a key provider that an earlier task
            of the play would have made.
    """

    def __init__(self, session: Session, items: Sequence[Item], check_mode: bool) -> None:
        refuse_duplicates(items, lambda item: item.get("uuid") or item.get("name"))
        vms = VmLookup(session, [item[key] for item in items for key in ("uuid", "name") if item.get(key)])
        self._found = vms.records()
        names = [item["name"] for item in items if item.get("name")]
        self._by_name = session.vms.by_name([*names, *(record.name for record in self._found.values())])
        self._names = Names([record for records in self._by_name.values() for record in records])
        # Also of VMs without a record: a key may have been made before it.
        asked = [found for found in (as_uuid(item.get("uuid") or "") for item in items) if found]
        self._keys = session.resource_keys.of_resources(VTPM, [*self._found, *asked])
        self._providers = session.key_providers.all()
        self._where = session.where
        self._check_mode = check_mode

    def plan(self, item: Item) -> Change:
        """Raises:
        ControllerError: see the module's documentation.
        """
        record = self._record(item)
        if item["state"] == "absent":
            return self._plan_absent(item, record)
        if record is None:
            return self._plan_new(item)
        return self._plan_update(item, record)

    def _record(self, item: Item) -> Optional[VmRecord]:
        if item.get("uuid"):
            return self._found.get(valid_uuid(item["uuid"], "uuid"))
        named = self._by_name.get(item["name"], [])
        if len(named) > 1:
            raise vm_name_ambiguous(item["name"], named)
        return named[0] if named else None

    def _plan_absent(self, item: Item, record: Optional[VmRecord]) -> Change:
        if record is None:
            return Change(vm_record_subject(item))
        _refuse_unexpected(item, record)
        remove_keys = bool(item["remove_keys"])
        keys = self._keys.get(record.uuid, [])
        _refuse_keys(keys, remove_keys)
        self._names.give_up(record)

        def apply(session: Session) -> None:
            # The conditional DELETE first: who makes a key for the VM waits for it, or it for them.
            session.vms.remove(record.uuid, record.placement)
            current = _keys_of(session, record.uuid)
            _refuse_keys(current, remove_keys)
            for key in current:
                session.resource_keys.remove(key.identity)

        view = vm_view(record, keys)
        details = {**view, "removed_keys": [key.identity.key_version for key in keys]}
        return Change(vm_record_subject(view), before=view, outcome="removed", details=details, apply=apply)

    def _plan_new(self, item: Item) -> Change:
        if _expected(item) != Placement():
            raise vm_record_conflict(item.get("uuid") or item["name"], _expected(item), None)
        record = new_record(item)
        keys = self._keys.get(record.uuid, [])
        self._refuse_unknown_provider(item, record)
        refuse_contradiction(record, None, keys)
        self._names.take(record)

        def apply(session: Session) -> None:
            session.vms.create(record)
            refuse_contradiction(record, None, _keys_of(session, record.uuid))

        view = vm_view(record, keys)
        return Change(
            vm_record_subject(view),
            after=view,
            outcome="created",
            details={**view, "previous": None},
            apply=apply,
        )

    def _plan_update(self, item: Item, record: VmRecord) -> Change:
        wanted = changed_record(item, record)
        keys = self._keys.get(record.uuid, [])
        previous = {"host": record.host, "vm_state": record.state, "generation": record.generation}
        before, after = vm_view(record, keys), vm_view(wanted, keys)
        details = {**after, "previous": previous}
        if wanted == record:
            return Change(vm_record_subject(after), before=before, details=details)
        _refuse_unexpected(item, record)
        _refuse_blind_move(item, record, wanted)
        self._refuse_unknown_provider(item, wanted)
        refuse_contradiction(wanted, record.key_provider, keys)
        self._names.take(wanted, record)
        change = Change(
            vm_record_subject(after),
            before=before,
            after=after,
            outcome="moved" if wanted.host != record.host else "updated",
            details=details,
        )
        change.apply = lambda session: _write(session, change, item, record, wanted)
        return change

    def _refuse_unknown_provider(self, item: Item, wanted: VmRecord) -> None:
        prepared = self._check_mode and item.get("prepared_by_play")
        if wanted.key_provider and wanted.key_provider not in self._providers and not prepared:
            raise key_provider_unknown(wanted.key_provider, self._providers, self._where)


def _write(session: Session, change: Change, item: Item, record: VmRecord, wanted: VmRecord) -> None:
    """The conditional UPDATE first, whatever changes: if it fails, nothing else of the item is written.

    Once it is done nobody else changes the record, and what is looked at afterwards holds until the commit.
    """
    names = ("name", "host", "state", "key_provider")
    values = {name: getattr(wanted, name) for name in names if getattr(wanted, name) != getattr(record, name)}
    session.vms.update(record.uuid, record.placement, values)
    if "key_provider" not in values and (wanted.vtpm, wanted.nvram) == (record.vtpm, record.nvram):
        return
    current = session.vms.get(record.uuid)
    if current is None:
        raise vm_record_conflict(record.uuid, record.placement, None)
    # On what is there now: somebody may have bound the VM, made a key, or changed another field since the look.
    keys = _keys_of(session, record.uuid)
    final = changed_record(item, current)
    refuse_contradiction(final, record.key_provider, keys)
    _write_vtpm_and_nvram(session, current, final)
    change.after = vm_view(final, keys)
    change.details = {**change.details, **change.after}


def _write_vtpm_and_nvram(session: Session, found: VmRecord, wanted: VmRecord) -> None:
    if wanted.vtpm is None:
        session.vms.remove_vtpm(wanted.uuid)
    elif wanted.vtpm != found.vtpm:
        session.vms.put_vtpm(wanted.vtpm)
    if wanted.nvram is None:
        session.vms.remove_nvram(wanted.uuid)
    elif wanted.nvram != found.nvram:
        session.vms.put_nvram(wanted.nvram)


def _keys_of(session: Session, vm_uuid: str) -> list[ResourceKeyRecord]:
    return session.resource_keys.of_resources(VTPM, [vm_uuid]).get(vm_uuid, [])


def _expected(item: Item) -> Placement:
    expect = item.get("expect") or {}
    return Placement(expect.get("host"), expect.get("generation"))


def _refuse_unexpected(item: Item, record: VmRecord) -> None:
    expected = _expected(item)
    if expected.host not in (None, record.host) or expected.generation not in (None, record.generation):
        raise vm_record_conflict(record.uuid, expected, record)


def _refuse_blind_move(item: Item, record: VmRecord, wanted: VmRecord) -> None:
    if wanted.host != record.host and _expected(item).host is None:
        raise ControllerError(
            "expect_missing",
            "The VM's record is not moved from %s to %s without saying where it is expected" % (record.host, wanted.host),
            found="no expect.host",
            wanted="expect: {host: %s, generation: %d}, if that is where the VM is to be moved from" % (record.host, record.generation),
        )


def _refuse_keys(keys: Sequence[ResourceKeyRecord], remove_keys: bool) -> None:
    if keys and not remove_keys:
        raise ControllerError(
            "vm_has_resource_keys",
            "The record is not removed while the VM has keys: without them its TPM state cannot be opened any more",
            found="%d keys" % len(keys),
            hint="Remove the keys with resource_key, or set remove_keys when the TPM state is gone",
        )
