# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a VM's record should be: from options to a change, with compare-and-set on host and generation."""
from __future__ import annotations

import dataclasses
import uuid
from typing import Any, Mapping, Optional, Sequence

from .._core.change import Change
from .._core.errors import ControllerError
from .._registry.engine import Session
from .._registry.key_providers import key_provider_unknown
from .._registry.records import (
    VTPM,
    NvramRecord,
    Placement,
    ResourceKeyRecord,
    VmRecord,
    VtpmRecord,
    vtpm_secret_uuid,
)
from .._registry.vms import vm_record_conflict
from .lookup import VmLookup, as_uuid, valid_uuid, vm_name_ambiguous
from .runner import Item, first_set, given, refuse_duplicates
from .views import vm_view

FIRST_STATE = "provisioning"


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
        self._by_name = session.vms.by_name([item["name"] for item in items if item.get("name")])
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
        _refuse_keys(record, keys, remove_keys)

        def apply(session: Session) -> None:
            # Read again: a key may have been made since.
            current = session.resource_keys.of_resources(VTPM, [record.uuid]).get(record.uuid, [])
            _refuse_keys(record, current, remove_keys)
            for key in current:
                session.resource_keys.remove(key.identity)
            session.vms.remove(record.uuid, record.placement)

        view = vm_view(record, keys)
        details = {**view, "removed_keys": [key.identity.key_version for key in keys]}
        return Change(vm_record_subject(view), before=view, outcome="removed", details=details, apply=apply)

    def _plan_new(self, item: Item) -> Change:
        if _expected(item) != Placement():
            raise vm_record_conflict(item.get("uuid") or item["name"], _expected(item), None)
        _refuse_incomplete("The record of a new VM", item, ("name", "host"))
        self._refuse_taken_name(item)
        identity = valid_uuid(item["uuid"], "uuid") if item.get("uuid") else str(uuid.uuid4())
        record = VmRecord(
            uuid=identity,
            name=item["name"],
            host=item["host"],
            state=item.get("vm_state") or FIRST_STATE,
            key_provider=item.get("key_provider") or None,
            vtpm=wanted_vtpm(identity, item.get("vtpm"), None),
            nvram=wanted_nvram(identity, item.get("nvram"), None),
        )
        keys = self._keys.get(identity, [])
        self._refuse_contradiction(item, record, keys)
        view = vm_view(record, keys)
        return Change(
            vm_record_subject(view),
            after=view,
            outcome="created",
            details={**view, "previous": None},
            apply=lambda session: session.vms.create(record),
        )

    def _plan_update(self, item: Item, record: VmRecord) -> Change:
        wanted = _wanted(item, record)
        keys = self._keys.get(record.uuid, [])
        previous = {"host": record.host, "vm_state": record.state, "generation": record.generation}
        before, after = vm_view(record, keys), vm_view(wanted, keys)
        details = {**after, "previous": previous}
        if wanted == record:
            return Change(vm_record_subject(after), before=before, details=details)
        _refuse_unexpected(item, record)
        _refuse_blind_move(item, record, wanted)
        self._refuse_contradiction(item, wanted, keys)
        return Change(
            vm_record_subject(after),
            before=before,
            after=after,
            outcome="moved" if wanted.host != record.host else "updated",
            details=details,
            apply=lambda session: _write(session, record, wanted),
        )

    def _refuse_taken_name(self, item: Item) -> None:
        others = [record for record in self._by_name.get(item["name"], []) if record.host == item["host"]]
        if others:
            raise ControllerError(
                "vm_name_taken",
                "There cannot be two VMs of the name %s on host %s" % (item["name"], item["host"]),
                found="VM %s" % others[0].uuid,
                hint="Take another name, or remove the record of the VM that is gone",
            )

    def _refuse_contradiction(self, item: Item, wanted: VmRecord, keys: Sequence[ResourceKeyRecord]) -> None:
        prepared = self._check_mode and item.get("prepared_by_play")
        if wanted.key_provider and wanted.key_provider not in self._providers and not prepared:
            raise key_provider_unknown(wanted.key_provider, self._providers, self._where)
        others = sorted({key.provider for key in keys} - {wanted.key_provider})
        if others and wanted.key_provider != self._bound(wanted.uuid):
            raise ControllerError(
                "vm_has_resource_keys",
                "The VM cannot be bound to %s" % (wanted.key_provider or "no key provider"),
                found="keys of the VM under %s" % ", ".join(others),
                wanted="no keys under another provider",
                hint="Wrap the keys anew or remove them first",
            )
        if wanted.vtpm is not None and not wanted.vtpm.encrypted and (wanted.key_provider or keys):
            raise ControllerError(
                "unencrypted_vtpm_refused",
                "The vTPM of a VM with a key provider cannot be recorded as unencrypted",
                found="key provider %s, %d keys" % (wanted.key_provider or keys[0].provider, len(keys)),
                wanted="encrypted: true, or a VM without a provider and without keys",
            )

    def _bound(self, vm_uuid: str) -> Optional[str]:
        record = self._found.get(vm_uuid)
        return record.key_provider if record else None


def wanted_vtpm(vm_uuid: str, options: Optional[Mapping[str, Any]], found: Optional[VtpmRecord]) -> Optional[VtpmRecord]:
    """What the options ask for; what they leave out stays, or takes its default."""
    if options is None:
        return found
    if options.get("state") == "absent":
        return None
    base = found or VtpmRecord(vm_uuid, vtpm_secret_uuid(vm_uuid), "tpm-crb", "2.0", encrypted=True, state_exists=False)
    values = given(options, "secret_uuid", "model", "version", "encrypted", "state_exists")
    if "secret_uuid" in values:
        values["secret_uuid"] = valid_uuid(values["secret_uuid"], "vtpm.secret_uuid")
    return dataclasses.replace(base, **values)


def wanted_nvram(vm_uuid: str, options: Optional[Mapping[str, Any]], found: Optional[NvramRecord]) -> Optional[NvramRecord]:
    """What the options ask for; what they leave out stays, or takes its default."""
    if options is None:
        return found
    if options.get("state") == "absent":
        return None
    if found is None:
        _refuse_incomplete("The record of an NVRAM volume", options, ("path",))
    base = found or NvramRecord(vm_uuid, "directory", options["path"], None, "raw")
    return dataclasses.replace(base, **given(options, "storage", "path", "size", "format"))


def _wanted(item: Item, record: VmRecord) -> VmRecord:
    provider = item.get("key_provider")
    wanted = dataclasses.replace(
        record,
        name=first_set(item.get("name"), record.name),
        host=first_set(item.get("host"), record.host),
        state=first_set(item.get("vm_state"), record.state),
        key_provider=record.key_provider if provider is None else (provider or None),
        vtpm=wanted_vtpm(record.uuid, item.get("vtpm"), record.vtpm),
        nvram=wanted_nvram(record.uuid, item.get("nvram"), record.nvram),
    )
    placed_anew = wanted.host != record.host or wanted.state != record.state
    return dataclasses.replace(wanted, generation=record.generation + 1) if placed_anew else wanted


def _write(session: Session, record: VmRecord, wanted: VmRecord) -> None:
    """The conditional UPDATE first: if it fails, nothing else of the item is written."""
    names = ("name", "host", "state", "key_provider")
    values = {name: getattr(wanted, name) for name in names if getattr(wanted, name) != getattr(record, name)}
    if values:
        session.vms.update(record.uuid, record.placement, values)
    if wanted.vtpm != record.vtpm:
        if wanted.vtpm is None:
            session.vms.remove_vtpm(record.uuid)
        else:
            session.vms.put_vtpm(wanted.vtpm)
    if wanted.nvram != record.nvram:
        if wanted.nvram is None:
            session.vms.remove_nvram(record.uuid)
        else:
            session.vms.put_nvram(wanted.nvram)


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


def _refuse_keys(record: VmRecord, keys: Sequence[ResourceKeyRecord], remove_keys: bool) -> None:
    if keys and not remove_keys:
        raise ControllerError(
            "vm_has_resource_keys",
            "The record is not removed while the VM has keys: without them its TPM state cannot be opened any more",
            found="%d keys" % len(keys),
            hint="Remove the keys with resource_key, or set remove_keys when the TPM state is gone",
        )


def _refuse_incomplete(what: str, options: Mapping[str, Any], names: Sequence[str]) -> None:
    missing = [name for name in names if not options.get(name)]
    if missing:
        raise ControllerError(
            "vm_record_incomplete",
            "%s needs %s" % (what, " and ".join(missing)),
            found="neither" if len(missing) > 1 else "none",
            hint="Give %s" % " and ".join(missing),
        )
