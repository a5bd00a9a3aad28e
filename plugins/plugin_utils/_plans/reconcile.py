# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unfinished operations: what the hosts say decides whether one is finished, undone or left for later.

Nothing is concluded from silence: where a host was not asked or did not answer, the operation waits.
"""
from __future__ import annotations

from typing import Any, Mapping, Optional, Sequence

from .results import Result, failed, succeeded

Item = dict[str, Any]
Operation = Mapping[str, Any]
# By host, what vm_info says of the VMs that were asked for; a host that did not answer is not there.
Facts = Mapping[str, Mapping[str, Any]]

FINISH = "finish"
UNDO = "undo"
WAIT = "wait"
CONFLICT = "conflict"


def claims(operations: Sequence[Operation]) -> list[Item]:
    """vm_operation items that take the operations over."""
    return [{"vm": operation["vm"], "state": "taken_over"} for operation in operations]


def decide(operations: Sequence[Operation], answers: Mapping[str, Any]) -> list[Item]:
    """One decision for each operation.

    Args:
        answers: by inventory name, the result of vm_info on that host; failed and unreachable ones do not count.

    Returns:
        The operations' ``vm``, ``name``, ``facts`` and ``run`` with a ``verdict`` (``finish``, ``undo``, ``wait``,
        ``conflict``) and ``why``.
    """
    facts = {
        host: {vm["uuid"]: vm for vm in answer.get("vms") or ()}
        for host, answer in answers.items()
        if answer and "vms" in answer and not answer.get("failed") and not answer.get("unreachable")
    }
    return [{**_kept(operation), **_verdict(operation, facts)} for operation in operations]


def _kept(operation: Operation) -> Item:
    return {name: operation[name] for name in ("vm", "name", "run", "kind", "phase", "facts")}


def _verdict(operation: Operation, facts: Facts) -> Item:
    source, destination = (operation["facts"].get(side) for side in ("source", "destination"))
    silent = [host for host in (source, destination) if host not in facts]
    if silent:
        return _told(WAIT, "%s cannot be asked" % " and ".join(map(str, silent)))
    here, there = (facts[host].get(operation["vm"]) for host in (source, destination))
    busy = [host for host, vm in ((source, here), (destination, there)) if vm and (vm["job_active"] or vm["migrating"])]
    if busy:
        return _told(WAIT, "libvirt on %s still works on it" % " and ".join(busy))
    return _by_places(source, destination, here, there)


def _by_places(source: str, destination: str, here: Optional[Mapping[str, Any]], there: Optional[Mapping[str, Any]]) -> Item:
    if _runs(here) and _runs(there):
        return _told(CONFLICT, "it runs on %s and on %s: stop one of the two" % (source, destination))
    if _runs(here):
        return _told(UNDO, "it runs on %s" % source)
    if _runs(there):
        return _told(FINISH, "it runs on %s" % destination)
    if there and not here:
        return _told(FINISH, "it is defined on %s only" % destination)
    if here and there:
        if here.get("migration_leftover"):
            return _told(FINISH, "it went from %s to %s" % (source, destination))
        return _told(FINISH, "it is off and defined on both hosts, and the copies are compared")
    if here:
        return _told(UNDO, "it is defined on %s only" % source)
    return _told(CONFLICT, "neither %s nor %s has it" % (source, destination))


def _runs(vm: Optional[Mapping[str, Any]]) -> bool:
    return vm is not None and vm["state"] not in ("stopped", "crashed")


def _told(verdict: str, why: str) -> Item:
    return {"verdict": verdict, "why": why}


def migrations(decisions: Sequence[Item], host: str) -> list[Item]:
    """vm_migrate items that finish on this host what was to leave it. What is there already is not moved again."""
    return [
        {
            "destination_host": decision["facts"].get("destination_address"),
            "clean_source": True,
            **(decision["facts"].get("options") or {}),
            "mode": "auto",
            "vm": decision["vm"],
        }
        for decision in decisions
        if decision["verdict"] == FINISH and decision["facts"]["source"] == host
    ]


def leftovers(decisions: Sequence[Item], host: str) -> dict[str, list[Item]]:
    """What an undone migration made on this host: exactly what the journal says was not there before it."""
    mine = [decision for decision in decisions if decision["verdict"] == UNDO and decision["facts"]["destination"] == host]
    facts = [(decision["vm"], decision["facts"]) for decision in mine]
    return {
        "secrets": [{"uuid": secret, "state": "absent", "in_use": "keep"} for _vm, each in facts for secret in each.get("secrets") or ()],
        "nvram": [{"path": each["nvram"], "state": "absent", "moved": True} for _vm, each in facts if each.get("nvram")],
        "tpm": [{"vm": vm, "state": "absent", "moved": True} for vm, each in facts if each.get("tpm_state")],
    }


def records(decisions: Sequence[Item], finished: Sequence[Result], known: Sequence[Mapping[str, Any]]) -> list[Item]:
    """vm_record items of VMs that arrived: from the owner that the registry still names to the destination.

    Args:
        finished: vm_migrate's results of all hosts.
        known: the VMs' records as they are now.
    """
    arrived = {result["uuid"]: result for result in succeeded(finished) if result.get("uuid")}
    owners = {record["uuid"]: record for record in known}
    items = []
    for decision in decisions:
        record = owners.get(decision["vm"])
        if decision["vm"] not in arrived or record is None or record["host"] != decision["facts"]["source"]:
            continue
        expect = {"host": record["host"], "generation": record["generation"]}
        items.append({"uuid": decision["vm"], "host": decision["facts"]["destination"], "expect": expect, **_state(arrived[decision["vm"]])})
    return items


def _state(result: Result) -> Item:
    place = result.get("running_on")
    return {"vm_state": "running" if place == "destination" else "stopped"} if place in ("destination", "neither") else {}


def closings(decisions: Sequence[Item], finished: Sequence[Result], recorded: Sequence[Result], failed_undo: Sequence[str]) -> list[Item]:
    """vm_operation items: closed where the facts are certain, released where a person or another try is needed.

    Args:
        recorded: vm_record's results.
        failed_undo: hosts on which something could not be undone.
    """
    done = {result.get("uuid") for result in succeeded(finished)}
    errors = {result.get("uuid") or result.get("vm"): str(result.get("msg")) for result in [*failed(finished), *failed(recorded)]}
    return [_closing(decision, done, errors, failed_undo) for decision in decisions]


def _closing(decision: Item, done: set[Any], errors: Mapping[Any, str], failed_undo: Sequence[str]) -> Item:
    vm, verdict = decision["vm"], decision["verdict"]
    if vm in errors:
        return {"vm": vm, "state": "released", "message": errors[vm]}
    if verdict == FINISH and vm in done:
        return {"vm": vm, "state": "closed", "outcome": "done", "message": "finished by reconcile: %s" % decision["why"]}
    if verdict == UNDO and decision["facts"]["destination"] not in failed_undo:
        return {"vm": vm, "state": "closed", "outcome": "undone", "message": "undone by reconcile: %s" % decision["why"]}
    return {"vm": vm, "state": "released", "message": decision["why"]}
