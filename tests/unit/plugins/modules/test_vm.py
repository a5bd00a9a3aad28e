# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules vm and vm_info, from arguments to JSON, against a real libvirt."""
from __future__ import annotations

import json
import uuid

import pytest

pytest.importorskip("libvirt")

from ansible_collections.trustedvm.libvirt.plugins.modules import vm, vm_info

UUID = "0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11"
OTHER = "1d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11"
BIOS = {"memory": 64, "virt_type": "qemu", "firmware": "bios"}


@pytest.fixture
def run_vm(libvirt_daemon, run_module):
    def run(**arguments):
        return run_module(vm.main, uri=libvirt_daemon.uri, **arguments)

    return run


@pytest.fixture
def run_vm_info(libvirt_daemon, run_module):
    def run(**arguments):
        return run_module(vm_info.main, uri=libvirt_daemon.uri, **arguments)

    return run


def test_check_then_run_then_again(run_vm, libvirt_daemon):
    wanted = {"name": "web1", "uuid": UUID, "networks": [{"network": "default", "mac": "52:54:00:aa:bb:cc"}], **BIOS}
    predicted = run_vm(check=True, diff=True, **wanted)
    assert libvirt_daemon.listAllDomains() == []
    assert run_vm(diff=True, **wanted) == predicted
    assert predicted["changed"] and predicted["results"][0]["outcome"] == "created"
    assert predicted["diff"][0]["before"] == {} and predicted["diff"][0]["after"]["memory_mib"] == 64
    again = run_vm(diff=True, **wanted)
    assert not again["changed"] and again["diff"][0]["before"] == again["diff"][0]["after"]


def test_one_task_for_many(run_vm, run_vm_info):
    vms = [{"name": "vm%d" % number, "uuid": str(uuid.uuid5(uuid.NAMESPACE_DNS, str(number)))} for number in range(5)]
    answer = run_vm(vms=[*vms[:4], {**vms[4], "memory": 96}], **BIOS)
    assert [result["outcome"] for result in answer["results"]] == ["created"] * 5
    assert [found["memory_mib"] for found in run_vm_info()["vms"]] == [64] * 4 + [96]
    assert not run_vm(vms=vms[:4], **BIOS)["changed"]
    removed = run_vm(vms=vms, state="absent")
    assert [result["outcome"] for result in removed["results"]] == ["removed"] * 5
    assert not run_vm(vms=vms, state="absent")["changed"]


def test_all_items_are_tried_then_it_fails(run_vm, run_vm_info):
    items = [{"name": "a", "uuid": "nonsense"}, {"name": "b", "uuid": UUID}, {"name": "c", "uuid": UUID}, {"name": "b", "uuid": OTHER}]
    answer = run_vm(vms=items, **BIOS)
    assert answer["failed"] and answer["changed"] and answer["error_code"] == "vm_options_invalid"
    codes = [result.get("error_code") for result in answer["results"]]
    assert codes == ["vm_options_invalid", None, "vm_uuid_taken", "vm_name_taken"]
    assert "web" not in answer["msg"] and "'nonsense'" in answer["msg"] and "host" in answer["msg"]
    assert [found["name"] for found in run_vm_info()["vms"]] == ["b"]


def test_check_mode_sees_conflicts_between_new_vms(run_vm):
    items = [{"name": "b", "uuid": UUID}, {"name": "b", "uuid": OTHER}, {"name": "c", "uuid": UUID}]
    answer = run_vm(check=True, vms=items, **BIOS)
    assert [result.get("error_code") for result in answer["results"]] == [None, "vm_name_taken", "duplicate_item"]


def test_one_vm_by_name_and_by_uuid_is_a_duplicate(run_vm):
    run_vm(name="b", uuid=UUID, **BIOS)
    answer = run_vm(vms=[{"name": "b"}, {"uuid": UUID}])
    assert [result.get("error_code") for result in answer["results"]] == [None, "duplicate_item"]


def test_unknown_vm(run_vm, run_vm_info):
    answer = run_vm(name="nobody", state="running")
    assert answer["error_code"] == "vm_not_found" and "nobody" in answer["msg"]
    found = run_vm_info(name="nobody")
    assert (found["changed"], found["vms"], found["missing"]) == (False, [], ["nobody"])


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"name": "a", "vms": [{"name": "b"}]},
        {"name": "a", "state": "perhaps"},
        {"name": "a", "memory": "much"},
        {"name": "a", "tpm": {"model": "tpm-9"}},
        {"name": "a", "console": {}},
        {"name": "a", "unknown": 1},
    ],
)
def test_arguments_that_ansible_itself_refuses(run_vm, arguments):
    assert run_vm(**arguments)["failed"]


def test_unreachable_libvirt(run_module, tmp_path):
    for main in (vm.main, vm_info.main):
        answer = run_module(main, uri="qemu+unix:///system?socket=%s/none" % tmp_path, name="a")
        assert answer["failed"] and answer["error_code"] == "libvirt_unreachable"


def test_answers_are_json_and_name_secrets_by_uuid_only(run_vm, libvirt_daemon, tmp_path):
    secret = libvirt_daemon.secretDefineXML("<secret><uuid>%s</uuid></secret>" % OTHER)
    secret.setValue(b"a-passphrase-that-nobody-may-see")
    nvram = {"directory": str(tmp_path)}
    answer = run_vm(name="web1", uuid=UUID, memory=64, virt_type="qemu", tpm={"secret_uuid": OTHER}, nvram=nvram, diff=True)
    assert OTHER in json.dumps(answer) and "passphrase" not in json.dumps(answer)


def test_no_change_of_two_hundred_costs_little_more_than_reading_them(run_vm, libvirt_daemon):
    """One enumeration and one definition read per VM: counted, not timed."""
    import libvirt

    vms = [{"name": "vm%03d" % number, "uuid": str(uuid.uuid5(uuid.NAMESPACE_DNS, str(number)))} for number in range(200)]
    assert run_vm(vms=vms, **BIOS)["changed"]
    calls = []
    originals = {}
    counted = {
        libvirt.virDomain: ("XMLDesc", "state", "isActive", "isPersistent", "autostart"),
        libvirt.virConnect: ("listAllDomains", "lookupByName", "lookupByUUIDString"),
    }
    for cls, names in counted.items():
        for name in names:
            originals[cls, name] = getattr(cls, name)
            setattr(cls, name, _counted(originals[cls, name], name, calls))
    try:
        assert not run_vm(vms=vms, **BIOS)["changed"]
    finally:
        for (cls, name), original in originals.items():
            setattr(cls, name, original)
    assert sorted(set(calls)) == ["XMLDesc", "listAllDomains"]
    assert (calls.count("XMLDesc"), calls.count("listAllDomains")) == (200, 1)


def _counted(function, name, calls):
    def call(*arguments, **keywords):
        calls.append(name)
        return function(*arguments, **keywords)

    return call
