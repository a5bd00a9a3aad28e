# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.trustedvm.libvirt.plugins.module_utils._core import deps
from ansible_collections.trustedvm.libvirt.plugins.modules import vm_migrate
from ansible_collections.trustedvm.libvirt.tests.unit.plugins.module_utils._migration.fakes import (
    DESTINATION_URI,
    OTHER_UUID,
    FakeDomain,
    Pair,
    domain_xml,
)


@pytest.fixture
def pair(tmp_path, monkeypatch):
    """Two hosts behind libvirt.open."""
    made = Pair(str(tmp_path))
    made.hosts["qemu:///system"] = made.source
    monkeypatch.setattr(deps.libvirt, "open", made.connect)
    return made


@pytest.fixture
def run(capfd):
    """Run main() and give back what it prints for Ansible."""

    def run_module(check=False, diff=False, **arguments):
        given = {"_ansible_check_mode": check, "_ansible_diff": diff, **arguments}
        with patch_module_args(given), pytest.raises(SystemExit):
            vm_migrate.main()
        return json.loads(capfd.readouterr().out)

    return run_module


def add_second(pair):
    pair.source.add(FakeDomain(pair.source, domain_xml(pair.source.root, "web2", OTHER_UUID, secret=None)))


def test_one_item(pair, run):
    answer = run(vm="web1", destination_uri=DESTINATION_URI)
    assert answer["changed"] is True
    assert answer["results"][0]["outcome"] == "migrated"
    assert "diff" not in answer


def test_auto_is_for_each_vm_what_fits_it(pair, run):
    add_second(pair)
    pair.source.domains[1].now = (5, 1)
    answer = run(destination_uri=DESTINATION_URI, mode="auto", migrations=[{"vm": "web1"}, {"vm": "web2"}])
    assert [result["mode"] for result in answer["results"]] == ["live", "cold"]
    assert [result["outcome"] for result in answer["results"]] == ["migrated", "migrated"]
    assert pair.source.domains == [] and len(pair.destination.domains) == 2


def test_check_mode_moves_nothing(pair, run):
    answer = run(check=True, diff=True, vm="web1", destination_uri=DESTINATION_URI)
    assert answer["changed"] is True and not pair.vm.calls
    assert answer["diff"][0]["after"]["host"] == "hv2"


def test_second_run(pair, run):
    run(vm="web1", destination_uri=DESTINATION_URI)
    answer = run(vm="web1", destination_uri=DESTINATION_URI)
    assert answer["changed"] is False
    assert answer["results"][0]["outcome"] == "already_there"


def test_a_list_goes_on_past_a_failure(pair, run):
    add_second(pair)
    answer = run(destination_uri=DESTINATION_URI, migrations=[{"vm": "nobody"}, {"vm": "web1"}, {"vm": "web2"}])
    assert answer["failed"] is True and answer["error_code"] == "vm_not_found"
    assert [result["outcome"] for result in answer["results"]] == ["failed", "migrated", "migrated"]
    assert answer["changed"] is True
    assert "1 of 3" in answer["msg"]


@pytest.mark.parametrize("check", [True, False])
def test_all_obstacles_of_all_vms_are_told_at_once(pair, run, check):
    add_second(pair)
    lan = "<interface type='network'><source network='lan'/></interface></devices>"
    for vm in pair.source.domains:
        vm.xml = vm.xml.replace("</devices>", lan)
    pair.destination.loaders = []
    items = [{"vm": "web1"}, {"vm": "nobody"}, {"vm": "web2"}]
    answer = run(check=check, destination_uri=DESTINATION_URI, migrations=items)
    assert answer["failed"] is True and answer["changed"] is False and "3 of 3" in answer["msg"]
    for result in answer["results"][::2]:
        assert (result["outcome"], result["error_code"]) == ("failed", "destination_firmware_missing")
        codes = [one["error_code"] for one in result["obstacles"]]
        assert codes == ["destination_firmware_missing", "destination_network_missing"]
        assert all(result["vm"] in one["msg"] and "hv2" in one["msg"] for one in result["obstacles"])
        assert all(one["found"] and one["wanted"] and one["hint"] for one in result["obstacles"])
    assert answer["results"][1]["error_code"] == "vm_not_found"
    assert not any(vm.calls for vm in pair.source.domains)


def test_an_items_own_option_wins(pair, run):
    add_second(pair)
    run(destination_uri=DESTINATION_URI, bandwidth=7, migrations=[{"vm": "web1", "bandwidth": 9}, {"vm": "web2"}])
    moved = [domain for domain in (pair.vm,) if domain.calls]
    assert moved[0].calls[0][1] == {"bandwidth": 9}


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"destination_host": "hv2"}, "vm, migrations"),
        ({"vm": "web1", "migrations": [{"vm": "web2"}]}, "mutually exclusive"),
        ({"migrations": [{"destination_host": "hv2"}]}, "vm found in migrations"),
    ],
)
def test_bad_arguments(pair, run, arguments, words):
    answer = run(**arguments)
    assert answer["failed"] is True and words in answer["msg"]


def test_no_destination(pair, run):
    answer = run(vm="web1")
    assert answer["error_code"] == "invalid_destination"


def test_the_same_vm_twice(pair, run):
    answer = run(destination_uri=DESTINATION_URI, migrations=[{"vm": "web1"}, {"vm": "web1"}])
    assert answer["error_code"] == "duplicate_item" and not pair.vm.calls


def test_connections_are_closed(pair, run):
    run(vm="web1", destination_uri=DESTINATION_URI)
    assert pair.source.closed and pair.destination.closed
