# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records as results show them. No wrapped bytes, no key material."""
from __future__ import annotations

from typing import Any, Optional, Sequence

from .._registry.records import (
    VTPM,
    NvramRecord,
    ResourceKeyRecord,
    VmRecord,
    VtpmRecord,
    timestamp,
    vtpm_secret_uuid,
    vtpm_usage,
)


def vm_view(record: VmRecord, keys: Sequence[ResourceKeyRecord]) -> dict[str, Any]:
    return {
        "uuid": record.uuid,
        "name": record.name,
        "host": record.host,
        "vm_state": record.state,
        "generation": record.generation,
        "key_provider": record.key_provider,
        # A VM that is bound is never treated as one without keys (requirement M5).
        "bound": record.key_provider is not None or bool(keys),
        "key_versions": [key.identity.key_version for key in keys],
        "vtpm": _vtpm_view(record.vtpm),
        "nvram": _nvram_view(record.nvram),
    }


def secret_view(vm_uuid: str, vtpm: Optional[VtpmRecord]) -> dict[str, Any]:
    """The libvirt secret that holds a vTPM's key: the same on every host."""
    return {
        "secret_uuid": vtpm.secret_uuid if vtpm else vtpm_secret_uuid(vm_uuid),
        "usage_type": VTPM,
        "usage": vtpm_usage(vm_uuid),
    }


def key_view(record: ResourceKeyRecord, vtpm: Optional[VtpmRecord]) -> dict[str, Any]:
    return {
        "resource_type": record.identity.resource_type,
        "vm": record.identity.resource_uuid,
        "key_version": record.identity.key_version,
        "provider": record.provider,
        "kek_id": record.kek_id,
        "kek_version": record.kek_version,
        "algorithm": record.algorithm,
        "fingerprint": record.fingerprint,
        "created_by": record.created_by,
        "created_at": timestamp(record.created_at),
        **secret_view(record.identity.resource_uuid, vtpm),
    }


def _vtpm_view(record: Optional[VtpmRecord]) -> Optional[dict[str, Any]]:
    if record is None:
        return None
    return {
        **secret_view(record.vm_uuid, record),
        "model": record.model,
        "version": record.version,
        "encrypted": record.encrypted,
        "state_exists": record.state_exists,
    }


def _nvram_view(record: Optional[NvramRecord]) -> Optional[dict[str, Any]]:
    if record is None:
        return None
    return {"storage": record.storage, "path": record.path, "size": record.size, "format": record.format}
