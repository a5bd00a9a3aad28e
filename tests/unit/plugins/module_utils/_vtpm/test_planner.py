# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vTPMs of real domains on a real libvirt; the states are real ones of swtpm."""
from __future__ import annotations

import base64
import os

import pytest

libvirt = pytest.importorskip("libvirt")

from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.domains import definition
from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.errors import TrustedVMError
from ansible_collections.trustedvm.libvirt.plugins.module_utils._domain.metadata import read_marks, set_marks
from ansible_collections.trustedvm.libvirt.plugins.module_utils._tpm.device import read_tpm
from ansible_collections.trustedvm.libvirt.plugins.module_utils._vtpm.info import read_all
from ansible_collections.trustedvm.libvirt.plugins.module_utils._vtpm.planner import VtpmPlanner

SECRET = "6f0c8a3e-2b1d-5c55-9d0f-0a1b2c3d4e5f"
OTHER_SECRET = "7f0c8a3e-2b1d-5c55-9d0f-0a1b2c3d4e5f"
VM = "0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11"

DEFAULTS = {
    "vm": "web1",
    "state": "present",
    "model": None,
    "encrypted": True,
    "secret_uuid": None,
    "value": None,
    "resource_key": None,
    "require_state": False,
    "remove_state": False,
    "moved": False,
    "accept_data_loss": False,
    "reset_id": None,
}

DOMAIN = """<domain type='qemu'><name>web1</name><uuid>%s</uuid><title>kept</title><memory unit='MiB'>48</memory>
<os><type arch='x86_64' machine='q35'>hvm</type></os><devices><graphics type='vnc' passwd='kept'><listen type='socket'/></graphics>%s</devices></domain>"""


def tpm(secret=SECRET, model="tpm-crb", persistent="persistent_state='yes'", version="2.0"):
    encryption = "<encryption secret='%s'/>" % secret if secret else ""
    return "<tpm model='%s'><backend type='emulator' version='%s' %s>%s</backend></tpm>" % (model, version, persistent, encryption)


class Host:
    """One VM on a real libvirt, and shortcuts to what the tests ask of it."""

    def __init__(self, daemon, states):
        self.daemon = daemon
        self.states = states
        self.directory = daemon.path("qemu", "swtpm")

    def define(self, devices=""):
        return self.daemon.defineXML(DOMAIN % (VM, devices))

    def domain(self):
        return self.daemon.lookupByName("web1")

    def device(self):
        return read_tpm(definition(self.domain()))

    def put(self, kind):
        data = {"truncated": self.states.encrypted[:999]}.get(kind) or getattr(self.states, kind)
        return self.states.put(self.directory, VM, data)

    def value(self):
        return base64.b64encode(self.states.passphrase).decode()

    def secret(self, value=None):
        xml = "<secret ephemeral='no' private='yes'><uuid>%s</uuid><usage type='vtpm'><name>a</name></usage></secret>" % SECRET
        self.daemon.secretDefineXML(xml).setValue(value or self.states.passphrase)

    def plan(self, **options):
        return VtpmPlanner(self.daemon).plan({**DEFAULTS, **options})

    def converge(self, **options):
        """Apply, and hold the run against what check mode and diff said, and a second run against the first."""
        change = self.plan(**options)
        predicted, diff = change.result(), change.diff()
        change.apply()
        assert change.result() == predicted
        if options.get("state") != "reset":
            again = self.plan(**options)
            assert again.changed is False, again.steps
            assert again.diff()["before"] == again.diff()["after"] == diff["after"]
        return predicted

    def refused(self, **options):
        """A refusal changes nothing."""
        before = self.snapshot()
        with pytest.raises(TrustedVMError) as caught:
            self.plan(**options).apply()
        assert self.snapshot() == before
        return caught.value

    def snapshot(self):
        files = {}
        for directory, _names, names in os.walk(self.directory):
            files.update((os.path.join(directory, name), open(os.path.join(directory, name), "rb").read()) for name in names)
        # VIR_DOMAIN_XML_SECURE: with the VNC password.
        return [domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE) for domain in self.daemon.listAllDomains()], files

    def state(self):
        return read_all(self.daemon, [{"vm": VM, "value": None, "resource_key": None}])[0]["tpm_state"]

    def entries(self):
        return sorted(entry.partition(".")[2].rpartition("-")[0] for entry in os.listdir(self.directory))


@pytest.fixture
def host(libvirt_daemon, real_states):
    return Host(libvirt_daemon, real_states)


# present


@pytest.mark.parametrize(
    "devices, options, outcome, device",
    [
        ("", {"secret_uuid": SECRET}, "created", ("tpm-crb", SECRET)),
        ("", {"secret_uuid": SECRET.upper(), "model": "tpm-tis"}, "created", ("tpm-tis", SECRET)),
        ("", {"encrypted": False}, "created", ("tpm-crb", None)),
        (tpm(), {}, "unchanged", ("tpm-crb", SECRET)),
        (tpm(), {"secret_uuid": SECRET}, "unchanged", ("tpm-crb", SECRET)),
        (tpm(model="tpm-tis"), {}, "unchanged", ("tpm-tis", SECRET)),
        (tpm(), {"secret_uuid": OTHER_SECRET}, "updated", ("tpm-crb", OTHER_SECRET)),
        (tpm(), {"model": "tpm-tis"}, "updated", ("tpm-tis", SECRET)),
        (tpm(persistent=""), {}, "updated", ("tpm-crb", SECRET)),
        (tpm(persistent="persistent_state='no'"), {}, "updated", ("tpm-crb", SECRET)),
        (tpm(), {"encrypted": False}, "updated", ("tpm-crb", None)),
        (tpm(secret=None), {"secret_uuid": SECRET}, "updated", ("tpm-crb", SECRET)),
    ],
)
def test_device_is_as_asked(host, devices, options, outcome, device):
    host.define(devices)
    result = host.converge(**options)
    assert (result["outcome"], result["vm"], result["uuid"]) == (outcome, "web1", VM)
    found = host.device()
    assert (found.model, found.secret_uuid) == device
    assert found.persistent_state
    assert result["device"] == found.as_result()
    xml = host.domain().XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE)
    assert "<title>kept</title>" in xml and "passwd='kept'" in xml


@pytest.mark.parametrize("vm", [VM, VM.upper(), "web1"])
def test_vm_by_name_or_uuid(host, vm):
    host.define(tpm())
    assert host.converge(vm=vm)["vm"] == "web1"


@pytest.mark.parametrize(
    "options, code",
    [
        ({"vm": "nowhere"}, "vm_not_found"),
        ({"vm": VM[:-1] + "2"}, "vm_not_found"),
        ({"vm": ""}, "identity_missing"),
        ({}, "secret_uuid_missing"),
        ({"secret_uuid": "x"}, "uuid_invalid"),
        ({"secret_uuid": SECRET, "encrypted": False}, "secret_uuid_not_expected"),
        ({"resource_key": {"vm": VM}}, "key_not_resolved"),
        ({"value": "!", "secret_uuid": SECRET}, "value_not_base64"),
        ({"state": "reset"}, "vtpm_not_found"),
        ({"moved": True, "secret_uuid": SECRET}, "moved_not_expected"),
        ({"moved": True, "state": "absent"}, "uuid_invalid"),
        ({"moved": True, "state": "absent", "vm": VM}, "vm_defined_here"),
    ],
)
def test_m6_bad_input_is_one_clear_error(host, options, code):
    host.define()
    assert host.refused(**options).code == code


def test_m5_unencrypted_device_is_kept_only_where_it_is_asked_for(host):
    host.define(tpm(secret=None))
    assert host.refused().code == "secret_uuid_missing"
    assert host.converge(encrypted=False)["outcome"] == "unchanged"


@pytest.mark.parametrize(
    "state, options, answer",
    [
        (None, {}, "none"),
        (None, {"value": True}, "none"),
        (None, {"require_state": True}, "!tpm_state_missing"),
        ("encrypted", {"value": True}, "opened"),
        ("encrypted", {}, "not_checked"),
        ("encrypted", {"value": "d3Jvbmc="}, "!key_does_not_open_tpm_state"),
        ("encrypted", {"encrypted": False, "secret_uuid": None}, "!tpm_state_encrypted"),
        ("plain", {"value": True}, "!tpm_state_not_encrypted"),
        ("plain", {}, "!tpm_state_not_encrypted"),
        ("plain", {"encrypted": False, "secret_uuid": None}, "plain"),
        ("truncated", {"value": True}, "!tpm_state_damaged"),
    ],
)
@pytest.mark.parametrize("devices", ["", tpm()], ids=["new device", "same device"])
def test_m1_state_is_held_against_device_and_key(host, devices, state, options, answer):
    host.define(devices)
    if state:
        host.put(state)
    options = {"secret_uuid": SECRET, **options}
    if options.get("value") is True:
        options["value"] = host.value()
    if answer.startswith("!"):
        assert host.refused(**options).code == answer[1:]
    else:
        assert host.converge(**options)["tpm_state"] == answer


@pytest.mark.parametrize("right", [True, False])
def test_stored_secret_is_tried_where_no_value_is_given(host, right):
    host.define(tpm())
    host.put("encrypted")
    host.secret(None if right else b"wrong")
    if right:
        assert host.converge()["tpm_state"] == "opened"
    else:
        assert host.refused().code == "key_does_not_open_tpm_state"


def test_empty_directory_goes_because_old_libvirt_makes_a_broken_tpm_in_it(host):
    host.define(tpm())
    os.makedirs(os.path.join(host.directory, VM, "tpm2"))
    result = host.converge()
    assert result["steps"] == ["remove empty TPM state directory"]
    assert os.listdir(host.directory) == []


def test_other_device_is_not_converted(host):
    host.define("<tpm model='tpm-tis'><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>")
    assert host.refused(secret_uuid=SECRET).code == "vtpm_backend_differs"


def test_two_items_for_one_vm(host):
    host.define(tpm())
    planner = VtpmPlanner(host.daemon)
    planner.plan({**DEFAULTS, "vm": "web1"})
    with pytest.raises(TrustedVMError) as caught:
        planner.plan({**DEFAULTS, "vm": VM})
    assert caught.value.code == "duplicate_item"


# absent


def test_device_without_state_is_removed(host):
    host.define(tpm())
    assert host.converge(state="absent")["outcome"] == "removed"
    assert host.device() is None


def test_state_is_removed_only_when_told(host):
    host.define(tpm())
    host.put("encrypted")
    error = host.refused(state="absent")
    assert error.code == "tpm_state_would_be_lost"
    assert "remove_state=true" in error.hint
    result = host.converge(state="absent", remove_state=True)
    assert result["steps"] == ["set aside TPM state", "remove vTPM device", "remove TPM state"]
    assert host.device() is None
    assert os.listdir(host.directory) == []


def test_state_is_put_back_when_the_definition_fails(host):
    host.define(tpm())
    host.put("encrypted")
    before = host.snapshot()
    change = host.plan(state="absent", remove_state=True)
    # libvirt refuses: another definition has taken the name meanwhile.
    host.domain().undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_KEEP_TPM)
    host.daemon.defineXML(DOMAIN.replace("<graphics type='vnc' passwd='kept'><listen type='socket'/></graphics>", "") % (VM[:-1] + "2", ""))
    with pytest.raises(libvirt.libvirtError):
        change.apply()
    assert host.snapshot()[1] == before[1]
    assert "undo_failed" in change.details  # the old definition cannot come back either, and that is told


def test_c3_removal_can_be_repeated_after_the_vm_is_gone(host):
    host.put("encrypted")
    assert host.refused(vm=VM, state="absent").code == "tpm_state_would_be_lost"
    assert host.converge(vm=VM, state="absent", remove_state=True)["outcome"] == "removed"
    assert os.listdir(host.directory) == []
    assert host.converge(vm=VM, state="absent")["outcome"] == "unchanged"
    assert host.refused(vm="web1", state="absent").code == "vm_not_found"


def test_copy_that_a_moved_vm_left_goes_without_consent(host):
    host.put("encrypted")
    assert host.converge(vm=VM, state="absent", moved=True)["outcome"] == "removed"
    assert os.listdir(host.directory) == []
    assert host.converge(vm=VM, state="absent", moved=True)["outcome"] == "unchanged"


# reset


def test_reset_needs_consent_and_keeps_a_copy_until_the_new_state_is_proven(host):
    host.define(tpm())
    host.put("encrypted")
    assert host.refused(state="reset").code == "data_loss_not_accepted"
    result = host.converge(state="reset", accept_data_loss=True)
    assert (result["outcome"], result["tpm_state"]) == ("reset", "none")
    assert host.entries() == ["trustedvm-reset"]
    assert host.state()["reset_pending"] is True
    # Pending: the second run changes nothing, and a required state is not missed.
    assert host.converge(state="reset", accept_data_loss=True)["outcome"] == "unchanged"
    assert host.converge(require_state=True)["tpm_state"] == "none"
    # The VM has made a new state; with the wrong key it is not proven, so the copy stays.
    host.put("encrypted")
    assert host.refused(value="d3Jvbmc=").code == "key_does_not_open_tpm_state"
    assert host.converge()["tpm_state"] == "not_checked"
    assert host.entries() == ["trustedvm-reset", ""][::-1]
    result = host.converge(value=host.value())
    assert (result["changed"], result["steps"]) == (True, ["remove set-aside TPM state"])
    assert os.listdir(host.directory) == [VM]


def test_reset_id_resets_once_however_often_the_vm_was_started(host):
    host.define(tpm())
    host.put("encrypted")
    wanted = {"state": "reset", "accept_data_loss": True, "reset_id": "ticket <1>"}
    assert host.converge(**wanted)["steps"] == ["set aside TPM state", "note the reset"]
    host.put("encrypted")
    before = host.snapshot()
    result = host.converge(**wanted)
    assert (result["outcome"], result["reset_id"]) == ("unchanged", "ticket <1>")
    assert host.snapshot() == before
    # Other work on the device keeps the note; another name is another reset.
    host.converge(model="tpm-tis")
    assert host.converge(**wanted)["outcome"] == "unchanged"
    assert host.converge(**{**wanted, "reset_id": "ticket 2"})["outcome"] == "reset"


def test_reset_without_state_is_noted_so_that_it_is_not_made_up_for_later(host):
    host.define(tpm())
    result = host.converge(state="reset", accept_data_loss=True, reset_id="a")
    assert result["steps"] == ["note the reset"]
    host.put("encrypted")
    assert host.converge(state="reset", accept_data_loss=True, reset_id="a")["outcome"] == "unchanged"


def test_reset_takes_away_the_mark_of_a_state(host):
    host.define(tpm())
    set_marks(host.domain(), definition(host.domain()), tpm_state=True, nvram=True)
    host.put("encrypted")
    host.converge(state="reset", accept_data_loss=True)
    marks = read_marks(definition(host.domain()))
    assert (marks.tpm_state, marks.tpm_reset, marks.nvram) == (False, True, True)


def test_copy_of_an_earlier_reset_excuses_nothing(host):
    """It stays until the new state is proven; a state that then vanishes is missed all the same."""
    host.define(tpm())
    host.put("encrypted")
    host.converge(state="reset", accept_data_loss=True)
    set_marks(host.domain(), definition(host.domain()), tpm_state=True)
    assert host.entries() == ["trustedvm-reset"] and host.state()["reset_pending"] is False
    assert host.refused(require_state=True).code == "tpm_state_missing"


def test_lost_state_is_given_up_by_name_and_then_not_missed(host):
    host.define(tpm())
    set_marks(host.domain(), definition(host.domain()), tpm_state=True)
    for options in ({"state": "reset"}, {"state": "absent"}):
        error = host.refused(**options)
        assert error.code in ("data_loss_not_accepted", "tpm_state_would_be_lost") and "mounted" in str(error)
    assert host.converge(state="reset", accept_data_loss=True)["steps"] == ["note the reset"]
    assert host.state()["reset_pending"] is True
    assert host.converge(require_state=True)["tpm_state"] == "none"
    assert host.converge(state="reset")["outcome"] == "unchanged"
    assert host.converge(state="absent")["outcome"] == "removed"


def test_reset_works_where_the_key_is_lost_or_the_state_damaged(host):
    host.define(tpm())
    host.put("truncated")
    assert host.converge(state="reset", accept_data_loss=True)["outcome"] == "reset"


# A VM that runs


@pytest.fixture
def running(host):
    """A VM that runs under QEMU with a vTPM that a real swtpm keeps, encrypted."""
    host.secret()
    host.define(tpm())
    host.domain().create()
    return host


def test_running_vm(running):
    host = running
    # Its state is read safely, and what is as asked needs no change.
    assert host.converge(value=host.value(), require_state=True)["tpm_state"] == "opened"
    assert host.converge()["tpm_state"] == "opened"
    assert host.refused(value="d3Jvbmc=").code == "key_does_not_open_tpm_state"
    for options in (
        {"model": "tpm-tis"},
        {"state": "absent", "remove_state": True},
        {"state": "reset", "accept_data_loss": True},
    ):
        error = host.refused(**options)
        assert (error.code, error.found) == ("vm_running", "state running")
    found = read_all(host.daemon, None)[0]
    assert (found["active"], found["tpm_state"]["status"], found["tpm_state"]["encrypted"]) == (True, "present", True)
    # swtpm holds its lock: even after the definition is gone, the state of what runs is not taken away.
    host.domain().undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_KEEP_TPM)
    assert host.refused(state="absent", remove_state=True).code == "vm_running"


def test_reset_gives_the_guest_a_new_tpm_and_present_then_drops_the_copy(running):
    host = running
    host.domain().destroy()
    old = host.state()["sha256"]
    host.converge(state="reset", accept_data_loss=True, reset_id="a")
    host.domain().create()
    assert host.state()["sha256"] != old
    assert host.converge()["steps"] == ["remove set-aside TPM state"]
    assert host.converge(state="reset", accept_data_loss=True, reset_id="a")["outcome"] == "unchanged"


def test_managed_save_holds_the_old_device(running):
    host = running
    host.domain().managedSave()
    for options in ({"model": "tpm-tis"}, {"state": "reset", "accept_data_loss": True}):
        assert host.refused(**options).code == "managed_save_present"
    assert host.converge()["tpm_state"] == "opened"


# info


def test_info_of_one_vm(host):
    host.define(tpm())
    host.put("encrypted")
    entry = read_all(host.daemon, [{"vm": "web1", "value": host.value(), "resource_key": None}])[0]
    assert entry["key_opens"] is True
    assert entry["tpm_state"]["bytes"] == len(host.states.encrypted)
    assert entry["tpm_state"]["path"] == os.path.join(host.directory, VM, "tpm2")
    assert entry["device"]["secret_uuid"] == SECRET
    wrong = read_all(host.daemon, [{"vm": "web1", "value": "d3Jvbmc=", "resource_key": None}])[0]
    assert wrong["key_opens"] is False


@pytest.mark.parametrize("state, status", [(None, "absent"), ("plain", "present"), ("truncated", "damaged")])
def test_info_of_all_vms_tells_of_each_state(host, state, status):
    host.define(tpm())
    if state:
        host.put(state)
    (entry,) = read_all(host.daemon, None)
    assert entry["tpm_state"]["status"] == status
    assert entry["key_opens"] is None
    assert ("error_code" in entry["tpm_state"]) == (status == "damaged")


def test_info_tries_every_vm(host):
    host.define()
    missing, found = read_all(host.daemon, [{"vm": "nowhere"}, {"vm": "web1"}])
    assert (missing["failed"], missing["error_code"], missing["vm"]) == (True, "vm_not_found", "nowhere")
    assert found["device"] is None
