# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making and removing keys. ``present`` is get-or-create; of two controllers at once one makes the key, both get it."""
from __future__ import annotations

import os
from typing import Any, Optional, Sequence

from .._core.change import Change
from .._core.errors import ControllerError
from .._core.key_material import DEK_SIZE, KeyMaterial
from .._key_providers.key_ring import key_ring_other
from .._registry.engine import Session
from .._registry.records import KeyIdentity, ResourceKeyRecord, VmRecord
from .key_reader import KeyReader, OpenProvider, Providers, context_of
from .key_request import KeyRequest, parse_request
from .runner import Item, given, refuse_duplicates
from .views import key_view, secret_view

FIRST_VERSION = 1


def resource_key_subject(item: Item) -> dict[str, Any]:
    return given(item, "resource_type", "vm", "key_version")


class ResourceKeyPlanner:
    """Plans one item at a time on a snapshot that it reads once."""

    def __init__(self, session: Session, items: Sequence[Item], open_provider: OpenProvider, check_mode: bool) -> None:
        refuse_duplicates(items, lambda item: tuple(resource_key_subject(item).values()))
        self._reader = KeyReader(session, [_request(item) for item in items])
        self._providers = Providers(session.key_providers.all(), open_provider, session.where)
        self._check_mode = check_mode

    def plan(self, item: Item) -> Change:
        """Raises:
        ControllerError: see the module's documentation.
        """
        request = _request(item)
        if item["state"] == "absent":
            return self._plan_absent(item, request)
        found = self._reader.versions(request)
        if found:
            return self._plan_existing(item, request, found[-1])
        return self._plan_new(item, request)

    def _plan_existing(self, item: Item, request: KeyRequest, record: ResourceKeyRecord) -> Change:
        if item.get("provider") not in (None, record.provider):
            raise _provider_mismatch(record.identity, record.provider, item["provider"])
        view = key_view(record, _vtpm(self._reader.vm_record(request)))
        return Change(_subject(record.identity), before=view, after=view, details={**view, "created": False})

    def _plan_new(self, item: Item, request: KeyRequest) -> Change:
        if not request.may_create:
            raise self._reader.missing(request)
        vm = self._reader.vm_record(request)
        version = request.key_version or FIRST_VERSION
        identity = KeyIdentity(request.resource_type, self._reader.vm_uuid(request), version)
        provider = self._provider_for(item, identity, vm)
        predicted = {
            **_subject(identity),
            "provider": provider,
            "created_by": item.get("operation"),
            **secret_view(identity.resource_uuid, _vtpm(vm)),
        }
        change = Change(_subject(identity), after=predicted, outcome="created", details={**predicted, "created": True})
        if provider is not None:
            change.details.update(self._kek(provider))
        creation = _Creation(change, identity, provider or "", item.get("operation"), vm)
        change.prepare = lambda: creation.prepare(self._providers)
        change.apply = creation.apply
        return change

    def _kek(self, provider: str) -> dict[str, Any]:
        """Asks the provider now, in check mode too: one that cannot be used makes no key."""
        try:
            described = self._providers.get(provider).describe()
        except ControllerError as error:
            if self._check_mode and error.code == "key_provider_unknown":
                return {}  # _provider_for() lets it through only where the play would have made it
            raise
        return {"kek_id": described.kek_id, "kek_version": described.kek_version}

    def _provider_for(self, item: Item, identity: KeyIdentity, vm: Optional[VmRecord]) -> Optional[str]:
        bound = vm.key_provider if vm else None
        wanted = item.get("provider") or bound
        if vm is not None and bound != wanted:
            raise _not_bound(vm, wanted)
        prepared = self._check_mode and bool(item.get("prepared_by_play"))
        if wanted is None and not prepared:
            raise ControllerError(
                "key_provider_missing",
                "No key provider is known for %s" % identity,
                found="no option provider, and %s" % ("a VM record without key_provider" if vm else "no record of the VM"),
                hint="Bind the VM with vm_record key_provider, or give provider",
            )
        if wanted is not None and not prepared:
            self._providers.get(wanted)
        return str(wanted) if wanted is not None else None

    def _plan_absent(self, item: Item, request: KeyRequest) -> Change:
        found = self._reader.versions(request)
        only = item.get("only_created_by")
        mine = [record for record in found if only is None or record.created_by == only]
        subject = {**request.subject(), "vm": self._reader.vm_uuid(request)}
        vtpm = _vtpm(self._reader.vm_record(request))
        details = {
            **secret_view(subject["vm"], vtpm),
            "removed_versions": [record.identity.key_version for record in mine],
        }
        if not mine:
            # Nothing to unbind is no error (requirement C4); a key that another operation made stays (C6).
            return Change(subject, outcome="kept" if found else "unchanged", details=details)

        def apply(session: Session) -> None:
            for record in mine:
                session.resource_keys.remove(record.identity, only)

        before = {"keys": [key_view(record, vtpm) for record in mine]}
        return Change(subject, before=before, outcome="removed", details=details, apply=apply)


class _Creation:
    """One new key on its way into the registry; the DEK lives only while it is wrapped."""

    _record: ResourceKeyRecord

    def __init__(
        self, change: Change, identity: KeyIdentity, provider: str, operation: Optional[str], vm: Optional[VmRecord]
    ) -> None:
        self._change = change
        self._identity = identity
        self._provider = provider
        self._operation = operation
        self._vm = vm

    def prepare(self, providers: Providers) -> None:
        dek = KeyMaterial(os.urandom(DEK_SIZE))
        try:
            wrapped = providers.get(self._provider).wrap(dek, context_of(self._identity, self._provider))
            self._record = ResourceKeyRecord(
                identity=self._identity,
                provider=self._provider,
                kek_id=wrapped.kek_id,
                kek_version=wrapped.kek_version,
                algorithm=wrapped.algorithm,
                wrapped=wrapped.wrapped,
                fingerprint=dek.fingerprint(),
                created_by=self._operation,
            )
        finally:
            dek.wipe()

    def apply(self, session: Session) -> None:
        record = self._record
        # Kept until the commit: whoever unbinds or removes the VM sees this key, or this sees that it is done.
        vm = session.vms.get(self._identity.resource_uuid, keep=True)
        if vm is not None and vm.key_provider != self._provider:
            raise _not_bound(vm, self._provider)
        if session.resource_keys.add_if_absent(record):
            self._refuse_other_ring(session, record)
        else:
            record = self._take_the_others(session)
        view = key_view(record, _vtpm(vm or self._vm))
        self._change.after = view
        self._change.details = {**view, "created": self._change.changed}

    @staticmethod
    def _refuse_other_ring(session: Session, record: ResourceKeyRecord) -> None:
        """The provider may have been removed and made anew since the look; from the INSERT on it stays."""
        provider = session.key_providers.get(record.provider)
        if provider is not None and provider.kek_id not in (None, record.kek_id):
            raise key_ring_other(record.provider, "this controller's ring", record.kek_id, str(provider.kek_id))

    def _take_the_others(self, session: Session) -> ResourceKeyRecord:
        """Another controller was first: its key is the key, ours is forgotten."""
        found = session.resource_keys.of_resources(self._identity.resource_type, [self._identity.resource_uuid])
        record = next(key for key in found[self._identity.resource_uuid] if key.identity == self._identity)
        if record.provider != self._provider:
            raise _provider_mismatch(record.identity, record.provider, self._provider)
        self._change.drop()
        return record


def _request(item: Item) -> KeyRequest:
    return parse_request(given(item, "resource_type", "vm", "purpose", "key_version"))


def _subject(identity: KeyIdentity) -> dict[str, Any]:
    return {
        "resource_type": identity.resource_type,
        "vm": identity.resource_uuid,
        "key_version": identity.key_version,
    }


def _vtpm(record: Optional[VmRecord]) -> Any:
    return record.vtpm if record else None


def _provider_mismatch(identity: KeyIdentity, found: str, wanted: str) -> ControllerError:
    return ControllerError(
        "key_provider_mismatch",
        "The %s is not one of the key provider %s" % (identity, wanted),
        found="a key under %s" % found,
        wanted="a key under %s" % wanted,
        hint="Leave provider out, or give the one that the key has",
    )


def _not_bound(vm: VmRecord, wanted: Optional[str]) -> ControllerError:
    return ControllerError(
        "key_provider_mismatch",
        "No key of the provider %s is made for VM %s (%s)" % (wanted, vm.name, vm.uuid),
        found="a VM that is bound to %s" % (vm.key_provider or "no key provider"),
        wanted="a VM that is bound to %s" % wanted,
        hint="Bind it with vm_record key_provider first, or leave provider out",
    )
