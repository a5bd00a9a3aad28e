# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a migration writes into the journal: enough to finish or undo it after a crash, and nothing secret."""
from __future__ import annotations

from typing import Any, Mapping, Optional, Sequence

from .descriptions import Record
from .results import Result, place, succeeded

Item = dict[str, Any]
# Of the options only these matter to whoever goes on, and none of them can hold a key.
KEPT_OPTIONS = ("mode", "unsafe", "tls", "tls_hostname", "pkipath", "destination_uri", "tpm_state_sharing", "connect_timeout")


def operations(
    preflight: Sequence[Result],
    records: Sequence[Record],
    source: str,
    destination: str,
    address: str,
    options: Optional[Mapping[str, Any]] = None,
) -> list[Item]:
    """vm_operation items for the VMs that this run is about to move.

    Args:
        preflight: vm_migrate's results in check mode: what was on the destination before the run.
        address: of the destination, as the source reaches it.
    """
    known = {record["uuid"]: record for record in records}
    kept = {name: value for name, value in (options or {}).items() if name in KEPT_OPTIONS}
    return [
        {
            "vm": result["uuid"],
            "expect": {"host": known[result["uuid"]]["host"], "generation": known[result["uuid"]]["generation"]},
            "facts": {
                "source": source,
                "destination": destination,
                "destination_address": address,
                "options": kept,
                "secrets": [secret["uuid"] for secret in result["secrets"] if not secret["on_destination"]],
                "nvram": _new_file(result.get("nvram")),
                "tpm_state": _new_file(result.get("tpm_state")),
            },
        }
        for result in succeeded(preflight)
        if result.get("uuid") in known
    ]


def _new_file(place: Optional[Mapping[str, Any]]) -> Optional[str]:
    """The path of a file that the destination does not have yet and does not share: only such a one may be undone."""
    if not place or place.get("existed_on_destination") is not False or place.get("shared") is not False:
        return None
    return str(place["path"])


def closings(
    opened: Sequence[Result],
    migrated: Sequence[Result],
    attempted: bool,
    recorded: bool,
    undone: bool,
    failure: Optional[str] = None,
) -> list[Item]:
    """How each operation of this run ends: closed where the VM's place is certain and all is clean, else left for reconcile.

    Args:
        opened: vm_operation's results.
        migrated: vm_migrate's results; empty where that task was not reached.
        attempted: whether the task vm_migrate was begun.
        recorded: whether the registry took the new places.
        undone: whether all that had to be undone was.
        failure: the first error of the run.
    """
    places = {result.get("uuid"): place(result) for result in migrated}
    items = []
    for result in succeeded(opened):
        operation = result.get("operation") or {}
        where = places.get(operation.get("vm"), "unknown" if attempted else "source")
        if where == "destination":
            items.append(_closing(result, recorded, "done", failure))
        elif where == "source":
            items.append(_closing(result, undone, "failed", failure))
        else:
            items.append(_closing(result, False, "failed", failure))
    return items


def _closing(result: Result, certain: bool, outcome: str, failure: Optional[str]) -> Item:
    if not certain:
        return {"vm": result["vm"], "state": "released", "message": failure or "the run could not see where the VM is"}
    message = {"message": failure} if failure and outcome != "done" else {}
    return {"vm": result["vm"], "state": "closed", "outcome": outcome, **message}
