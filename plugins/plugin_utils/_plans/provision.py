# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Provisioning: from VM descriptions to the items of each task, and from the tasks' results to what is recorded or undone."""
from __future__ import annotations

import uuid
from typing import Any, Mapping, Optional, Sequence

from .._core.errors import ControllerError
from .descriptions import Description, KnownVms, PlannedVm, Record, plan_vm
from .results import succeeded
from .undo import undo

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
        records: what the registry has of these VMs by name and by UUID, as vm_record_info returns it.
        host: inventory name of the hypervisor.
        state: running or defined.

    Returns:
        ``operation`` (this run's name in the records of the keys that it makes), ``new`` (names of the VMs without a record),
        ``preflight`` (the vm items of VMs that something is made for), ``records``, ``resource_keys``, ``secrets``, ``domains``;
        for afterwards ``vtpms`` (by UUID, what to record) and ``bindings`` (by UUID, the key provider to go back to).

    Raises:
        ControllerError: those of ``plan_vm``.
    """
    known = KnownVms(records, host)
    vms = [plan_vm(each, defaults or {}, known, provider) for each in descriptions]
    operation = "provision-%s" % uuid.uuid4()
    domains = {vm.uuid: _domain_item(vm, state, allow_unencrypted_vtpm) for vm in vms}
    return {
        "operation": operation,
        "new": [vm.name for vm in vms if vm.record is None],
        "preflight": [domains[vm.uuid] for vm in vms if vm.record is None or _may_need_key(vm)],
        "records": [_record_item(vm, host) for vm in vms],
        "resource_keys": [_key_item(vm, operation) for vm in vms if _may_need_key(vm)],
        "secrets": [secret_item(vm.uuid, vm.secret_uuid, vm.usage, "provision", ephemeral_secrets) for vm in vms if vm.encrypted],
        "domains": list(domains.values()),
        "vtpms": {vm.uuid: dict(vm.tpm) for vm in vms if vm.tpm is not None},
        "bindings": {vm.uuid: (vm.record or {}).get("key_provider") or "" for vm in vms if _binds_anew(vm)},
    }


def refuse_rivals(plans: Mapping[str, Any]) -> bool:
    """Several hosts of one play run must not each make a VM of the same name: that is one list for all hosts by mistake.

    Args:
        plans: by host, its plan; empty where it has none.

    Raises:
        ControllerError: ``vm_asked_on_several_hosts``.
    """
    askers: dict[str, list[str]] = {}
    for host, each in plans.items():
        for name in (each or {}).get("new", ()):
            askers.setdefault(name, []).append(host)
    shared = {name: hosts for name, hosts in askers.items() if len(hosts) > 1}
    if shared:
        raise ControllerError(
            "vm_asked_on_several_hosts",
            "Several hosts of this play would each make a VM of the same name; nothing was made",
            found="; ".join("%s on %s" % (name, ", ".join(hosts)) for name, hosts in sorted(shared.items())),
            wanted="each new VM on one host",
            hint="Run the play on one host (trustedvm_hosts, --limit), or give each host a vm_provision_vms of its own in the inventory",
        )
    return True


def _may_need_key(vm: PlannedVm) -> bool:
    return vm.encrypted and not vm.had_state


def _binds_anew(vm: PlannedVm) -> bool:
    return vm.record is not None and vm.key_provider not in (None, vm.record.get("key_provider"))


def _record_item(vm: PlannedVm, host: str) -> Item:
    """The whole record of a new VM. Of a known one only what its key needs: the rest is written when the VM is as described."""
    item: Item = {"uuid": vm.uuid, "host": host}
    if vm.record is None:
        item.update(name=vm.name, vm_state="provisioning")
        if vm.tpm is not None:
            item["vtpm"] = dict(vm.tpm)
    else:
        # A VM that another host owns is a conflict that names both, not a silent take-over.
        item["expect"] = {"host": host}
    if vm.record is None and vm.key_provider is not None or _binds_anew(vm):
        item["key_provider"] = vm.key_provider
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


def vm_records(
    domain_results: Sequence[Mapping[str, Any]], host: str, require_host: bool = True, vtpms: Optional[Mapping[str, Item]] = None
) -> list[Item]:
    """vm_record items for the VMs that the vm module brought to where they should be.

    Args:
        vtpms: by UUID, what the vTPM is to be now.
    """
    items = []
    for result in succeeded(domain_results):
        item: Item = {"uuid": result["uuid"], "name": result["name"], "host": host, "vm_state": _recorded_state(result["state"])}
        if require_host:
            item["expect"] = {"host": host}
        if result.get("nvram"):
            item["nvram"] = {"storage": "directory", "path": result["nvram"]["path"], "format": "raw"}
        vtpm = dict((vtpms or {}).get(result["uuid"]) or {})
        if result.get("tpm") and result.get("tpm_state_exists"):
            vtpm["state_exists"] = True
        if vtpm:
            item["vtpm"] = vtpm
        items.append(item)
    return items


def _recorded_state(state: str) -> str:
    return "running" if state in ("running", "paused") else "stopped"


def outcome(
    domain_results: Sequence[Mapping[str, Any]],
    plan: Mapping[str, Any],
    record_results: Sequence[Mapping[str, Any]] = (),
    key_results: Sequence[Mapping[str, Any]] = (),
    secret_results: Sequence[Mapping[str, Any]] = (),
    attempted: bool = True,
) -> dict[str, Any]:
    """What a failed provisioning has to undo (C6), see :func:`.undo.undo`."""
    return undo(domain_results, plan, "provision", record_results, key_results, secret_results, attempted)
