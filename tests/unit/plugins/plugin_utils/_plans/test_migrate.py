# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From records and results to items: migration."""
from __future__ import annotations

import pytest

from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._core.errors import ControllerError
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._plans import migrate
from ansible_collections.trustedvm.libvirt.tests.unit.plugins.plugin_utils._plans.test_life import OTHER, UUID, record

HOSTS = ["hv1", "hv2"]
SECRET = {"uuid": "5ec00000-0000-4000-8000-000000000001", "usage": "made by hand", "ephemeral": False, "on_destination": False}


def preflight(vm_uuid=UUID, outcome="migrated", secrets=(SECRET,)):
    return {"uuid": vm_uuid, "vm": vm_uuid, "outcome": outcome, "secrets": list(secrets)}


def moved(vm_uuid=UUID, **more):
    return {"uuid": vm_uuid, "vm": vm_uuid, "outcome": "migrated", "secrets": [SECRET], "running_on": "destination", **more}


def outcome(migrated, **more):
    arguments = {"preflight": [preflight()], "records": [record(), record("web2", OTHER)], "destination": "hv2", **more}
    return migrate.outcome(migrated, **arguments)


def test_each_host_moves_what_it_owns():
    records = [record(), record("web2", OTHER, "hv2")]
    assert [item["vm"] for item in migrate.plan(records, "hv1", "hv2", HOSTS)["moves"]] == [UUID]
    assert migrate.plan(records, "hv2", "hv2", HOSTS) == {"claims": [], "preflight": [], "moves": []}


def test_what_is_claimed_is_what_was_planned_on():
    (claim,) = migrate.plan([record()], "hv1", "hv2", HOSTS)["claims"]
    assert claim == {"vm": UUID, "expect": {"host": "hv1", "generation": record()["generation"]}}


def test_options_reach_every_item():
    assert migrate.plan([record()], "hv1", "hv2", HOSTS, options={"unsafe": True})["moves"][0]["unsafe"] is True


def test_an_unknown_destination_is_refused():
    with pytest.raises(ControllerError) as caught:
        migrate.plan([record()], "hv1", "hv9", HOSTS)
    assert caught.value.code == "destination_unknown"
    assert "hv1, hv2" in str(caught.value)


def test_m5_bound_vms_are_never_without_key():
    with pytest.raises(ControllerError) as caught:
        migrate.plan([record(encrypted=False)], "hv1", "hv2", HOSTS, allow_unencrypted_vtpm=True)
    assert caught.value.code == "unencrypted_vtpm_refused"


def test_m1_the_destination_gets_the_sources_uuid_and_usage():
    item = migrate.secrets([preflight()], [record()])[0]
    assert (item["uuid"], item["usage"]) == (SECRET["uuid"], "made by hand")


def test_m1_a_source_that_lost_its_secret_still_has_the_recorded_usage():
    item = migrate.secrets([preflight(secrets=[{**SECRET, "usage": None}])], [record()])[0]
    assert item["usage"] == "trustedvm:vtpm:" + UUID


@pytest.mark.parametrize(("source", "wanted", "becomes"), [(None, True, True), (None, False, False), (True, False, True), (False, True, True)])
def test_a_fleet_that_keeps_secrets_in_memory_gets_none_on_disk(source, wanted, becomes):
    """None: the source lost its secret, as it does when libvirtd restarts."""
    item = migrate.secrets([preflight(secrets=[{**SECRET, "ephemeral": source}])], [record()], ephemeral_secrets=wanted)[0]
    assert item["ephemeral"] is becomes


def test_m2_m6_the_key_is_named_with_a_purpose_that_never_creates():
    plan = migrate.plan([record()], "hv1", "hv2", HOSTS)
    for item in migrate.secrets([preflight()], [record()]) + plan["preflight"]:
        assert item["resource_key"] == {"resource_type": "vtpm", "vm": UUID, "purpose": "migrate"}


def test_a_vm_that_arrived_in_an_earlier_run_needs_no_secret():
    assert migrate.secrets([preflight(outcome="already_there")], [record()]) == []


def test_the_move_itself_carries_no_key():
    plan = migrate.plan([record()], "hv1", "hv2", HOSTS)
    assert "resource_key" not in plan["moves"][0]


def test_m5_an_unencrypted_vtpm_has_no_key_to_try():
    records = [record(provider=None, encrypted=False)]
    plan = migrate.plan(records, "hv1", "hv2", HOSTS, allow_unencrypted_vtpm=True)
    assert "resource_key" not in plan["preflight"][0] and plan["moves"][0]["provided_secrets"] == []


def test_the_commit_compares_owner_and_generation():
    item = outcome([moved()])["records"][0]
    assert item == {"uuid": UUID, "host": "hv2", "vm_state": "running", "expect": {"host": "hv1", "generation": 3}}


def test_an_interrupted_run_is_committed_by_the_next():
    assert outcome([moved(outcome="already_there")])["records"]
    assert outcome([moved(outcome="cleaned")])["records"]


def test_a_vm_that_did_not_arrive_is_not_committed():
    assert outcome([moved(failed=True, running_on="source")])["records"] == []


def test_a_vm_that_arrived_and_then_failed_belongs_to_the_destination():
    unproven = moved(failed=True, outcome="failed", running_on="destination")
    assert [item["host"] for item in outcome([unproven])["records"]] == ["hv2"]


@pytest.mark.parametrize("where", ["both", "neither", "unknown", None])
def test_a_vm_that_may_be_anywhere_keeps_its_owner(where):
    assert outcome([moved(failed=True, outcome="failed", running_on=where)])["records"] == []


def test_the_source_is_cleaned_unless_told_otherwise():
    assert migrate.plan([record()], "hv1", "hv2", HOSTS)["moves"][0]["clean_source"] is True
    assert migrate.plan([record()], "hv1", "hv2", HOSTS, options={"clean_source": False})["moves"][0]["clean_source"] is False


class TestUndo:
    MADE = [{"uuid": SECRET["uuid"], "outcome": "created"}]

    def undo(self, migrated, **more):
        return outcome(migrated, **{"secret_results": self.MADE, **more})["undo"]

    def test_m4_removed_if_this_run_made_it_and_the_vm_is_not_there(self):
        undo = self.undo([moved(failed=True, running_on="source", leftovers=[{"kind": "nvram", "path": "/d.fd"}])])
        assert undo["secrets"] == [{"uuid": SECRET["uuid"], "state": "absent"}]
        assert undo["nvram"] == [{"path": "/d.fd", "state": "absent", "moved": True}]

    @pytest.mark.parametrize("where", ["destination", "both", "neither", "unknown"])
    def test_m4_kept_if_the_vm_may_be_there(self, where):
        undo = self.undo([moved(failed=True, running_on=where, leftovers=[{"kind": "nvram", "path": "/d.fd"}])])
        assert undo == {"secrets": [], "nvram": [], "tpm": []}

    def test_m4_kept_if_it_existed_before(self):
        undo = self.undo([moved(failed=True, running_on="source")], secret_results=[{"uuid": SECRET["uuid"], "outcome": "unchanged"}])
        assert undo["secrets"] == []

    def test_m4_kept_after_success(self):
        assert self.undo([moved()])["secrets"] == []

    def test_m4_kept_if_the_module_died_without_a_result(self):
        assert self.undo([])["secrets"] == []

    def test_m4_removed_if_the_migration_was_never_begun(self):
        assert self.undo([], attempted=False)["secrets"] == [{"uuid": SECRET["uuid"], "state": "absent"}]


def test_a_vm_that_is_off_moves_with_its_key_and_stays_off():
    plan = migrate.plan([record(), record("web2", OTHER)], "hv1", "hv2", HOSTS)
    cold, live = migrate.moves(plan, [{**preflight(), "mode": "cold"}, {**preflight(OTHER), "mode": "live"}])
    assert cold["resource_key"] == {"resource_type": "vtpm", "vm": UUID, "purpose": "migrate"} and "resource_key" not in live
    assert {move["mode"] for move in plan["moves"]} == {"auto"}
    assert outcome([moved(mode="cold", running_on="neither")])["records"][0]["vm_state"] == "stopped"


def test_m4_a_cold_migration_that_failed_is_judged_by_where_the_vm_is_defined():
    made = [{"uuid": SECRET["uuid"], "outcome": "created"}]
    fails = {"uuid": UUID, "failed": True, "running_on": "neither", "leftovers": []}
    stayed = outcome([{**fails, "defined_on": "source"}], secret_results=made)
    assert stayed["records"] == [] and stayed["undo"]["secrets"] == [{"uuid": SECRET["uuid"], "state": "absent"}]
    for where in ("destination", "both", "unknown", None):
        assert outcome([{**fails, "defined_on": where}], secret_results=made)["undo"]["secrets"] == []
    assert outcome([{**fails, "mode": "cold", "defined_on": "destination"}])["records"][0]["vm_state"] == "stopped"
