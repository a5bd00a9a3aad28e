# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""vm_migrate between two real hypervisors: libvirt, QEMU, swtpm and TLS as a user has them."""

from __future__ import annotations

import time

import pytest

pytestmark = pytest.mark.lab

SOURCE, DESTINATION = "mig1", "mig2"


def assert_untouched(vm):
    """The VM runs on the source with its TPM state, and the destination knows nothing of it."""
    assert vm.lab.state(SOURCE, vm.name) == "running"
    assert vm.lab.state(DESTINATION, vm.name) == "absent"
    assert vm.lab.on(SOURCE, "ls", vm.tpm + "/tpm2/tpm2-00.permall")


def test_m1_secret_missing_is_found_before_anything_moves(vm):
    vm.start()
    for check in (True, False):
        item = vm.migrate(check=check)["item"]
        assert item["error_code"] == "destination_secret_missing"
        assert item["secret_uuid"] == vm.secret
        assert item["running_on"] == "source"
    assert_untouched(vm)


def test_m1_secret_without_a_value(vm):
    """A private secret does not tell whether it has a value, so libvirt is the one to say."""
    vm.start()
    vm.define_secret(DESTINATION)
    vm.lab.script(
        DESTINATION,
        "virsh -q secret-dumpxml {0} > /run/s.xml; virsh -q secret-undefine {0}; virsh -q secret-define /run/s.xml".format(vm.secret),
    )
    item = vm.migrate()["item"]
    assert item["error_code"] == "destination_secret_missing"
    assert "does not have a value" in item["msg"]
    assert_untouched(vm)


def test_m3_usage_held_by_another_secret(vm):
    vm.start()
    other = "9d2d7a34-4c2b-4f3a-8a55-0f1d0c9c3a11"
    vm.define_secret(DESTINATION, secret=other)
    try:
        item = vm.migrate()["item"]
    finally:
        vm.lab.on(DESTINATION, "virsh", "-q", "secret-undefine", other)
    assert item["error_code"] == "destination_secret_usage_taken"
    assert other in item["msg"]
    assert_untouched(vm)


def test_m4_wrong_value_leaves_the_vm_running_and_says_what_it_left(vm):
    vm.start()
    vm.define_secret(DESTINATION, value="not the key")
    item = vm.migrate()["item"]
    assert item["error_code"] == "destination_secret_wrong"
    assert "decryption error" in item["msg"], "libvirt's own words"
    assert item["running_on"] == "source"
    assert item["leftovers"] == [{"kind": "nvram", "path": vm.nvram}]
    assert vm.lab.on(DESTINATION, "ls", vm.nvram)
    assert_untouched(vm)


def test_success_second_run_and_the_way_back(vm):
    vm.start()
    vm.define_secret(DESTINATION)
    predicted = vm.migrate(check=True)
    assert_untouched(vm)
    done = vm.migrate()
    assert predicted["changed"] is done["changed"] is True
    assert predicted["diff"] == done["diff"]
    item = done["item"]
    assert item["outcome"] == predicted["item"]["outcome"] == "migrated"
    assert item["secrets"][0]["usage"] == "trustedvm:vtpm:" + vm.uuid
    assert (item["nvram"]["path"], item["nvram"]["shared"]) == (vm.nvram, False)
    assert item["nvram"]["existed_on_destination"] is False
    assert item["destination"] == {"state": "running", "persistent": True}
    assert item["timings"]["downtime_ms"] >= 0 and item["bytes"]["memory_processed"] > 0
    assert vm.lab.state(DESTINATION, vm.name) == "running"
    assert vm.lab.state(SOURCE, vm.name) == "absent"
    for left in item["source_leftovers"]:
        assert vm.lab.on(SOURCE, "ls", "-d", left["path"])
    assert {"kind": "nvram", "path": vm.nvram} in item["source_leftovers"]

    again = vm.migrate()
    assert again["changed"] is False
    assert again["item"]["outcome"] == "already_there"

    back = vm.migrate(source=DESTINATION, destination=SOURCE)["item"]
    assert back["outcome"] == "migrated"
    assert back["nvram"]["shared"] is False, "the file that was left there is another one"
    assert vm.lab.state(SOURCE, vm.name) == "running"


def test_clean_source_leaves_nothing_on_the_source(vm):
    vm.start()
    vm.define_secret(DESTINATION)
    assert vm.migrate(clean_source=True, check=True)["item"]["steps"] == ["migrate live to mig2", "clean mig1"]
    assert_untouched(vm)
    item = vm.migrate(clean_source=True)["item"]
    assert item["outcome"] == "migrated"
    assert {left["kind"] for left in item["source_removed"]} == {"nvram", "tpm_state", "secret"}
    assert item["source_leftovers"] == []
    for path in (vm.nvram, vm.tpm):
        assert not vm.lab.on(SOURCE, "sh", "-c", "ls -d %s 2>/dev/null" % path, check=False)
    assert vm.secret not in vm.lab.on(SOURCE, "virsh", "-q", "secret-list")
    assert vm.secret in vm.lab.on(DESTINATION, "virsh", "-q", "secret-list")
    again = vm.migrate(clean_source=True)
    assert (again["changed"], again["item"]["outcome"]) == (False, "already_there")


def test_nvram_in_a_directory_that_the_destination_lacks(vm):
    vm.nvram = "/srv/local/nvram-test/%s/%s.fd" % (vm.uuid, vm.uuid)
    directory = vm.nvram.rsplit("/", 1)[0]
    vm.lab.on(SOURCE, "mkdir", "-p", directory)
    vm.start(nvram=vm.nvram)
    vm.define_secret(DESTINATION, value="not the key")
    assert vm.migrate()["item"]["leftovers"] == [{"kind": "nvram", "path": vm.nvram}]
    vm.lab.on(DESTINATION, "rm", vm.nvram)
    vm.lab.on(DESTINATION, "rmdir", directory)
    vm.define_secret(DESTINATION)
    assert vm.migrate()["item"]["outcome"] == "migrated"
    assert vm.lab.on(DESTINATION, "ls", vm.nvram)


def test_same_host(vm):
    vm.start()
    item = vm.migrate(destination=SOURCE)["item"]
    assert item["error_code"] == "same_host"
    assert vm.lab.state(SOURCE, vm.name) == "running"


def test_unreachable_is_told_in_time(vm):
    vm.start()
    vm.lab.command("cut", DESTINATION)
    try:
        started = time.monotonic()
        item = vm.migrate(connect_timeout=3)["item"]
        took = time.monotonic() - started
    finally:
        vm.lab.command("heal", DESTINATION)
    assert item["error_code"] == "destination_unreachable"
    assert took < 100, "TCP alone would try for two minutes and more"
    assert vm.lab.state(SOURCE, vm.name) == "running"


def test_plain_tcp_is_refused(vm):
    vm.start()
    item = vm.migrate(destination_uri="qemu+tcp://%s/system" % DESTINATION)["item"]
    assert item["error_code"] == "destination_unreachable"


def test_timeout_aborts_and_the_vm_stays(vm):
    vm.start()
    vm.define_secret(DESTINATION)
    item = vm.migrate(timeout=5, bandwidth=1)["item"]
    assert item["error_code"] == "migration_timeout"
    assert item["running_on"] == "source"
    assert_untouched(vm)


def test_shared_tpm_state_is_refused_and_lives(vm):
    """libvirt 9.0 deletes the running VM's TPM state when such a migration fails."""
    vm.lab.script(SOURCE, "mkdir -p /srv/shared/{0} {1}; mount --bind /srv/shared/{0} {1}".format(vm.uuid, vm.tpm))
    vm.lab.script(DESTINATION, "mkdir -p {1}; mount --bind /srv/shared/{0} {1}".format(vm.uuid, vm.tpm))
    vm.start()
    vm.define_secret(DESTINATION)
    item = vm.migrate()["item"]
    assert item["error_code"] == "tpm_state_shared_unrecognised"
    assert item["tpm_state"]["shared"] is True
    assert_untouched(vm)


@pytest.mark.parametrize("place, outcome", [("local", "disk_not_on_destination"), ("shared", "migrated")])
def test_disks_on_storage_that_libvirt_does_not_know(vm, place, outcome):
    disk = "/srv/%s/%s.img" % (place, vm.name)
    vm.lab.on(SOURCE, "qemu-img", "create", "-q", "-f", "raw", disk, "8M")
    try:
        vm.start(disk)
        vm.define_secret(DESTINATION)
        item = vm.migrate(unsafe=place == "shared")["item"]
        assert item.get("error_code", item["outcome"]) == outcome
    finally:
        vm.remove()
        vm.lab.on(SOURCE, "rm", "-f", disk)
