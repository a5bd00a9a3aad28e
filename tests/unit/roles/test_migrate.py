# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vm_migrate when something breaks half-way: where the VM belongs, what stays on the destination, what is said."""

from __future__ import annotations

import pytest

THERE = ({"web1": "running"}, 1)


def migrate(stage, *arguments, destination="hv2", ok=True, **more):
    return stage.play("migrate", *arguments, ok=ok, vm_migrate_vms=["web1"], vm_migrate_destination=destination, **more)


def test_statistics_that_libvirt_did_not_tell_are_left_out(web1):
    run = migrate(web1)
    assert "web1: hv1 to hv2 in 2.5 s\"" in run.output
    assert (web1.records, web1.host("hv2")) == ({"web1": ("hv2", "running")}, THERE)


@pytest.mark.parametrize("policy", [True, False])
def test_a_secret_that_the_source_lost_follows_the_policy(web1, policy):
    run = migrate(web1, trustedvm_ephemeral_secrets=policy)
    (secret,) = [call["args"]["secrets"][0] for call in run.calls if call["module"] == "libvirt_secret"]
    assert secret["ephemeral"] is policy


def test_m4_a_destination_without_ssh_is_the_error_and_nothing_moves(web1):
    web1.mishaps({"module": "libvirt_secret", "host": "hv2", "away": "before"})
    run = migrate(web1, ok=False)
    assert run.reported.startswith("See that the destination answered: hv2 cannot be reached") and "hv2 does not answer" in run.reported
    assert run.tasks("vm_migrate") == []
    assert (web1.records, web1.host("hv1")) == ({"web1": ("hv1", "running")}, THERE)


def test_m4_a_source_that_goes_away_meanwhile_leaves_the_secret(web1):
    web1.mishaps({"module": "vm_migrate", "lost": "host"})
    run = migrate(web1, ok=False)
    assert run.reported.startswith("See that the source answered: hv1 went away during the migration")
    assert (web1.records, web1.host("hv2")) == ({"web1": ("hv1", "running")}, THERE)


def test_m4_a_vm_that_stayed_is_undone_even_if_the_registry_refuses_another(web1):
    web1.provision("web2")
    moved = "UPDATE vms SET generation = 7 WHERE name = 'web2'"
    web1.mishaps({"module": "vm_migrate", "fail": ["web1"], "sql": moved})
    run = web1.play("migrate", ok=False, vm_migrate_vms=["web1", "web2"], vm_migrate_destination="hv2")
    assert "vm_record_conflict" in run.output and run.reported == "Migrate: web1: made to fail"
    assert web1.host("hv2") == ({"web2": "running"}, 1)


def test_a_registry_that_refuses_the_move_is_reported(web1):
    web1.mishaps({"module": "vm_migrate", "sql": "UPDATE vms SET generation = 7"})
    run = migrate(web1, ok=False)
    assert run.reported.startswith("The VMs belong to the destination: ") and "generation 7" in run.reported
    assert web1.host("hv2") == THERE


def test_a_vm_that_arrived_and_then_failed_belongs_to_the_destination(web1):
    web1.mishaps({"module": "vm_migrate", "fail": ["web1"], "fields": {"running_on": "destination"}})
    assert migrate(web1, ok=False).reported == "Migrate: web1: made to fail"
    assert (web1.records, web1.host("hv2")) == ({"web1": ("hv2", "running")}, THERE)


def test_a_vm_whose_host_is_not_in_the_play_is_an_error(web1):
    run = migrate(web1, "--limit", "hv2", ok=False)
    assert "vm_host_not_in_play" in run.output and "web1 on hv1" in run.output and run.calls == []
    migrate(web1)
    # It is where it should be: nothing is left to do for the other hosts.
    assert migrate(web1, "--limit", "hv1").changed == 0


def test_a_misspelt_variable_is_an_error(web1):
    run = web1.play("migrate", ok=False, vm_migrate_vm=["web1"])
    assert "missing required arguments: vm_migrate_destination, vm_migrate_vms" in run.output
