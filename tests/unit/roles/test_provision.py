# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vm_provision when something breaks half-way: what stays, what goes, what is said."""

from __future__ import annotations

import pytest

GONE = ({}, 0)


def test_check_mode_makes_nothing_and_the_second_run_changes_nothing(stage):
    predicted = stage.provision("web1", arguments=("--check",))
    assert stage.host("hv1") == GONE and not (stage.directory / "state").exists()
    assert stage.provision("web1").changed == predicted.changed > 0
    assert (stage.host("hv1"), stage.records, stage.keys) == (({"web1": "running"}, 1), {"web1": ("hv1", "running")}, 1)
    assert stage.provision("web1").changed == 0


def test_c6_what_fails_is_undone_and_what_is_finished_stays(stage):
    stage.mishaps({"module": "vm", "fail": ["web2"]})
    run = stage.provision("web1", "web2", ok=False)
    assert run.reported == "The VMs: web2: made to fail."
    assert (stage.host("hv1"), stage.records, stage.keys) == (({"web1": "running"}, 1), {"web1": ("hv1", "running")}, 1)


@pytest.mark.parametrize("lost", ["result", "host"])
def test_m4_a_vm_that_may_run_keeps_key_record_and_secret(stage, lost):
    stage.mishaps({"module": "vm", "lost": lost})
    said = stage.provision("web1", ok=False).reported
    assert said.startswith("The VMs: Module result" if lost == "result" else "See that the host answered again: hv1 could not be reached")
    assert "not known what became of web1 on hv1" in said
    assert (stage.host("hv1"), stage.records, stage.keys) == (({"web1": "running"}, 1), {"web1": ("hv1", "provisioning")}, 1)
    stage.back("hv1")
    stage.provision("web1")
    assert (stage.records, stage.keys) == ({"web1": ("hv1", "running")}, 1)


@pytest.mark.parametrize("fields", [{"changed": True}, {"undo_failed": "cannot remove the disk"}])
def test_m4_a_vm_that_failed_and_could_not_be_undone_keeps_its_key(stage, fields):
    stage.mishaps({"module": "vm", "fail": ["web1"], "fields": fields})
    assert "not known what became of web1" in stage.provision("web1", ok=False).reported
    assert (stage.records, stage.keys) == ({"web1": ("hv1", "provisioning")}, 1)


def test_a_host_that_goes_away_with_the_secrets_leaves_no_record(stage):
    stage.mishaps({"module": "libvirt_secret", "away": "before"})
    run = stage.provision("web1", ok=False)
    assert "hv1 could not be reached when its secrets were defined" in run.reported
    assert run.tasks("vm") == []
    assert (stage.records, stage.keys) == ({}, 0)


def test_a_host_that_goes_away_before_the_undo_does_not_end_it(stage):
    stage.mishaps({"module": "vm", "fail": ["web1"], "away": "after"})
    run = stage.provision("web1", ok=False)
    assert run.reported == "The VMs: web1: made to fail."
    assert (stage.records, stage.keys) == ({}, 0)


def test_a_registry_that_refuses_the_result_hides_neither_the_first_error_nor_the_undo(stage):
    moved = "UPDATE vms SET host = 'hv9', generation = 7 WHERE name = 'web1'"
    stage.mishaps({"module": "vm", "fail": ["web2"], "sql": moved})
    run = stage.provision("web1", "web2", ok=False)
    assert "vm_record_conflict" in run.output
    assert run.reported == "The VMs: web2: made to fail."
    assert (stage.records, stage.keys) == ({"web1": ("hv9", "provisioning")}, 1)


def test_a_registry_that_refuses_the_result_is_reported(stage):
    stage.mishaps({"module": "vm", "sql": "UPDATE vms SET host = 'hv9', generation = 7"})
    run = stage.provision("web1", ok=False)
    assert run.reported.startswith("Record what the VMs are: ") and "hv9" in run.reported
    assert (stage.host("hv1"), stage.keys) == (({"web1": "running"}, 1), 1)


def test_a_mistake_in_a_description_is_found_before_anything_is_made(web1):
    run = web1.provision("web1", {"name": "web2", "memmory": 128}, ok=False)
    assert "memmory" in run.output and [(call["module"], call["check"]) for call in run.calls] == [("vm", True)]
    assert (web1.records, web1.keys) == ({"web1": ("hv1", "running")}, 1)


class TestKnownVms:
    def before(self, stage):
        return stage.sql("SELECT * FROM vms"), stage.sql("SELECT * FROM vtpms")

    def test_a_uuid_of_another_name_is_refused_and_the_record_stays(self, web1):
        stage, before = web1, self.before(web1)
        (uuid,) = stage.sql("SELECT uuid FROM vms")[0]
        for description in ({"uuid": uuid.upper()}, {"xml": "<domain><name>web2</name><uuid>%s</uuid></domain>" % uuid}):
            run = stage.provision({"name": "web2", "memory": 1, **description}, ok=False)
            assert "vm_uuid_taken" in run.output and "web1" in run.output and run.calls == []
        assert (stage.sql("SELECT * FROM vms"), stage.sql("SELECT * FROM vtpms")) == before

    def test_the_record_is_written_when_the_vm_is_as_described(self, web1):
        stage, before = web1, self.before(web1)
        changed = {"name": "web1", "memory": 128, "tpm": {"model": "tpm-tis"}}
        stage.mishaps({"module": "vm", "fail": ["web1"]})
        stage.provision(changed, ok=False)
        assert (stage.sql("SELECT * FROM vms"), stage.sql("SELECT * FROM vtpms")) == before
        stage.provision(changed)
        assert stage.sql("SELECT model, encrypted, state_exists FROM vtpms") == [("tpm-tis", 1, 1)]

    def test_c6_a_vm_that_got_its_first_key_is_unbound_again(self, stage):
        stage.provision({"name": "web1", "memory": 128, "tpm": {"enabled": False}})
        assert stage.sql("SELECT key_provider FROM vms") == [(None,)]
        stage.mishaps({"module": "vm", "fail": ["web1"]})
        stage.provision("web1", ok=False)
        assert (stage.sql("SELECT key_provider FROM vms"), stage.keys, stage.host("hv1")) == ([(None,)], 0, ({"web1": "running"}, 0))
        stage.provision("web1")
        assert (stage.sql("SELECT key_provider FROM vms"), stage.keys) == ([("native",)], 1)


def test_a_new_vm_that_all_hosts_would_make_is_refused(stage):
    run = stage.provision("web1", host="hypervisors", ok=False)
    assert run.output.count("fatal: ") == 1
    assert "vm_asked_on_several_hosts" in run.output and "web1 on hv1, hv2" in run.output
    assert run.calls == []


def test_each_host_makes_the_vms_of_its_own(stage):
    lists = "{{ [{'name': 'of-' ~ inventory_hostname, 'memory': 128}] }}"
    stage.play("provision", vm_provision_vms=lists)
    assert stage.records == {"of-hv1": ("hv1", "running"), "of-hv2": ("hv2", "running")}
    assert stage.play("provision", vm_provision_vms=lists).changed == 0


def test_settings_of_the_key_provider_stay_when_they_are_not_given(stage):
    ring = {"key_ring": str(stage.directory / "ring.json")}
    stage.provision("web1", vm_provision_key_provider_settings=ring)
    stage.provision("web2")
    assert (stage.directory / "ring.json").exists() and stage.keys == 2
    assert not list((stage.directory / "state").rglob("native.json"))


def test_a_misspelt_variable_is_an_error(stage):
    run = stage.play("provision", ok=False, vm_provision_vm=[{"name": "web1"}])
    assert "missing required arguments: vm_provision_vms" in run.output
