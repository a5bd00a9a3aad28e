# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading keys: find the record, open it with its provider. Never creates anything (requirement M2)."""
from __future__ import annotations

from typing import Callable, Mapping, Optional, Sequence, Union

from .._core.errors import ControllerError
from .._core.key_material import KeyMaterial
from .._key_providers.base import KeyContext, KeyProvider, WrappedKey
from .._registry.engine import Registry, Session
from .._registry.key_providers import key_provider_unknown
from .._registry.records import KeyIdentity, KeyProviderRecord, ResourceKeyRecord, VmRecord
from .key_request import KeyRequest
from .lookup import VmLookup

OpenProvider = Callable[[KeyProviderRecord], KeyProvider]


class Providers:
    """The registry's key providers, each opened once for a task."""

    def __init__(self, records: Mapping[str, KeyProviderRecord], open_provider: OpenProvider, where: str) -> None:
        self._records = records
        self._open = open_provider
        self._where = where
        self._opened: dict[str, KeyProvider] = {}

    def get(self, name: str) -> KeyProvider:
        """Raises:
        ControllerError: ``key_provider_unknown``, and what opening it raises.
        """
        if name not in self._opened:
            if name not in self._records:
                raise key_provider_unknown(name, self._records, self._where)
            self._opened[name] = self._open(self._records[name])
        return self._opened[name]


def context_of(identity: KeyIdentity, provider: str) -> KeyContext:
    return KeyContext(identity.resource_type, identity.resource_uuid, identity.key_version, provider)


def open_key(record: ResourceKeyRecord, providers: Providers) -> KeyMaterial:
    """The DEK of a record.

    Raises:
        ControllerError: what the provider raises; ``resource_key_mismatch``.
    """
    wrapped = WrappedKey(record.kek_id, record.kek_version, record.algorithm, record.wrapped)
    dek = providers.get(record.provider).unwrap(wrapped, context_of(record.identity, record.provider))
    if dek.fingerprint() != record.fingerprint:
        # Not every provider can bind a wrapped key to its context; the fingerprint always can.
        dek.wipe()
        raise ControllerError(
            "resource_key_mismatch",
            "The registry's record of %s opens to another key than the one it was made with" % record.identity,
            hint="Restore the record from a backup of the registry",
        )
    return dek


class KeyReader:
    """Finds the records of many requests with few statements."""

    def __init__(self, session: Session, requests: Sequence[KeyRequest]) -> None:
        self._vms = VmLookup(session, [request.vm for request in requests])
        uuids: dict[str, list[str]] = {}
        for request in requests:
            try:
                uuids.setdefault(request.resource_type, []).append(self._vms.uuid(request.vm))
            except ControllerError:
                continue  # said to the request that asks for it
        self._keys = {kind: session.resource_keys.of_resources(kind, values) for kind, values in uuids.items()}
        self._where = session.where

    def vm_uuid(self, request: KeyRequest) -> str:
        """Raises:
        ControllerError: ``vm_unknown``, ``vm_name_ambiguous``.
        """
        return self._vms.uuid(request.vm)

    def vm_record(self, request: KeyRequest) -> Optional[VmRecord]:
        return self._vms.record(request.vm)

    def versions(self, request: KeyRequest) -> list[ResourceKeyRecord]:
        """All that the resource has, or the one that the request names; the oldest first."""
        found = self._keys.get(request.resource_type, {}).get(self.vm_uuid(request), [])
        if request.key_version is None:
            return list(found)
        return [record for record in found if record.identity.key_version == request.key_version]

    def find(self, request: KeyRequest) -> ResourceKeyRecord:
        """The record that the request means.

        Raises:
            ControllerError: ``resource_key_missing``, ``vm_unknown``, ``vm_name_ambiguous``.
        """
        found = self.versions(request)
        if not found:
            raise self.missing(request)
        return found[-1]

    def missing(self, request: KeyRequest) -> ControllerError:
        record = self._vms.record(request.vm)
        bound = "a VM that is bound to the key provider %s" % record.key_provider if record and record.key_provider else None
        return ControllerError(
            "resource_key_missing",
            "There is no %s in the registry %s, and the purpose %s creates none" % (request, self._where, request.purpose)
            if not request.may_create
            else "There is no %s in the registry %s, and reading creates none" % (request, self._where),
            found=bound,
            hint="Look whether this is the registry that the VM was provisioned with; a new key would not open its TPM state",
        )


def read_keys(
    registry: Registry, requests: Sequence[KeyRequest], open_provider: OpenProvider
) -> list[Union[KeyMaterial, ControllerError]]:
    """The DEK of each request, or why it cannot be had; in the order of the requests."""
    with registry.read() as session:
        reader = KeyReader(session, requests)
        found = [_attempt_find(reader, request) for request in requests]
        providers = Providers(session.key_providers.all(), open_provider, session.where)
    # Opened after the transaction: a key manager may be slow.
    return [record if isinstance(record, ControllerError) else _attempt_open(record, providers) for record in found]


def _attempt_find(reader: KeyReader, request: KeyRequest) -> Union[ResourceKeyRecord, ControllerError]:
    try:
        return reader.find(request)
    except ControllerError as error:
        return error


def _attempt_open(record: ResourceKeyRecord, providers: Providers) -> Union[KeyMaterial, ControllerError]:
    try:
        return open_key(record, providers)
    except ControllerError as error:
        return error
