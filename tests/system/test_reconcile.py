# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs that die, and the playbook that finishes or undoes them."""
from __future__ import annotations

import json
import pathlib
import sqlite3
import subprocess
import time
from typing import Any, Iterator

import pytest

from .fleet import Fleet, wait_for
from .test_flows import EMPTY, controller_task, describe, destroy, migrate, owner, provision, running_on, start, stop

VM = "crash1"

# Where a run of vm_migrate can die, and what becomes of the VM then.
STAYS = [
    ("Preflight, which touches nothing and tries the key on the TPM state", "start"),
    ("Take the VMs for this run", "end"),
    ("Secrets on the destination, with the source's UUIDs, verified", "start"),
    ("Secrets on the destination, with the source's UUIDs, verified", "end"),
    ("Migrate", "start"),
]
# Whether the VM is under way by then depends on the machine.
EITHER = [("Migrate", "0.6"), ("Migrate", "1.2"), ("Migrate", "1.8")]
MOVES = [
    ("Migrate", "end"),
    ("The VMs belong to the destination", "end"),
    ("Let go of the VMs", "start"),
]


@pytest.fixture(scope="module")
def vm(fleet: Fleet) -> Iterator[str]:
    """One running VM for all tests here; each leaves it running somewhere."""
    provision(fleet, describe(VM))
    # What the volume is made from: the firmware has not begun as long as nothing else is in it.
    seen = [fleet.on("a", "sha256sum", "/usr/share/OVMF/OVMF_VARS_4M.fd").split()[0]]

    def settled() -> bool:
        seen.append(nvram_of(fleet, "a"))
        return seen[0] != seen[-1] == seen[-2]

    wait_for("the end of the firmware's first start", settled, 60, 3)
    yield VM
    destroy(fleet, VM)
    assert {host: fleet.left_on(host) for host in fleet.hosts} == {"a": EMPTY, "b": EMPTY}


def killed(fleet: Fleet, task: str, when: str, destination: str) -> None:
    """A migration that is killed with its workers and SSH sessions; what it began on the hosts goes on."""
    plugins = str(pathlib.Path(__file__).parent / "callback_plugins")
    environment = {
        "ANSIBLE_CALLBACK_PLUGINS": plugins,
        "ANSIBLE_CALLBACKS_ENABLED": "kill_at",
        "TRUSTEDVM_KILL_TASK": task,
        "TRUSTEDVM_KILL_WHEN": when,
    }
    run = migrate(fleet, VM, destination, environment=environment, ok=None)
    assert run.returncode == -9, run.output
    settle(fleet)


def settle(fleet: Fleet) -> None:
    """Wait for the end of modules that outlive their playbook."""

    def quiet() -> bool:
        return not any("AnsiballZ" in fleet.on(host, "ps", "-eo", "args") or "ansible_module" in fleet.on(host, "ps", "-eo", "args") for host in fleet.hosts)

    time.sleep(0.5)
    wait_for("the end of the modules", quiet, 60)


def open_operations(fleet: Fleet) -> int:
    with sqlite3.connect("file:%s?mode=ro" % (fleet.state_directory / "registry.sqlite"), uri=True) as database:
        return int(database.execute("SELECT count(*) FROM operations WHERE ended_at IS NULL").fetchone()[0])


def nvram_of(fleet: Fleet, host: str) -> str:
    """The digest of the VM's UEFI variables, which the firmware of these guests writes at its first start only."""
    (volume,) = fleet.left_on(host)["nvram"]
    return fleet.on(host, "sha256sum", volume).split()[0]


def here_and_there(fleet: Fleet) -> tuple[str, str]:
    (source,) = running_on(fleet, VM)
    return source, "b" if source == "a" else "a"


def everything_is_in_order(fleet: Fleet, host: str) -> None:
    """The design's invariants 1, 3 and 5 for the one VM that there is."""
    (other,) = [each for each in fleet.hosts if each != host]
    assert running_on(fleet, VM) == [host] and owner(fleet, VM) == host
    left = fleet.left_on(host)
    assert {kind: len(found) for kind, found in left.items()} == {"domains": 1, "secrets": 1, "tpm_states": 1, "nvram": 1}
    assert fleet.left_on(other) == EMPTY
    assert open_operations(fleet) == 0


@pytest.mark.parametrize(("task", "when"), STAYS + EITHER + MOVES)
def test_killed_then_reconciled(fleet: Fleet, vm: str, task: str, when: str) -> None:
    source, destination = here_and_there(fleet)
    before = nvram_of(fleet, source)
    killed(fleet, task, when, destination)
    fleet.playbook("reconcile")
    expected = destination if (task, when) in MOVES else source
    if (task, when) in EITHER:
        (expected,) = running_on(fleet, vm)
    everything_is_in_order(fleet, expected)
    assert nvram_of(fleet, expected) == before


def test_what_a_dead_run_left_is_told_and_foretold(fleet: Fleet, vm: str) -> None:
    _source, destination = here_and_there(fleet)
    killed(fleet, "Migrate", "end", destination)
    again = migrate(fleet, vm, destination, ok=False)
    assert "operation_unfinished" in again.output and "trustedvm.libvirt.reconcile" in again.output
    predicted = fleet.playbook("reconcile", check=True)
    assert open_operations(fleet) == 1
    healed = fleet.playbook("reconcile")
    assert predicted.changes == healed.changes and healed.changes
    everything_is_in_order(fleet, destination)
    assert fleet.playbook("reconcile").changed == 0
    # Its secret and its TPM state still belong together: a start proves the one with the other.
    stop(fleet, vm)
    start(fleet, vm)


def test_two_runs_at_once(fleet: Fleet, vm: str) -> None:
    """The second is told who has the VM; the first goes on undisturbed."""
    source, destination = here_and_there(fleet)
    extra = fleet.directory / "first.yml"
    extra.write_text("{vm_migrate_vms: [%s], vm_migrate_destination: %s, vm_migrate_options: {bandwidth: 20}}" % (vm, destination), encoding="utf-8")
    command = ["ansible-playbook", "-i", str(fleet.inventory), "trustedvm.libvirt.migrate", "-e", "@%s" % extra]
    with subprocess.Popen(command, env=fleet.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL) as first:
        wait_for("the first run's lease", lambda: open_operations(fleet) == 1, 30, 0.05)
        second = migrate(fleet, vm, destination, ok=False)
        output = first.communicate(timeout=120)[0]
    assert first.returncode == 0, output
    assert "vm_in_use" in second.output and "since" in second.output
    everything_is_in_order(fleet, destination)


def test_two_reconcilers_at_once(fleet: Fleet, vm: str) -> None:
    _source, destination = here_and_there(fleet)
    killed(fleet, "Migrate", "end", destination)
    command = ["ansible-playbook", "-i", str(fleet.inventory), "trustedvm.libvirt.reconcile"]
    runs = [
        subprocess.Popen(command, env=fleet.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL)
        for _number in range(2)
    ]
    outputs = [run.communicate(timeout=120)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    everything_is_in_order(fleet, destination)


def test_s6_a_host_that_does_not_answer_keeps_its_operation(fleet: Fleet, vm: str) -> None:
    source, destination = here_and_there(fleet)
    killed(fleet, "Secrets on the destination, with the source's UUIDs, verified", "end", destination)
    fleet.lab("cut", destination)
    try:
        run = fleet.playbook("reconcile", environment={"ANSIBLE_TIMEOUT": "5"}, ok=None)
        assert "cannot be asked" in run.output and open_operations(fleet) == 1
    finally:
        fleet.lab("heal", destination)
    assert len(fleet.left_on(destination)["secrets"]) == 1
    fleet.playbook("reconcile")
    everything_is_in_order(fleet, source)


def test_an_operation_of_another_controller_waits_for_its_lease(fleet: Fleet, vm: str) -> None:
    """Silence of a process that cannot be seen proves nothing before its lease is over."""
    operation: dict[str, Any] = {"vm": vm, "run": "elsewhere", "lease": 4}
    controller_task(fleet, "vm_operation", operation)
    with sqlite3.connect(fleet.state_directory / "registry.sqlite") as database:
        database.execute("UPDATE operations SET holder_machine = 'another boot' WHERE ended_at IS NULL")
    source, destination = here_and_there(fleet)
    facts = json.dumps({"source": source, "destination": destination})
    assert fleet.playbook("reconcile").changed == 0 and open_operations(fleet) == 1
    with sqlite3.connect(fleet.state_directory / "registry.sqlite") as database:
        database.execute("UPDATE operations SET facts = ? WHERE ended_at IS NULL", [facts])
    time.sleep(4)
    fleet.playbook("reconcile")
    everything_is_in_order(fleet, source)


def test_a_long_migration_keeps_its_lease(fleet: Fleet, vm: str) -> None:
    """Nobody takes over while the VM moves, however short the lease is."""
    _source, destination = here_and_there(fleet)
    extra = fleet.directory / "long.yml"
    options = {"bandwidth": 4}
    extra.write_text(json.dumps({"vm_migrate_vms": [vm], "vm_migrate_destination": destination, "vm_migrate_options": options, "vm_migrate_lease": 3}))
    command = ["ansible-playbook", "-i", str(fleet.inventory), "trustedvm.libvirt.migrate", "-e", "@%s" % extra]
    with subprocess.Popen(command, env=fleet.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL) as run:
        wait_for("the run's lease", lambda: open_operations(fleet) == 1, 60, 0.05)
        unfinished = []
        while run.poll() is None:
            unfinished += controller_task(fleet, "vm_operation_info", {"unfinished_only": True})["operations"]
        output = run.communicate(timeout=120)[0]
    assert run.returncode == 0 and unfinished == [], output
    everything_is_in_order(fleet, destination)
