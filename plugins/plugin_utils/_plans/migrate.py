# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Migration: which VMs of this host move, what the destination needs first, and what is committed, cleaned or undone."""
from __future__ import annotations

from typing import Any, Mapping, Optional, Sequence

from .._core.errors import ControllerError
from .descriptions import Record
from .results import created, failed, place, succeeded
from .start import refuse_unencrypted

Item = dict[str, Any]
# vm_migrate's outcomes of a VM that is at the destination: moved by this run, or by one that did not get to the registry.
ARRIVED = ("migrated", "already_there", "cleaned")
Result = Mapping[str, Any]


def plan(
    records: Sequence[Record],
    host: str,
    destination: str,
    known_hosts: Sequence[str],
    options: Optional[Mapping[str, Any]] = None,
    allow_unencrypted_vtpm: bool = False,
    mode: str = "auto",
) -> dict[str, list[Item]]:
    """vm_migrate items for the VMs that this host owns and that are not yet where they should be.

    Returns:
        ``claims``, the vm_operation items; ``preflight``, with a reference to the key that is tried on the TPM state, and ``moves``,
        which need no key while the VM runs.

    Raises:
        ControllerError: ``destination_unknown``, ``unencrypted_vtpm_refused`` (M5).
    """
    if destination not in known_hosts:
        raise ControllerError(
            "destination_unknown",
            "The destination is no host of this inventory",
            found=destination,
            wanted="one of %s" % ", ".join(sorted(known_hosts)),
            hint="Use the inventory name of a hypervisor",
        )
    moving = [record for record in records if record["host"] == host and host != destination]
    refuse_unencrypted(moving, allow_unencrypted_vtpm)
    moves = [{"clean_source": True, "mode": mode, **(options or {}), "vm": each["uuid"], "provided_secrets": _secret_uuids(each)} for each in moving]
    return {
        "claims": [{"vm": each["uuid"], "expect": {"host": each["host"], "generation": each["generation"]}} for each in moving],
        "preflight": [{**move, "resource_key": _key(move["vm"])} if move["provided_secrets"] else move for move in moves],
        "moves": moves,
    }


def moves(plan_: Mapping[str, Sequence[Item]], preflight: Sequence[Result]) -> list[Item]:
    """The items that really move. Where TPM state is copied, the key is tried on the copy too."""
    cold = {result["uuid"] for result in succeeded(preflight) if result.get("mode") == "cold"}
    return [looked if move["vm"] in cold else move for move, looked in zip(plan_["moves"], plan_["preflight"])]


def _secret_uuids(record: Record) -> list[str]:
    vtpm = record.get("vtpm") or {}
    return [vtpm["secret_uuid"]] if vtpm.get("encrypted") else []


def secrets(preflight: Sequence[Result], records: Sequence[Record], ephemeral_secrets: bool = False) -> list[Item]:
    """The source's secrets as libvirt_secret items for the destination: same UUID, usage and kind (M1).

    A VM that is on the destination already (an earlier run was cut off) needs none. Each names the purpose, usage, VM and
    key (M6), by a reference that never creates a key (M2).

    Args:
        preflight: vm_migrate's results in check mode.
        ephemeral_secrets: keep them in memory also where the source has them on disk, or has lost them.
    """
    known = {record["uuid"]: record for record in records}
    return [
        {
            "uuid": secret["uuid"],
            "usage": secret.get("usage") or known[result["uuid"]]["vtpm"]["usage"],
            "ephemeral": bool(secret.get("ephemeral")) or ephemeral_secrets,
            "resource_key": _key(result["uuid"]),
        }
        for result in succeeded(preflight)
        if result["outcome"] == "migrated"
        for secret in result["secrets"]
    ]


def _key(vm: str) -> dict[str, str]:
    return {"resource_type": "vtpm", "vm": vm, "purpose": "migrate"}


def outcome(
    migrated: Sequence[Result],
    preflight: Sequence[Result],
    records: Sequence[Record],
    destination: str,
    secret_results: Sequence[Result] = (),
    attempted: bool = True,
) -> dict[str, Any]:
    """What comes after the move, VM by VM.

    Args:
        migrated: vm_migrate's results; empty where that task was not reached.
        secret_results: libvirt_secret's results on the destination.
        attempted: whether the task vm_migrate was begun. If it was, a VM without a result may be anywhere.

    Returns:
        ``records``: vm_record items of the VMs that arrived; ``undo``: what this run made on the destination for the others,
        as ``nvram``, ``tpm`` and ``secrets``.
    """
    return {
        "records": _commit(migrated, records, destination),
        "undo": _undo(migrated, secret_results, preflight, attempted),
    }


def _commit(migrated: Sequence[Result], records: Sequence[Record], destination: str) -> list[Item]:
    """vm_record items: a compare-and-set from the owner and generation that the run began with (S2's form).

    A VM that arrived and then failed a check belongs to the destination all the same: there it is.
    """
    known = {record["uuid"]: record for record in records}
    return [
        {
            "uuid": result["uuid"],
            "host": destination,
            "vm_state": "stopped" if result.get("mode") == "cold" else "running",
            "expect": {"host": known[result["uuid"]]["host"], "generation": known[result["uuid"]]["generation"]},
        }
        for result in migrated
        if result.get("uuid") in known and _arrived(result)
    ]


def _arrived(result: Result) -> bool:
    return place(result) == "destination" if result.get("failed") else result["outcome"] in ARRIVED


def _undo(
    migrated: Sequence[Result],
    secret_results: Sequence[Result],
    preflight: Sequence[Result],
    attempted: bool,
) -> dict[str, list[Item]]:
    """What this run made on the destination for VMs that did not arrive there (M4).

    A VM of which it is not known where it runs keeps everything: without its secret it could not be started again.
    """
    arrived = {result["uuid"] for result in succeeded(migrated)}
    stayed = {result["uuid"] for result in failed(migrated) if place(result) == "source"}
    planned = {result["uuid"]: result for result in succeeded(preflight)}
    keep = set(planned) - stayed if attempted else arrived
    keep_secrets = {secret["uuid"] for uuid in keep if uuid in planned for secret in planned[uuid]["secrets"]}
    left = [(result["uuid"], left) for result in failed(migrated) if result.get("uuid") in stayed for left in result.get("leftovers") or ()]
    return {
        "secrets": [{"uuid": result["uuid"], "state": "absent"} for result in created(secret_results) if result["uuid"] not in keep_secrets],
        "nvram": [{"path": each["path"], "state": "absent", "moved": True} for _vm, each in left if each["kind"] == "nvram"],
        "tpm": [{"vm": vm, "state": "absent", "moved": True} for vm, each in left if each["kind"] == "tpm_state"],
    }
