# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The live migration of one VM: the role, against virsh calls that do the same by hand."""

from __future__ import annotations

import json
import uuid
from statistics import median
from typing import Any

from cases import NAMESPACE
from harness import HERE, BenchError, Lab

VM = "bench-migrate"
VM_UUID = str(uuid.uuid5(NAMESPACE, VM))
DISK = "/srv/shared/bench-migrate.raw"
NVRAM_DIRECTORY = "/srv/local/nvram"
REMOTE = "/run/by-hand.py"


def measure(lab: Lab, hosts: tuple[str, str], rounds: int) -> dict[str, Any]:
    first, second = hosts
    variables = {
        "trustedvm_hosts": first,
        "vm_provision_vms": [
            {
                "name": VM,
                "uuid": VM_UUID,
                "memory": 192,
                "virt_type": "qemu",
                "disks": [{"path": DISK, "size": "64M", "format": "raw"}],
                "networks": [],
                "nvram": {"directory": NVRAM_DIRECTORY},
            }
        ],
    }
    lab.play("bench-provision", "trustedvm.libvirt.provision", "-e", json.dumps(variables))
    ours, process, bare, by_hand = [], [], [], []
    for _round in range(rounds):
        for source, destination in ((first, second), (second, first)):
            took, whole = _by_role(lab, source, destination)
            ours.append(took)
            process.append(whole)
        # There and back, so that the registry is right again.
        for source, destination in ((first, second), (second, first)):
            times = _by_hand(lab, source, destination)
            bare.append(times["bare"])
            by_hand.append(times["all"])
    lab.play("bench-destroy", "trustedvm.libvirt.destroy", "-e", json.dumps(_destroy(first)))
    return {
        "case": "live migration, role against virsh",
        "items": 1,
        "rounds": len(ours),
        "ours_s": median(ours),
        "raw_s": median(by_hand),
        "loop_s": None,
        "empty_call_s": None,
        "ratio_raw": median(ours) / median(by_hand),
        "ratio_loop": None,
        "bare_migration_s": median(bare),
        "playbook_process_s": median(process),
    }


def _destroy(host: str) -> dict[str, Any]:
    return {"trustedvm_hosts": host, "vm_destroy_vms": [VM], "vm_destroy_remove_disks": True, "vm_destroy_force": True}


def _by_role(lab: Lab, source: str, destination: str) -> tuple[float, float]:
    """Seconds from the start of the role's first task to the end of its last, and of the whole process."""
    variables = {
        "trustedvm_hosts": source,
        "vm_migrate_vms": [VM],
        "vm_migrate_destination": destination,
        "vm_migrate_options": {"unsafe": True},
    }
    lines, whole = lab.play("bench-migrate", "trustedvm.libvirt.migrate", "-e", json.dumps(variables))
    if not any(line["changed"] for line in lines):
        raise BenchError("the role moved nothing")
    return lines[-1]["ended"] - lines[0]["started"], whole


def _by_hand(lab: Lab, source: str, destination: str) -> dict[str, float]:
    script = (HERE / "by_hand.py").read_text()
    # libvirt does not make the directory of the NVRAM there (9.0.0); not counted against the hand.
    lab.command("exec", destination, "--", "mkdir", "-p", "%s/%s" % (NVRAM_DIRECTORY, VM_UUID))
    lab.command("exec", source, "--", "sh", "-c", 'printf %s "$1" > ' + REMOTE, "sh", script)
    times: dict[str, float] = json.loads(lab.command("exec", source, "--", "/usr/bin/python3", REMOTE, VM, destination))
    return times
