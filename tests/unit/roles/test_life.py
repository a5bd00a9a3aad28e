# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vm_start, vm_stop and vm_destroy when something breaks half-way."""

from __future__ import annotations

import pytest

GONE = ({}, 0)


class TestStart:
    @pytest.fixture
    def web1(self, web1):
        """Defined, never started, and without its key and its secret."""
        web1.sql("DELETE FROM resource_keys")
        web1.sql("UPDATE vtpms SET state_exists = 0")
        web1.sql("UPDATE vms SET state = 'stopped'")
        web1.change("hv1", lambda host: {"secrets": {}, "vms": {uuid: {**vm, "state": "stopped"} for uuid, vm in host["vms"].items()}})
        return web1

    def start(self, stage, *arguments, ok=True, **more):
        return stage.play("start", *arguments, ok=ok, vm_start_vms=["web1"], **more)

    def test_the_first_start_makes_the_key(self, web1):
        self.start(web1)
        assert (web1.keys, web1.records, web1.host("hv1")[0]) == (1, {"web1": ("hv1", "running")}, {"web1": "running"})
        assert self.start(web1).changed == 0

    def test_c6_a_key_and_a_secret_that_the_start_made_go_with_it(self, web1):
        web1.mishaps({"module": "vm", "fail": ["web1"]})
        assert self.start(web1, ok=False).reported == "Start: web1: made to fail."
        assert (web1.keys, web1.host("hv1")) == (0, ({"web1": "stopped"}, 0))

    @pytest.mark.parametrize("lost", ["result", "host"])
    def test_m4_a_vm_that_may_run_keeps_its_key(self, web1, lost):
        web1.mishaps({"module": "vm", "lost": lost})
        assert "not known whether web1 started on hv1" in self.start(web1, ok=False).reported
        assert (web1.keys, web1.host("hv1")[0]) == (1, {"web1": "running"})

    def test_a_host_that_goes_away_with_the_secrets_leaves_no_key(self, web1):
        web1.mishaps({"module": "libvirt_secret", "away": "before"})
        run = self.start(web1, ok=False)
        assert "hv1 could not be reached when its secrets were defined" in run.reported and run.tasks("vm") == []
        assert web1.keys == 0

    def test_a_registry_that_refuses_the_result_is_reported(self, web1):
        web1.mishaps({"module": "vm", "sql": "UPDATE vms SET host = 'hv9', generation = 7"})
        run = self.start(web1, ok=False)
        assert run.reported.startswith("Record what the VMs are: ") and web1.keys == 1

    def test_a_running_vm_gets_neither_key_nor_secret(self, web1):
        self.start(web1)
        run = self.start(web1)
        assert run.tasks("libvirt_secret") == [] and run.tasks("vm") == [("hv1", "Start")]

    def test_ephemeral_is_one_policy_for_all_roles(self, web1):
        run = self.start(web1, trustedvm_ephemeral_secrets=True)
        (secret,) = [call["args"]["secrets"][0] for call in run.calls if call["module"] == "libvirt_secret"]
        assert secret["ephemeral"] is True


class TestPlacement:
    @pytest.fixture
    def two(self, stage):
        stage.provision("web1", host="hv1")
        stage.provision("web2", host="hv2")
        return stage

    @pytest.mark.parametrize("what", ["start", "stop", "destroy"])
    def test_a_vm_whose_host_is_not_in_the_play_is_one_error_and_nothing_is_done(self, two, what):
        run = two.play(what, "--limit", "hv1", ok=False, **{"vm_%s_vms" % what: ["web1", "web2"]})
        assert "vm_host_not_in_play" in run.output and "web2 on hv2" in run.output
        assert run.output.count("fatal: ") == 1 and run.calls == []

    def test_the_error_is_told_once_for_all_hosts(self, two):
        two.sql("UPDATE vms SET host = 'renamed' WHERE name = 'web2'")
        run = two.play("stop", ok=False, vm_stop_vms=["web1", "web2"])
        assert run.output.count("fatal: ") == 1 and "web2 on renamed" in run.output and run.calls == []

    def test_each_host_of_a_play_works_on_its_own(self, two):
        run = two.play("stop", vm_stop_vms=["web1", "web2"])
        assert sorted(run.tasks("vm")) == [(host, "Ask the guests to shut down, and stop hard those that do not") for host in ("hv1", "hv2")]
        assert two.records == {"web1": ("hv1", "stopped"), "web2": ("hv2", "stopped")}
        two.play("stop", "--limit", "hv2", vm_stop_vms=["web2"])

    @pytest.mark.parametrize("what", ["start", "stop", "destroy"])
    def test_a_misspelt_variable_is_an_error(self, stage, what):
        run = stage.play(what, ok=False, **{"vm_%s_vm" % what: ["web1"]})
        assert "missing required arguments: vm_%s_vms" % what in run.output


class TestDestroy:
    def destroy(self, stage, *arguments, ok=True):
        return stage.play("destroy", *arguments, ok=ok, vm_destroy_vms=["web1", "web2"], vm_destroy_force=True)

    def test_all_goes_and_the_second_run_changes_nothing(self, web1):
        self.destroy(web1)
        assert (web1.host("hv1"), web1.records, web1.keys) == (GONE, {}, 0)
        assert self.destroy(web1).changed == 0

    @pytest.mark.parametrize("mishap", [{"fail": ["*"]}, {"away": "before"}], ids=["refused", "host gone"])
    def test_c3_a_secret_that_cannot_be_removed_keeps_no_record(self, web1, mishap):
        (secret,) = web1.sql("SELECT secret_uuid FROM vtpms")[0]
        web1.mishaps({"module": "libvirt_secret", **mishap})
        run = self.destroy(web1, ok=False)
        assert (web1.host("hv1"), web1.records, web1.keys) == (({}, 1), {}, 0)
        assert "hv1 still has their secrets (%s)" % secret in run.reported

    def test_c3_a_vm_that_cannot_be_removed_keeps_everything_and_the_other_goes(self, web1):
        web1.provision("web2")
        web1.mishaps({"module": "vm", "fail": ["web1"]})
        run = self.destroy(web1, ok=False)
        assert run.reported == "web1: made to fail."
        assert (web1.host("hv1"), web1.records, web1.keys) == (({"web1": "running"}, 1), {"web1": ("hv1", "running")}, 1)

    def test_a_host_that_goes_away_keeps_the_records_and_is_reported(self, web1):
        web1.mishaps({"module": "vm", "lost": "host"})
        assert "hv1 does not answer" in self.destroy(web1, ok=False).reported
        assert web1.records == {"web1": ("hv1", "running")}
        web1.back("hv1")
        self.destroy(web1)
        assert (web1.host("hv1"), web1.records, web1.keys) == (GONE, {}, 0)

    def test_a_registry_that_refuses_does_not_hide_the_first_error(self, web1):
        web1.provision("web2")
        web1.mishaps({"module": "vm", "fail": ["web1"], "sql": "UPDATE vms SET generation = 7"}, {"module": "libvirt_secret", "fail": ["*"]})
        run = self.destroy(web1, ok=False)
        assert run.reported.startswith("web1: made to fail")
