# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From options to changes: VM records, resource keys and key providers, on both databases."""

from __future__ import annotations

import os

import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("cryptography")

from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._core.errors import ControllerError
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._core.key_material import KeyMaterial
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._records import reading
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._records.key_request import READING_PURPOSES, KeyRequest
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._registry.engine import open_registry
from ansible_collections.trustedvm.libvirt.tests.unit.plugins.plugin_utils.controllers import (
    OTHER,
    THIRD,
    VM,
    Controller,
    one,
    predicted_and_done,
)

# VM records


def test_make_change_move_remove(ready):
    new = {
        "uuid": OTHER,
        "name": "web2",
        "host": "kvm1",
        "key_provider": "native",
        "vtpm": {"model": "tpm-tis"},
        "nvram": {"path": "/nvram/web2.fd", "size": 540672},
    }
    made = one(predicted_and_done(ready.vms, new))
    assert (made["outcome"], made["generation"], made["vm_state"], made["previous"]) == ("created", 1, "provisioning", None)
    assert made["vtpm"]["usage"] == "trustedvm:vtpm:" + OTHER and made["vtpm"]["encrypted"] and not made["vtpm"]["state_exists"]
    assert made["nvram"] == {"storage": "directory", "path": "/nvram/web2.fd", "size": 540672, "format": "raw"}

    started = one(predicted_and_done(ready.vms, {"name": "web2", "vm_state": "running", "vtpm": {"state_exists": True}}))
    assert (started["outcome"], started["generation"]) == ("updated", 2)
    assert started["vtpm"]["model"] == "tpm-tis" and started["vtpm"]["state_exists"]

    moved = one(predicted_and_done(ready.vms, {"uuid": OTHER, "host": "kvm2", "expect": {"host": "kvm1", "generation": 2}}))
    assert (moved["outcome"], moved["host"], moved["generation"]) == ("moved", "kvm2", 3)
    assert moved["previous"] == {"host": "kvm1", "vm_state": "running", "generation": 2}

    trimmed = one(predicted_and_done(ready.vms, {"uuid": OTHER, "name": "web3", "nvram": {"state": "absent"}}))
    assert (trimmed["name"], trimmed["nvram"], trimmed["generation"]) == ("web3", None, 3)

    removed = one(predicted_and_done(ready.vms, {"uuid": OTHER, "state": "absent"}))
    assert removed["outcome"] == "removed"
    assert ready.record(OTHER) is None


def test_a_new_record_without_uuid_gets_one_and_keeps_it(ready):
    made = one(ready.vms({"name": "web9", "host": "kvm1"}))
    assert made["outcome"] == "created" and len(made["uuid"]) == 36
    again = one(ready.vms({"name": "web9", "host": "kvm1"}))
    assert (again["outcome"], again["uuid"]) == ("unchanged", made["uuid"])


@pytest.mark.parametrize("expect", [{"host": "kvm9"}, {"generation": 7}, {"host": "kvm1", "generation": 7}, {"host": "kvm9", "generation": 1}])
@pytest.mark.parametrize("check_mode", [True, False])
def test_s2_what_is_not_as_expected_is_not_written(ready, expect, check_mode):
    result = one(ready.vms({"uuid": VM, "vm_state": "stopped", "expect": expect}, check_mode=check_mode))
    assert result["error_code"] == "vm_record_conflict" and result["failed"]
    assert (result["found_host"], result["found_generation"]) == ("kvm1", 1)
    assert ready.record()["vm_state"] == "running"


def test_already_as_wanted_is_no_conflict_and_a_move_says_where_from(ready):
    assert one(ready.vms({"uuid": VM, "host": "kvm1", "expect": {"host": "kvm7", "generation": 9}}))["outcome"] == "unchanged"
    blind = one(ready.vms({"uuid": VM, "host": "kvm2"}))
    assert blind["error_code"] == "expect_missing" and "expect: {host: kvm1, generation: 1}" in blind["msg"]
    assert one(ready.vms({"uuid": VM, "host": "kvm2", "expect": {"generation": 1}}))["error_code"] == "expect_missing"


@pytest.mark.parametrize(
    "item,code",
    [
        ({"uuid": "web1", "state": "present"}, "uuid_invalid"),
        ({"uuid": OTHER}, "vm_record_incomplete"),
        ({"uuid": OTHER, "name": "web2"}, "vm_record_incomplete"),
        ({"uuid": OTHER, "name": "web2", "host": "kvm1", "expect": {"host": "kvm1"}}, "vm_record_conflict"),
        ({"uuid": OTHER, "name": "web1", "host": "kvm1"}, "vm_name_taken"),
        ({"uuid": OTHER, "name": "web2", "host": "kvm1", "key_provider": "vault"}, "key_provider_unknown"),
        ({"uuid": OTHER, "name": "web2", "host": "kvm1", "nvram": {"size": 1}}, "vm_record_incomplete"),
        ({"uuid": OTHER, "name": "web2", "host": "kvm1", "vtpm": {"secret_uuid": "nonsense"}}, "uuid_invalid"),
        ({"uuid": VM, "vtpm": {"encrypted": False}}, "unencrypted_vtpm_refused"),
        ({"uuid": OTHER, "name": "web2", "host": "kvm1", "key_provider": "native", "vtpm": {"encrypted": False}}, "unencrypted_vtpm_refused"),
    ],
)
def test_bad_records_are_refused_alike_in_check_mode(ready, item, code):
    for check_mode in (True, False):
        result = one(ready.vms(item, check_mode=check_mode))
        assert result["error_code"] == code, result["msg"]
        assert not result["changed"]
    assert ready.record(OTHER) is None


def test_m5_a_vm_with_keys_is_bound_whatever_its_record_says(controller):
    controller.providers({"name": "native"})
    assert one(controller.keys({"vm": VM, "provider": "native"}))["created"]
    made = one(controller.vms({"uuid": VM, "name": "web1", "host": "kvm1"}))
    assert made["bound"] is True and made["key_provider"] is None
    assert one(controller.vms({"uuid": VM, "vtpm": {"encrypted": False}}))["error_code"] == "unencrypted_vtpm_refused"
    free = one(controller.vms({"uuid": OTHER, "name": "web2", "host": "kvm1", "vtpm": {"encrypted": False}}))
    assert (free["outcome"], free["bound"]) == ("created", False)


def test_a_vm_is_not_unbound_or_forgotten_while_it_has_keys(ready):
    ready.keys({"vm": VM})
    assert one(ready.vms({"uuid": VM, "key_provider": ""}))["error_code"] == "vm_has_resource_keys"
    refused = one(ready.vms({"uuid": VM, "state": "absent"}))
    assert refused["error_code"] == "vm_has_resource_keys"
    removed = one(predicted_and_done(ready.vms, {"uuid": VM, "state": "absent", "remove_keys": True}))
    assert removed["removed_keys"] == [1]
    assert ready.info(reading.read_resource_keys, None, None, None, None) == {"resource_keys": [], "missing": []}


def test_all_items_are_tried_and_the_good_ones_stay(ready):
    outcome = ready.vms(
        {"uuid": OTHER, "name": "web2", "host": "kvm1"},
        {"uuid": VM, "host": "kvm3"},
        {"uuid": THIRD, "name": "web3", "host": "kvm1"},
    )
    result = outcome.as_result()
    assert [entry["outcome"] for entry in result["results"]] == ["created", "failed", "created"]
    assert result["failed"] and result["changed"] and result["error_code"] == "expect_missing"
    assert result["msg"].startswith("1 of 3 items failed; the first: uuid " + VM)
    assert ready.record(OTHER) and ready.record(THIRD)


def test_one_name_on_two_hosts_needs_the_uuid(ready):
    ready.vms({"uuid": OTHER, "name": "web1", "host": "kvm2"})
    assert one(ready.vms({"name": "web1", "vm_state": "stopped"}))["error_code"] == "vm_name_ambiguous"
    assert len(ready.info(reading.read_vm_records, ["web1"], None, None)["records"]) == 2


def test_the_same_item_twice_is_refused(ready):
    with pytest.raises(ControllerError) as caught:
        ready.vms({"name": "web1"}, {"name": "web1"})
    assert caught.value.code == "duplicate_item"


# Resource keys


def test_get_or_create_then_get(ready):
    made = one(predicted_and_done(ready.keys, {"vm": "web1", "operation": "op1"}))
    assert (made["outcome"], made["created"], made["created_by"], made["key_version"]) == ("created", True, "op1", 1)
    again = one(ready.keys({"vm": VM, "operation": "op2"}))
    assert (again["outcome"], again["created"], again["created_by"]) == ("unchanged", False, "op1")
    assert again["fingerprint"] == made["fingerprint"]
    assert again["secret_uuid"] == ready.record()["vtpm"]["secret_uuid"]


@pytest.mark.parametrize("purpose", READING_PURPOSES)
def test_m2_purposes_that_only_read_never_create(ready, purpose):
    result = one(ready.keys({"vm": VM, "purpose": purpose}))
    assert result["error_code"] == "resource_key_missing" and purpose in result["msg"] and "native" in result["msg"]
    assert ready.info(reading.read_resource_keys, [VM], None, None, None) == {"resource_keys": [], "missing": [VM]}


def test_m2_reading_a_key_never_creates_one(ready):
    (error,) = ready.read(KeyRequest("vtpm", VM, "start"))
    assert isinstance(error, ControllerError) and error.code == "resource_key_missing"
    assert ready.record()["key_versions"] == []


def test_m6_a_request_says_all_its_parts(ready):
    from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._records.key_request import parse_request

    whole = {"resource_type": "vtpm", "vm": VM, "purpose": "migrate"}
    assert parse_request({**whole, "key_version": "2"}) == KeyRequest("vtpm", VM, "migrate", 2)
    for part in whole:
        for missing in ({name: value for name, value in whole.items() if name != part}, {**whole, part: ""}, {**whole, part: None}):
            with pytest.raises(ControllerError) as caught:
                parse_request(missing)
            assert caught.value.code == "resource_key_part_missing" and caught.value.details["missing_parts"] == [part]
            assert part in str(caught.value)
    for wrong in (
        {**whole, "purpose": "look"},
        {**whole, "key_version": 0},
        {**whole, "key_version": "new"},
        {**whole, "vms": VM},
        "vtpm",
        {**whole, "resource_type": "disk"},
    ):
        with pytest.raises(ControllerError) as caught:
            parse_request(wrong)
        assert caught.value.code == "resource_key_part_invalid"


def test_each_vm_has_its_own_key_and_reads_it_back(ready):
    ready.vms({"uuid": OTHER, "name": "web2", "host": "kvm1", "key_provider": "native"})
    ready.keys({"vm": VM}, {"vm": OTHER}, {"vm": VM, "key_version": 2, "purpose": "rekey"})
    first, second, newest, unknown = ready.read(
        KeyRequest("vtpm", VM, "migrate", 1),
        KeyRequest("vtpm", "web2", "migrate"),
        KeyRequest("vtpm", VM, "migrate"),
        KeyRequest("vtpm", "web7", "migrate"),
    )
    assert all(isinstance(key, KeyMaterial) and len(key) == 32 for key in (first, second, newest))
    assert len({key.fingerprint() for key in (first, second, newest)}) == 3
    assert unknown.code == "vm_unknown"


def test_c6_a_failed_run_removes_only_what_it_made(ready):
    ready.vms({"uuid": OTHER, "name": "web2", "host": "kvm1", "key_provider": "native"})
    ready.keys({"vm": VM, "operation": "earlier"}, {"vm": OTHER, "operation": "failed"})
    outcome = predicted_and_done(
        ready.keys, {"vm": VM, "state": "absent", "only_created_by": "failed"}, {"vm": OTHER, "state": "absent", "only_created_by": "failed"}
    )
    assert [(entry["outcome"], entry["removed_versions"]) for entry in outcome.results] == [("kept", []), ("removed", [1])]
    assert ready.record()["key_versions"] == [1]


def test_c4_unbinding_a_key_that_never_was_is_a_no_op(ready):
    assert one(ready.keys({"vm": VM, "state": "absent", "purpose": "destroy"}))["outcome"] == "unchanged"
    assert one(ready.keys({"vm": OTHER, "state": "absent", "purpose": "destroy"}))["outcome"] == "unchanged"


def test_absent_without_version_takes_all_versions(ready):
    ready.keys({"vm": VM}, {"vm": VM, "key_version": 2})
    assert one(ready.keys({"vm": VM, "key_version": 1, "state": "absent"}))["removed_versions"] == [1]
    ready.keys({"vm": VM, "key_version": 1})
    assert one(ready.keys({"vm": VM, "state": "absent"}))["removed_versions"] == [1, 2]


def test_two_controllers_that_get_or_create_at_once_get_one_key(ready, at_once):
    def get_or_create(number):
        result = one(Controller(ready.url, ready.state_directory).keys({"vm": VM, "operation": "op%d" % number}))
        return result["created"], result.get("fingerprint"), result["created_by"]

    answers = at_once(get_or_create, list(range(6)))
    assert len({(fingerprint, owner) for _created, fingerprint, owner in answers}) == 1, answers
    assert sorted(created for created, _fingerprint, _owner in answers) == [False] * 5 + [True]
    (key,) = ready.read(KeyRequest("vtpm", VM, "start"))
    assert key.fingerprint() == answers[0][1]


@pytest.mark.parametrize("check_mode", [True, False])
def test_the_provider_is_the_one_that_the_vm_is_bound_to(ready, check_mode):
    ready.providers({"name": "second"})
    ready.vms({"uuid": OTHER, "name": "web2", "host": "kvm1"})
    codes = {
        ("second", VM): "key_provider_mismatch",
        ("native", OTHER): "key_provider_mismatch",
        (None, OTHER): "key_provider_missing",
        (None, THIRD): "key_provider_missing",
        ("third", THIRD): "key_provider_unknown",
        ("native", "web7"): "vm_unknown",
    }
    for (provider, vm), code in codes.items():
        assert one(ready.keys({"vm": vm, "provider": provider}, check_mode=check_mode))["error_code"] == code, (provider, vm)


def test_an_existing_key_is_not_that_of_another_provider(ready):
    ready.providers({"name": "second"})
    ready.keys({"vm": VM})
    assert one(ready.keys({"vm": VM, "provider": "second"}))["error_code"] == "key_provider_mismatch"


def test_check_mode_of_a_whole_play_from_nothing(controller):
    """Nothing is there yet, because the tasks before these only predicted it."""
    assert one(controller.providers({"name": "native"}, check_mode=True))["outcome"] == "created"
    record = {"uuid": VM, "name": "web1", "host": "kvm1", "key_provider": "native", "vtpm": {}}
    assert one(controller.vms(record, check_mode=True))["error_code"] == "key_provider_unknown"
    assert one(controller.vms({**record, "prepared_by_play": True}, check_mode=True))["outcome"] == "created"
    predicted = one(controller.keys({"vm": VM, "provider": "native", "prepared_by_play": True}, check_mode=True))
    assert predicted["outcome"] == "created"
    assert one(controller.keys({"vm": VM, "prepared_by_play": True}, check_mode=True))["outcome"] == "created"
    assert not os.path.exists(controller.state_directory)


def test_a_record_whose_bytes_were_exchanged_does_not_open(ready):
    """Somebody with access to the database puts the wrapped key of one VM into the row of another."""
    import sqlalchemy

    ready.vms({"uuid": OTHER, "name": "web2", "host": "kvm1", "key_provider": "native"})
    ready.keys({"vm": VM}, {"vm": OTHER})
    with open_registry(ready.url, create=True) as registry, registry.write():
        row = "SELECT wrapped FROM resource_keys WHERE resource_uuid = :uuid"
        wrapped = registry._connection.execute(sqlalchemy.text(row), {"uuid": VM}).scalar_one()
        update = "UPDATE resource_keys SET wrapped = :wrapped WHERE resource_uuid = :uuid"
        registry._connection.execute(sqlalchemy.text(update), {"wrapped": wrapped, "uuid": OTHER})
    good, bad = ready.read(KeyRequest("vtpm", VM, "start"), KeyRequest("vtpm", OTHER, "start"))
    assert isinstance(good, KeyMaterial)
    assert bad.code == "wrapped_key_rejected" and OTHER in str(bad)
    verified = ready.info(reading.read_resource_keys, None, None, None, ready.opener)["resource_keys"]
    assert {entry["vm"]: entry["usable"] for entry in verified} == {VM: True, OTHER: False}


def test_nothing_in_the_registry_or_its_results_is_a_plain_key(ready, tmp_path):
    results = [ready.keys({"vm": VM}).as_result(), ready.info(reading.read_resource_keys, None, None, None, ready.opener)]
    (key,) = ready.read(KeyRequest("vtpm", VM, "verify"))
    texts = [repr(results)]
    if ready.url.startswith("sqlite"):
        for name in os.listdir(os.path.dirname(ready.url[len("sqlite:///") :])):
            with open(os.path.join(os.path.dirname(ready.url[len("sqlite:///") :]), name), "rb") as file:
                content = file.read()
            assert key.reveal() not in content
            texts.append(content.decode("latin-1"))
    for spelling in key.spellings():
        assert not any(spelling in text for text in texts)


# Key providers


def test_make_adopt_and_remove_a_provider(controller):
    made = one(predicted_and_done(controller.providers, {"name": "native"}))
    assert (made["outcome"], made["kek_version"], made["sealed"]) == ("created", 1, False)
    kept = one(predicted_and_done(controller.providers, {"name": "native", "state": "absent"}))
    assert kept["outcome"] == "removed" and os.path.exists(made["key_ring"])
    adopted = one(predicted_and_done(controller.providers, {"name": "native"}))
    assert (adopted["outcome"], adopted["kek_id"]) == ("created", made["kek_id"])
    gone = one(predicted_and_done(controller.providers, {"name": "native", "state": "absent", "remove_key_ring": True}))
    assert gone["key_ring_removed"] and not os.path.exists(made["key_ring"])


def test_a_provider_in_use_stays(ready):
    ready.keys({"vm": VM})
    for check_mode in (True, False):
        result = one(ready.providers({"name": "native", "state": "absent", "remove_key_ring": True}, check_mode=check_mode))
        assert result["error_code"] == "key_provider_in_use" and "1 resource keys and 1 VMs" in result["msg"]
    assert ready.info(reading.read_key_providers, None, ready.opener)["providers"][0]["health"] == {"ok": True}


def test_a_lost_ring_is_not_replaced_by_a_new_one(ready):
    ready.keys({"vm": VM})
    ring = one(ready.providers({"name": "native"}))["key_ring"]
    os.rename(ring, ring + ".lost")
    for check_mode in (True, False):
        result = one(ready.providers({"name": "native"}, check_mode=check_mode))
        assert result["error_code"] == "key_ring_missing" and ring in result["msg"]
    assert not os.path.exists(ring)
    (error,) = ready.read(KeyRequest("vtpm", VM, "start"))
    assert error.code == "key_ring_missing"
    (provider,) = ready.info(reading.read_key_providers, None, ready.opener)["providers"]
    assert provider["health"]["ok"] is False and provider["health"]["error_code"] == "key_ring_missing"
    os.rename(ring + ".lost", ring)
    assert one(ready.providers({"name": "native"}))["outcome"] == "unchanged"


@pytest.mark.parametrize(
    "damage,code", [(lambda path: os.truncate(path, 20), "key_ring_damaged"), (lambda path: os.chmod(path, 0o644), "key_ring_insecure")]
)
def test_a_bad_ring_fails_what_needs_it_and_nothing_else(ready, damage, code):
    ready.keys({"vm": VM})
    damage(one(ready.providers({"name": "native"}))["key_ring"])
    assert one(ready.keys({"vm": VM, "key_version": 2}))["error_code"] == code
    assert one(ready.keys({"vm": VM, "key_version": 2}, check_mode=True))["error_code"] == code
    assert one(ready.keys({"vm": VM}))["outcome"] == "unchanged"
    assert ready.record()["key_versions"] == [1]


def test_info_names_what_is_not_there(ready):
    assert ready.info(reading.read_key_providers, ["native", "vault"], ready.opener)["missing"] == ["vault"]
    found = ready.info(reading.read_vm_records, ["web1", VM, "web7", OTHER.upper()], None, None)
    assert len(found["records"]) == 1 and found["missing"] == ["web7", OTHER.upper()]
    assert ready.info(reading.read_vm_records, None, "kvm2", None)["records"] == []
    assert len(ready.info(reading.read_vm_records, None, "kvm1", "running")["records"]) == 1
    assert ready.info(reading.read_resource_keys, ["web7"], None, None, None)["missing"] == ["web7"]
