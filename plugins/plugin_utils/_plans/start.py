# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting: the secret that is on the host already, else the key, else an error (M7)."""
from __future__ import annotations

import uuid
from typing import Any, Mapping, Optional, Sequence

from .._core.errors import ControllerError
from .descriptions import Record
from .provision import secret_item
from .undo import undo

Item = dict[str, Any]


def plan(
    records: Sequence[Record],
    secrets: Sequence[Mapping[str, Any]],
    host: str,
    vms: Sequence[Mapping[str, Any]] = (),
    allow_unencrypted_vtpm: bool = False,
    ephemeral_secrets: bool = False,
) -> dict[str, Any]:
    """Items for resource_key, libvirt_secret and vm, for the VMs that this host owns.

    Args:
        records: as vm_record_info returns them; VMs of other hosts are left out.
        secrets: the host's secrets, as libvirt_secret_info returns them.
        vms: the host's VMs, as vm_info returns them. One that is not off needs no secret now.

    Returns:
        ``operation`` (this run's name in the records of the keys that it makes), ``resource_keys``, ``secrets``, ``domains``.

    Raises:
        ControllerError: ``unencrypted_vtpm_refused`` (M5).
    """
    mine = [record for record in records if record["host"] == host]
    refuse_unencrypted(mine, allow_unencrypted_vtpm)
    operation = "start-%s" % uuid.uuid4()
    up = {vm["uuid"] for vm in vms if vm["state"] != "stopped"}
    found = {secret["uuid"]: secret for secret in secrets}
    lacking = [
        (record, found.get(record["vtpm"]["secret_uuid"]))
        for record in mine
        # One whose value the host can read is on the host already: the vm module tries it on the TPM state before it starts the VM.
        if _encrypted(record) and record["uuid"] not in up and not found.get(record["vtpm"]["secret_uuid"], {}).get("has_value")
    ]
    return {
        "operation": operation,
        "resource_keys": [
            {"vm": record["uuid"], "purpose": "start", "operation": operation} for record, _secret in lacking if not record["vtpm"]["state_exists"]
        ],
        "secrets": [_secret_item(record, secret, ephemeral_secrets) for record, secret in lacking],
        "domains": [_domain_item(record) for record in mine],
    }


def outcome(
    domain_results: Sequence[Mapping[str, Any]],
    plan: Mapping[str, Any],
    key_results: Sequence[Mapping[str, Any]] = (),
    secret_results: Sequence[Mapping[str, Any]] = (),
    attempted: bool = True,
) -> dict[str, Any]:
    """What a failed start has to undo (C6), see :func:`.undo.undo`."""
    return undo(domain_results, plan, "start", (), key_results, secret_results, attempted)


def _secret_item(record: Record, secret: Optional[Mapping[str, Any]], ephemeral: bool) -> Item:
    """The secret of a VM that has none on the host, or one of which it cannot be told whether it has a value."""
    vtpm = record["vtpm"]
    item = secret_item(record["uuid"], vtpm["secret_uuid"], vtpm["usage"], "start", ephemeral)
    if secret is not None:
        # What a migration or a person made of it stays: a secret in memory must not become a file.
        item.update({name: secret[name] for name in ("usage_type", "usage", "private") if name in secret})
        item["ephemeral"] = bool(secret.get("ephemeral")) or ephemeral
    return item


def refuse_unencrypted(records: Sequence[Record], allowed: bool) -> None:
    """A VM with a vTPM and no key is let through only where that is said, and never with a provider bound (M5)."""
    for record in records:
        if record.get("vtpm") and not _encrypted(record) and (record.get("key_provider") or not allowed):
            raise ControllerError(
                "unencrypted_vtpm_refused",
                "VM %s has a vTPM without encryption" % record["name"],
                found="key provider %s" % (record.get("key_provider") or "none"),
                wanted="an encrypted vTPM",
                hint="Set allow_unencrypted_vtpm for VMs that are bound to no key provider",
            )


def _encrypted(record: Record) -> bool:
    return bool((record.get("vtpm") or {}).get("encrypted"))


def _domain_item(record: Record) -> Item:
    item: Item = {"name": record["name"], "uuid": record["uuid"], "state": "running", "prepared_by_play": True}
    if (record.get("vtpm") or {}).get("state_exists"):
        item["expect_state"] = True
    return item
