# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a migration writes into the journal, and what is decided from it and from the hosts after a crash."""
from __future__ import annotations

import pytest

from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._plans import journal, reconcile
from ansible_collections.trustedvm.libvirt.tests.unit.plugins.plugin_utils._plans.test_life import OTHER, UUID, record

SECRET = "5ec00000-0000-4000-8000-000000000001"
NVRAM = "/nvram/web1.fd"
STATE = "/swtpm/web1/tpm2"


def looked_at(**more):
    """vm_migrate's result in check mode, of a VM of which the destination has nothing."""
    place = {"shared": False, "existed_on_destination": False}
    return {
        "uuid": UUID,
        "outcome": "migrated",
        "secrets": [{"uuid": SECRET, "on_destination": False}],
        "nvram": {"path": NVRAM, **place},
        "tpm_state": {"path": STATE, **place},
        **more,
    }


def noted(**more):
    (item,) = journal.operations([looked_at(**more)], [record()], "hv1", "hv2", "10.0.0.2", {"unsafe": True, "value": "never", "bandwidth": 7})
    return item


def test_the_journal_says_what_was_not_there_before():
    item = noted()
    assert item["expect"] == {"host": "hv1", "generation": record()["generation"]}
    assert item["facts"] == {
        "source": "hv1",
        "destination": "hv2",
        "destination_address": "10.0.0.2",
        "options": {"unsafe": True},
        "secrets": [SECRET],
        "nvram": NVRAM,
        "tpm_state": STATE,
    }


@pytest.mark.parametrize(("shared", "existed"), [(True, True), (None, False), (False, None), (False, True)])
def test_a_file_that_is_shared_or_was_there_or_is_not_known_is_never_undone(shared, existed):
    place = {"shared": shared, "existed_on_destination": existed}
    secrets = [{"uuid": SECRET, "on_destination": True}]
    facts = noted(nvram={"path": NVRAM, **place}, tpm_state={"path": STATE, **place}, secrets=secrets)["facts"]
    assert (facts["nvram"], facts["tpm_state"], facts["secrets"]) == (None, None, [])


def opened(vm=UUID, name="web1"):
    return {"vm": name, "outcome": "opened", "operation": {"vm": vm}}


def closed(*migrated, attempted=True, recorded=True, undone=True, failure="no route"):
    return journal.closings([opened()], migrated, attempted, recorded, undone, failure)[0]


def test_an_operation_is_closed_where_the_place_is_certain():
    arrived = {"uuid": UUID, "outcome": "migrated"}
    stayed = {"uuid": UUID, "failed": True, "running_on": "source"}
    assert closed(arrived) == {"vm": "web1", "state": "closed", "outcome": "done"}
    assert closed({**arrived, "failed": True, "running_on": "destination"})["outcome"] == "done"
    assert closed(stayed) == {"vm": "web1", "state": "closed", "outcome": "failed", "message": "no route"}
    assert closed(attempted=False)["outcome"] == "failed"


@pytest.mark.parametrize(
    "situation",
    [
        {},  # the module's results were lost
        {"migrated": {"uuid": UUID, "failed": True, "running_on": "unknown"}},
        {"migrated": {"uuid": UUID, "failed": True, "running_on": "both"}},
        {"migrated": {"uuid": UUID, "outcome": "migrated"}, "recorded": False},
        {"migrated": {"uuid": UUID, "failed": True, "running_on": "source"}, "undone": False},
    ],
)
def test_else_it_is_left_for_reconcile(situation):
    migrated = [situation.pop("migrated")] if "migrated" in situation else []
    assert closed(*migrated, **situation) == {"vm": "web1", "state": "released", "message": "no route"}


# After a crash


def operation(vm=UUID, **facts):
    return {"vm": vm, "name": "web1", "run": "run-1", "kind": "migrate", "phase": "begun", "facts": {**noted()["facts"], **facts}}


def vm(state="running", **more):
    return {"uuid": UUID, "state": state, "job_active": False, "migrating": False, "migration_leftover": False, **more}


def decided(here, there):
    answers = {host: {"vms": [found] if found else []} for host, found in (("hv1", here), ("hv2", there))}
    (decision,) = reconcile.decide([operation()], answers)
    return decision["verdict"], decision["why"]


@pytest.mark.parametrize(
    ("here", "there", "verdict", "said"),
    [
        (vm(), None, "undo", "runs on hv1"),
        (vm(), vm("stopped"), "undo", "runs on hv1"),
        (vm("paused"), None, "undo", "runs on hv1"),
        (None, vm(), "finish", "runs on hv2"),
        (vm("stopped", migration_leftover=True), vm(), "finish", "runs on hv2"),
        (None, vm("stopped"), "finish", "defined on hv2 only"),
        (vm("stopped"), vm("stopped"), "finish", "compared"),
        (vm("stopped", migration_leftover=True), vm("stopped"), "finish", "went from"),
        (vm("stopped"), None, "undo", "defined on hv1 only"),
        (vm(), vm(), "conflict", "stop one of the two"),
        (None, None, "conflict", "neither"),
        (vm(job_active=True), vm("paused", migrating=True), "wait", "hv1 and hv2 still works"),
        (vm(), vm("paused", migrating=True), "wait", "hv2 still works"),
    ],
)
def test_the_hosts_decide(here, there, verdict, said):
    found, why = decided(here, there)
    assert found == verdict and said in why


@pytest.mark.parametrize("answer", [None, {}, {"unreachable": True, "msg": "no route"}, {"failed": True, "vms": []}])
def test_s6_nothing_is_concluded_from_silence(answer):
    (decision,) = reconcile.decide([operation()], {"hv1": answer, "hv2": {"vms": [vm()]}})
    assert (decision["verdict"], decision["why"]) == ("wait", "hv1 cannot be asked")


def decisions(verdict):
    return [{**operation(), "verdict": verdict, "why": "…"}]


def test_each_host_does_its_part():
    assert reconcile.migrations(decisions("finish"), "hv1") == [
        {"vm": UUID, "destination_host": "10.0.0.2", "clean_source": True, "unsafe": True, "mode": "auto"}
    ]
    assert reconcile.migrations(decisions("finish"), "hv2") == reconcile.migrations(decisions("undo"), "hv1") == []
    assert reconcile.leftovers(decisions("undo"), "hv2") == {
        "secrets": [{"uuid": SECRET, "state": "absent", "in_use": "keep"}],
        "nvram": [{"path": NVRAM, "state": "absent", "moved": True}],
        "tpm": [{"vm": UUID, "state": "absent", "moved": True}],
    }
    nothing = {"secrets": [], "nvram": [], "tpm": []}
    assert reconcile.leftovers(decisions("undo"), "hv1") == reconcile.leftovers(decisions("finish"), "hv2") == nothing


def test_the_registry_follows_only_from_the_owner_that_it_still_names():
    done = [{"uuid": UUID, "outcome": "cleaned", "running_on": "destination"}]
    (item,) = reconcile.records(decisions("finish"), done, [record()])
    assert item == {"uuid": UUID, "host": "hv2", "vm_state": "running", "expect": {"host": "hv1", "generation": record()["generation"]}}
    (item,) = reconcile.records(decisions("finish"), [{**done[0], "running_on": "neither"}], [record()])
    assert item["vm_state"] == "stopped"
    assert reconcile.records(decisions("finish"), done, [{**record(), "host": "hv2"}]) == []
    assert reconcile.records(decisions("finish"), [{**done[0], "failed": True}], [record()]) == []
    assert reconcile.records(decisions("finish"), done, [record("web2", OTHER)]) == []


def test_what_could_not_be_finished_or_undone_stays_in_the_journal():
    done = [{"uuid": UUID, "outcome": "cleaned"}]
    failed = [{"uuid": UUID, "failed": True, "msg": "disk full"}]
    end = {name: reconcile.closings(decisions(name), done if name == "finish" else [], [], [])[0] for name in ("finish", "undo", "wait", "conflict")}
    assert {name: item["state"] for name, item in end.items()} == {"finish": "closed", "undo": "closed", "wait": "released", "conflict": "released"}
    assert (end["finish"]["outcome"], end["undo"]["outcome"]) == ("done", "undone")
    assert reconcile.closings(decisions("finish"), failed, [], [])[0] == {"vm": UUID, "state": "released", "message": "disk full"}
    assert reconcile.closings(decisions("finish"), done, failed, [])[0]["message"] == "disk full"
    assert reconcile.closings(decisions("finish"), [], [], [])[0]["state"] == "released"
    assert reconcile.closings(decisions("undo"), [], [], ["hv2"])[0]["state"] == "released"
