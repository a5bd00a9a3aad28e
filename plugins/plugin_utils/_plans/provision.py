# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Provisioning: from VM descriptions to the items of each task, and from the tasks' results to what is recorded or undone."""
from __future__ import annotations

import uuid
from typing import Any, Mapping, Optional, Sequence

from .._registry.records import vtpm_usage
from .descriptions import Description, PlannedVm, Record, plan_vm
from .results import created, succeeded

Item = dict[str, Any]


def plan(
    descriptions: Sequence[Description],
    records: Sequence[Record],
    host: str,
    provider: str,
    state: str = "running",
    defaults: Optional[Description] = None,
    allow_unencrypted_vtpm: bool = False,
    ephemeral_secrets: bool = False,
) -> dict[str, Any]:
    """Items for vm_record, resource_key, libvirt_secret and vm.

    Args:
        records: what the registry has of these VMs, as vm_record_info returns it.
        host: inventory name of the hypervisor.
        state: running or defined.

    Returns:
        ``operation`` (this run's name in the records of the keys that it makes), ``records``, ``resource_keys``, ``secrets``, ``domains``.
    """
    # Names are unique on a host only: this host's record goes before another host's of the same name.
    by_name = {record["name"]: record for record in sorted(records, key=lambda record: record["host"] == host)}
    by_uuid = {record["uuid"]: record for record in records}
    vms = [
        plan_vm(each, defaults or {}, by_uuid.get(str(each.get("uuid"))) or by_name.get(each.get("name")), provider)
        for each in descriptions
    ]
    operation = "provision-%s" % uuid.uuid4()
    return {
        "operation": operation,
        "records": [_record_item(vm, host) for vm in vms],
        "resource_keys": [_key_item(vm, operation) for vm in vms if vm.encrypted and not vm.had_state],
        "secrets": [secret_item(vm.uuid, vm.secret_uuid, vm.usage, "provision", ephemeral_secrets) for vm in vms if vm.encrypted],
        "domains": [_domain_item(vm, state, allow_unencrypted_vtpm) for vm in vms],
    }


def _record_item(vm: PlannedVm, host: str) -> Item:
    item: Item = {"uuid": vm.uuid, "name": vm.name, "host": host}
    if vm.record is None:
        item["vm_state"] = "provisioning"
    else:
        # A VM that another host owns is a conflict that names both, not a silent take-over.
        item["expect"] = {"host": host}
    if vm.key_provider is not None:
        item["key_provider"] = vm.key_provider
    if vm.tpm is not None:
        item["vtpm"] = dict(vm.tpm)
    return item


def _key_item(vm: PlannedVm, operation: str) -> Item:
    return {"vm": vm.uuid, "provider": vm.key_provider, "purpose": "provision", "operation": operation}


def secret_item(vm_uuid: str, secret_uuid: str, usage: str, purpose: str, ephemeral: bool = False) -> Item:
    """The libvirt secret of one VM, its value named by reference, proved against the VM's TPM state (M1, M6)."""
    return {
        "uuid": secret_uuid,
        "usage": usage,
        "ephemeral": ephemeral,
        "verify_vm": vm_uuid,
        "resource_key": {"resource_type": "vtpm", "vm": vm_uuid, "purpose": purpose},
    }


def _domain_item(vm: PlannedVm, state: str, allow_unencrypted: bool) -> Item:
    item: Item = {**vm.options, "name": vm.name, "uuid": vm.uuid, "state": state, "prepared_by_play": True}
    if vm.had_state:
        item["expect_state"] = True
    if vm.tpm is not None:
        item["tpm"] = {"model": vm.tpm["model"], "version": vm.tpm["version"]}
        if vm.encrypted:
            item["tpm"]["secret_uuid"] = vm.secret_uuid
        else:
            item["tpm"]["allow_unencrypted"] = allow_unencrypted
    return item


def vm_records(domain_results: Sequence[Mapping[str, Any]], host: str, require_host: bool = True) -> list[Item]:
    """vm_record items for the VMs that the vm module brought to where they should be."""
    items = []
    for result in succeeded(domain_results):
        item: Item = {"uuid": result["uuid"], "name": result["name"], "host": host, "vm_state": _recorded_state(result["state"])}
        if require_host:
            item["expect"] = {"host": host}
        if result.get("nvram"):
            item["nvram"] = {"storage": "directory", "path": result["nvram"]["path"], "format": "raw"}
        if result.get("tpm") and result.get("tpm_state_exists"):
            item["vtpm"] = {"state_exists": True}
        items.append(item)
    return items


def _recorded_state(state: str) -> str:
    return "running" if state in ("running", "paused") else "stopped"


def outcome(
    domain_results: Sequence[Mapping[str, Any]],
    operation: str,
    record_results: Sequence[Mapping[str, Any]] = (),
    key_results: Sequence[Mapping[str, Any]] = (),
    secret_results: Sequence[Mapping[str, Any]] = (),
) -> dict[str, list[Item]]:
    """What a failed run made for the VMs that it did not finish, and nothing that was there before (C6).

    The vm module undoes its own part (definition, disks, NVRAM) by itself.

    Returns:
        Items that remove them: ``secrets``, ``resource_keys``, ``records``.
    """
    finished = {result["uuid"] for result in succeeded(domain_results)}
    keys = [result for result in created(key_results) if result["vm"] not in finished]
    finished_usages = {vtpm_usage(uuid) for uuid in finished}
    return {
        "secrets": [
            # A VM that was defined before the run still names its secret: then it stays.
            {"uuid": result["uuid"], "state": "absent", "in_use": "keep"}
            for result in created(secret_results)
            if result["usage"] not in finished_usages
        ],
        "resource_keys": [
            {"vm": result["vm"], "state": "absent", "purpose": "provision", "only_created_by": operation} for result in keys
        ],
        "records": [
            {"uuid": result["uuid"], "state": "absent"} for result in created(record_results) if result["uuid"] not in finished
        ],
    }
