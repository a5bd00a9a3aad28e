# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After a failure: what a run made for VMs that it surely did not bring up goes, everything else stays (C6, M4)."""
from __future__ import annotations

from typing import Any, Mapping, Sequence

from .results import Result, created, failed, succeeded

Item = dict[str, Any]


def undo(
    domain_results: Sequence[Result],
    plan: Mapping[str, Any],
    purpose: str,
    record_results: Sequence[Result] = (),
    key_results: Sequence[Result] = (),
    secret_results: Sequence[Result] = (),
    attempted: bool = True,
) -> dict[str, Any]:
    """Items that remove what a failed run made, and nothing that was there before.

    A VM of which it is not known whether it was made, or started, keeps everything: without its key its TPM is lost.

    Args:
        domain_results: the vm module's results, which undoes its own part (definition, disks, NVRAM) by itself.
        plan: the run's plan, with ``operation``, ``domains`` and ``secrets``.
        purpose: what the keys were made for.
        attempted: whether the vm task was begun. If it was, a VM without a result may run.

    Returns:
        ``secrets``, ``resource_keys``, ``records``, in the order in which they go, and ``kept``: the names of the VMs
        that keep what this run made for them because it is not known what became of them.
    """
    names = {item["uuid"]: item["name"] for item in plan["domains"]}
    gone = _not_made(domain_results) if attempted else set(names)
    owners = {item["uuid"]: item["verify_vm"] for item in plan["secrets"]}
    keys = {result["vm"] for result in created(key_results)}
    secrets = {result["uuid"]: owners[result["uuid"]] for result in created(secret_results) if result["uuid"] in owners}
    records = {result["uuid"] for result in created(record_results)}
    unsure = (keys | records | set(secrets.values())) - gone - {result["uuid"] for result in succeeded(domain_results)}
    return {
        "secrets": [
            # A secret whose key goes is of no use to anybody. Else a VM that was defined before the run may name it: then it stays.
            {"uuid": secret, "state": "absent", "in_use": "remove" if vm in keys else "keep"}
            for secret, vm in secrets.items()
            if vm in gone
        ],
        "resource_keys": [
            {"vm": vm, "state": "absent", "purpose": purpose, "only_created_by": plan["operation"]} for vm in names if vm in keys & gone
        ],
        "records": [{"uuid": vm, "state": "absent"} for vm in names if vm in records & gone] + _unbinding(record_results, plan, gone),
        "kept": [names[vm] for vm in names if vm in unsure],
    }


def _not_made(domain_results: Sequence[Result]) -> set[str]:
    """The VMs that failed and that the vm module left as they were."""
    return {result["uuid"] for result in failed(domain_results) if not result.get("changed") and not result.get("undo_failed") and result.get("uuid")}


def _unbinding(record_results: Sequence[Result], plan: Mapping[str, Any], gone: set[str]) -> list[Item]:
    """The key provider that a known VM was bound to before the run; all else of its record is written after the VM."""
    bound = {result["uuid"] for result in succeeded(record_results) if result.get("outcome") == "updated"}
    return [{"uuid": vm, "key_provider": before} for vm, before in (plan.get("bindings") or {}).items() if vm in bound & gone]
