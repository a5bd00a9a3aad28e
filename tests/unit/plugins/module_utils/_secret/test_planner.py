# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets against a real libvirt."""
from __future__ import annotations

import base64
import os
import uuid

import pytest

libvirt = pytest.importorskip("libvirt")

from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.errors import TrustedVMError
from ansible_collections.trustedvm.libvirt.plugins.module_utils._secret.planner import SecretPlanner

UUID = "6f0c8a3e-2b1d-5c55-9d0f-0a1b2c3d4e5f"
OTHER = "7f0c8a3e-2b1d-5c55-9d0f-0a1b2c3d4e5f"
VM = "0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11"
USAGE = "trustedvm:vtpm:" + VM

DEFAULTS = {
    "uuid": None,
    "usage": None,
    "usage_type": "vtpm",
    "description": None,
    "private": True,
    "ephemeral": False,
    "value": None,
    "resource_key": None,
    "verify_vm": None,
    "in_use": "refuse",
    "state": "present",
}


def b64(data):
    return base64.b64encode(data).decode()


def item(**options):
    return {**DEFAULTS, **options}


def plan(connection, **options):
    return SecretPlanner(connection).plan(item(**options))


def converge(connection, **options):
    change = plan(connection, **options)
    predicted = change.result()
    change.apply()
    # Check mode tells what the run does; only a UUID that libvirt chose is not foretold.
    assert {**predicted, "uuid": None} == {**change.result(), "uuid": None}
    return change.result()


def refused(connection, **options):
    before = snapshot(connection)
    with pytest.raises(TrustedVMError) as caught:
        plan(connection, **options).apply()
    assert snapshot(connection) == before
    assert "value" not in caught.value.details
    return caught.value


def snapshot(connection):
    """All secrets with their values, as libvirt's own store has them."""
    found = {}
    for secret in connection.listAllSecrets():
        path = connection.path("secrets", secret.UUIDString() + ".base64")
        found[secret.XMLDesc(0)] = open(path, "rb").read() if os.path.exists(path) else None
    return found


def stored(connection, secret_uuid):
    with open(connection.path("secrets", secret_uuid + ".base64"), "rb") as stream:
        return base64.b64decode(stream.read())


KINDS = [
    {"usage_type": "vtpm", "usage": USAGE},
    {"usage_type": "ceph", "usage": "client.admin secret"},
    {"usage_type": "volume", "usage": "/var/lib/disk.luks"},
    {"usage_type": "iscsi", "usage": "iqn.2026-11.example:a"},
    {"usage_type": "tls", "usage": "tls & <key>"},
    {"usage_type": "none"},
]


@pytest.mark.parametrize("ephemeral", [False, True], ids=["persistent", "ephemeral"])
@pytest.mark.parametrize("private", [True, False], ids=["private", "readable"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind["usage_type"])
def test_m1_secret_is_as_asked_and_the_second_run_changes_nothing(libvirt_daemon, kind, private, ephemeral):
    wanted = {"uuid": UUID, "private": private, "ephemeral": ephemeral, "value": b64(b"\x00key\n"), **kind}
    result = converge(libvirt_daemon, **wanted)
    assert (result["changed"], result["outcome"], result["uuid"]) == (True, "created", UUID)
    assert result["value_status"] == "set"
    secret = libvirt_daemon.secretLookupByUUIDString(UUID)
    assert secret.usageID() == kind.get("usage", "")
    again = converge(libvirt_daemon, **wanted)
    assert (again["changed"], again["outcome"]) == (False, "unchanged")
    # A private ephemeral value can be seen by nobody: it is written again, which changes nothing.
    assert again["value_status"] == ("rewritten" if private and ephemeral else "unchanged")
    assert again["steps"] == []


def test_secret_without_uuid_is_found_by_its_usage(libvirt_daemon):
    first = converge(libvirt_daemon, usage=USAGE, value=b64(b"a"))
    assert uuid.UUID(first["uuid"])
    again = converge(libvirt_daemon, usage=USAGE, value=b64(b"a"))
    assert (again["changed"], again["uuid"]) == (False, first["uuid"])


@pytest.mark.parametrize(
    "first, then, status",
    [
        ({"value": b64(b"a")}, {"value": b64(b"b")}, "replaced"),
        ({"value": b64(b"a")}, {}, "not_given"),
        ({}, {"value": b64(b"a")}, "set"),
        ({"private": False}, {"private": False, "value": b64(b"a")}, "set"),
        ({"private": False, "value": b64(b"a")}, {"private": False, "value": b64(b"b")}, "replaced"),
        ({"private": False, "value": b64(b"a")}, {"private": True, "value": b64(b"a")}, "unchanged"),
        ({"ephemeral": True, "value": b64(b"a")}, {"ephemeral": True, "value": b64(b"b")}, "rewritten"),
        ({"ephemeral": True, "value": b64(b"a")}, {"ephemeral": False, "value": b64(b"a")}, "rewritten"),
        ({"ephemeral": False, "value": b64(b"a")}, {"ephemeral": True, "value": b64(b"a")}, "unchanged"),
    ],
)
def test_value_is_compared_where_it_can_be_known(libvirt_daemon, first, then, status):
    converge(libvirt_daemon, uuid=UUID, usage=USAGE, **first)
    result = converge(libvirt_daemon, uuid=UUID, usage=USAGE, **then)
    assert result["value_status"] == status
    redefined = any(first.get(name, default) != then.get(name, default) for name, default in (("private", True), ("ephemeral", False)))
    assert result["changed"] is (redefined or status in ("set", "replaced"))
    if not then.get("ephemeral") and then.get("private", True) and "value" in then:
        assert stored(libvirt_daemon, UUID) == base64.b64decode(then["value"])


def test_encrypted_store_of_newer_libvirt_is_not_read(libvirt_daemon):
    """libvirt 12.1 and newer: .aes256cbc instead of .base64; the value is then unknown, not absent."""
    converge(libvirt_daemon, uuid=UUID, usage=USAGE, value=b64(b"a"))
    base = libvirt_daemon.path("secrets", UUID)
    os.rename(base + ".base64", base + ".aes256cbc")
    try:
        assert plan(libvirt_daemon, uuid=UUID, usage=USAGE, value=b64(b"a")).result()["value_status"] == "rewritten"
    finally:
        os.rename(base + ".aes256cbc", base + ".base64")


def test_description_is_changed_and_kept(libvirt_daemon):
    converge(libvirt_daemon, uuid=UUID, usage=USAGE, description="of web1 & co")
    assert converge(libvirt_daemon, uuid=UUID, usage=USAGE)["changed"] is False
    assert converge(libvirt_daemon, uuid=UUID, usage=USAGE, description="new")["outcome"] == "updated"
    assert "new" in libvirt_daemon.secretLookupByUUIDString(UUID).XMLDesc(0)


def test_m3_usage_taken_by_another_uuid_names_both_and_the_remedy(libvirt_daemon):
    converge(libvirt_daemon, uuid=OTHER, usage=USAGE, value=b64(b"a"))
    error = refused(libvirt_daemon, uuid=UUID, usage=USAGE, value=b64(b"a"))
    assert error.code == "secret_usage_taken"
    assert UUID in str(error) and OTHER in str(error)
    assert "state=absent" in error.hint


def test_m3_usage_taken_between_plan_and_definition(libvirt_daemon):
    change = plan(libvirt_daemon, uuid=UUID, usage=USAGE)
    converge(libvirt_daemon, uuid=OTHER, usage=USAGE)
    with pytest.raises(TrustedVMError) as caught:
        change.apply()
    assert caught.value.code == "secret_usage_taken"
    assert [secret.UUIDString() for secret in libvirt_daemon.listAllSecrets()] == [OTHER]


@pytest.mark.parametrize(
    "first, then",
    [
        ({"usage": "a"}, {"usage": "b"}),
        # libvirt would accept this one and have two vtpm secrets named a.
        ({"usage": "a", "usage_type": "tls"}, {"usage": "a"}),
        ({"usage_type": "none"}, {"usage": "a"}),
    ],
)
def test_m1_secret_for_another_usage_is_refused(libvirt_daemon, first, then):
    converge(libvirt_daemon, uuid=UUID, **first)
    assert refused(libvirt_daemon, uuid=UUID, **then).code == "secret_usage_differs"
    assert refused(libvirt_daemon, uuid=UUID, state="absent", **then).code == "secret_usage_differs"


def test_same_usage_of_another_type_is_another_secret(libvirt_daemon):
    converge(libvirt_daemon, uuid=UUID, usage="a")
    assert converge(libvirt_daemon, uuid=OTHER, usage="a", usage_type="tls")["outcome"] == "created"


@pytest.mark.parametrize(
    "options, code",
    [
        ({}, "identity_missing"),
        ({"uuid": UUID}, "usage_missing"),
        ({"uuid": "not-a-uuid", "usage": "a"}, "uuid_invalid"),
        ({"uuid": UUID, "usage": "a", "usage_type": "none"}, "usage_not_expected"),
        ({"uuid": UUID, "usage": "a\x07"}, "usage_invalid"),
        ({"uuid": UUID, "usage": "a", "description": "\ud800"}, "description_invalid"),
        ({"usage": "a", "resource_key": {"vm": "x"}}, "key_not_resolved"),
        ({"usage": "a", "value": "!!bad!!value!!"}, "value_not_base64"),
        ({"usage": "a", "value": "YQ"}, "value_not_base64"),
        ({"usage": "a", "value": "é"}, "value_not_base64"),
        ({"usage": "a", "value": ""}, "value_empty"),
        ({"usage": "a", "value": b64(b"x" * 65537)}, "value_too_long"),
    ],
)
def test_m6_bad_input_is_one_clear_error(libvirt_daemon, options, code):
    error = refused(libvirt_daemon, **options)
    assert error.code == code
    if options.get("value"):
        assert options["value"][:8] not in str(error)


def test_longest_value(libvirt_daemon):
    converge(libvirt_daemon, uuid=UUID, usage="a", value=b64(b"x" * 65536))
    assert len(stored(libvirt_daemon, UUID)) == 65536


def test_private_stays_private(libvirt_daemon):
    converge(libvirt_daemon, uuid=UUID, usage="a", private=True)
    assert refused(libvirt_daemon, uuid=UUID, usage="a", private=False).code == "secret_private_stays"


def test_two_items_for_one_secret(libvirt_daemon):
    converge(libvirt_daemon, uuid=UUID, usage="a")
    planner = SecretPlanner(libvirt_daemon)
    planner.plan(item(uuid=UUID))
    with pytest.raises(TrustedVMError) as caught:
        planner.plan(item(usage="a"))
    assert caught.value.code == "duplicate_item"


def test_second_item_sees_what_the_first_did(libvirt_daemon):
    planner = SecretPlanner(libvirt_daemon)
    planner.plan(item(uuid=UUID, usage="a")).apply()
    with pytest.raises(TrustedVMError) as caught:
        planner.plan(item(uuid=OTHER, usage="a"))
    assert caught.value.code in ("duplicate_item", "secret_usage_taken")


# Proof on the TPM state


def test_m1_key_opens_the_vms_state(libvirt_daemon, real_states):
    real_states.put(libvirt_daemon.path("qemu", "swtpm"), VM, real_states.encrypted)
    wanted = {"uuid": UUID, "usage": USAGE, "value": b64(real_states.passphrase), "verify_vm": VM}
    assert converge(libvirt_daemon, **wanted)["tpm_state"] == "opened"
    again = converge(libvirt_daemon, **wanted)
    assert (again["changed"], again["tpm_state"]) == (False, "opened")
    # The stored value is proven where the task gives none.
    assert converge(libvirt_daemon, **{**wanted, "value": None})["tpm_state"] == "opened"


def test_m4_wrong_key_leaves_nothing(libvirt_daemon, real_states):
    real_states.put(libvirt_daemon.path("qemu", "swtpm"), VM, real_states.encrypted)
    error = refused(libvirt_daemon, uuid=UUID, usage=USAGE, value=b64(b"wrong"), verify_vm=VM)
    assert error.code == "key_does_not_open_tpm_state"
    assert libvirt_daemon.listAllSecrets() == []


def test_m4_wrong_key_leaves_the_right_one(libvirt_daemon, real_states):
    real_states.put(libvirt_daemon.path("qemu", "swtpm"), VM, real_states.encrypted)
    converge(libvirt_daemon, uuid=UUID, usage=USAGE, value=b64(real_states.passphrase))
    refused(libvirt_daemon, uuid=UUID, usage=USAGE, value=b64(b"wrong"), verify_vm=VM)
    assert stored(libvirt_daemon, UUID) == real_states.passphrase


def test_wrong_key_that_is_stored_is_told_without_a_value(libvirt_daemon, real_states):
    real_states.put(libvirt_daemon.path("qemu", "swtpm"), VM, real_states.encrypted)
    converge(libvirt_daemon, uuid=UUID, usage=USAGE, value=b64(b"wrong"))
    error = refused(libvirt_daemon, uuid=UUID, usage=USAGE, verify_vm=VM)
    assert error.code == "key_does_not_open_tpm_state"


@pytest.mark.parametrize(
    "verify_vm, answer", [(None, "not_checked"), (VM, "none"), (VM.upper(), "none"), ("web1", "!vm_not_found")]
)
def test_vm_without_state_or_unknown(libvirt_daemon, verify_vm, answer):
    wanted = {"uuid": UUID, "usage": USAGE, "value": b64(b"a"), "verify_vm": verify_vm}
    if answer.startswith("!"):
        assert refused(libvirt_daemon, **wanted).code == answer[1:]
    else:
        assert converge(libvirt_daemon, **wanted)["tpm_state"] == answer


def test_plain_state_is_no_state_for_a_key(libvirt_daemon, real_states):
    real_states.put(libvirt_daemon.path("qemu", "swtpm"), VM, real_states.plain)
    error = refused(libvirt_daemon, uuid=UUID, usage=USAGE, value=b64(b"a"), verify_vm=VM)
    assert error.code == "tpm_state_not_encrypted"


# Removal

DOMAIN = """<domain type='qemu'><name>%s</name><uuid>%s</uuid><memory unit='MiB'>16</memory>
<os><type arch='x86_64' machine='q35'>hvm</type></os><devices>%s</devices></domain>"""
TPM = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'><encryption secret='%s'/></backend></tpm>" % UUID
LUKS = """<disk type='file'><driver name='qemu' type='raw'/><source file='/a'><encryption format='luks'>
<secret type='passphrase' uuid='%s'/></encryption></source><target dev='sda' bus='sata'/></disk>""" % UUID
CEPH = """<disk type='network'><driver name='qemu' type='raw'/><auth username='u'><secret type='ceph' usage='%s'/></auth>
<source protocol='rbd' name='a/b'><host name='c'/></source><target dev='sda' bus='sata'/></disk>"""


def test_absent_removes_once(libvirt_daemon):
    converge(libvirt_daemon, uuid=UUID, usage="a", value=b64(b"x"))
    assert converge(libvirt_daemon, uuid=UUID, state="absent")["outcome"] == "removed"
    assert libvirt_daemon.listAllSecrets() == []
    assert os.listdir(libvirt_daemon.path("secrets")) == []
    assert converge(libvirt_daemon, uuid=UUID, state="absent")["outcome"] == "unchanged"
    assert converge(libvirt_daemon, usage="a", state="absent")["outcome"] == "unchanged"


@pytest.mark.parametrize("devices, usage_type", [(TPM, "vtpm"), (LUKS, "volume"), (CEPH % "a", "ceph")], ids=["vtpm", "luks", "ceph"])
def test_m4_secret_that_another_domain_uses_stays(libvirt_daemon, devices, usage_type):
    libvirt_daemon.defineXML(DOMAIN % ("web1", VM, devices))
    converge(libvirt_daemon, uuid=UUID, usage="a", usage_type=usage_type)
    wanted = {"uuid": UUID, "usage": "a", "usage_type": usage_type, "state": "absent"}
    error = refused(libvirt_daemon, **wanted)
    assert error.code == "secret_in_use"
    assert error.details == {"used_by": ["web1"]}
    kept = converge(libvirt_daemon, **wanted, in_use="keep")
    assert (kept["changed"], kept["outcome"], kept["used_by"]) == (False, "kept", ["web1"])
    assert converge(libvirt_daemon, **wanted, in_use="remove")["outcome"] == "removed"


@pytest.mark.parametrize("others", [[], ["web2"]], ids=["alone", "shared"])
def test_check_mode_foretells_the_removal_after_the_vm_is_gone(libvirt_daemon, others):
    """What vm_destroy does: in check mode the VM is still there when the removal of its secret is foretold."""
    for number, name in enumerate(["web1", *others]):
        libvirt_daemon.defineXML(DOMAIN % (name, VM[:-1] + str(number), TPM))
    converge(libvirt_daemon, uuid=UUID, usage="a")
    wanted = item(uuid=UUID, state="absent", in_use="keep", released_by=[(VM[:-1] + "0").upper()])
    predicted = SecretPlanner(libvirt_daemon, check_mode=True).plan(wanted).result()
    # Only foretelling: a VM that is still there in the real run keeps its secret.
    assert SecretPlanner(libvirt_daemon).plan(wanted).result()["outcome"] == "kept"
    libvirt_daemon.lookupByName("web1").undefine()
    assert converge(libvirt_daemon, **wanted) == predicted
    assert (predicted["outcome"], predicted["used_by"]) == (("kept", others) if others else ("removed", []))


def test_secret_of_the_same_usage_name_but_another_type_is_not_in_use(libvirt_daemon):
    libvirt_daemon.defineXML(DOMAIN % ("web1", VM, CEPH % "a"))
    converge(libvirt_daemon, uuid=OTHER, usage="a", usage_type="tls")
    assert converge(libvirt_daemon, uuid=OTHER, state="absent")["outcome"] == "removed"


# What goes wrong on the way


class Failing:
    """A connection on which one call fails with libvirt's own error."""

    def __init__(self, connection, call, code=None):
        self._connection = connection
        self._call = call
        self._code = code or libvirt.VIR_ERR_INTERNAL_ERROR

    def __getattr__(self, name):
        value = getattr(self._connection, name)
        return self._fail if name == self._call else value

    def _fail(self, *_arguments):
        error = libvirt.libvirtError("made to fail")
        error.err = (self._code, 0, "made to fail", 2, None, None, None, -1, -1)
        raise error


def fail_at(connection, change, call):
    """Make ``call`` fail in the steps of a change that was planned on the real connection."""
    writer = change.undo.__self__
    writer._connection = Failing(connection, call)
    with pytest.raises(TrustedVMError) as caught:
        change.apply()
    writer._connection = connection
    return caught.value


def test_m4_new_secret_goes_when_a_later_step_fails(libvirt_daemon):
    change = plan(libvirt_daemon, uuid=UUID, usage="a", value=b64(b"x"))
    error = fail_at(libvirt_daemon, change, "secretLookupByUUIDString")
    assert error.code == "secret_not_as_asked"
    assert libvirt_daemon.listAllSecrets() == []
    assert change.left_changed is False


def test_m4_existing_secret_is_put_back_when_a_later_step_fails(libvirt_daemon):
    converge(libvirt_daemon, uuid=UUID, usage="a", value=b64(b"old"), description="old")
    before = snapshot(libvirt_daemon)
    change = plan(libvirt_daemon, uuid=UUID, usage="a", value=b64(b"new"), description="new")
    fail_at(libvirt_daemon, change, "secretLookupByUUIDString")
    assert snapshot(libvirt_daemon) == before


def test_value_that_cannot_be_put_back_is_told(libvirt_daemon):
    converge(libvirt_daemon, uuid=UUID, usage="a", value=b64(b"old"), ephemeral=True)
    change = plan(libvirt_daemon, uuid=UUID, usage="a", value=b64(b"new"), ephemeral=True)
    error = fail_at(libvirt_daemon, change, "secretLookupByUUIDString")
    assert error.code == "secret_not_as_asked"  # the first error is the one reported
    assert change.left_changed is True
    assert "cannot be put back" in change.details["undo_failed"]


def test_value_shows_nowhere(libvirt_daemon):
    secret_text = b"SuperSecretPassphrase"
    planner = SecretPlanner(libvirt_daemon)
    change = planner.plan(item(uuid=UUID, usage="a", value=b64(secret_text)))
    change.apply()
    again = SecretPlanner(libvirt_daemon).plan(item(uuid=UUID, usage="a", value=b64(b"other")))
    for shown in (change, again):
        text = repr((shown, shown.result(), shown.diff()))
        assert "SuperSecret" not in text
        assert b64(secret_text) not in text
