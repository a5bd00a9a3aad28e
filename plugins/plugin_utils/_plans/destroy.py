# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Destroying: first the domain and what is on the host, then the records, so that a run that stops half-way can be repeated (C3)."""
from __future__ import annotations

from typing import Any, Mapping, Sequence

from .descriptions import Record
from .results import succeeded

Item = dict[str, Any]


def plan(records: Sequence[Record], host: str, remove_disks: bool = False, force: bool = False) -> list[Item]:
    """vm items for the VMs that this host owns."""
    return [
        {
            "name": record["name"],
            "uuid": record["uuid"],
            "state": "absent",
            "remove_disks": remove_disks,
            "remove_nvram": True,
            "remove_tpm_state": True,
            "force": force,
            # Its disks go, or are of no more use to it: nothing is won by waiting for the guest.
            "stop_timeout": 0,
        }
        for record in records
        if record["host"] == host
    ]


def outcome(domain_results: Sequence[Mapping[str, Any]], records: Sequence[Record]) -> dict[str, list[Item]]:
    """The secrets and records of the VMs whose domain is gone; those of the others stay."""
    gone = {result["uuid"] for result in succeeded(domain_results)}
    mine = [record for record in records if record["uuid"] in gone]
    return {
        "secrets": [
            # Another domain may use the secret: then it is not only this VM's, and stays.
            {"uuid": record["vtpm"]["secret_uuid"], "state": "absent", "in_use": "keep", "released_by": [record["uuid"]]}
            for record in mine
            if record.get("vtpm")
        ],
        "records": [{"uuid": record["uuid"], "state": "absent", "remove_keys": True} for record in mine],
    }
