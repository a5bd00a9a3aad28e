# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks on two hypervisors: idempotence, prediction, and what happens when something is missing.

The guests have no disk: the firmware alone uses the TPM and the NVRAM.
"""
from __future__ import annotations

import json
from typing import Any, Callable, Iterator, Optional

import pytest
import yaml

from .fleet import Fleet

EMPTY: dict[str, list[str]] = {"domains": [], "secrets": [], "tpm_states": [], "nvram": []}


def describe(name: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "memory": 128,
        "virt_type": "qemu",
        "networks": [],
        "disks": [],
        "nvram": {"path": "/var/lib/libvirt/qemu/nvram/%s_VARS.fd" % name},
        **more,
    }


def provision(fleet: Fleet, *vms: dict[str, Any], state: str = "running", more: Optional[dict[str, Any]] = None, **options: Any) -> Any:
    variables = {"trustedvm_hosts": "a", "vm_provision_vms": list(vms), "vm_provision_state": state, **(more or {})}
    return fleet.playbook("provision", extra=variables, **options)


def migrate(fleet: Fleet, name: str, destination: str = "b", **options: Any) -> Any:
    return fleet.playbook("migrate", extra={"vm_migrate_vms": [name], "vm_migrate_destination": destination}, **options)


def destroy(fleet: Fleet, name: str, **options: Any) -> Any:
    return fleet.playbook("destroy", extra={"vm_destroy_vms": [name], "vm_destroy_force": True}, **options)


def start(fleet: Fleet, name: str, *arguments: str, **options: Any) -> Any:
    return fleet.playbook("start", *arguments, extra={"vm_start_vms": [name]}, **options)


def stop(fleet: Fleet, name: str, *arguments: str, **options: Any) -> Any:
    return fleet.playbook("stop", *arguments, extra={"vm_stop_vms": [name], "vm_stop_timeout": 1}, **options)


def running_on(fleet: Fleet, name: str) -> list[str]:
    return [host for host in fleet.hosts if name in fleet.virsh(host, "list", "--name").stdout.split()]


def owner(fleet: Fleet, name: str) -> str:
    return str(controller_task(fleet, "vm_record_info", {"vms": [name]})["records"][0]["host"])


def controller_task(fleet: Fleet, module: str, arguments: dict[str, Any], ok: bool = True) -> dict[str, Any]:
    """Run one controller module; its result."""
    playbook = fleet.directory / "task.yml"
    answer = fleet.directory / "answer.json"
    answer.unlink(missing_ok=True)
    tasks = [
        {"trustedvm.libvirt." + module: arguments, "register": "answer", "ignore_errors": not ok},
        {"ansible.builtin.copy": {"dest": str(answer), "content": "{{ answer | to_json }}", "mode": "0600"}},
    ]
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars": {"trustedvm_state_directory": str(fleet.state_directory)},
        "tasks": tasks,
    }
    playbook.write_text(yaml.safe_dump([play]), encoding="utf-8")
    fleet.playbook(str(playbook))
    return dict(json.loads(answer.read_text(encoding="utf-8")))


@pytest.fixture()
def vm(fleet: Fleet, request: pytest.FixtureRequest) -> Iterator[str]:
    """A running VM on a; whatever the test leaves of it is removed, and removal must leave nothing."""
    name = "t" + str(abs(hash(request.node.nodeid)) % 10**6)
    provision(fleet, describe(name))
    assert running_on(fleet, name) == ["a"]
    yield name
    destroy(fleet, name)
    assert {host: fleet.left_on(host) for host in fleet.hosts} == {"a": EMPTY, "b": EMPTY}
    assert not any(fleet.registry_rows().values())


def test_check_mode_predicts_and_the_second_run_changes_nothing(fleet: Fleet) -> None:
    """Each playbook in check mode, for real, and once more."""
    steps: list[tuple[Callable[..., Any], list[str], str]] = [
        (lambda **options: provision(fleet, describe("t1"), **options), ["a"], "running"),
        (lambda **options: migrate(fleet, "t1", **options), ["b"], "running"),
        (lambda **options: stop(fleet, "t1", **options), [], "stopped"),
        (lambda **options: start(fleet, "t1", **options), ["b"], "running"),
    ]
    for run, where, state in steps:
        before = {host: fleet.left_on(host) for host in fleet.hosts}, running_on(fleet, "t1"), fleet.registry_rows()
        predicted = run(check=True)
        assert ({host: fleet.left_on(host) for host in fleet.hosts}, running_on(fleet, "t1"), fleet.registry_rows()) == before
        done = run()
        assert predicted.changes == done.changes and len(done.changes) == done.changed > 0
        assert running_on(fleet, "t1") == where
        assert controller_task(fleet, "vm_record_info", {"vms": ["t1"]})["records"][0]["vm_state"] == state
        assert run().changed == 0
    assert owner(fleet, "t1") == "b" and fleet.left_on("a") == EMPTY
    left = fleet.left_on("b")
    predicted = destroy(fleet, "t1", check=True)
    assert fleet.left_on("b") == left and running_on(fleet, "t1") == ["b"]
    done = destroy(fleet, "t1")
    # Domain with its files, secret, record with its key.
    assert predicted.changes == done.changes and done.changed == 3
    assert destroy(fleet, "t1").changed == 0
    assert fleet.left_on("b") == EMPTY and not any(fleet.registry_rows().values())


def test_a_vm_that_is_off_moves_cold_and_starts_there(fleet: Fleet, vm: str) -> None:
    """With its TPM state and NVRAM, byte by byte; check mode foretells it, and a second run changes nothing."""
    stop(fleet, vm)
    files = fleet.left_on("a")
    before = [fleet.on("a", "sha256sum", files[kind][0]).split()[0] for kind in ("tpm_states", "nvram")]
    predicted = migrate(fleet, vm, check=True)
    assert fleet.left_on("a") == files and fleet.left_on("b") == EMPTY
    done = migrate(fleet, vm)
    assert predicted.changes == done.changes and done.changed > 0
    assert fleet.left_on("a") == EMPTY
    assert [fleet.on("b", "sha256sum", fleet.left_on("b")[kind][0]).split()[0] for kind in ("tpm_states", "nvram")] == before
    assert running_on(fleet, vm) == [] and owner(fleet, vm) == "b"
    assert migrate(fleet, vm).changed == 0
    start(fleet, vm)
    assert running_on(fleet, vm) == ["b"]


class TestStart:
    def test_m7_a_secret_that_vanished_comes_back_from_the_key(self, fleet: Fleet, vm: str) -> None:
        stop(fleet, vm)
        secret = fleet.left_on("a")["secrets"][0]
        fleet.virsh("a", "secret-undefine", secret)
        predicted = start(fleet, vm, check=True)
        assert fleet.left_on("a")["secrets"] == [] and running_on(fleet, vm) == []
        assert predicted.changes == start(fleet, vm).changes
        assert running_on(fleet, vm) == ["a"]
        assert fleet.left_on("a")["secrets"] == [secret]

    def test_m7_a_secret_that_is_on_the_host_needs_no_key(self, fleet: Fleet, vm: str) -> None:
        stop(fleet, vm)
        controller_task(fleet, "resource_key", {"vm": vm, "purpose": "destroy", "state": "absent"})
        start(fleet, vm)
        assert running_on(fleet, vm) == ["a"] and fleet.registry_rows()["resource_keys"] == 0

    def test_c6_a_key_that_a_failed_start_made_goes(self, fleet: Fleet) -> None:
        wanted = describe("t7", console={"path": "/srv/local/gone/console.log"})
        fleet.on("a", "mkdir", "-p", "/srv/local/gone")
        provision(fleet, wanted, state="defined")
        secret = fleet.left_on("a")["secrets"][0]
        fleet.virsh("a", "secret-undefine", secret)
        controller_task(fleet, "resource_key", {"vm": "t7", "purpose": "destroy", "state": "absent"})
        fleet.on("a", "rmdir", "/srv/local/gone")
        assert "vm_start_failed" in start(fleet, "t7", ok=False).output
        assert fleet.left_on("a")["secrets"] == [] and fleet.registry_rows()["resource_keys"] == 0
        fleet.on("a", "mkdir", "/srv/local/gone")
        start(fleet, "t7")
        assert running_on(fleet, "t7") == ["a"] and fleet.registry_rows()["resource_keys"] == 1
        destroy(fleet, "t7")
        assert fleet.left_on("a") == EMPTY

    @pytest.mark.parametrize("what", [start, stop])
    def test_a_vm_whose_host_is_not_in_the_play_is_an_error(self, fleet: Fleet, vm: str, what: Callable[..., Any]) -> None:
        run = what(fleet, vm, "--limit", "b", ok=False)
        assert "vm_host_not_in_play" in run.output and "%s on a" % vm in run.output
        assert running_on(fleet, vm) == ["a"]

    def test_m7_a_lost_key_of_a_vm_that_ran_is_an_error_not_a_new_key(self, fleet: Fleet, vm: str) -> None:
        stop(fleet, vm)
        fleet.virsh("a", "secret-undefine", fleet.left_on("a")["secrets"][0])
        controller_task(fleet, "resource_key", {"vm": vm, "purpose": "destroy", "state": "absent"})
        run = start(fleet, vm, ok=False)
        assert "resource_key_missing" in run.output
        assert running_on(fleet, vm) == [] and fleet.left_on("a")["secrets"] == []
        assert fleet.registry_rows()["resource_keys"] == 0

    def test_n5_a_vm_that_lost_its_tpm_state_is_not_started(self, fleet: Fleet, vm: str) -> None:
        stop(fleet, vm)
        state = fleet.left_on("a")["tpm_states"][0]
        fleet.on("a", "mv", state, state + ".lost")
        run = start(fleet, vm, ok=False)
        assert "tpm_state_missing" in run.output
        fleet.on("a", "mv", state + ".lost", state)
        start(fleet, vm)

    def test_n4_a_vm_with_a_damaged_nvram_is_not_started(self, fleet: Fleet, vm: str) -> None:
        stop(fleet, vm)
        volume = fleet.left_on("a")["nvram"][0]
        fleet.on("a", "cp", volume, "/root/kept.fd")
        fleet.on("a", "truncate", "-s", "1000", volume)
        assert "nvram_wrong_size" in start(fleet, vm, ok=False).output
        fleet.on("a", "cp", "/root/kept.fd", volume)
        start(fleet, vm)

    def test_a_secret_with_the_wrong_value_is_named(self, fleet: Fleet, vm: str) -> None:
        stop(fleet, vm)
        secret = fleet.left_on("a")["secrets"][0]
        fleet.virsh("a", "secret-set-value", secret, "--base64", "d3Jvbmc=")
        run = start(fleet, vm, ok=False)
        assert running_on(fleet, vm) == []
        assert '"error_code": "key_does_not_open_tpm_state"' in run.output
        # It was there before, so it stays; and once it is out of the way, the registry's key takes its place.
        assert fleet.left_on("a")["secrets"] == [secret]
        fleet.virsh("a", "secret-undefine", secret)
        start(fleet, vm)


class LossyPython:
    """A Python for Ansible on a host that does its work and, once a VM runs there, ends without telling what came of it.

    Args:
        code: what it ends with. 255 is what SSH ends with when the connection broke.
    """

    PATH = "/root/lossy-python"
    TEXT = """#!/bin/bash
/usr/bin/python3 "$@" > /root/told; code=$?
virsh -q list --name | grep -qx '%s' && exit %d
cat /root/told; exit $code
"""

    def __init__(self, fleet: Fleet, vm: str, code: int) -> None:
        self._fleet = fleet
        self._text = self.TEXT % (vm, code)

    def __enter__(self) -> dict[str, str]:
        self._fleet.on("a", "sh", "-c", "cat > %s <<'X'\n%s\nX\nchmod 755 %s" % (self.PATH, self._text, self.PATH))
        return {"ansible_python_interpreter": self.PATH}

    def __exit__(self, *_: object) -> None:
        self._fleet.on("a", "rm", "-f", self.PATH, "/root/told")


class TestProvision:
    def test_c6_a_failed_provisioning_leaves_nothing(self, fleet: Fleet) -> None:
        broken = describe("t2", disks=[{"path": "/srv/local/not-there.qcow2"}])
        run = provision(fleet, broken, ok=False)
        assert "disk_missing" in run.output
        assert fleet.left_on("a") == EMPTY
        assert not any(fleet.registry_rows().values())

    def test_a_vm_that_is_finished_stays_when_another_fails(self, fleet: Fleet) -> None:
        broken = describe("t4", disks=[{"path": "/srv/local/not-there.qcow2"}])
        provision(fleet, describe("t3"), broken, ok=False)
        assert running_on(fleet, "t3") == ["a"]
        assert fleet.registry_rows()["vms"] == 1 and len(fleet.left_on("a")["secrets"]) == 1
        destroy(fleet, "t3")

    @pytest.mark.parametrize("code", [137, 255], ids=["the module died", "the connection broke"])
    def test_m4_a_vm_that_runs_keeps_its_key_when_the_result_is_lost(self, fleet: Fleet, code: int) -> None:
        with LossyPython(fleet, "t8", code) as python:
            run = provision(fleet, describe("t8"), more=python, ok=False)
        assert "Report the first error" in run.output and "not known what became of t8 on a" in run.output
        assert running_on(fleet, "t8") == ["a"]
        assert fleet.registry_rows()["resource_keys"] == fleet.registry_rows()["vms"] == len(fleet.left_on("a")["secrets"]) == 1
        # Nothing is lost: the next run finishes, and the VM can move.
        provision(fleet, describe("t8"))
        migrate(fleet, "t8")
        destroy(fleet, "t8")
        assert {host: fleet.left_on(host) for host in fleet.hosts} == {"a": EMPTY, "b": EMPTY}

    def test_a_uuid_that_the_registry_knows_under_another_name_is_refused(self, fleet: Fleet, vm: str) -> None:
        before = controller_task(fleet, "vm_record_info", {"vms": [vm]})["records"]
        uuid = fleet.on("a", "virsh", "domuuid", vm).strip()
        assert "vm_uuid_taken" in provision(fleet, describe("t9", uuid=uuid), ok=False).output
        assert controller_task(fleet, "vm_record_info", {"vms": [vm]})["records"] == before

    def test_one_list_for_all_hosts_is_refused(self, fleet: Fleet) -> None:
        run = provision(fleet, describe("t9"), more={"trustedvm_hosts": "hypervisors"}, ok=False)
        assert "vm_asked_on_several_hosts" in run.output and "t9 on a, b" in run.output
        assert {host: fleet.left_on(host) for host in fleet.hosts} == {"a": EMPTY, "b": EMPTY}


def describe_unmovable(fleet: Fleet, name: str) -> dict[str, Any]:
    """A VM that fails on b only once QEMU opens its console there, after the secret was made."""
    fleet.on("a", "mkdir", "-p", "/srv/local/only-here")
    fleet.on("b", "mkdir", "-p", "/srv/local/only-here/console.log")
    return describe(name, console={"path": "/srv/local/only-here/console.log"})


class TestMigrate:
    def test_m4_the_secret_that_the_run_made_goes_when_the_vm_does_not_arrive(self, fleet: Fleet) -> None:
        provision(fleet, describe_unmovable(fleet, "t5"))
        run = migrate(fleet, "t5", ok=False)
        assert "only-here" in run.output and "could not be migrated" in run.output, "libvirt tried it"
        assert running_on(fleet, "t5") == ["a"] and owner(fleet, "t5") == "a"
        assert fleet.left_on("b") == EMPTY
        destroy(fleet, "t5")

    def test_m4_a_secret_that_was_there_before_stays(self, fleet: Fleet) -> None:
        provision(fleet, describe_unmovable(fleet, "t6"))
        secret = fleet.left_on("a")["secrets"][0]
        xml = fleet.virsh("a", "secret-dumpxml", secret).stdout
        value = fleet.on("a", "cat", "/etc/libvirt/secrets/%s.base64" % secret).strip()
        fleet.on("b", "sh", "-c", "cat > /root/secret.xml <<'X'\n%s\nX\n" % xml)
        fleet.virsh("b", "secret-define", "/root/secret.xml")
        fleet.virsh("b", "secret-set-value", secret, "--base64", value)
        assert "could not be migrated" in migrate(fleet, "t6", ok=False).output
        assert fleet.left_on("b")["secrets"] == [secret]
        fleet.virsh("b", "secret-undefine", secret)
        destroy(fleet, "t6")

    def test_m4_what_the_preflight_tells_comes_before_any_secret(self, fleet: Fleet) -> None:
        fleet.on("a", "mkdir", "-p", "/srv/local/nowhere-else")
        provision(fleet, describe("t8", console={"path": "/srv/local/nowhere-else/console.log"}))
        run = migrate(fleet, "t8", ok=False)
        assert "destination_log_directory_missing" in run.output and "could not be migrated" not in run.output
        assert running_on(fleet, "t8") == ["a"] and fleet.left_on("b") == EMPTY
        destroy(fleet, "t8")

    def test_m3_another_uuid_for_the_usage_is_an_error_with_a_remedy(self, fleet: Fleet, vm: str) -> None:
        uuid = fleet.on("a", "virsh", "domuuid", vm).strip()
        other = "<secret private='yes'><usage type='vtpm'><name>trustedvm:vtpm:%s</name></usage></secret>" % uuid
        fleet.on("b", "sh", "-c", 'echo "%s" > /root/other.xml' % other)
        fleet.virsh("b", "secret-define", "/root/other.xml")
        taken = fleet.left_on("b")["secrets"]
        run = migrate(fleet, vm, ok=False)
        assert "usage_taken" in run.output and "What to do" in run.output
        assert fleet.left_on("b")["secrets"] == taken and running_on(fleet, vm) == ["a"]
        fleet.virsh("b", "secret-undefine", taken[0])

    def test_m2_a_missing_key_is_an_error_before_anything_moves(self, fleet: Fleet, vm: str) -> None:
        controller_task(fleet, "resource_key", {"vm": vm, "purpose": "destroy", "state": "absent"})
        assert "resource_key_missing" in migrate(fleet, vm, ok=False).output
        assert fleet.left_on("b") == EMPTY and running_on(fleet, vm) == ["a"]
        assert fleet.registry_rows()["resource_keys"] == 0

    def test_m1_the_secret_has_the_same_uuid_usage_and_value_on_both_hosts(self, fleet: Fleet, vm: str) -> None:
        secret = fleet.left_on("a")["secrets"][0]
        before = fleet.virsh("a", "secret-dumpxml", secret).stdout, fleet.read("a", "/etc/libvirt/secrets/%s.base64" % secret)
        migrate(fleet, vm)
        after = fleet.virsh("b", "secret-dumpxml", secret).stdout, fleet.read("b", "/etc/libvirt/secrets/%s.base64" % secret)
        assert before == after and before[1]
        assert fleet.left_on("a") == EMPTY

    @pytest.mark.parametrize(
        ("name", "destination", "code"), [("nobody", "b", "vm_record_missing"), (None, "nowhere", "destination_unknown")]
    )
    def test_bad_input_is_one_clear_error(self, fleet: Fleet, vm: str, name: str, destination: str, code: str) -> None:
        run = migrate(fleet, name or vm, destination, ok=False)
        assert code in run.output and "Traceback" not in run.output
        assert running_on(fleet, vm) == ["a"] and fleet.left_on("b") == EMPTY

    def test_a_destination_that_does_not_answer_changes_nothing(self, fleet: Fleet, vm: str) -> None:
        fleet.lab("cut", "b")
        try:
            run = migrate(fleet, vm, ok=False)
        finally:
            fleet.lab("heal", "b")
        assert "destination_unreachable" in run.output
        assert running_on(fleet, vm) == ["a"] and fleet.left_on("b") == EMPTY

    def test_m4_a_destination_without_ssh_is_the_error_and_nothing_moves(self, fleet: Fleet, vm: str) -> None:
        inventory = fleet.directory / "no-ssh.yml"
        inventory.write_text(yaml.safe_dump({"hypervisors": {"hosts": {"b": {"ansible_user": "nobody"}}}}), encoding="utf-8")
        run = fleet.playbook("migrate", "-i", str(inventory), "--limit", "a", extra={"vm_migrate_vms": [vm], "vm_migrate_destination": "b"}, ok=False)
        assert "b cannot be reached, so nothing was moved" in run.output and "destination_secret_missing" not in run.output
        assert running_on(fleet, vm) == ["a"] and owner(fleet, vm) == "a" and fleet.left_on("b") == EMPTY

    def test_a_secret_that_the_source_lost_stays_off_the_disk_where_that_is_the_policy(self, fleet: Fleet) -> None:
        memory = {"trustedvm_ephemeral_secrets": True}
        provision(fleet, describe("t10"), more=memory)
        secret = fleet.left_on("a")["secrets"][0]
        fleet.virsh("a", "secret-undefine", secret)
        fleet.playbook("migrate", extra={"vm_migrate_vms": ["t10"], "vm_migrate_destination": "b", **memory})
        assert fleet.left_on("b")["secrets"] == [secret] and running_on(fleet, "t10") == ["b"]
        assert [fleet.on(host, "ls", "/etc/libvirt/secrets", check=False) for host in fleet.hosts] == ["", ""]
        # A start without the variable does not put on disk what is in memory.
        stop(fleet, "t10")
        start(fleet, "t10")
        assert fleet.on("b", "ls", "/etc/libvirt/secrets", check=False) == "" and running_on(fleet, "t10") == ["b"]
        destroy(fleet, "t10")

    def test_there_and_back(self, fleet: Fleet, vm: str) -> None:
        migrate(fleet, vm)
        migrate(fleet, vm, "a")
        assert running_on(fleet, vm) == ["a"] and owner(fleet, vm) == "a"
        assert fleet.left_on("b") == EMPTY
