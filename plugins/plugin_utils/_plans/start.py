# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting: the secret that is on the host already, else the key, else an error (M7)."""
from __future__ import annotations

from typing import Any, Mapping, Sequence

from .._core.errors import ControllerError
from .descriptions import Record
from .provision import secret_item

Item = dict[str, Any]


def plan(
    records: Sequence[Record],
    secrets: Sequence[Mapping[str, Any]],
    host: str,
    allow_unencrypted_vtpm: bool = False,
    ephemeral_secrets: bool = False,
) -> dict[str, list[Item]]:
    """Items for resource_key, libvirt_secret and vm, for the VMs that this host owns.

    Args:
        records: as vm_record_info returns them; VMs of other hosts are left out.
        secrets: the host's secrets, as libvirt_secret_info returns them.

    Raises:
        ControllerError: ``unencrypted_vtpm_refused`` (M5).
    """
    mine = [record for record in records if record["host"] == host]
    refuse_unencrypted(mine, allow_unencrypted_vtpm)
    ready = {secret["uuid"] for secret in secrets if secret.get("has_value")}
    lacking = [record for record in mine if _encrypted(record) and record["vtpm"]["secret_uuid"] not in ready]
    return {
        "resource_keys": [
            {"vm": record["uuid"], "purpose": "start", "operation": "start"} for record in lacking if not record["vtpm"]["state_exists"]
        ],
        "secrets": [
            secret_item(record["uuid"], record["vtpm"]["secret_uuid"], record["vtpm"]["usage"], "start", ephemeral_secrets)
            for record in lacking
        ],
        "domains": [_domain_item(record) for record in mine],
    }


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
