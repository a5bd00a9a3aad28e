# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The read forms: what is there, and which of the names that were asked for are not."""
from __future__ import annotations

from typing import Any, Optional, Sequence

from .._core.errors import ControllerError
from .._registry.engine import Registry, Session
from .._registry.key_providers import Uses
from .._registry.records import VTPM, KeyProviderRecord, ResourceKeyRecord, VmRecord
from .key_providers import provider_view
from .key_reader import OpenProvider, Providers, open_key
from .lookup import VmLookup, as_uuid
from .views import key_view, vm_view


def read_vm_records(
    registry: Registry, vms: Optional[Sequence[str]], host: Optional[str], state: Optional[str], required: bool = False
) -> dict[str, Any]:
    """The records of the named VMs (of all, without names) that match host and state.

    Raises:
        ControllerError: with ``required``: ``vm_record_missing``, ``vm_name_ambiguous``.
    """
    with registry.read() as session:
        if vms is None:
            records = session.vms.listed(host, state)
        else:
            records = _required(session, vms) if required else _named(session, vms)
        keys = session.resource_keys.of_resources(VTPM, [record.uuid for record in records])
    known = {record.uuid for record in records} | {record.name for record in records}
    chosen = [record for record in records if host in (None, record.host) and state in (None, record.state)]
    return {
        "records": [vm_view(record, keys.get(record.uuid, [])) for record in chosen],
        "missing": [vm for vm in vms or [] if (as_uuid(vm) or vm) not in known],
    }


def read_resource_keys(
    registry: Registry,
    vms: Optional[Sequence[str]],
    provider: Optional[str],
    created_by: Optional[str],
    open_provider: Optional[OpenProvider],
) -> dict[str, Any]:
    """The keys of the named VMs (of all, without names); with ``open_provider``, whether each opens."""
    with registry.read() as session:
        records, missing = _keys(session, vms)
        vtpms = session.vms.by_uuid([record.identity.resource_uuid for record in records])
        providers = session.key_providers.all()
    chosen = [
        record
        for record in records
        if provider in (None, record.provider) and created_by in (None, record.created_by)
    ]
    views = []
    opened = Providers(providers, open_provider, registry.where) if open_provider else None
    for record in chosen:
        vm = vtpms.get(record.identity.resource_uuid)
        view = key_view(record, vm.vtpm if vm else None)
        if opened is not None:
            view.update(_verified(record, opened))
        views.append(view)
    return {"resource_keys": views, "missing": missing}


def read_key_providers(registry: Registry, names: Optional[Sequence[str]], open_provider: OpenProvider) -> dict[str, Any]:
    """The named providers (all, without names) with who uses them and whether they work."""
    with registry.read() as session:
        records = session.key_providers.all()
        uses = session.key_providers.uses()
    chosen = [record for name, record in records.items() if names is None or name in names]
    return {
        "providers": [_provider(record, uses.get(record.name, Uses()), open_provider) for record in chosen],
        "missing": [name for name in names or [] if name not in records],
    }


def _named(session: Session, vms: Sequence[str]) -> list[VmRecord]:
    """Each once, in the order of the names; a name that several VMs have gives all of them."""
    by_uuid = session.vms.by_uuid([found for found in map(as_uuid, vms) if found])
    by_name = session.vms.by_name([vm for vm in vms if as_uuid(vm) is None])
    found: dict[str, VmRecord] = {}
    for vm in vms:
        identity = as_uuid(vm)
        records = by_name.get(vm, []) if identity is None else [by_uuid[identity]] if identity in by_uuid else []
        found.update((record.uuid, record) for record in records)
    return list(found.values())


def _required(session: Session, vms: Sequence[str]) -> list[VmRecord]:
    """Each name or UUID must mean exactly one VM."""
    lookup = VmLookup(session, vms)
    records = {vm: lookup.record(vm) for vm in vms}
    missing = [vm for vm, record in records.items() if record is None]
    if missing:
        raise ControllerError(
            "vm_record_missing",
            "The registry %s has no record of %s" % (session.where, ", ".join(missing)),
            hint="See vm_record_info for what it has; a VM gets its record from the role vm_provision or the module vm_record",
        )
    return list({record.uuid: record for record in records.values() if record is not None}.values())


def _keys(session: Session, vms: Optional[Sequence[str]]) -> tuple[list[ResourceKeyRecord], list[str]]:
    if vms is None:
        return session.resource_keys.listed(), []
    lookup = VmLookup(session, vms)
    uuids, missing = {}, []
    for vm in vms:
        try:
            uuids[vm] = lookup.uuid(vm)
        except ControllerError:
            missing.append(vm)
    found = session.resource_keys.of_resources(VTPM, uuids.values())
    missing += [vm for vm, identity in uuids.items() if identity not in found]
    return [record for identity in dict.fromkeys(uuids.values()) for record in found.get(identity, [])], missing


def _verified(record: ResourceKeyRecord, providers: Providers) -> dict[str, Any]:
    try:
        open_key(record, providers).wipe()
    except ControllerError as error:
        return {"usable": False, **error.as_result()}
    return {"usable": True}


def _provider(record: KeyProviderRecord, uses: Uses, open_provider: OpenProvider) -> dict[str, Any]:
    """A provider that does not work, because of a missing library say, is told as such (requirement M8)."""
    view = {"key_count": uses.keys, "vm_count": uses.vms}
    try:
        described = open_provider(record).describe()
    except ControllerError as error:
        return {**provider_view(record, None), **view, "health": {"ok": False, **error.as_result()}}
    return {**provider_view(record, described), **view, "health": {"ok": True}}
