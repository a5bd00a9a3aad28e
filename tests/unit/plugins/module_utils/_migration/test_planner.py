# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import os
import threading
import time

import libvirt
import pytest
from lxml import etree
from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.errors import TrustedVMError
from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.host_paths import paths_of_uri
from ansible_collections.trustedvm.libvirt.plugins.module_utils._migration import aftermath
from ansible_collections.trustedvm.libvirt.plugins.module_utils._migration.destination import Destinations
from ansible_collections.trustedvm.libvirt.plugins.module_utils._migration.machine import read_machine
from ansible_collections.trustedvm.libvirt.plugins.module_utils._migration.planner import MigrationPlanner
from ansible_collections.trustedvm.libvirt.plugins.module_utils._migration.request import Request
from ansible_collections.trustedvm.libvirt.plugins.module_utils._migration.sharing import Sharing
from ansible_collections.trustedvm.libvirt.plugins.module_utils._migration.survey import Survey
from ansible_collections.trustedvm.libvirt.tests.unit.plugins.module_utils._migration.fakes import (
    DESTINATION_URI,
    OTHER_UUID,
    SECRET_UUID,
    TEMPLATE,
    USAGE,
    VM_UUID,
    FakeDomain,
    FakeSecret,
    Wire,
    domain_xml,
    libvirt_error,
    move,
    options,
)


def plan(pair, check_mode=False, **given):
    planner = MigrationPlanner(pair.source, Destinations(pair.connect), check_mode)
    return planner.plan(options(**given))


def refused(pair, **given):
    with pytest.raises(TrustedVMError) as caught:
        plan(pair, **given)
    assert not pair.vm.calls, "nothing may have been started"
    return caught.value


def failed(pair, on_migrate, **given):
    pair.vm.on_migrate = on_migrate
    change = plan(pair, **given)
    with pytest.raises(TrustedVMError) as caught:
        change.apply()
    return caught.value, change


def raising(code, message):
    def on_migrate(domain, uri, parameters, flags):
        raise libvirt_error(code, message)

    return on_migrate


def namesake(pair):
    pair.destination.add(FakeDomain(pair.destination, domain_xml("/", uuid=OTHER_UUID)))


def no_secret(pair):
    pair.destination.secrets.clear()


def other_secret_with_the_usage(pair):
    pair.destination.secrets[:] = [FakeSecret(OTHER_UUID)]


def secret_for_something_else(pair):
    pair.destination.secrets[:] = [FakeSecret(SECRET_UUID, usage="other")]


def secret_without_value(pair):
    pair.destination.secrets[:] = [FakeSecret(SECRET_UUID, value=None, private=False)]


def secret_with_another_value(pair):
    pair.source.secrets[:] = [FakeSecret(SECRET_UUID, value=b"one", private=False)]
    pair.destination.secrets[:] = [FakeSecret(SECRET_UUID, value=b"two", private=False)]


def shared_tpm(pair):
    pair.share(pair.tpm_directory)


def pools_refused(pair):
    pair.destination.pool_error = libvirt_error(libvirt.VIR_ERR_ACCESS_DENIED, "access denied")


def same_host(pair):
    pair.destination.uuid = pair.source.uuid
    pair.destination.domains = pair.source.domains


def runs_on_both(pair):
    pair.destination.add(FakeDomain(pair.destination, pair.vm.xml))


def defined_there_too(pair):
    pair.destination.add(FakeDomain(pair.destination, pair.vm.xml, (5, 1)))


def shut_off(pair):
    pair.vm.now = (5, 1)


def off_and_only_there(pair):
    pair.source.domains.clear()
    defined_there_too(pair)


def nowhere(pair):
    pair.source.domains.clear()


def job_runs(pair):
    pair.vm.job_type = libvirt.VIR_DOMAIN_JOB_UNBOUNDED


def set_up(**attributes):
    def change(pair):
        for name, value in attributes.items():
            setattr(pair.destination, name, value)

    change.__name__ = ",".join(attributes)
    return change


OBSTACLES = [
    (nowhere, "vm_not_found"),
    (shut_off, "vm_not_running"),
    (off_and_only_there, "vm_not_running"),
    (same_host, "same_host"),
    (runs_on_both, "vm_already_on_destination"),
    (defined_there_too, "vm_already_on_destination"),
    (namesake, "vm_name_taken"),
    (job_runs, "migration_in_progress"),
    (no_secret, "destination_secret_missing"),
    (secret_without_value, "destination_secret_missing"),
    (other_secret_with_the_usage, "destination_secret_usage_taken"),
    (secret_for_something_else, "destination_secret_mismatch"),
    (secret_with_another_value, "destination_secret_wrong"),
    (set_up(has_secret_driver=False), "destination_secret_unsupported"),
    (set_up(tpm_backends=["passthrough"]), "destination_tpm_unsupported"),
    (set_up(loaders=["/usr/share/other.fd"]), "destination_firmware_missing"),
    (set_up(machines=["pc-q35-6.0"]), "destination_machine_unsupported"),
    (set_up(cpu_verdict=libvirt.VIR_CPU_COMPARE_INCOMPATIBLE), "destination_cpu_incompatible"),
    (shared_tpm, "tpm_state_shared_unrecognised"),
    (pools_refused, "tpm_state_sharing_unknown"),
]


@pytest.mark.parametrize("spoil, code", OBSTACLES, ids=["%s %s" % (code, spoil.__name__) for spoil, code in OBSTACLES])
@pytest.mark.parametrize("check_mode", [False, True], ids=["run", "check"])
def test_refused_before_anything_moves(pair, spoil, code, check_mode):
    spoil(pair)
    error = refused(pair, check_mode=check_mode)
    assert error.code == code
    assert error.hint, "it says what to do"
    assert error.details["source_host"] == "hv1"


def test_m1_the_secret_must_be_there_first(pair):
    no_secret(pair)
    error = refused(pair)
    assert error.details["secret_uuid"] == SECRET_UUID
    assert SECRET_UUID in str(error) and "libvirt_secret" in str(error) and USAGE in str(error)
    assert error.details["secrets"][0]["on_destination"] is False
    assert error.details["running_on"] == "source"


def test_m1_a_secret_that_the_play_will_define_counts_only_in_check_mode(pair):
    no_secret(pair)
    change = plan(pair, check_mode=True, provided_secrets=[SECRET_UUID.upper()])
    assert change.changed and change.result()["secrets"][0]["on_destination"] is False
    assert refused(pair, provided_secrets=[SECRET_UUID]).code == "destination_secret_missing"


def test_m3_the_holder_of_the_usage_is_named(pair):
    other_secret_with_the_usage(pair)
    error = refused(pair, check_mode=True, provided_secrets=[SECRET_UUID])
    assert error.code == "destination_secret_usage_taken"
    assert error.details["found_secret_uuid"] == OTHER_UUID
    assert OTHER_UUID in str(error) and SECRET_UUID in str(error)


def test_values_of_secrets_are_never_told(pair):
    secret_with_another_value(pair)
    error = refused(pair)
    assert "one" not in repr(error.details["secrets"]) and "two" not in str(error)


def test_all_obstacles_are_told_at_once(pair):
    no_secret(pair)
    pair.destination.tpm_backends = []
    error = refused(pair)
    assert error.code == "destination_secret_missing"
    assert [one["error_code"] for one in error.details["obstacles"]] == [
        "destination_secret_missing",
        "destination_tpm_unsupported",
    ]


def test_a_tpm_model_that_the_destination_lacks(pair):
    pair.destination.tpm_models = ["tpm-tis"]
    error = refused(pair)
    assert error.code == "destination_tpm_unsupported"
    assert "tpm-tis" in error.found and "tpm-crb" in error.wanted


def test_unreachable(pair):
    error = refused(pair, destination_uri="qemu+tls://nowhere/system")
    assert error.code == "destination_unreachable"
    assert error.details["running_on"] == "source"


def test_a_source_that_lost_its_secret_can_still_migrate(pair):
    """An ephemeral secret goes with a restart of the daemon; the running VM does not need it."""
    pair.source.secrets.clear()
    secret = plan(pair).result()["secrets"][0]
    assert (secret["usage"], secret["on_source"], secret["on_destination"]) == (None, False, True)


def test_no_secret_needed_without_encryption(pair):
    pair.vm.xml = domain_xml(pair.source.root, secret=None)
    no_secret(pair)
    assert plan(pair).result()["secrets"] == []


def test_a_loader_of_the_operators_own_is_libvirts_business(pair):
    pair.source.loaders = pair.destination.loaders = []
    assert plan(pair).changed


@pytest.mark.parametrize("answer, expected", [("local", False), ("shared", True)])
def test_tpm_state_sharing_can_be_told(pair, answer, expected):
    pools_refused(pair)
    change = plan(pair, tpm_state_sharing=answer)
    assert change.result()["tpm_state"]["shared"] is expected


def test_shared_nvram_is_seen(pair):
    pair.share(pair.nvram.rsplit("/", 1)[0])
    assert plan(pair).result()["nvram"] == {
        "path": pair.nvram,
        "template": TEMPLATE,
        "shared": True,
        "existed_on_destination": True,
    }


def test_check_mode_predicts_the_run(pair):
    predicted = plan(pair, check_mode=True)
    done = plan(pair)
    done.apply()
    assert predicted.diff() == done.diff()
    assert predicted.diff()["before"] == {"host": "hv1", "state": "running"}
    assert predicted.diff()["after"] == {"host": "hv2", "state": "running"}
    for field in ("changed", "outcome", "steps", "uuid", "name", "nvram", "tpm_state", "secrets"):
        assert predicted.result()[field] == done.result()[field]


def test_success(pair):
    change = plan(pair, bandwidth=5)
    change.apply()
    result = change.result()
    assert (result["outcome"], result["changed"], result["running_on"]) == ("migrated", True, "destination")
    assert result["destination"] == {"state": "running", "persistent": True}
    assert result["timings"]["downtime_ms"] == 110 and result["timings"]["total_s"] >= 0
    assert result["bytes"]["memory_processed"] == 51570588 and result["iterations"] == 3
    uri, parameters, flags = pair.vm.calls[0]
    assert (uri, parameters) == (DESTINATION_URI, {"bandwidth": 5})
    assert flags & libvirt.VIR_MIGRATE_TLS and flags & libvirt.VIR_MIGRATE_PEER2PEER
    assert result["source_leftovers"] == [
        {"kind": "nvram", "path": pair.nvram},
        {"kind": "tpm_state", "path": pair.tpm_directory},
    ]


def test_shared_nvram_is_no_leftover(pair):
    pair.share(pair.nvram.rsplit("/", 1)[0])
    change = plan(pair)
    change.apply()
    assert [one["kind"] for one in change.result()["source_leftovers"]] == ["tpm_state"]


@pytest.mark.parametrize("vm", ["web1", VM_UUID])
def test_second_run_changes_nothing(pair, vm):
    plan(pair, vm=vm).apply()
    change = plan(pair, vm=vm)
    change.apply()
    result = change.result()
    assert (result["changed"], result["outcome"], result["running_on"]) == (False, "already_there", "destination")
    assert len(pair.vm.calls) == 1


def test_second_run_with_the_definition_left_on_the_source(pair):
    plan(pair, undefine_source=False).apply()
    result = plan(pair, undefine_source=False).result()
    assert (result["changed"], result["outcome"]) == (False, "already_there")
    assert result["source_leftovers"] == [], "the definition on the source needs them"


def test_back_to_where_a_definition_was_left(pair):
    pair.destination.add(FakeDomain(pair.destination, pair.vm.xml, (5, 4)))
    assert plan(pair).changed


def test_m4_a_failure_says_where_the_vm_runs_and_what_it_left(pair):
    def fail(domain, uri, parameters, flags):
        pair.own_copy(pair.nvram)
        raise libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR, "with a TPM error 0x21 decryption error")

    error, change = failed(pair, fail)
    assert error.code == "destination_secret_wrong"
    assert error.details["running_on"] == "source" and not change.left_changed
    assert error.details["leftovers"] == [{"kind": "nvram", "path": pair.nvram}]
    assert "goes on running on hv1" in str(error)


def test_m4_what_was_there_before_is_no_leftover(pair):
    pair.own_copy(pair.nvram)
    error, change = failed(pair, raising(libvirt.VIR_ERR_NO_SECRET, "Secret not found"))
    assert error.details["leftovers"] == []
    assert error.details["secret_uuid"] == SECRET_UUID


@pytest.mark.parametrize("shared", [True, None], ids=["shared", "undecided"])
def test_m4_what_may_be_the_sources_own_is_never_named_a_leftover(pair, shared):
    """An old listing showed nothing before, and the undo of the migration deletes what is named."""
    survey = Survey(pair.source, "hv1", machine=read_machine(etree.fromstring(pair.vm.xml), paths_of_uri(pair.source.getURI())))
    survey.here = pair.vm
    survey.destination = pair.destination
    survey.nvram = survey.tpm_state = Sharing(shared, False)
    pair.share(os.path.dirname(pair.nvram))
    pair.share(pair.tpm_directory)
    after = aftermath.after_failure(survey, Request.from_options(options()), Destinations(pair.connect))
    assert after == {"running_on": "source", "leftovers": []}


def test_m4_a_destination_that_died_does_not_hide_the_first_error(pair):
    def die(domain, uri, parameters, flags):
        pair.hosts.clear()
        raise libvirt_error(libvirt.VIR_ERR_OPERATION_FAILED, "operation failed: Lost connection to destination host")

    error, change = failed(pair, die)
    assert "Lost connection to destination host" in str(error)
    assert error.details["running_on"] == "source"


def test_an_error_after_the_vm_has_moved_is_told_as_such(pair):
    def arrive_and_fail(domain, uri, parameters, flags):
        pair.destination.add(FakeDomain(pair.destination, domain.xml))
        pair.source.domains.remove(domain)
        domain.now = (5, 4)
        raise libvirt_error(libvirt.VIR_ERR_MIGRATE_PERSIST_FAILED, "cannot persist")

    error, change = failed(pair, arrive_and_fail)
    assert error.details["running_on"] == "destination" and change.left_changed
    assert "do not start it on hv1" in str(error)


def test_an_incoming_qemu_is_not_a_running_copy(pair, monkeypatch):
    monkeypatch.setattr(aftermath, "CLEANUP_SECONDS", 0.3)

    def leave_incoming(domain, uri, parameters, flags):
        incoming = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION)
        pair.destination.add(FakeDomain(pair.destination, domain.xml, incoming))
        raise libvirt_error(libvirt.VIR_ERR_OPERATION_FAILED, "operation failed")

    error, change = failed(pair, leave_incoming)
    assert error.details["running_on"] == "source"
    assert {"kind": "domain", "path": "web1"} in error.details["leftovers"]


def test_a_success_that_the_hosts_contradict_is_an_error(pair):
    error, change = failed(pair, lambda *arguments: None)
    assert error.code == "migration_unproven"
    assert "still runs on hv1" in str(error)


def cut_after_the_move(pair, monkeypatch, heals):
    """The network goes when the VM has arrived; new connections work only if it has healed."""
    wires = []

    def connect(uri):
        wires.append(Wire(pair.connect(uri)))
        if len(wires) > 1 and not heals:
            wires[-1].cut()
        return wires[-1]

    def move_and_cut(*arguments):
        move(*arguments)
        wires[0].cut()

    pair.vm.on_migrate = move_and_cut
    return MigrationPlanner(pair.source, Destinations(connect), False).plan(options(connect_timeout=1))


def test_a_network_that_goes_right_after_the_move_is_asked_again(pair, monkeypatch):
    change = cut_after_the_move(pair, monkeypatch, heals=True)
    change.apply()
    assert change.result()["outcome"] == "migrated" and change.result()["timings"]["downtime_ms"] == 110


def test_a_network_that_stays_away_after_the_move_does_not_hang_the_module(pair, monkeypatch):
    monkeypatch.setattr(aftermath, "CLEANUP_SECONDS", 0.5)
    change = cut_after_the_move(pair, monkeypatch, heals=False)
    started = time.monotonic()
    with pytest.raises(TrustedVMError) as caught:
        change.apply()
    assert time.monotonic() - started < 15
    assert caught.value.code == "migration_unproven" and "no answer within" in str(caught.value)
    assert caught.value.details["running_on"] == "unknown" and change.left_changed


def left_defined(pair, persistent=True):
    """The first run ended as migration_unproven: the VM has arrived, and the source still has its definition."""
    pair.destination.add(FakeDomain(pair.destination, pair.vm.xml, persistent=persistent))
    pair.vm.now = (5, 1)


@pytest.mark.parametrize("check_mode", [True, False])
def test_a_definition_that_a_first_run_left_on_the_source_goes_with_the_second(pair, check_mode):
    left_defined(pair)
    change = plan(pair, check_mode, clean_source=True)
    result = change.result()
    assert (result["outcome"], result["steps"]) == ("cleaned", ["undefine on hv1", "clean hv1"])
    if check_mode:
        return
    change.apply()
    keep = libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_KEEP_TPM
    assert pair.vm.undefined_with is not None and pair.vm.undefined_with & keep == keep
    assert kinds(change.result()["source_removed"]) == ["nvram", "tpm_state", "secret"]
    assert not plan(pair, clean_source=True, vm=VM_UUID).changed


def test_a_definition_left_on_the_source_goes_without_its_files_unless_told(pair):
    left_defined(pair)
    change = plan(pair)
    change.apply()
    result = change.result()
    assert result["steps"] == ["undefine on hv1"] and pair.source.domains == []
    assert kinds(result["source_leftovers"]) == ["nvram", "tpm_state"] and os.path.exists(pair.nvram)


def test_the_only_definition_is_never_undefined(pair):
    left_defined(pair, persistent=False)
    with pytest.raises(TrustedVMError) as caught:
        plan(pair)
    assert caught.value.code == "destination_not_persistent"
    assert plan(pair, persist_destination=False).result()["steps"] == ["undefine on hv1"]


def test_timeout_aborts_the_job(pair):
    def last_long(domain, uri, parameters, flags):
        ended = time.monotonic() + 20
        while not domain.aborted and time.monotonic() < ended:
            time.sleep(0.02)
        raise libvirt_error(libvirt.VIR_ERR_OPERATION_ABORTED, "operation aborted: canceled by client")

    error, change = failed(pair, last_long, timeout=1)
    assert error.code == "migration_timeout"
    assert error.details["running_on"] == "source"


def test_abort_is_asked_again_until_libvirt_takes_it(pair):
    refusals = [1, 2]
    taken = threading.Event()

    def abort():
        if refusals:
            refusals.pop()
            raise libvirt_error(libvirt.VIR_ERR_OPERATION_INVALID, "cannot abort incoming migration")
        taken.set()

    def last_long(domain, uri, parameters, flags):
        taken.wait(20)
        raise libvirt_error(libvirt.VIR_ERR_OPERATION_ABORTED, "operation aborted: canceled by client")

    pair.vm.abortJob = abort
    assert failed(pair, last_long, timeout=1)[0].code == "migration_timeout"


def test_completed_stats_may_be_missing(pair):
    def no_stats(flags=0):
        raise libvirt_error(libvirt.VIR_ERR_OPERATION_INVALID, "no stats")

    pair.vm.jobStats = no_stats
    assert aftermath.running_on(pair.vm, None) == "source"
    change = plan(pair)
    change.apply()
    assert change.result()["outcome"] == "migrated"


def kinds(entries):
    return [entry["kind"] for entry in entries]


def test_clean_source_removes_what_the_vm_left(pair):
    change = plan(pair, clean_source=True)
    assert [step.what for step in change.steps] == ["migrate live to hv2", "clean hv1"]
    change.apply()
    result = change.result()
    assert kinds(result["source_removed"]) == ["nvram", "tpm_state", "secret"]
    assert result["source_leftovers"] == []
    assert not os.path.exists(pair.nvram) and not os.path.exists(pair.tpm_directory)
    assert pair.source.secrets == [] and len(pair.destination.secrets) == 1
    assert (result["secrets"][0]["on_source"], result["secrets"][0]["on_destination"]) == (False, True)


def test_clean_source_second_run_changes_nothing(pair):
    plan(pair, clean_source=True).apply()
    change = plan(pair, vm=VM_UUID, clean_source=True)
    assert (change.changed, change.result()["outcome"]) == (False, "already_there")


def test_clean_source_finishes_what_an_earlier_run_left(pair):
    plan(pair).apply()
    predicted = plan(pair, check_mode=True, vm=VM_UUID, clean_source=True)
    assert (predicted.changed, predicted.result()["outcome"]) == (True, "cleaned")
    assert os.path.exists(pair.nvram), "the plan removes nothing"
    change = plan(pair, vm=VM_UUID, clean_source=True)
    change.apply()
    assert not os.path.exists(pair.nvram) and pair.source.secrets == []


def test_clean_source_never_removes_shared_nvram(pair):
    pair.share(os.path.dirname(pair.nvram))
    change = plan(pair, clean_source=True)
    change.apply()
    assert os.path.exists(pair.nvram)
    assert kinds(change.result()["source_removed"]) == ["tpm_state", "secret"]


def test_clean_source_keeps_nvram_when_sharing_is_unknown(pair):
    pools_refused(pair)
    change = plan(pair, clean_source=True, tpm_state_sharing="local")
    change.apply()
    assert os.path.exists(pair.nvram)


def test_clean_source_keeps_what_resets_set_aside_and_tells_it(pair):
    nvram_copy = pair.nvram + ".before-reset-1"
    tpm_copy = os.path.dirname(pair.tpm_directory) + ".trustedvm-reset-20260101T000000000000Z"
    os.mkdir(tpm_copy)
    with open(nvram_copy, "wb") as stream:
        stream.write(b"before the reset")
    change = plan(pair, clean_source=True)
    change.apply()
    result = change.result()
    assert kinds(result["source_removed"]) == ["nvram", "tpm_state", "secret"]
    assert [(one["kind"], one["path"]) for one in result["source_leftovers"]] == [
        ("nvram_copy", nvram_copy),
        ("tpm_state_copy", tpm_copy),
    ]
    assert os.path.exists(nvram_copy) and os.path.exists(tpm_copy)
    assert not os.path.exists(pair.nvram) and not os.path.exists(pair.tpm_directory)
    assert not plan(pair, vm=VM_UUID, clean_source=True).changed, "what is kept on purpose is no change"


def test_clean_source_finishes_a_removal_that_was_killed(pair):
    plan(pair).apply()
    moved = os.path.dirname(pair.tpm_directory)
    os.rename(moved, moved + ".trustedvm-removed-20260101T000000000000Z")
    change = plan(pair, vm=VM_UUID, clean_source=True)
    change.apply()
    assert "tpm_state" in kinds(change.result()["source_removed"])
    assert os.listdir(os.path.dirname(moved)) == []


def test_clean_source_keeps_a_secret_that_another_vm_uses(pair):
    pair.source.add(FakeDomain(pair.source, domain_xml("/elsewhere", "web2", OTHER_UUID)))
    change = plan(pair, clean_source=True)
    change.apply()
    assert len(pair.source.secrets) == 1
    assert kinds(change.result()["source_removed"]) == ["nvram", "tpm_state"]
    assert not plan(pair, vm=VM_UUID, clean_source=True).changed, "what is kept on purpose is no change"


def test_clean_source_keeps_nvram_that_another_vm_names(pair):
    other = domain_xml(pair.source.root, "web2", OTHER_UUID, secret=None).replace("nvram/%s.fd" % OTHER_UUID, "nvram/%s.fd" % VM_UUID)
    pair.source.add(FakeDomain(pair.source, other))
    change = plan(pair, clean_source=True)
    change.apply()
    result = change.result()
    assert os.path.exists(pair.nvram) and result["outcome"] == "migrated"
    assert kinds(result["source_leftovers"]) == ["nvram"] and "web2" in result["source_leftovers"][0]["reason"]


def test_nothing_is_cleaned_after_a_failure(pair):
    error, change = failed(pair, raising(libvirt.VIR_ERR_NO_SECRET, "Secret not found"), clean_source=True)
    assert os.path.exists(pair.nvram) and os.path.exists(pair.tpm_directory) and pair.source.secrets


def test_clean_source_needs_undefine_source(pair):
    assert refused(pair, clean_source=True, undefine_source=False).code == "invalid_option"


def directory_there(pair):
    return os.path.isdir(pair.destination.root + os.path.dirname(pair.nvram))


def test_the_nvrams_directory_is_made_for_the_run_only(pair):
    plan(pair, check_mode=True)
    assert not directory_there(pair)
    plan(pair).apply()
    assert directory_there(pair)


def test_the_nvrams_directory_goes_after_a_failure(pair):
    failed(pair, raising(libvirt.VIR_ERR_NO_SECRET, "Secret not found"))
    assert not directory_there(pair)


def test_the_nvrams_directory_stays_with_what_is_in_it(pair):
    def fail(domain, uri, parameters, flags):
        pair.own_copy(pair.nvram)
        raise libvirt_error(libvirt.VIR_ERR_NO_SECRET, "Secret not found")

    error, change = failed(pair, fail)
    assert directory_there(pair) and kinds(error.details["leftovers"]) == ["nvram"]


def test_the_key_is_tried_before_anything_moves(pair, real_states):
    real_states.put(os.path.dirname(os.path.dirname(pair.tpm_directory)), VM_UUID, real_states.encrypted)
    right = base64.b64encode(real_states.passphrase).decode()
    assert plan(pair, value=right).result()["key_opens"] is True
    assert plan(pair).result()["key_opens"] is None
    wrong = base64.b64encode(b"another key").decode()
    assert refused(pair, value=wrong).code == "key_does_not_open_tpm_state"
