# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Migration of a VM that is off between two real hypervisors."""

from __future__ import annotations

import base64
import json
import pathlib
import tarfile
import time

import pytest

pytestmark = pytest.mark.lab

SOURCE, DESTINATION = "mig1", "mig2"
ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def off(vm):
    """A VM with a used vTPM and NVRAM that is shut off; the destination has its secret."""
    make_off(vm)
    return vm


def make_off(vm, **options):
    vm.start(**options)
    vm.define_secret(DESTINATION)
    # The firmware starts the TPM first: then neither of the two is what libvirt would make anew.
    template = vm.lab.on(SOURCE, "sha256sum", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd")[:64]
    wait_until(lambda: sums(vm, SOURCE)[0] != template, "the firmware of %s writes to its NVRAM" % vm.name)
    vm.lab.on(SOURCE, "virsh", "-q", "destroy", vm.name)


def wait_until(happened, what):
    ended = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < ended, "waited for: " + what
        time.sleep(0.5)


def state_file(vm):
    return vm.tpm + "/tpm2/tpm2-00.permall"


def sums(vm, host):
    """SHA-256 of NVRAM and TPM state on a host, '' for what it lacks."""
    script = "for f in %s %s; do [ -e $f ] && sha256sum < $f | cut -c1-64 || echo none; done" % (vm.nvram, state_file(vm))
    return ["" if line == "none" else line for line in vm.lab.script(host, script).splitlines()]


def strays(vm, host):
    """Whatever a migration may have left of itself on a host."""
    script = "ls -A %s/tpm2 /var/lib/libvirt/qemu/nvram 2>/dev/null | grep trustedvm- || true" % vm.tpm
    return vm.lab.script(host, script)


def migrate(vm, **options):
    key = base64.b64encode(vm.key.encode()).decode()
    return vm.migrate(**{"mode": "auto", "value": key, **options})


def assert_on_source_only(vm, before):
    assert vm.lab.state(SOURCE, vm.name) == "shut off"
    assert vm.lab.state(DESTINATION, vm.name) == "absent"
    assert sums(vm, SOURCE) == before and sums(vm, DESTINATION) == ["", ""]
    assert strays(vm, SOURCE) == "" and strays(vm, DESTINATION) == ""


def starts_on(vm, host):
    vm.lab.on(host, "virsh", "-q", "start", vm.name)
    assert vm.lab.state(host, vm.name) == "running"
    vm.lab.on(host, "virsh", "-q", "destroy", vm.name)


def uses_its_tpm_on(vm, host):
    """The firmware goes on with the state that has arrived."""
    arrived = sums(vm, host)[1]
    vm.lab.on(host, "virsh", "-q", "start", vm.name)
    wait_until(lambda: sums(vm, host)[1] != arrived, "the firmware of %s writes to its TPM" % vm.name)
    vm.lab.on(host, "virsh", "-q", "destroy", vm.name)


def test_state_and_autostart_arrive_and_the_vm_starts_there(off):
    vm, before = off, sums(off, SOURCE)
    assert all(before)
    vm.lab.on(SOURCE, "virsh", "-q", "autostart", vm.name)
    predicted = migrate(vm, check=True)
    assert_on_source_only(vm, before)
    done = migrate(vm)
    assert predicted["changed"] is done["changed"] is True and predicted["diff"] == done["diff"]
    item = done["item"]
    assert item["steps"] == predicted["item"]["steps"] == [
        "copy NVRAM to mig2",
        "copy TPM state to mig2",
        "define on mig2",
        "undefine on mig1",
    ]
    assert (item["outcome"], item["mode"], item["running_on"], item["key_opens"]) == ("migrated", "cold", "neither", True)
    assert [item["digests"]["nvram"], item["digests"]["tpm_state"]] == before == sums(vm, DESTINATION)
    assert item["bytes"]["nvram"] == 540672 and item["bytes"]["tpm_state"] > 1000
    assert sums(vm, SOURCE) == before, "nothing is removed here unless told"
    assert vm.lab.state(SOURCE, vm.name) == "absent" and vm.lab.state(DESTINATION, vm.name) == "shut off"
    assert vm.name in vm.lab.on(DESTINATION, "virsh", "-q", "list", "--all", "--autostart", "--name")
    assert strays(vm, DESTINATION) == ""
    again = migrate(vm)
    assert (again["changed"], again["item"]["outcome"]) == (False, "already_there")
    uses_its_tpm_on(vm, DESTINATION)


def test_clean_source_leaves_nothing(off):
    vm, before = off, sums(off, SOURCE)
    item = migrate(vm, clean_source=True)["item"]
    assert item["outcome"] == "migrated", item
    assert {one["kind"] for one in item["source_removed"]} == {"nvram", "tpm_state", "secret"}, item["source_leftovers"]
    assert sums(vm, SOURCE) == ["", ""] and sums(vm, DESTINATION) == before
    assert vm.secret not in vm.lab.on(SOURCE, "virsh", "-q", "secret-list")
    assert migrate(vm, clean_source=True)["changed"] is False
    starts_on(vm, DESTINATION)


def test_a_later_run_cleans_only_what_has_an_equal_copy(off):
    vm, before = off, sums(off, SOURCE)
    migrate(vm)
    uses_its_tpm_on(vm, DESTINATION)
    again = migrate(vm, clean_source=True)
    assert sums(vm, SOURCE)[1] == before[1], "the destination's TPM state has changed since, so this one stays"
    assert [one["kind"] for one in again["item"]["source_leftovers"] if one["kind"] != "secret"][-1:] == ["tpm_state"]


def test_what_the_destination_has_of_its_own_is_never_written_over(off):
    vm, before = off, sums(off, SOURCE)
    vm.lab.script(DESTINATION, "mkdir -p {0}/tpm2; echo other > {1}".format(vm.tpm, state_file(vm)))
    there = sums(vm, DESTINATION)
    item = migrate(vm)["item"]
    assert item["error_code"] == "destination_state_in_the_way" and state_file(vm) in item["msg"]
    assert sums(vm, SOURCE) == before and sums(vm, DESTINATION) == there


def test_shared_state_is_neither_copied_nor_deleted(vm):
    vm.nvram = "/srv/shared/%s.fd" % vm.uuid
    for host in (SOURCE, DESTINATION):
        vm.lab.script(host, "mkdir -p /srv/shared/{0} {1}; mount --bind /srv/shared/{0} {1}".format(vm.uuid, vm.tpm))
    try:
        make_off(vm, nvram=vm.nvram)
        before = sums(vm, SOURCE)
        item = migrate(vm, clean_source=True)["item"]
        assert item["outcome"] == "migrated", item
        assert item["nvram"]["shared"] is True and item["tpm_state"]["shared"] is True
        assert item["steps"] == ["define on mig2", "undefine on mig1", "clean mig1"]
        assert sums(vm, SOURCE) == before == sums(vm, DESTINATION)
        starts_on(vm, DESTINATION)
    finally:
        vm.remove()
        vm.lab.on(SOURCE, "rm", "-rf", "/srv/shared/" + vm.uuid)


@pytest.mark.parametrize("room", ["64k", "600k"])
def test_a_full_disk_on_the_destination_leaves_nothing(off, room):
    vm, before = off, sums(off, SOURCE)
    directory = "/var/lib/libvirt/qemu/nvram"
    vm.lab.script(DESTINATION, "mount -t tmpfs -o size=%s none %s" % (room, directory))
    try:
        item = migrate(vm)["item"]
        assert item["error_code"] == "destination_disk_full", item["msg"]
        assert "No space left" in item["msg"] and item["leftovers"] == [] and item["defined_on"] == "source"
        assert_on_source_only(vm, before)
    finally:
        vm.lab.on(DESTINATION, "umount", directory)
    assert migrate(vm)["item"]["outcome"] == "migrated"


def test_wrong_key_moves_nothing(off):
    before = sums(off, SOURCE)
    item = migrate(off, value=base64.b64encode(b"another key").decode())["item"]
    assert item["error_code"] == "key_does_not_open_tpm_state"
    assert_on_source_only(off, before)


def test_all_that_would_be_lost_is_told_at_once(off):
    vm, before = off, sums(off, SOURCE)
    vm.lab.on(SOURCE, "virsh", "-q", "start", vm.name)
    assert migrate(vm, mode="cold")["item"]["error_code"] == "vm_running"
    vm.lab.on(SOURCE, "virsh", "-q", "managedsave", vm.name)
    item = migrate(vm)["item"]
    assert item["error_code"] == "managed_save_exists"
    vm.lab.on(SOURCE, "virsh", "-q", "managedsave-remove", vm.name)
    assert before[0] and migrate(vm)["item"]["outcome"] == "migrated"


@pytest.mark.parametrize("place, outcome", [("local", "disk_not_on_destination"), ("shared", "migrated")])
def test_disks(vm, place, outcome):
    disk = "/srv/%s/%s.img" % (place, vm.name)
    vm.lab.on(SOURCE, "qemu-img", "create", "-q", "-f", "raw", disk, "8M")
    try:
        make_off(vm, disk=disk)
        item = migrate(vm)["item"]
        assert item.get("error_code", item["outcome"]) == outcome, item.get("msg")
        if place == "shared":
            return
        vm.lab.on(DESTINATION, "qemu-img", "create", "-q", "-f", "raw", disk, "8M")
        assert migrate(vm)["item"]["error_code"] == "disk_not_shared"
        assert migrate(vm, unsafe=True)["item"]["outcome"] == "migrated"
    finally:
        vm.remove()
        for host in (SOURCE, DESTINATION):
            vm.lab.on(host, "rm", "-f", disk)


KILLED_RUN = '''
import json, os, signal, sys
sys.path.insert(0, sys.argv[1])
import libvirt
from ansible_collections.trustedvm.libvirt.plugins.module_utils._migration.destination import Destinations
from ansible_collections.trustedvm.libvirt.plugins.module_utils._migration.planner import MigrationPlanner

libvirt.registerErrorHandler(lambda context, error: None, None)
options, kill_at, calls = json.loads(sys.argv[2]), int(sys.argv[3]), 0
change = MigrationPlanner(libvirt.open("qemu:///system"), Destinations(), False).plan(options)


def counted(owner, name):
    real = getattr(owner, name)

    def call(self, *arguments):
        global calls
        calls += 1
        if calls != kill_at:
            return real(self, *arguments)
        if name == "sendAll":
            self.send(arguments[0](self, 1000, None))
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, call)


for owner, names in (
    (libvirt.virConnect, ("storagePoolCreateXML", "defineXMLFlags")),
    (libvirt.virStoragePool, ("createXML", "createXMLFrom", "destroy")),
    (libvirt.virStorageVol, ("upload", "download", "delete")),
    (libvirt.virStream, ("sendAll",)),
    (libvirt.virDomain, ("undefineFlags", "setAutostart")),
):
    for name in names:
        counted(owner, name)
change.apply()
print(calls)
'''


def put_module_utils(lab, host, directory):
    """The host side as plain Python, for a run without Ansible around it."""
    inside = directory + "/ansible_collections/trustedvm/libvirt/plugins"
    archive = lab.directory / "module_utils.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(ROOT / "plugins" / "module_utils", "module_utils")
    unpack = {"src": str(archive), "dest": inside}
    tasks = [{"ansible.builtin.file": {"path": inside, "state": "directory"}}, {"ansible.builtin.unarchive": unpack}]
    done = lab.play([{"hosts": host, "gather_facts": False, "tasks": tasks}])
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_run_that_is_killed_at_any_call_is_finished_by_the_next(off):
    """Each round kills one call later, until a run gets through; then the VM comes back for the next round."""
    vm, before = off, sums(off, SOURCE)
    vm.lab.on(SOURCE, "virsh", "-q", "autostart", vm.name)
    collections = "/run/collections"
    put_module_utils(vm.lab, SOURCE, collections)
    vm.lab.write(SOURCE, "/run/killed.py", KILLED_RUN)
    given = {"vm": vm.name, "destination_uri": "qemu+tls://%s/system" % DESTINATION, "mode": "auto", "undefine_source": True}
    defaults = {
        "destination_host": None, "pkipath": None, "tls": True, "tls_hostname": None, "persist_destination": True,
        "unsafe": False, "clean_source": False, "migrate_uri": None, "bandwidth": 0, "auto_converge": False, "timeout": 0,
        "connect_timeout": 10, "provided_secrets": [], "tpm_state_sharing": "detect", "value": None, "resource_key": None,
    }  # fmt: skip
    run = "python3 /run/killed.py %s '%s' %%d 2>&1 || true" % (collections, json.dumps({**defaults, **given}))
    for kill_at in range(1, 80):
        vm.lab.script(SOURCE, "virsh -q dumpxml --inactive --security-info %s > /run/vm.xml" % vm.name)
        said = vm.lab.script(SOURCE, run % kill_at)
        if said.isdigit():
            break
        assert "Killed" in said or said == "", said
        assert sums(vm, SOURCE) == before, "the source's state is untouched whatever happens"
        finished = vm.lab.script(SOURCE, run % 0)
        assert finished.isdigit(), "call %d: %s" % (kill_at, finished)
        assert vm.lab.state(SOURCE, vm.name) == "absent" and vm.lab.state(DESTINATION, vm.name) == "shut off"
        assert sums(vm, DESTINATION) == before and strays(vm, DESTINATION) == ""
        assert vm.name in vm.lab.on(DESTINATION, "virsh", "-q", "list", "--all", "--autostart", "--name")
        if kill_at % 5 == 0:
            vm.lab.script(DESTINATION, "rm -r %s %s" % (vm.tpm, vm.nvram))
        vm.lab.script(DESTINATION, "virsh -q undefine --keep-nvram --keep-tpm {0}".format(vm.name))
        if kill_at % 5:
            vm.lab.script(DESTINATION, "rm -r %s %s" % (vm.tpm, vm.nvram))
        vm.lab.script(SOURCE, "virsh -q define /run/vm.xml; virsh -q autostart %s" % vm.name)
    else:
        pytest.fail("no run got through")
    assert kill_at > 20, "the calls were counted"
    assert sums(vm, DESTINATION) == before
    starts_on(vm, DESTINATION)
