# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab's parts that need no root: which mounts, which network, which inventory."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lab"))

from trustedvm_lab import cli, hostfiles, inventory, overlays, records, settings
from trustedvm_lab.errors import LabError


def record_in(directory, name="a", index=1):
    return records.HostRecord(name, index, f"10.99.0.{index}", "bookworm", "00000000-0000-4000-8000-00000000000a", str(directory / name))


def test_default_lab():
    found = settings.settings_from({})
    assert (str(found.state), found.bridge, str(found.network)) == ("/var/cache/trustedvm/lab", "tvlab0", "10.99.0.0/24")
    assert (found.gateway, found.address(1), found.capacity) == ("10.99.0.254", "10.99.0.1", 253)


def test_another_directory_is_another_lab():
    one, two = (settings.settings_from({"TRUSTEDVM_LAB_DIR": path}) for path in ("/tmp/one", "/tmp/two/"))
    assert len({one.bridge, two.bridge, "tvlab0"}) == 3
    assert not one.network.overlaps(two.network)
    assert one.mac(1) != two.mac(1)
    assert len(one.port(253)) <= 15


@pytest.mark.parametrize("environment", [
    {"TRUSTEDVM_LAB_DIR": "relative"}, {"TRUSTEDVM_LAB_DIR": "/tmp/" + "x" * 80}, {"TRUSTEDVM_LAB_NETWORK": "10.0.0.0/8"},
    {"TRUSTEDVM_LAB_NETWORK": "10.0.0.1/24"}, {"TRUSTEDVM_LAB_NETWORK": "here"}, {"TRUSTEDVM_CACHE": "relative"},
])
def test_bad_settings(environment):
    with pytest.raises(LabError, match="TRUSTEDVM|characters"):
        settings.settings_from(environment)


@pytest.mark.parametrize("name", ["", "A", "1a", "a_b", "a.b", "../a", "a" * 32, "a\n"])
def test_bad_names(name):
    with pytest.raises(LabError, match="no host name"):
        records.check_name(name)


def test_overlays_avoid_the_directory_that_holds_the_layers(tmp_path):
    """overlayfs refuses an upper directory inside its lower one."""
    machine = tmp_path / "machine"
    layers = machine / "var/cache/trustedvm/lab/hosts/a/layers"
    for name in ("etc", "usr/bin", "proc", "home", "var/lib", "var/cache/apt", str(layers.relative_to(machine))):
        (machine / name).mkdir(parents=True)
    (machine / "bin").symlink_to("usr/bin")
    (machine / "var/run").symlink_to("/run")
    root = tmp_path / "root"
    root.mkdir()
    plan = overlays.machine_overlays(layers, root, machine)
    assert [str(overlay.target.relative_to(root)) for overlay in plan] == ["etc", "usr", "var/cache/apt", "var/lib"]
    assert not [overlay for overlay in plan if layers.is_relative_to(overlay.lower)]
    assert os.readlink(root / "bin") == "usr/bin" and os.readlink(root / "var/run") == "/run"
    assert not (root / "var/cache/trustedvm").exists()
    assert overlays.machine_overlays(layers, root, machine) == plan


def test_inventory_is_what_ansible_takes(tmp_path):
    found = settings.settings_from({"TRUSTEDVM_LAB_DIR": str(Path("/tmp/one"))})
    group = yaml.safe_load(inventory.inventory_yaml(found, {"a": record_in(tmp_path)}))["all"]["children"]["hypervisors"]
    assert group["hosts"] == {"a": {"ansible_host": "10.99.0.1", "trustedvm_lab_release": "bookworm"}}
    assert group["vars"]["ansible_ssh_pipelining"] is True
    assert "StrictHostKeyChecking=yes" in group["vars"]["ansible_ssh_common_args"]
    # Ansible fills the path with its own %-formatting.
    assert group["vars"]["ansible_control_path"] % {} == "/tmp/one/cm/%h-%r"


def test_init_is_known_by_more_than_its_pid(tmp_path):
    record = record_in(tmp_path)
    record.path.mkdir()
    assert records.init_pid(record) is None
    records.remember_init(record, os.getpid())
    assert records.init_pid(record) == os.getpid()
    run = record.path / "run.json"
    run.write_text(run.read_text(encoding="utf-8").replace('"start_time": "', '"start_time": "9'), encoding="utf-8")
    assert records.init_pid(record) is None


def test_damaged_record_says_what_to_do(tmp_path):
    (tmp_path / "host.json").write_text("{", encoding="utf-8")
    with pytest.raises(LabError, match="lab down"):
        records.load_record(tmp_path)


def test_root_may_log_in_without_pam(tmp_path):
    shadow = tmp_path / "shadow"
    shadow.write_text("root:!:20000:0:99999:7:::\nbin:*:20000::::::\n", encoding="utf-8")
    hostfiles._allow_root(shadow)
    assert shadow.read_text(encoding="utf-8") == "root:*:20000:0:99999:7:::\nbin:*:20000::::::\n"


def test_free_index_fills_gaps():
    found = settings.settings_from({"TRUSTEDVM_LAB_NETWORK": "10.1.2.0/29"})
    assert records.free_index(found, {1, 3}) == 2
    with pytest.raises(LabError, match="no address left"):
        records.free_index(found, set(range(1, 6)))


@pytest.mark.parametrize("line", [["up"], ["up", "a", "--release", "potato"], ["exec"], ["kill"], []])
def test_bad_command_lines(line):
    with pytest.raises(SystemExit):
        cli.parser().parse_args(line)
