# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting, stopping and removing real VMs with real firmware and a real swtpm."""
from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

libvirt = pytest.importorskip("libvirt")

from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.errors import TrustedVMError
from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.runner import converge_items
from ansible_collections.trustedvm.libvirt.plugins.module_utils._domain.info import VmInspector
from ansible_collections.trustedvm.libvirt.plugins.module_utils._domain.metadata import Marks, read_marks, set_marks
from ansible_collections.trustedvm.libvirt.plugins.module_utils._nvram.backends.directory import DirectoryBackend
from ansible_collections.trustedvm.libvirt.plugins.module_utils._vtpm.planner import VtpmPlanner

VM = "0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11"
OTHER = "1d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11"
SECRET = "6f0c8a3e-2b1d-5c55-9d0f-0a1b2c3d4e5f"
BASE = {"memory": 48, "virt_type": "qemu", "cpu_mode": "custom", "cpu_model": "qemu64"}
TPM = {"tpm": {"secret_uuid": SECRET}}
PLAIN_BIOS = {**BASE, "firmware": "bios"}


def nvram(host):
    return host.described()["nvram"]


def content(path):
    with open(path, "rb") as stream:
        return stream.read()


def write_a_variable(host):
    """As the firmware does at its first boot, without waiting for it."""
    with open(nvram(host), "r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\x5a")


@pytest.fixture
def started(host):
    """A VM with an encrypted vTPM that runs."""
    host.secret()
    result = host.run(state="running", nvram={"directory": host.root}, **BASE, **TPM)
    assert result["outcome"] == "created" and result["started"] and result["tpm_state_exists"]
    return host


@pytest.fixture
def stopped(started):
    """One that has run, and whose firmware has written to its volume."""
    started.run(state="stopped")
    write_a_variable(started)
    return started


def test_first_start_marks_the_vm_and_later_starts_keep_its_life(started):
    assert read_marks(started.tree()) == Marks(tpm_state=True, nvram=True)
    assert started.tpm_states() == [VM]
    assert started.run(state="stopped")["outcome"] == "stopped"
    write_a_variable(started)
    variables = content(nvram(started))
    assert started.run(state="running")["outcome"] == "started"
    started.domain().destroy()
    assert content(nvram(started))[-1:] == variables[-1:] == b"\x5a" and started.tpm_states() == [VM]


def test_definition_of_a_running_vm_needs_a_restart(started):
    result = started.run(memory=56)
    assert (result["restart_required"], result["state"], result["outcome"]) == (True, "running", "updated")
    assert started.plan().result()["restart_required"] is True
    assert VmInspector(started.daemon.connection).all()[0]["restart_required"] is True
    started.run(state="stopped")
    assert started.run(state="running")["restart_required"] is False
    assert started.tree(inactive=False).findtext("memory") == str(56 * 1024)


def test_vm_is_never_started_without_what_it_had(stopped):
    path = nvram(stopped)
    os.rename(path, path + ".gone")
    error = stopped.refused(state="running")
    assert error.code == "nvram_missing" and path in str(error)
    os.rename(path + ".gone", path)
    state = stopped.daemon.path("qemu", "swtpm", VM)
    os.rename(state, state + ".gone")
    error = stopped.refused(state="running")
    assert error.code == "tpm_state_missing" and VM in str(error)
    os.rename(state + ".gone", state)
    stopped.run(state="running")


def test_state_that_is_lost_after_a_reset_is_missed_again(stopped):
    """The reset's copy lies there until somebody proves the new state; it must not switch the guard off."""
    vtpm = VtpmPlanner(stopped.daemon)
    reset = {**dict.fromkeys(("model", "secret_uuid", "value", "reset_id")), "vm": VM, "state": "reset", "encrypted": True}
    reset.update(require_state=False, remove_state=False, moved=False, accept_data_loss=True)
    vtpm.plan(reset).apply()
    stopped.run(state="running", expect_state=True)
    stopped.run(state="stopped")
    assert len(stopped.tpm_states()) == 2
    state = stopped.daemon.path("qemu", "swtpm", VM)
    os.rename(state, state + ".gone")
    assert stopped.refused(state="running").code == "tpm_state_missing"
    # Given up by name, it is no longer missed, also where the registry says that the VM has run.
    VtpmPlanner(stopped.daemon).plan(reset).apply()
    stopped.run(state="running", expect_state=True)


def test_n4_unready_volume_is_never_handed_to_a_start(stopped):
    path = nvram(stopped)
    with open(path, "ab") as stream:
        stream.write(b"x")
    assert stopped.refused(state="running").code == "nvram_wrong_size"
    assert stopped.domain().isActive() == 0


def test_removal_keeps_by_default_and_takes_what_it_was_told(started):
    path = nvram(started)
    assert started.refused(state="absent").code == "vm_running"
    result = started.run(state="absent", force=True)
    assert result["kept"] == [path, started.daemon.path("qemu", "swtpm", VM)]
    assert os.path.exists(path) and started.tpm_states() == [VM]
    # What is left is found again by UUID and place.
    result = started.run(state="absent", remove_nvram=True, remove_tpm_state=True, nvram={"directory": started.root})
    assert result["outcome"] == "removed" and started.files() == [] and started.tpm_states() == []


def test_vm_that_is_defined_again_goes_on_with_its_life(started):
    """Its NVRAM and TPM state were kept over the removal; marks are earned by what is there."""
    path = nvram(started)
    started.run(state="absent", force=True)
    with open(path, "r+b") as stream:
        stream.write(b"\x00")
    variables = content(path)
    result = started.run(nvram={"directory": started.root}, **BASE, **TPM)
    assert result["nvram"]["action"] == "use" and content(path) == variables
    assert read_marks(started.tree()).tpm_state
    started.run(state="running")


def test_tpm_state_in_use_elsewhere_is_not_removed(stopped):
    """Another host's swtpm, seen through the lock that both see on a shared storage."""
    lock = stopped.daemon.path("qemu", "swtpm", VM, "tpm2", ".lock")
    script = "import fcntl,sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print(1, flush=True); sys.stdin.read()"
    holder = subprocess.Popen([sys.executable, "-c", script, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        holder.stdout.readline()
        for force in (False, True):
            assert stopped.refused(state="absent", remove_tpm_state=True, force=force).code == "tpm_state_in_use"
        stopped.domain().undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_KEEP_TPM | libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM)
        assert stopped.refused(state="absent", remove_tpm_state=True).code == "tpm_state_in_use"
    finally:
        holder.communicate()
    assert stopped.run(state="absent", remove_tpm_state=True)["outcome"] == "removed"


@pytest.mark.parametrize("option", ["remove_disks", "remove_nvram", "remove_tpm_state"])
def test_files_of_a_vm_that_migrated_away_are_not_removed_unasked(stopped, option, monkeypatch):
    """Only a migration gives libvirt's reason "migrated", so it is said here; the lab has the real thing."""
    monkeypatch.setattr(libvirt.virDomain, "state", lambda self, flags=0: [5, libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED])
    error = stopped.refused(state="absent", **{option: True})
    assert error.code == "vm_migrated_away" and option in str(error)
    assert stopped.run(state="absent")["outcome"] == "removed"


def test_removal_of_all(started):
    disk = os.path.join(started.root, "web1.qcow2")
    started.run(state="stopped", disks=[{"path": disk, "size": "1M"}])
    result = started.run(state="absent", remove_disks=True, remove_nvram=True, remove_tpm_state=True)
    assert result["kept"] == [] and started.files() == [] and started.tpm_states() == []
    assert started.daemon.listAllDomains() == []


def test_m7_start_without_the_secret_is_refused_before_anything(host):
    host.run(nvram={"directory": host.root}, **BASE, **TPM)
    error = host.refused(state="running")
    assert error.code == "secret_missing" and SECRET in str(error)
    assert host.tpm_states() == []


def test_public_secret_without_value_is_seen_beforehand(host):
    host.run(nvram={"directory": host.root}, **BASE, **TPM)
    host.daemon.secretDefineXML("<secret private='no'><uuid>%s</uuid></secret>" % SECRET)
    assert host.refused(state="running").code == "secret_missing"


def test_private_secret_without_value_is_libvirts_own_words(host):
    """Whether a private secret has a value cannot be asked."""
    host.secret(value=None)
    error = host.refused(state="running", nvram={"directory": host.root}, **BASE, **TPM)
    assert error.code == "secret_missing" and "does not have a value" in str(error)


def test_failed_first_start_takes_back_all_that_the_call_made(host):
    host.secret(value=None)
    disk = os.path.join(host.root, "web1.qcow2")
    options = {**BASE, **TPM, "disks": [{"path": disk, "size": "1M"}]}
    with pytest.raises(TrustedVMError):
        host.plan(state="running", **options).apply()
    assert host.files() == [] and host.tpm_states() == [] and host.daemon.listAllDomains() == []


def test_failed_start_puts_definition_autostart_and_volume_back(host):
    host.secret(value=None)
    host.run(nvram={"directory": host.root}, **BASE, **TPM)
    with open(nvram(host), "wb") as stream:
        stream.write(b"\xff" * 4096)
    item = host.item(state="running", memory=56, autostart=True)
    (failed,) = converge_items([item], host.planner([item]), lambda item: {"name": item["name"]}, "host").results
    assert (failed["error_code"], failed["changed"]) == ("secret_missing", False) and "undo_failed" not in failed
    assert host.described()["memory_mib"] == 48 and not host.domain().autostart()
    assert content(nvram(host)) == b"\xff" * 4096


def test_what_could_not_be_undone_is_told_and_the_rest_is_undone(host, monkeypatch):
    host.secret(value=None)
    disk = os.path.join(host.root, "web1.qcow2")

    def refuse(self, path):
        raise OSError(30, "Read-only file system", path)

    monkeypatch.setattr(DirectoryBackend, "remove", refuse)
    item = host.item(state="running", **BASE, **TPM, disks=[{"path": disk, "size": "1M"}])
    (failed,) = converge_items([item], host.planner([item]), lambda item: {"name": item["name"]}, "host").results
    assert failed["changed"] and "Read-only file system" in failed["undo_failed"]
    assert host.daemon.listAllDomains() == [] and not os.path.exists(disk) and len(host.files()) == 1


@pytest.mark.parametrize("private", ["yes", "no"])
def test_wrong_key_on_the_host_is_told_before_the_start(stopped, private):
    stopped.daemon.secretLookupByUUIDString(SECRET).undefine()
    secret = stopped.daemon.secretDefineXML("<secret private='%s'><uuid>%s</uuid></secret>" % (private, SECRET))
    secret.setValue(b"b3RoZXI=")
    error = stopped.refused(state="running")
    assert error.code == "key_does_not_open_tpm_state" and "b3RoZXI=" not in str(error)
    secret.setValue(b"c2VjcmV0")
    stopped.run(state="running")


def test_wrong_key_that_nobody_can_read_is_told_apart(stopped):
    stopped.daemon.secretLookupByUUIDString(SECRET).undefine()
    ephemeral = "<secret private='yes' ephemeral='yes'><uuid>%s</uuid></secret>" % SECRET
    stopped.daemon.secretDefineXML(ephemeral).setValue(b"b3RoZXI=")
    error = stopped.refused(state="running")
    assert error.code == "tpm_start_failed" and "not the key of the TPM state" in str(error)
    assert "0x101" in str(error), "libvirt's own words are kept"


def test_plain_state_under_an_encrypted_device_is_told_before_the_start(stopped, real_states):
    real_states.put(stopped.daemon.path("qemu", "swtpm"), VM, real_states.plain)
    assert stopped.refused(state="running").code == "tpm_state_not_encrypted"


@pytest.mark.parametrize(
    "options, code",
    [
        ({"disks": [{"path": "/nowhere/a.qcow2"}]}, "disk_missing"),
        ({"disks": [{"path": "/dev/nowhere/a"}]}, "disk_missing"),
    ],
)
def test_missing_disk_is_told_before_the_start(host, options, code):
    host.run(**PLAIN_BIOS, **options)
    error = host.refused(state="running")
    assert error.code == code and "nowhere" in str(error)


def test_disk_of_another_format_is_told_before_the_start(host):
    path = os.path.join(host.root, "a.img")
    with open(path, "wb") as stream:
        stream.write(bytes(1024))
    assert host.refused(state="running", **PLAIN_BIOS, disks=[{"path": path}]).code == "disk_wrong_format"


def test_tpm_is_not_made_in_an_empty_directory(host):
    """libvirt 9.0 takes it for one that was set up, and the guest gets a TPM without an endorsement key."""
    host.secret()
    host.run(nvram={"directory": host.root}, **BASE, **TPM)
    place = host.daemon.path("qemu", "swtpm", VM, "tpm2")
    os.makedirs(place)
    open(os.path.join(place, ".lock"), "w").close()
    result = host.run(state="running")
    assert result["steps"] == ["remove empty TPM state directory", "start VM"] and os.path.getsize(place + "/tpm2-00.permall") > 1000


def test_files_that_are_no_tpm_state_are_not_removed(host):
    host.secret()
    host.run(nvram={"directory": host.root}, **BASE, **TPM)
    place = host.daemon.path("qemu", "swtpm", VM, "tpm2")
    os.makedirs(place)
    open(os.path.join(place, "tpm2-00.permall"), "w").close()
    error = host.refused(state="running")
    assert error.code == "tpm_state_damaged" and "tpm2-00.permall" in str(error) and os.listdir(place)


def test_missing_loader_is_told_before_the_start(host):
    host.run(**BASE, loader="/nowhere/CODE.fd", nvram={"path": host.root + "/x.fd"})
    assert host.refused(state="running").code == "firmware_not_found"


def test_check_mode_of_a_play_takes_what_earlier_tasks_make(host):
    options = {**BASE, **TPM, "disks": [{"path": "/nowhere/a.qcow2"}], "state": "running", "expect_state": True}
    assert host.refused(**options).code
    change = host.plan(check_mode=True, prepared_by_play=True, **options)
    assert change.result()["state"] == "running" and change.result()["started"]
    with pytest.raises(TrustedVMError):
        host.plan(check_mode=False, prepared_by_play=True, **options)


def test_paused_vm_is_resumed(host):
    host.run(state="running", **PLAIN_BIOS)
    host.domain().suspend()
    assert host.plan().result()["state"] == "paused"
    assert host.run(state="running")["outcome"] == "resumed"
    host.domain().suspend()
    assert host.run(state="stopped", stop_timeout=60)["outcome"] == "stopped"


def test_guest_that_does_not_answer_is_stopped_hard_only_if_told(host):
    """A BIOS without a disk ignores the power button."""
    host.run(state="running", **PLAIN_BIOS)
    assert host.refused(state="stopped", stop_timeout=1, force_stop=False).code == "stop_timeout"
    assert host.run(state="stopped", stop_timeout=1)["state"] == "stopped"


def test_vms_of_one_task_stop_side_by_side(host):
    names = {"web1": VM, "web2": OTHER}
    for name, uuid in names.items():
        host.run(name=name, uuid=uuid, state="running", **PLAIN_BIOS)
    items = [host.item(name=name, uuid=uuid, state="stopped", stop_timeout=8) for name, uuid in names.items()]
    before = time.monotonic()
    outcome = converge_items(items, host.planner(items), lambda item: {"name": item["name"]}, "host")
    assert [result["outcome"] for result in outcome.results] == ["stopped", "stopped"]
    assert time.monotonic() - before < 2 * 8, "one after the other it would be two time-outs"


def test_vm_that_vanishes_is_no_hindrance_for_the_others_stop(host, monkeypatch):
    names = {"web1": VM, "web2": OTHER, "web3": VM[:-1] + "3"}
    for name, uuid in names.items():
        host.run(name=name, uuid=uuid, state="running", **PLAIN_BIOS)
    items = [host.item(name=name, uuid=uuid, state="stopped", stop_timeout=1) for name, uuid in names.items()]
    planner = host.planner(items)
    planner.inventory.entries()
    gone = host.daemon.lookupByName("web2")
    gone.destroy()
    gone.undefine()
    asked = []
    monkeypatch.setattr(libvirt.virDomain, "shutdown", lambda self: asked.append(self.name()))
    results = converge_items(items, planner, lambda item: {"name": item["name"]}, "host").results
    assert [result["outcome"] for result in results] == ["stopped", "failed", "stopped"]
    assert asked == ["web1", "web3"]


def test_vm_that_vanishes_is_no_hindrance_for_anothers_removal(host):
    path = os.path.join(host.root, "a.qcow2")
    host.run(**PLAIN_BIOS, disks=[{"path": path, "size": "1M"}])
    host.run(name="web2", uuid=OTHER, **PLAIN_BIOS)
    item = host.item(state="absent", remove_disks=True)
    planner = host.planner([item])
    planner.inventory.entries()
    host.daemon.lookupByName("web2").undefine()
    planner(item).apply()
    assert host.files() == []


def test_transient_vm_whose_tpm_state_libvirt_would_delete_is_not_stopped(host):
    host.daemon.createXML(
        "<domain type='qemu'><name>web1</name><uuid>%s</uuid><memory unit='MiB'>48</memory>"
        "<os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features><devices>"
        "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm></devices></domain>" % VM
    )
    assert host.refused(state="stopped").code == "tpm_state_would_be_lost"
    assert host.refused(state="absent", force=True).code == "tpm_state_would_be_lost"
    assert host.run(state="absent", force=True, remove_tpm_state=True)["outcome"] == "removed"
    assert host.daemon.listAllDomains() == []


def test_undefine_by_flags_keeps_a_state_that_is_not_persistent(host, real_states):
    """Without KEEP_TPM libvirt deletes it as a side effect (9.0 to 12.8)."""
    host.daemon.defineXML(
        "<domain type='qemu'><name>web1</name><uuid>%s</uuid><memory unit='MiB'>48</memory>"
        "<os><type arch='x86_64' machine='q35'>hvm</type></os><devices>"
        "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm></devices></domain>" % VM
    )
    real_states.put(host.daemon.path("qemu", "swtpm"), VM, real_states.plain)
    host.run(state="absent")
    assert host.tpm_states() == [VM]


def test_managed_save_is_not_dropped_unasked(host):
    host.run(state="running", **PLAIN_BIOS)
    host.domain().managedSave()
    assert host.refused(state="absent").code == "managed_save_exists"
    assert host.run(state="absent", force=True)["outcome"] == "removed"


def test_shared_disk_and_volume_are_not_removed_with_one_vm(host):
    path = os.path.join(host.root, "a.qcow2")
    for name, uuid in {"web1": VM, "web2": OTHER}.items():
        host.run(name=name, uuid=uuid, **BASE, disks=[{"path": path, "size": "1M"}])
    error = host.refused(state="absent", remove_disks=True)
    assert error.code == "disk_in_use" and "web2" in str(error) and os.path.exists(path)


def test_volume_of_another_vm_is_not_shared(host):
    path = os.path.join(host.root, "a.fd")
    host.run(**BASE, **TPM, nvram={"path": path})
    error = host.refused(name="web2", uuid=OTHER, **BASE, **TPM, nvram={"path": path}, state="running")
    assert error.code in ("nvram_in_use", "secret_missing")
    host.secret()
    assert host.refused(name="web2", uuid=OTHER, **BASE, **TPM, nvram={"path": path}, state="running").code == "nvram_in_use"


def test_definition_that_points_to_another_volume_is_refused(stopped):
    error = stopped.refused(nvram={"path": stopped.root + "/other.fd"})
    assert error.code == "nvram_elsewhere"
    os.rename(nvram(stopped), stopped.root + "/other.fd")
    assert stopped.run(nvram={"path": stopped.root + "/other.fd"})["nvram"]["path"].endswith("/other.fd")


@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize("tpm", [True, False])
@pytest.mark.parametrize("secure_boot", [True, False])
def test_variables_of_a_vm_whose_nvram_libvirt_chose_go_on(host, secure_boot, tpm, written):
    """Explicit firmware for an adopted VM: on libvirt 9.0 its definition does not say where they are."""
    host.secret()
    device = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'><encryption secret='%s'/></backend></tpm>" % SECRET
    host.daemon.defineXML(
        "<domain type='qemu'><name>web1</name><uuid>%s</uuid><memory unit='MiB'>48</memory><os firmware='efi'>"
        "<type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features><cpu mode='custom'><model>qemu64</model></cpu>"
        "<devices>%s</devices></domain>" % (VM, device if tpm else "")
    )
    if host.tree().find("os/nvram") is not None:
        pytest.skip("this libvirt writes its choice into the definition")
    path = host.daemon.path("qemu", "nvram", "web1_VARS.fd")
    if written:
        host.run(state="running")
        host.run(state="stopped")
        with open(path, "r+b") as stream:
            stream.seek(-1, os.SEEK_END)
            stream.write(b"\x5a")
    try:
        result = host.run(secure_boot=secure_boot)
        assert (nvram(host) == path) == written or not (tpm or secure_boot), "what libvirt then takes is its own file"
        if written:
            assert content(path)[-1:] == b"\x5a" and result["nvram"]["action"] in ("use", "none")
            assert host.refused(nvram={"path": host.root + "/x.fd"}).code == "nvram_elsewhere"
            host.run(state="running")
            host.run(state="stopped")
            assert content(path)[-1:] == b"\x5a"
    finally:
        if os.path.exists(path):
            os.unlink(path)


def test_marks_can_be_taken_back(started):
    assert set_marks(started.domain(), started.tree(), tpm_state=False)
    assert read_marks(started.tree()) == Marks(tpm_state=False, nvram=True)
    assert read_marks(started.tree(inactive=False)) == Marks(tpm_state=False, nvram=True)
    assert not set_marks(started.domain(), started.tree(), tpm_state=False)


def test_info_tells_everything_and_creates_nothing(started):
    before = started.snapshot()
    (found,) = VmInspector(started.daemon.connection).all()
    assert started.snapshot() == before
    assert (found["name"], found["uuid"], found["state"], found["persistent"]) == ("web1", VM, "running", True)
    assert found["tpm"]["state_exists"] and found["nvram"]["exists"] and found["secrets"] == [SECRET]
    assert found["marks"] == {"tpm_state": True, "nvram": True} and not found["migration_leftover"]
    chosen, missing = VmInspector(started.daemon.connection).chosen(["nobody", VM])
    assert chosen == [found] and missing == ["nobody"]
