# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import hashlib
import os
import shutil

import libvirt
import pytest
from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.errors import TrustedVMError
from ansible_collections.trustedvm.libvirt.plugins.module_utils._migration.destination import Destinations
from ansible_collections.trustedvm.libvirt.plugins.module_utils._migration.planner import MigrationPlanner
from ansible_collections.trustedvm.libvirt.plugins.module_utils._migration.remote_files import INCOMING
from ansible_collections.trustedvm.libvirt.tests.unit.plugins.module_utils._migration.fakes import (
    OTHER_UUID,
    VM_UUID,
    FakeDomain,
    FakeSecret,
    Pair,
    domain_xml,
    libvirt_error,
    options,
)

OFF = (5, 1)
KEEP = libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_KEEP_TPM


@pytest.fixture
def off(pair):
    """Two hosts; the VM web1 is shut off on the first."""
    return shut_off(pair)


def shut_off(pair):
    pair.vm.now = OFF
    return pair


def state_file(pair):
    return os.path.join(pair.tpm_directory, "tpm2-00.permall")


def plan(pair, check_mode=False, **given):
    planner = MigrationPlanner(pair.source, Destinations(pair.connect), check_mode)
    return planner.plan(options(**{"mode": "auto", **given}))


def refused(pair, **given):
    with pytest.raises(TrustedVMError) as caught:
        plan(pair, **given)
    assert not pair.destination.domains or pair.destination.domains[0].name() != "web1" or pair.vm in pair.source.domains
    return caught.value


def failed(change):
    with pytest.raises(TrustedVMError) as caught:
        change.apply()
    return caught.value


def tree(root):
    """All files and directories below, with their contents."""
    found = {}
    for directory, names, files in os.walk(root):
        found.update({os.path.join(directory, name): None for name in names})
        for name in files:
            with open(os.path.join(directory, name), "rb") as stream:
                found[os.path.join(directory, name)] = stream.read()
    return found


def arrived(pair):
    """NVRAM and TPM state on the destination, None for what it lacks."""
    there = tree(pair.destination.root)
    return [there.get(pair.destination.root + path) for path in (pair.nvram, state_file(pair))]


def write(path, content):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as stream:
        stream.write(content)


def defined_on_both(pair, **attributes):
    there = pair.destination.add(FakeDomain(pair.destination, pair.vm.xml, OFF))
    for name, value in attributes.items():
        setattr(there, name, value)
    return there


def copied(pair):
    pair.own_copy(pair.nvram, b"state")
    pair.own_copy(state_file(pair), b"state")


def test_success(off):
    off.vm.starts_at_boot = 1
    before = tree(off.source.root)
    change = plan(off)
    change.apply()
    result = change.result()
    assert result["steps"] == ["copy NVRAM to hv2", "copy TPM state to hv2", "define on hv2", "undefine on hv1"]
    assert (result["outcome"], result["mode"], result["running_on"]) == ("migrated", "cold", "neither")
    assert arrived(off) == [b"state", b"state"] and tree(off.source.root) == before
    assert result["digests"] == {kind: hashlib.sha256(b"state").hexdigest() for kind in ("nvram", "tpm_state")}
    assert result["bytes"] == {"nvram": 5, "tpm_state": 5}
    assert set(result["timings"]) == {"preflight_s", "copy_s", "define_s", "total_s"}
    assert off.source.domains == [] and off.vm.undefined_with & KEEP == KEEP
    there = off.destination.domains[0]
    assert there.UUIDString() == VM_UUID and there.starts_at_boot == 1
    assert off.destination.defined_with & libvirt.VIR_DOMAIN_DEFINE_VALIDATE
    assert not off.vm.calls, "libvirt's own offline migration deletes the TPM state"
    assert [one["kind"] for one in result["source_leftovers"]] == ["nvram", "tpm_state"]
    assert not [name for name in tree(off.destination.root) if "trustedvm-" in name]


def test_check_mode_predicts_and_changes_nothing(off):
    before = tree(off.destination.root)
    predicted = plan(off, check_mode=True, clean_source=True)
    assert tree(off.destination.root) == before
    done = plan(off, clean_source=True)
    done.apply()
    assert predicted.diff() == done.diff() and predicted.diff()["before"] == {"host": "hv1", "state": "stopped"}
    for field in ("changed", "outcome", "steps", "mode", "nvram", "tpm_state"):
        assert predicted.result()[field] == done.result()[field]


def test_second_run_changes_nothing(off):
    plan(off).apply()
    change = plan(off, vm=VM_UUID)
    assert (change.changed, change.result()["outcome"], change.result()["running_on"]) == (False, "already_there", "neither")


def test_clean_source(off):
    change = plan(off, clean_source=True)
    assert [step.what for step in change.steps][-1] == "clean hv1"
    change.apply()
    assert [one["kind"] for one in change.result()["source_removed"]] == ["nvram", "tpm_state", "secret"]
    assert not os.path.exists(off.nvram) and not os.path.exists(off.tpm_directory) and off.source.secrets == []
    assert arrived(off) == [b"state", b"state"]
    assert not plan(off, vm=VM_UUID, clean_source=True).changed


def test_a_later_run_cleans_what_has_an_equal_copy(off):
    plan(off).apply()
    change = plan(off, vm=VM_UUID, clean_source=True)
    assert change.result()["outcome"] == "cleaned"
    change.apply()
    assert not os.path.exists(off.nvram) and not os.path.exists(off.tpm_directory)


@pytest.mark.parametrize("there", [None, b"a new TPM"], ids=["missing", "another"])
def test_the_only_tpm_state_is_never_cleaned(off, there):
    """libvirt's offline migration moves the definition only; then what is here is all there is."""
    plan(off).apply()
    if there is None:
        shutil.rmtree(off.destination.root + off.tpm_directory)
    else:
        off.own_copy(state_file(off), there)
    change = plan(off, vm=VM_UUID, clean_source=True)
    change.apply()
    assert os.path.exists(state_file(off)) and off.source.secrets and not os.path.exists(off.nvram)
    reasons = {one["kind"]: one["reason"] for one in change.result()["source_leftovers"]}
    assert "only one" in reasons["tpm_state"] and "needs it" in reasons["secret"]


def test_what_both_share_is_neither_copied_nor_deleted(off):
    off.share(os.path.dirname(off.nvram))
    off.share(off.tpm_directory)
    before = tree(off.source.root)
    change = plan(off, clean_source=True)
    change.apply()
    assert change.result()["steps"] == ["define on hv2", "undefine on hv1", "clean hv1"]
    assert tree(off.source.root) == before and change.result()["bytes"] == {"nvram": 0, "tpm_state": 0}


def test_the_definition_may_stay(off):
    change = plan(off, undefine_source=False)
    change.apply()
    assert change.result()["steps"][-1] == "define on hv2" and off.source.domains == [off.vm]
    assert not plan(off, undefine_source=False).changed


def test_a_live_migration_of_one_that_is_off_says_what_to_do(off):
    error = refused(off, mode="live")
    assert error.code == "vm_not_running" and "mode=cold" in error.hint


def runs(pair):
    pair.vm.now = (1, 1)


def managed_save(pair):
    pair.vm.managed_save = 1


def snapshots(pair):
    pair.vm.snapshots = 2


def checkpoints(pair):
    pair.vm.checkpoints = ["c1"]


def nothing_to_be_seen(pair):
    pair.destination.pool_error = libvirt_error(libvirt.VIR_ERR_ACCESS_DENIED, "access denied")


def other_nvram(pair):
    pair.own_copy(pair.nvram, b"another VM's life")


def other_tpm(pair):
    pair.own_copy(state_file(pair), b"another TPM")


def another_file_in_the_tpms_directory(pair):
    pair.own_copy(os.path.join(pair.tpm_directory, "tpm2-00.volatilestate"))


def state_there_but_not_here(pair):
    os.unlink(state_file(pair))
    other_tpm(pair)


def defined_there_with_other_state(pair):
    defined_on_both(pair)
    copied(pair)
    other_tpm(pair)


def defined_there_without_state(pair):
    defined_on_both(pair)


def namesake(pair):
    pair.destination.add(FakeDomain(pair.destination, domain_xml("/", uuid=OTHER_UUID), OFF))


def no_secret(pair):
    pair.destination.secrets.clear()


def same_host(pair):
    pair.destination.uuid = pair.source.uuid
    pair.destination.domains = pair.source.domains


def mark(pair, what):
    mark_xml = "<metadata><t:vm xmlns:t='https://github.com/trustedvm/trustedvm.libvirt/domain/1'>%s</t:vm></metadata>" % what
    pair.vm.xml = pair.vm.xml.replace("<os>", mark_xml + "<os>")


def lost_tpm_state(pair):
    mark(pair, "<t:tpm state='made'/>")
    os.unlink(state_file(pair))


def lost_nvram(pair):
    mark(pair, "<t:nvram state='used'/>")
    os.unlink(pair.nvram)


def with_disk(pair, path, shared=False):
    disk = "<disk type='file' device='disk'><source file='%s'/><target dev='vda'/></disk>" % path
    pair.vm.xml = pair.vm.xml.replace("<devices>", "<devices>" + disk)
    write(path, b"disk")
    if shared:
        pair.share(os.path.dirname(path))
    return path


def disk_missing(pair):
    with_disk(pair, pair.source.root + "/disks/web1.img")


def disk_of_the_same_name(pair):
    pair.own_copy(with_disk(pair, pair.source.root + "/disks/web1.img"))


@pytest.mark.parametrize(
    "spoil, code",
    [
        (runs, "vm_running"),
        (managed_save, "managed_save_exists"),
        (snapshots, "snapshots_exist"),
        (checkpoints, "checkpoints_exist"),
        (nothing_to_be_seen, "nvram_sharing_unknown"),
        (other_nvram, "destination_state_in_the_way"),
        (other_tpm, "destination_state_in_the_way"),
        (another_file_in_the_tpms_directory, "destination_state_in_the_way"),
        (state_there_but_not_here, "destination_state_in_the_way"),
        (defined_there_with_other_state, "vm_already_on_destination"),
        (defined_there_without_state, "vm_already_on_destination"),
        (namesake, "vm_name_taken"),
        (no_secret, "destination_secret_missing"),
        (same_host, "same_host"),
        (lost_tpm_state, "tpm_state_missing"),
        (lost_nvram, "nvram_missing"),
        (disk_missing, "disk_not_on_destination"),
        (disk_of_the_same_name, "disk_not_shared"),
    ],
)
def test_refused_before_anything_moves(off, spoil, code):
    spoil(off)
    source, destination = tree(off.source.root), tree(off.destination.root)
    error = refused(off, mode="cold")
    assert error.code == code and error.hint
    assert off.vm in off.source.domains
    assert (tree(off.source.root), tree(off.destination.root)) == (source, destination)


def test_all_obstacles_at_once(off):
    for spoil in (managed_save, snapshots, no_secret):
        spoil(off)
    codes = [one["error_code"] for one in refused(off).details["obstacles"]]
    assert codes == ["managed_save_exists", "snapshots_exist", "destination_secret_missing"]


def test_a_transient_vm_cannot_be_off(off):
    assert refused(off, persist_destination=False).code == "invalid_option"
    assert refused(off, mode="cold", persist_destination=False).code == "invalid_option"


def test_a_shared_disk_is_reached(off):
    with_disk(off, off.source.root + "/shared/web1.img", shared=True)
    plan(off).apply()
    assert off.destination.domains


def test_a_copied_disk_is_the_operators_word(off):
    disk_of_the_same_name(off)
    assert plan(off, unsafe=True).changed


def test_a_cdrom_may_be_a_copy(off):
    path = with_disk(off, off.source.root + "/iso/debian.iso")
    off.vm.xml = off.vm.xml.replace("device='disk'", "device='cdrom'")
    assert refused(off).code == "disk_not_on_destination"
    off.own_copy(path)
    assert plan(off).changed


def test_the_key_is_tried_on_the_source_and_on_the_copy(off, real_states, monkeypatch):
    real_states.put(os.path.dirname(os.path.dirname(off.tpm_directory)), VM_UUID, real_states.encrypted)
    right = base64.b64encode(real_states.passphrase).decode()
    assert refused(off, value=base64.b64encode(b"another").decode()).code == "key_does_not_open_tpm_state"
    tried = []
    from ansible_collections.trustedvm.libvirt.plugins.module_utils._migration import cold

    monkeypatch.setattr(cold, "opens_with", lambda location, data, value: tried.append((data, value)) or False)
    change = plan(off, value=right)
    error = failed(change)
    assert error.code == "key_does_not_open_tpm_state" and arrived(off) == [None, None]
    with open(state_file(off), "rb") as stream:
        assert tried == [(stream.read(), real_states.passphrase)]
    monkeypatch.undo()
    change = plan(off, value=right)
    change.apply()
    assert change.result()["key_opens"] is True


def test_equal_copies_are_adopted(off):
    copied(off)
    change = plan(off)
    change.apply()
    assert change.result()["steps"] == ["define on hv2", "undefine on hv1"]
    assert change.result()["bytes"] == {"nvram": 0, "tpm_state": 0}


def test_defined_at_both_with_equal_state_is_finished(off):
    """An earlier run was killed before it undefined the VM on the source."""
    copied(off)
    off.vm.starts_at_boot = 1
    there = defined_on_both(off)
    no_secret(off)
    change = plan(off, clean_source=True)
    assert change.result()["steps"] == ["set autostart on hv2", "undefine on hv1", "clean hv1"]
    change.apply()
    assert off.source.domains == [] and off.destination.domains == [there] and there.starts_at_boot == 1
    assert arrived(off) == [b"state", b"state"] and not os.path.exists(off.nvram)


def test_a_vm_started_on_the_source_meanwhile_goes_nowhere(off):
    change = plan(off)
    for step in change.steps[:-1]:
        step.do()
    off.vm.now = (1, 1)
    error = None
    try:
        change.steps[-1].do()
    except TrustedVMError as caught:
        error = caught
    assert error is not None and error.code == "vm_started_meanwhile"
    assert error.details["running_on"] == "source" and off.source.domains == [off.vm]
    assert off.destination.domains == [] and arrived(off) == [None, None]


def test_a_vm_started_on_the_destination_meanwhile_keeps_what_it_runs_with(off):
    change = plan(off)
    for step in change.steps[:-1]:
        step.do()
    off.destination.domains[0].now = (1, 1)
    write(state_file(off), b"changed here")
    with pytest.raises(TrustedVMError) as caught:
        change.steps[-1].do()
    assert caught.value.details["running_on"] == "destination" and caught.value.details["defined_on"] == "both"
    assert arrived(off) == [b"state", b"state"]


def test_a_definition_that_finds_other_state_is_taken_back(off, monkeypatch):
    def define_elsewhere(xml, flags=0):
        return off.destination.add(FakeDomain(off.destination, xml.replace("/nvram/", "/other/"), OFF))

    monkeypatch.setattr(off.destination, "defineXMLFlags", define_elsewhere)
    error = failed(plan(off))
    assert error.code == "migration_unproven" and "/other/" in str(error)
    assert off.destination.domains == [] and off.source.domains == [off.vm] and arrived(off) == [None, None]


def newer_definition(pair):
    """What libvirt 11.3 writes."""
    pair.source.libvirt_version = 11003000
    xml = pair.vm.xml.replace("type='pflash'>", "type='pflash' format='raw'>")
    pair.vm.xml = xml.replace("<nvram template", "<nvram templateFormat='raw' format='raw' template")


def test_defaults_that_an_older_libvirt_does_not_know_stay_behind(off):
    newer_definition(off)
    plan(off).apply()
    assert "format='raw'" in off.vm.xml and "ormat=" not in off.destination.domains[0].xml


def test_a_newer_libvirt_gets_the_definition_as_it_is(off):
    newer_definition(off)
    off.destination.libvirt_version = 12008000
    plan(off).apply()
    assert off.destination.domains[0].xml == off.vm.xml


def test_a_definition_that_libvirt_refuses(off, monkeypatch):
    def refuse(xml, flags=0):
        raise libvirt_error(libvirt.VIR_ERR_XML_INVALID_SCHEMA, "XML document failed to validate against schema")

    monkeypatch.setattr(off.destination, "defineXMLFlags", refuse)
    error = failed(plan(off))
    assert error.code == "destination_definition_refused" and "failed to validate" in str(error)
    assert arrived(off) == [None, None] and off.source.domains == [off.vm]


def test_an_undefine_that_failed_for_us_but_not_for_libvirt_keeps_the_destination(off, monkeypatch):
    def undefine_and_fail(flags):
        off.source.domains.remove(off.vm)
        raise libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR, "End of file while reading data")

    monkeypatch.setattr(off.vm, "undefineFlags", undefine_and_fail)
    change = plan(off)
    error = failed(change)
    assert error.details["defined_on"] == "destination" and "is on hv2 now" in error.hint
    assert off.destination.domains and arrived(off) == [b"state", b"state"] and change.left_changed


def calls_of_a_run(root):
    """How many calls a whole run makes, so that each one can fail once."""
    counting = shut_off(Pair(str(root)))
    change = plan(counting)
    begun = [len(host.calls_made) for host in (counting.source, counting.destination)]
    change.apply()
    return [(host.name, number) for host, first in zip((counting.source, counting.destination), begun)
            for number in range(first + 1, len(host.calls_made) + 1)]  # fmt: skip


def prepared(root, name, number, failure):
    made = shut_off(Pair(str(root)))
    change = plan(made)
    host = {"hv1": made.source, "hv2": made.destination}[name]
    host.fail_at, host.failure = number, failure
    return made, change


FULL = libvirt_error(libvirt.VIR_ERR_SYSTEM_ERROR, "cannot write: No space left on device", 28)


def test_a_failure_at_any_call_leaves_the_destination_as_it_was(tmp_path):
    calls = calls_of_a_run(tmp_path / "count")
    assert len(calls) > 20
    for name, number in calls:
        made, change = prepared(tmp_path / name / str(number), name, number, FULL)
        source = tree(made.source.root)
        error = failed(change)
        assert "No space left on device" in str(error), "the first error is the one reported"
        assert error.details["leftovers"] == [] and error.details["defined_on"] == "source", (name, number)
        assert not change.left_changed
        assert made.destination.domains == [] and made.source.domains == [made.vm]
        assert tree(made.source.root) == source
        assert [path for path, content in tree(made.destination.root).items() if content is not None] == []


class Killed(BaseException):
    """Not caught by anything of ours, as kill -9."""


def test_a_run_that_is_killed_at_any_call_is_finished_by_the_next(tmp_path):
    for name, number in calls_of_a_run(tmp_path / "count"):
        made, change = prepared(tmp_path / name / str(number), name, number, Killed())
        source = tree(made.source.root)
        with pytest.raises(Killed):
            change.apply()
        assert tree(made.source.root) == source
        plan(made, vm=VM_UUID).apply()
        assert made.source.domains == [], (name, number)
        assert [domain.UUIDString() for domain in made.destination.domains] == [VM_UUID]
        assert arrived(made) == [b"state", b"state"]
        assert not [path for path in tree(made.destination.root) if INCOMING in path]


def test_a_destination_that_died_is_told_with_what_is_left_there(off):
    change = plan(off)
    change.steps[0].do()
    off.hosts.clear()
    off.destination.fail_at = len(off.destination.calls_made) + 1
    off.destination.failure = libvirt_error(libvirt.VIR_ERR_RPC, "Cannot write data: Broken pipe")
    with pytest.raises(TrustedVMError) as caught:
        change.steps[1].do()
    assert "Broken pipe" in str(caught.value)
    assert {"kind": "file", "path": off.nvram} in caught.value.details["leftovers"]
    assert off.source.domains == [off.vm]


def test_no_tpm_and_no_nvram(off):
    """Nothing to copy: the definition alone goes."""
    xml = off.vm.xml
    off.vm.xml = xml[: xml.index("<loader")] + xml[xml.index("</os>") : xml.index("<tpm")] + "</devices></domain>"
    off.destination.secrets.clear()
    change = plan(off)
    change.apply()
    assert change.result()["steps"] == ["define on hv2", "undefine on hv1"] and off.destination.domains


def test_a_copy_that_differs_is_refused(off, monkeypatch):
    from ansible_collections.trustedvm.libvirt.tests.unit.plugins.module_utils._migration.fakes import FakePool

    create = FakePool.createXMLFrom

    def damage(pool, xml, original, flags=0):
        made = create(pool, xml, original, flags)
        write(made.path, b"stat3")
        return made

    monkeypatch.setattr(FakePool, "createXMLFrom", damage)
    assert failed(plan(off)).code == "state_copy_differs"
    assert arrived(off) == [None, None] and off.source.domains == [off.vm]


def test_a_secret_of_the_destination_is_untouched(off):
    off.destination.secrets.append(FakeSecret(OTHER_UUID, usage="other"))
    plan(off, clean_source=True).apply()
    assert len(off.destination.secrets) == 2
