# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules nvram_volume and nvram_volume_info, from arguments to JSON, against a real libvirt."""
from __future__ import annotations

import os

import pytest

pytest.importorskip("libvirt")

from ansible_collections.trustedvm.libvirt.plugins.modules import nvram_volume, nvram_volume_info

UUID = "0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11"
OTHER = "1d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11"
STORE = bytes(40) + b"_FVH" + bytes(1000)


@pytest.fixture
def template(tmp_path):
    path = tmp_path / "VARS.fd"
    path.write_bytes(STORE)
    return str(path)


@pytest.fixture
def volume(libvirt_daemon, run_module, template):
    def run(**arguments):
        return run_module(nvram_volume.main, uri=libvirt_daemon.uri, **{"template": template, **arguments})

    return run


@pytest.fixture
def volume_info(libvirt_daemon, run_module):
    def run(**arguments):
        return run_module(nvram_volume_info.main, uri=libvirt_daemon.uri, **arguments)

    return run


def test_check_then_run_then_again(volume, tmp_path):
    wanted = {"vm": UUID, "root_disk": str(tmp_path / "web1.qcow2")}
    predicted = volume(check=True, diff=True, **wanted)
    assert not (tmp_path / "nvram").exists()
    assert volume(diff=True, **wanted) == predicted
    (result,) = predicted["results"]
    assert (result["outcome"], result["size"], result["path"]) == ("created", len(STORE), str(tmp_path / "nvram" / UUID / (UUID + ".fd")))
    assert predicted["diff"][0]["before"] == {} and predicted["diff"][0]["after"]["ready"]
    again = volume(diff=True, **wanted)
    assert not again["changed"] and again["diff"][0]["before"] == again["diff"][0]["after"]


def test_list_with_a_failure(volume, tmp_path):
    (tmp_path / "bad.fd").write_bytes(b"somebody's work")
    (tmp_path / "nv").mkdir()
    answer = volume(directory=str(tmp_path / "nv"), volumes=[{"vm": UUID}, {"path": str(tmp_path / "bad.fd")}, {"vm": OTHER}])
    assert answer["failed"] and answer["changed"] and answer["error_code"] == "nvram_wrong_size"
    assert [result["outcome"] for result in answer["results"]] == ["created", "failed", "created"]
    assert str(tmp_path / "bad.fd") in answer["msg"], "N9: messages name the volume that they are about"
    assert (tmp_path / "bad.fd").read_bytes() == b"somebody's work"


def test_absent_and_reset_from_arguments(volume, volume_info, tmp_path):
    path = str(tmp_path / "own.fd")
    volume(path=path)
    with open(path, "r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"x")
    assert volume(path=path, state="reset")["error_code"] == "nvram_would_be_lost"
    assert volume(path=path, state="reset", accept_data_loss=True)["results"][0]["outcome"] == "reset"
    (found,) = volume_info(path=path)["volumes"]
    assert found["exists"] and found["vm"] is None and len(found["copies"]) == 1
    assert volume(path=path, state="absent", accept_data_loss=True)["results"][0]["outcome"] == "removed"
    assert volume_info(path=path)["volumes"][0]["exists"] is False


def test_n7_a_directory_that_is_not_there_is_refused_it_may_be_a_mount_point(volume, tmp_path):
    answer = volume(vm=UUID, directory=str(tmp_path / "nv"))
    assert answer["error_code"] == "nvram_storage_unsuitable" and str(tmp_path / "nv") in answer["msg"]
    assert not (tmp_path / "nv").exists()


def test_strays_of_a_directory(volume, volume_info, tmp_path):
    (tmp_path / "nv").mkdir()
    volume(directory=str(tmp_path / "nv"), volumes=[{"vm": UUID}, {"vm": OTHER}])
    answer = volume_info(directory=str(tmp_path / "nv"))
    assert len(answer["volumes"]) == 2 and answer["strays"] == [found["path"] for found in answer["volumes"]]


@pytest.mark.parametrize(
    "arguments", [{}, {"vm": UUID, "volumes": [{"vm": OTHER}]}, {"vm": UUID, "state": "perhaps"}, {"vm": UUID, "unknown": 1}]
)
def test_arguments_that_ansible_itself_refuses(volume, arguments):
    assert volume(**arguments)["failed"]


def test_unknown_vm(volume, volume_info):
    assert volume(vm="nobody")["error_code"] == "vm_not_found"
    assert volume_info(vm="nobody")["error_code"] == "vm_not_found"
