# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules vtpm and vtpm_info, from arguments to JSON, against a real libvirt."""
from __future__ import annotations

import base64
import json
import os

import pytest

pytest.importorskip("libvirt")

from ansible_collections.trustedvm.libvirt.plugins.modules import vtpm, vtpm_info

SECRET = "6f0c8a3e-2b1d-5c55-9d0f-0a1b2c3d4e5f"
VMS = {"web1": "0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11", "web2": "0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b12"}

DOMAIN = """<domain type='qemu'><name>%s</name><uuid>%s</uuid><memory>16384</memory>
<os><type arch='x86_64' machine='q35'>hvm</type></os></domain>"""


@pytest.fixture
def host(libvirt_daemon):
    for vm in VMS.items():
        libvirt_daemon.defineXML(DOMAIN % vm)
    return libvirt_daemon


@pytest.fixture
def run(host, run_module):
    def run(**arguments):
        return run_module(vtpm.main, uri=host.uri, **arguments)

    return run


@pytest.fixture
def info(host, run_module):
    def run(**arguments):
        return run_module(vtpm_info.main, uri=host.uri, **arguments)

    return run


def test_many_vms_check_then_run_then_again(run, info):
    wanted = {"secret_uuid": SECRET, "vms": [{"vm": "web1"}, {"vm": VMS["web2"], "model": "tpm-tis"}]}
    predicted = run(check=True, diff=True, **wanted)
    assert [entry["device"] for entry in info()["vms"]] == [None, None]
    assert run(diff=True, **wanted) == predicted
    assert [entry["outcome"] for entry in predicted["results"]] == ["created", "created"]
    assert [entry["device"]["model"] for entry in info()["vms"]] == ["tpm-crb", "tpm-tis"]
    again = run(diff=True, **wanted)
    assert not again["changed"]
    assert all(entry["before"] == entry["after"] for entry in again["diff"])


def test_all_items_are_tried_then_it_fails(run, info):
    answer = run(vms=[{"vm": "nowhere", "secret_uuid": SECRET}, {"vm": "web1", "secret_uuid": SECRET}, {"vm": "web2"}])
    assert (answer["failed"], answer["changed"], answer["error_code"]) == (True, True, "vm_not_found")
    assert [entry.get("error_code") for entry in answer["results"]] == ["vm_not_found", None, "secret_uuid_missing"]
    assert "vm web2" in answer["results"][2]["msg"] and "on host" in answer["results"][2]["msg"]
    assert info(vm="web1")["vms"][0]["device"]["secret_uuid"] == SECRET


def test_key_is_proven_and_shows_nowhere(run, info, host, real_states):
    real_states.put(host.path("qemu", "swtpm"), VMS["web1"], real_states.encrypted)
    value = base64.b64encode(real_states.passphrase).decode()
    answer = run(vm="web1", secret_uuid=SECRET, value=value, diff=True)
    assert answer["results"][0]["tpm_state"] == "opened"
    found = info(vm="web1", value=value)
    assert found["vms"][0]["key_opens"] is True
    assert info(vm="web1", value="d3Jvbmc=")["vms"][0]["key_opens"] is False
    assert info(vms=[{"vm": "web1", "value": value}, {"vm": "web2"}])["vms"][0]["key_opens"] is True
    assert real_states.passphrase.decode() not in json.dumps([answer, found])
    assert value not in json.dumps([answer, found])


def test_whole_life(run, info, host, real_states):
    directory = host.path("qemu", "swtpm")
    run(vm="web1", secret_uuid=SECRET)
    real_states.put(directory, VMS["web1"], real_states.encrypted)
    assert run(vm="web1", state="absent")["error_code"] == "tpm_state_would_be_lost"
    assert run(vm="web1", state="reset")["error_code"] == "data_loss_not_accepted"
    reset = {"vm": "web1", "state": "reset", "accept_data_loss": True, "reset_id": "a"}
    predicted = run(check=True, diff=True, **reset)
    assert run(diff=True, **reset) == predicted
    assert info(vm="web1")["vms"][0]["tpm_state"]["reset_pending"] is True
    assert not run(**reset)["changed"]
    removal = {"vm": "web1", "state": "absent", "remove_state": True}
    predicted = run(check=True, diff=True, **removal)
    assert run(diff=True, **removal) == predicted
    assert os.listdir(directory) == []
    assert not run(**removal)["changed"]


def test_info_of_an_unknown_vm_fails_and_tells_of_the_others(info):
    answer = info(vms=[{"vm": "nowhere"}, {"vm": "web1"}])
    assert (answer["failed"], answer["error_code"]) == (True, "vm_not_found")
    assert answer["vms"][1]["vm"] == "web1"


@pytest.mark.parametrize("arguments", [{"vm": "web1", "vms": [{"vm": "web1"}]}, {"value": "YQ=="}, {"vms": [{}]}])
def test_info_arguments_that_ansible_itself_refuses(info, arguments):
    assert info(**arguments)["failed"]


@pytest.mark.parametrize("arguments", [{}, {"vm": "web1", "vms": [{"vm": "web1"}]}, {"vm": "web1", "state": "copied"}])
def test_arguments_that_ansible_itself_refuses(run, arguments):
    assert run(**arguments)["failed"]
