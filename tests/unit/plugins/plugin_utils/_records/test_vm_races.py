# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""VM records while other controllers write too: names, compare-and-set, keys that come in between."""

from __future__ import annotations

import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("cryptography")

from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._records import reading
from ansible_collections.trustedvm.libvirt.tests.unit.plugins.plugin_utils.controllers import (
    OTHER,
    THIRD,
    VM,
    Controller,
    one,
    predicted_and_done,
)

NEW = {"uuid": OTHER, "name": "web2", "host": "kvm1"}


@pytest.fixture
def elsewhere(ready, tmp_path):
    """Another controller with the same registry."""
    return Controller(ready.url, ready.state_directory)


def outcomes(outcome):
    return [result.get("error_code", result["outcome"]) for result in outcome.results]


# One name on one host is one VM


@pytest.mark.parametrize("check_mode", [True, False])
def test_a_move_to_a_host_that_has_the_name_is_refused(ready, check_mode):
    ready.vms({"uuid": OTHER, "name": "web1", "host": "kvm2"})
    refused = one(ready.vms({"uuid": VM, "host": "kvm2", "expect": {"host": "kvm1"}}, check_mode=check_mode))
    assert refused["error_code"] == "vm_name_taken" and OTHER in refused["msg"] and "kvm2" in refused["msg"]
    assert ready.record()["host"] == "kvm1"


@pytest.mark.parametrize("check_mode", [True, False])
def test_a_new_name_that_another_vm_of_the_host_has_is_refused(ready, check_mode):
    ready.vms(NEW)
    assert one(ready.vms({"uuid": OTHER, "name": "web1"}, check_mode=check_mode))["error_code"] == "vm_name_taken"
    assert ready.record(OTHER)["name"] == "web2"


@pytest.mark.parametrize("check_mode", [True, False])
def test_two_items_of_one_task_are_not_given_one_name(ready, check_mode):
    both = ready.vms(NEW, {**NEW, "uuid": THIRD}, check_mode=check_mode)
    assert outcomes(both) == ["created", "vm_name_taken"] and OTHER in both.results[1]["msg"]


def test_a_name_that_an_earlier_item_gives_up_is_free(ready):
    predicted = ready.vms({"uuid": VM, "state": "absent"}, {**NEW, "name": "web1"}, check_mode=True)
    done = ready.vms({"uuid": VM, "state": "absent"}, {**NEW, "name": "web1"})
    assert outcomes(predicted) == outcomes(done) == ["removed", "created"]
    renamed = ready.vms({"uuid": OTHER, "name": "web9"}, {"uuid": THIRD, "name": "web1", "host": "kvm1"})
    assert outcomes(renamed) == ["updated", "created"]


def test_a_name_that_came_since_the_look_is_refused_not_a_traceback(ready, elsewhere):
    made = one(ready.vms(NEW, meanwhile=lambda: elsewhere.vms({**NEW, "uuid": THIRD})))
    assert made["error_code"] == "vm_name_taken" and THIRD in made["msg"]
    assert ready.record(OTHER) is None

    move = {"uuid": VM, "host": "kvm2", "expect": {"host": "kvm1"}}
    moved = one(ready.vms(move, meanwhile=lambda: elsewhere.vms({"uuid": OTHER, "name": "web1", "host": "kvm2"})))
    assert moved["error_code"] == "vm_name_taken" and OTHER in moved["msg"]
    assert ready.record()["host"] == "kvm1" and ready.record()["generation"] == 1


def test_the_others_of_the_task_are_written_all_the_same(ready, elsewhere):
    outcome = ready.vms(
        NEW,
        {"uuid": VM, "vm_state": "stopped"},
        meanwhile=lambda: elsewhere.record(THIRD) or elsewhere.vms({**NEW, "uuid": THIRD}),
    )
    assert outcomes(outcome) == ["vm_name_taken", "updated"]
    assert ready.record()["vm_state"] == "stopped"


def test_of_many_that_take_one_name_at_once_one_gets_it(ready, at_once):
    def make(number):
        own = Controller(ready.url, ready.state_directory)
        result = one(own.vms({"uuid": "00000000-0000-4000-8000-%012d" % number, "name": "new", "host": "kvm1"}))
        return result.get("error_code", result["outcome"])

    assert sorted(at_once(make, list(range(6)))) == ["created"] + ["vm_name_taken"] * 5
    assert len(ready.info(reading.read_vm_records, ["new"], None, None)["records"]) == 1


# What is written is compared where it is written


CHANGES = {
    "state": {"vm_state": "stopped"},
    "name": {"name": "web9"},
    "vtpm": {"vtpm": {"state_exists": True}},
    "no vtpm": {"vtpm": {"state": "absent"}},
    "nvram": {"nvram": {"path": "/nvram/web1.fd"}},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("expect", [None, {"host": "kvm1"}, {"host": "kvm1", "generation": 1}], ids=["none", "host", "both"])
def test_s2_a_change_between_look_and_write_is_found(ready, elsewhere, change, expect):
    """Another controller moves the VM after this one planned, whatever it is that this one changes."""
    before = ready.record()
    move = {"uuid": VM, "host": "kvm2", "expect": {"host": "kvm1"}}
    refused = one(ready.vms({"uuid": VM, "expect": expect, **change}, meanwhile=lambda: elsewhere.vms(move)))
    assert refused["error_code"] == "vm_record_conflict" and refused["found_host"] == "kvm2"
    assert ready.record() == {**before, "host": "kvm2", "generation": 2}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_s2_a_record_that_went_away_is_found(ready, elsewhere, change):
    refused = one(ready.vms({"uuid": VM, **change}, meanwhile=lambda: elsewhere.vms({"uuid": VM, "state": "absent"})))
    assert refused["error_code"] == "vm_record_conflict" and "no record" in refused["msg"]
    assert ready.record() is None


def test_a_change_of_vtpm_or_nvram_is_dated(ready):
    with_dates = ready.dates()
    ready.vms({"uuid": VM, "vtpm": {"state_exists": True}})
    assert ready.dates() > with_dates


def test_two_that_change_parts_of_one_vtpm_lose_neither(ready, elsewhere):
    first = {"uuid": VM, "vtpm": {"model": "tpm-tis"}}
    outcome = one(ready.vms(first, meanwhile=lambda: elsewhere.vms({"uuid": VM, "vtpm": {"state_exists": True}})))
    vtpm = ready.record()["vtpm"]
    assert (vtpm["model"], vtpm["state_exists"]) == ("tpm-tis", True)
    assert outcome["vtpm"] == vtpm


# Keys that were made since the look


def test_a_key_that_came_since_the_look_keeps_the_binding(ready, elsewhere):
    refused = one(ready.vms({"uuid": VM, "key_provider": ""}, meanwhile=lambda: elsewhere.keys({"vm": VM})))
    assert refused["error_code"] == "vm_has_resource_keys" and "native" in refused["msg"]
    assert ready.record()["key_provider"] == "native"


def test_m5_a_key_that_came_since_the_look_forbids_an_unencrypted_vtpm(ready, elsewhere):
    ready.vms({**NEW, "vtpm": {}})
    plain = {"uuid": OTHER, "vtpm": {"encrypted": False}}
    for meanwhile in (
        lambda: elsewhere.vms({"uuid": OTHER, "key_provider": "native"}),
        lambda: elsewhere.vms({"uuid": OTHER, "key_provider": "native"}) and elsewhere.keys({"vm": OTHER}),
    ):
        assert one(ready.vms(plain, meanwhile=meanwhile))["error_code"] == "unencrypted_vtpm_refused"
        assert ready.record(OTHER)["vtpm"]["encrypted"] is True
        ready.keys({"vm": OTHER, "state": "absent"})
        ready.vms({"uuid": OTHER, "key_provider": ""})
    assert one(predicted_and_done(ready.vms, plain))["outcome"] == "updated"


def test_m5_a_key_that_came_before_its_record_forbids_an_unencrypted_vtpm(ready, elsewhere):
    plain = {**NEW, "vtpm": {"encrypted": False}}
    refused = one(ready.vms(plain, meanwhile=lambda: elsewhere.keys({"vm": OTHER, "provider": "native"})))
    assert refused["error_code"] == "unencrypted_vtpm_refused"
    assert ready.record(OTHER) is None


def test_a_record_with_a_key_that_came_since_the_look_stays(ready, elsewhere):
    refused = one(ready.vms({"uuid": VM, "state": "absent"}, meanwhile=lambda: elsewhere.keys({"vm": VM})))
    assert refused["error_code"] == "vm_has_resource_keys"
    assert ready.record()["key_versions"] == [1]


def test_binding_and_making_a_key_at_once_never_leaves_a_key_without_its_binding(ready, at_once):
    """Each may win; both must not."""

    def work(what):
        own = Controller(ready.url, ready.state_directory)
        if what == "unbind":
            result = one(own.vms({"uuid": VM, "key_provider": ""}))
        else:
            result = one(own.keys({"vm": VM}))
        return result.get("error_code", result["outcome"])

    for _round in range(5):
        at_once(work, ["unbind", "key", "unbind", "key"])
        record = ready.record()
        assert not record["key_versions"] or record["key_provider"] == "native"
        ready.keys({"vm": VM, "state": "absent"})
        ready.vms({"uuid": VM, "key_provider": "native"})
