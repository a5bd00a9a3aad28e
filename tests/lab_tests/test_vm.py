# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""vm, vm_info and nvram_volume on a real hypervisor: a system libvirtd that hands files to QEMU and swtpm."""

from __future__ import annotations

import base64
import json

import pytest

pytestmark = pytest.mark.lab

HOST = "mig1"


class Life:
    """One VM that the modules make, and what the host has of it."""

    def __init__(self, vm):
        self.vm = vm
        self.lab = vm.lab
        self.images = "/srv/local/" + vm.name
        self.disk = self.images + "/root.qcow2"
        self.nvram = "%s/nvram/%s/%s.fd" % (self.images, vm.uuid, vm.uuid)
        self.lab.on(HOST, "mkdir", "-p", self.images)
        self.options = {
            "name": vm.name,
            "uuid": vm.uuid,
            "memory": 128,
            "virt_type": "qemu",
            "cpu_mode": "maximum",
            "tpm": {"secret_uuid": vm.secret},
            "disks": [{"path": self.disk, "size": "16M"}],
            "console": {"path": self.images + "/console.log"},
        }

    def calls(self, *calls):
        """The answers of several calls, each (module, arguments, check mode), in one play: SSH and Ansible cost more than they do."""
        tasks = [
            {"trustedvm.libvirt." + name: arguments, "register": "call%d" % number, "ignore_errors": True, "check_mode": check}
            for number, (name, arguments, check) in enumerate(calls)
        ]
        answers = self.lab.directory / "answers.json"
        content = "{{ [%s] | to_json }}" % ", ".join("call%d" % number for number in range(len(calls)))
        tasks.append({"ansible.builtin.copy": {"content": content, "dest": str(answers), "mode": "0600"}, "delegate_to": "localhost"})
        answers.unlink(missing_ok=True)
        done = self.lab.play([{"hosts": HOST, "gather_facts": False, "tasks": tasks}])
        assert answers.exists(), done.stdout + done.stderr
        return json.loads(answers.read_text())

    def call(self, module, /, **arguments):
        return self.calls((module, arguments, False))[0]

    def run(self, **changes):
        """Predict, run, compare, run again: what every call of the module has to stand."""
        arguments = {**self.options, **changes}
        predicted, answer, again = self.calls(("vm", arguments, True), ("vm", arguments, False), ("vm", arguments, False))
        assert answer["results"] == predicted["results"] and answer["changed"] == predicted["changed"]
        assert not again["changed"], again
        return answer["results"][0]

    def refused(self, **changes):
        answer = self.call("vm", **{**self.options, **changes})
        assert answer["failed"], answer
        return answer["results"][0]

    def exists(self, path):
        return self.lab.on(HOST, "sh", "-c", "test -e %s && echo yes || echo no" % path) == "yes"

    def digest(self, path):
        return self.lab.on(HOST, "sha256sum", path).split()[0]

    def state(self):
        return self.lab.state(HOST, self.vm.name)


@pytest.fixture
def life(vm):
    made = Life(vm)
    vm.define_secret(HOST)
    yield made
    made.call("vm", name=vm.name, uuid=vm.uuid, state="absent", force=True, stop_timeout=0)
    vm.lab.on(HOST, "rm", "-rf", made.images, check=False)


def test_life_of_a_vm_from_first_start_to_removal(life):
    result = life.run(state="running")
    assert (result["outcome"], result["state"], result["nvram"]["path"]) == ("created", "running", life.nvram)
    assert life.state() == "running" and life.exists(life.vm.tpm) and life.exists(life.disk)
    assert life.lab.on(HOST, "stat", "-c", "%a", life.nvram) == "600"

    (found,) = life.call("vm_info", uuid=life.vm.uuid)["vms"]
    assert found["tpm"]["state_exists"] and found["marks"] == {"tpm_state": True, "nvram": True}

    assert life.run(state="stopped", stop_timeout=2)["outcome"] == "stopped"
    identity = life.lab.on(HOST, "sh", "-c", "wc -c < %s/tpm2/tpm2-00.permall" % life.vm.tpm)
    assert life.run(state="running")["outcome"] == "started"
    assert life.lab.on(HOST, "sh", "-c", "wc -c < %s/tpm2/tpm2-00.permall" % life.vm.tpm) == identity

    assert life.refused(state="absent")["error_code"] == "vm_running"
    life.run(state="stopped", stop_timeout=0)
    kept = life.run(state="absent")["kept"]
    assert kept == [life.disk, life.nvram, life.vm.tpm]
    assert all(life.exists(path) for path in kept) and life.state() == "absent"

    assert life.run(state="running")["nvram"]["action"] == "use"
    gone = life.run(state="absent", force=True, stop_timeout=0, remove_disks=True, remove_nvram=True, remove_tpm_state=True)
    assert gone["kept"] == []
    assert not any(life.exists(path) for path in kept)


def test_vm_is_never_started_without_what_it_had(life):
    life.run(state="running")
    life.run(state="stopped", stop_timeout=0)
    for path, code in ((life.nvram, "nvram_missing"), (life.vm.tpm, "tpm_state_missing")):
        life.lab.on(HOST, "mv", path, path + ".away")
        result = life.refused(state="running")
        assert result["error_code"] == code and path in result["msg"] and HOST in result["msg"]
        assert not life.exists(path) and life.state() == "shut off"
        life.lab.on(HOST, "mv", path + ".away", path)
    life.run(state="running")


def test_failed_first_start_leaves_nothing(life):
    """The secret has no value: libvirt is the only one who can tell."""
    life.lab.script(
        HOST,
        "virsh -q secret-dumpxml {0} > /run/s.xml; virsh -q secret-undefine {0}; virsh -q secret-define /run/s.xml".format(life.vm.secret),
    )
    result = life.refused(state="running")
    assert result["error_code"] == "secret_missing" and "does not have a value" in result["msg"]
    assert result["changed"] is False and life.state() == "absent"
    assert not any(life.exists(path) for path in (life.disk, life.nvram, life.vm.tpm))


def test_nvram_reset_and_its_copy(life):
    life.run(state="running")
    life.run(state="stopped", stop_timeout=0)
    life.lab.script(HOST, "printf x | dd of=%s bs=1 seek=540671 conv=notrunc 2>/dev/null" % life.nvram)
    written = life.digest(life.nvram)
    reset = {"vm": life.vm.name, "state": "reset"}
    forced = {**reset, "accept_data_loss": True}
    info = ("nvram_volume_info", {"vm": life.vm.uuid}, False)
    refused, predicted, answer, again, found = life.calls(
        ("nvram_volume", reset, False), ("nvram_volume", forced, True), ("nvram_volume", forced, False), ("nvram_volume", forced, False), info
    )
    assert refused["error_code"] == "nvram_would_be_lost"
    assert answer["results"] == predicted["results"] and answer["changed"] and not again["changed"]
    (copy,) = answer["results"][0]["copies"]
    assert life.digest(copy) == written
    (volume,) = found["volumes"]
    assert volume["pristine"] and volume["ready"] and volume["copies"] == [copy]
    assert life.run(state="running")["outcome"] == "started"
    assert life.call("nvram_volume", **forced)["error_code"] == "vm_running"


def test_wrong_key_keeps_libvirts_words_and_says_what_they_mean(life):
    life.run(state="running")
    life.run(state="stopped", stop_timeout=0)
    before = life.digest(life.vm.tpm + "/tpm2/tpm2-00.permall")
    life.vm.define_secret(HOST, value=base64.b64encode(b"another key, of the same length.").decode())
    result = life.refused(state="running")
    assert result["error_code"] in ("tpm_start_failed", "key_does_not_open_tpm_state")
    assert life.digest(life.vm.tpm + "/tpm2/tpm2-00.permall") == before


def test_secure_boot_firmware_starts(life):
    result = life.run(state="running", secure_boot=True)
    assert result["firmware"]["secure_boot"] and result["nvram"]["action"] == "create"
    template = life.lab.on(HOST, "sh", "-c", "virsh dumpxml %s | sed -n \"s/.*template='\\([^']*\\)'.*/\\1/p\"" % life.vm.name)
    assert template.endswith(".fd") and life.state() == "running"
