# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules libvirt_secret and libvirt_secret_info, from arguments to JSON, against a real libvirt."""
from __future__ import annotations

import base64
import json

import pytest

pytest.importorskip("libvirt")

from ansible_collections.trustedvm.libvirt.plugins.modules import libvirt_secret, libvirt_secret_info

UUID = "6f0c8a3e-2b1d-5c55-9d0f-0a1b2c3d4e5f"
OTHER = "7f0c8a3e-2b1d-5c55-9d0f-0a1b2c3d4e5f"
VALUE = base64.b64encode(b"SuperSecretPassphrase").decode()


@pytest.fixture
def secret(libvirt_daemon, run_module):
    def run(**arguments):
        return run_module(libvirt_secret.main, uri=libvirt_daemon.uri, **arguments)

    return run


@pytest.fixture
def secret_info(libvirt_daemon, run_module):
    def run(**arguments):
        return run_module(libvirt_secret_info.main, uri=libvirt_daemon.uri, **arguments)

    return run


def test_one_secret_check_then_run_then_again(secret, libvirt_daemon):
    wanted = {"uuid": UUID, "usage": "a", "value": VALUE}
    predicted = secret(check=True, diff=True, **wanted)
    assert libvirt_daemon.listAllSecrets() == []
    assert secret(diff=True, **wanted) == predicted
    assert predicted["changed"] and predicted["results"][0]["outcome"] == "created"
    assert predicted["diff"][0]["before"] == {}
    assert predicted["diff"][0]["after"]["value"] == "set"
    again = secret(diff=True, **wanted)
    assert not again["changed"]
    assert again["diff"][0]["before"] == again["diff"][0]["after"]
    assert "SuperSecret" not in json.dumps([predicted, again])


def test_list_takes_what_it_does_not_say_from_the_top(secret, secret_info):
    answer = secret(ephemeral=True, description="of the list", secrets=[{"usage": "a", "value": VALUE}, {"usage": "b", "ephemeral": False}])
    assert [entry["ephemeral"] for entry in answer["results"]] == [True, False]
    assert {entry["description"] for entry in secret_info()["secrets"]} == {"of the list"}


def test_all_items_are_tried_then_it_fails(secret, secret_info):
    secret(uuid=OTHER, usage="taken")
    items = [{"uuid": UUID, "usage": "taken"}, {"usage": "fine"}, {"usage": "bad", "value": "no base64"}]
    answer = secret(secrets=items)
    assert answer["failed"] and answer["changed"]
    assert answer["error_code"] == "secret_usage_taken"
    assert [entry.get("error_code") for entry in answer["results"]] == ["secret_usage_taken", None, "value_not_base64"]
    assert answer["msg"].startswith("2 of 3 items failed")
    assert sorted(entry["usage"] for entry in secret_info()["secrets"]) == ["fine", "taken"]


@pytest.mark.parametrize(
    "arguments",
    [{}, {"uuid": UUID, "secrets": [{"usage": "a"}]}, {"usage": "a", "state": "perhaps"}, {"usage": "a", "usage_type": "gpg"}],
)
def test_arguments_that_ansible_itself_refuses(secret, arguments):
    assert secret(**arguments)["failed"]


def test_unreachable_libvirt(run_module, tmp_path):
    answer = run_module(libvirt_secret.main, uri="qemu+unix:///system?socket=%s/none" % tmp_path, usage="a")
    assert (answer["failed"], answer["error_code"], answer["results"]) == (True, "libvirt_unreachable", [])


def test_absent(secret, secret_info):
    secret(uuid=UUID, usage="a")
    answer = secret(uuid=UUID, state="absent", diff=True)
    assert answer["results"][0]["outcome"] == "removed"
    assert answer["diff"][0]["after"] == {}
    assert secret_info()["secrets"] == []
    assert not secret(uuid=UUID, state="absent")["changed"]


@pytest.mark.parametrize(
    "filters, found",
    [
        ({}, ["a", "b", "c"]),
        ({"usage_type": "tls"}, ["b"]),
        ({"usage": "a"}, ["a"]),
        ({"uuid": UUID}, ["a"]),
        ({"uuid": UUID.upper()}, ["a"]),
        ({"usage": "a", "usage_type": "tls"}, []),
        ({"uuid": OTHER}, []),
    ],
)
def test_info_filters(secret, secret_info, filters, found):
    secret(
        secrets=[
            {"uuid": UUID, "usage": "a", "value": VALUE},
            {"usage": "b", "usage_type": "tls", "private": False},
            {"usage": "c", "ephemeral": True, "value": VALUE},
        ]
    )
    assert sorted(entry["usage"] for entry in secret_info(**filters)["secrets"]) == found


def test_info_tells_whether_there_is_a_value_but_never_which(secret, secret_info, libvirt_daemon):
    secret(
        value=VALUE,
        secrets=[
            {"usage": "private"},
            {"usage": "readable", "private": False},
            {"usage": "ephemeral", "ephemeral": True},
        ],
    )
    secret(secrets=[{"usage": "private without"}, {"usage": "readable without", "private": False}])
    answer = secret_info()
    known = {entry["usage"]: entry["has_value"] for entry in answer["secrets"]}
    assert known == {"private": True, "readable": True, "ephemeral": None, "private without": False, "readable without": False}
    assert VALUE not in json.dumps(answer) and "SuperSecret" not in json.dumps(answer)


def test_info_names_the_domains(secret, secret_info, libvirt_daemon):
    secret(uuid=UUID, usage="a")
    libvirt_daemon.defineXML(
        "<domain type='qemu'><name>web1</name><memory>16384</memory><os><type arch='x86_64' machine='q35'>hvm</type></os><devices>"
        "<tpm model='tpm-crb'><backend type='emulator' version='2.0'><encryption secret='%s'/></backend></tpm></devices></domain>" % UUID
    )
    assert secret_info()["secrets"][0]["used_by"] == ["web1"]
