# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows, as plain values."""
from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Mapping, Optional

VTPM = "vtpm"

# Fixed for ever: the secret UUIDs of all VMs are derived from it.
SECRET_NAMESPACE = uuid.UUID("6f1d5a0c-5c0e-5a51-9d52-0d9a1c7f4e21")


def now() -> datetime:
    return datetime.now(timezone.utc)


def utc(value: datetime) -> datetime:
    """SQLite keeps no time zone; what we store is UTC."""
    return value.replace(tzinfo=timezone.utc) if value.tzinfo is None else value.astimezone(timezone.utc)


def timestamp(value: Optional[datetime]) -> Optional[str]:
    return None if value is None else value.strftime("%Y-%m-%dT%H:%M:%SZ")


def vtpm_secret_uuid(vm_uuid: str) -> str:
    """The UUID that a VM's secret gets unless its record says another: equal on every host."""
    return str(uuid.uuid5(SECRET_NAMESPACE, "vtpm:" + vm_uuid))


def vtpm_usage(vm_uuid: str) -> str:
    return "trustedvm:vtpm:" + vm_uuid


@dataclass(frozen=True)
class Placement:
    """What a compare-and-set compares; None is "whatever it is"."""

    host: Optional[str] = None
    generation: Optional[int] = None

    def __str__(self) -> str:
        parts = []
        if self.host is not None:
            parts.append("host %s" % self.host)
        if self.generation is not None:
            parts.append("generation %d" % self.generation)
        return ", ".join(parts) or "any placement"


@dataclass(frozen=True)
class VtpmRecord:
    vm_uuid: str
    secret_uuid: str
    model: str
    version: str
    encrypted: bool
    state_exists: bool


@dataclass(frozen=True)
class NvramRecord:
    vm_uuid: str
    storage: str
    path: str
    size: Optional[int]
    format: str


@dataclass(frozen=True)
class VmRecord:
    uuid: str
    name: str
    host: str
    state: str
    generation: int = 1
    key_provider: Optional[str] = None
    vtpm: Optional[VtpmRecord] = None
    nvram: Optional[NvramRecord] = None
    created_at: datetime = field(default_factory=now, compare=False)
    updated_at: datetime = field(default_factory=now, compare=False)

    @property
    def placement(self) -> Placement:
        return Placement(self.host, self.generation)


@dataclass(frozen=True)
class KeyIdentity:
    """Which key of which resource; ``key_version`` counts from 1."""

    resource_type: str
    resource_uuid: str
    key_version: int

    def __str__(self) -> str:
        return "key version %d of %s %s" % (self.key_version, self.resource_type, self.resource_uuid)


@dataclass(frozen=True)
class ResourceKeyRecord:
    identity: KeyIdentity
    provider: str
    kek_id: str
    kek_version: int
    algorithm: str
    wrapped: bytes = field(repr=False)
    fingerprint: str
    created_by: Optional[str] = None
    created_at: datetime = field(default_factory=now, compare=False)


@dataclass(frozen=True)
class KeyProviderRecord:
    """``kek_id`` is None until a controller has made, or brought, the provider's key material."""

    name: str
    type: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    kek_id: Optional[str] = None
    created_at: datetime = field(default_factory=now, compare=False)
    updated_at: datetime = field(default_factory=now, compare=False)


def vm_from_row(row: Mapping[str, Any], vtpm: Optional[VtpmRecord], nvram: Optional[NvramRecord]) -> VmRecord:
    return VmRecord(
        uuid=row["uuid"],
        name=row["name"],
        host=row["host"],
        state=row["state"],
        generation=row["generation"],
        key_provider=row["key_provider"],
        vtpm=vtpm,
        nvram=nvram,
        created_at=utc(row["created_at"]),
        updated_at=utc(row["updated_at"]),
    )


def resource_key_from_row(row: Mapping[str, Any]) -> ResourceKeyRecord:
    values = dict(row)
    identity = KeyIdentity(values.pop("resource_type"), values.pop("resource_uuid"), values.pop("key_version"))
    values["created_at"] = utc(values["created_at"])
    values["wrapped"] = bytes(values["wrapped"])
    return ResourceKeyRecord(identity=identity, **values)


def key_provider_from_row(row: Mapping[str, Any]) -> KeyProviderRecord:
    values = dict(row)
    for name in ("created_at", "updated_at"):
        values[name] = utc(values[name])
    return KeyProviderRecord(**values)
