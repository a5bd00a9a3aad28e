# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import libvirt
import pytest
from ansible_collections.trustedvm.libvirt.plugins.module_utils._migration.failures import SIGNS, migration_failure
from ansible_collections.trustedvm.libvirt.tests.unit.plugins.module_utils._migration.fakes import libvirt_error

# Error numbers and words as seen on libvirt 9.0.0 with QEMU 7.2, each by causing it.
SEEN = [
    (
        libvirt.VIR_ERR_NO_SECRET,
        "Secret not found: no secret with matching uuid '7a44b0a5-7a5d-5e0c-9c6a-0d8d54b6cc1f'",
        "destination_secret_missing",
    ),
    (
        libvirt.VIR_ERR_NO_SECRET,
        "Secret not found: secret '7a44b0a5-7a5d-5e0c-9c6a-0d8d54b6cc1f' does not have a value",
        "destination_secret_missing",
    ),
    (
        libvirt.VIR_ERR_INTERNAL_ERROR,
        "internal error: qemu unexpectedly closed the monitor: tpm-emulator: Setting the stateblob (type 1) failed "
        "with a TPM error 0x21 decryption error",
        "destination_secret_wrong",
    ),
    (
        libvirt.VIR_ERR_MIGRATE_UNSAFE,
        "Unsafe migration: Migration without shared storage is unsafe",
        "storage_not_shared",
    ),
    (
        libvirt.VIR_ERR_INTERNAL_ERROR,
        "internal error: Attempt to migrate guest to the same host be25c1f7-87c4-497d-b9be-2c51ffffeb7d",
        "same_host",
    ),
    (
        libvirt.VIR_ERR_OPERATION_FAILED,
        "operation failed: domain 'web1' already exists with uuid 5d1b5f2a-0a4e-4c0f-9a39-0f8c36c7f6aa",
        "vm_name_taken",
    ),
    (
        libvirt.VIR_ERR_NO_STORAGE_POOL,
        "Storage pool not found: no storage pool with matching target path '/images'",
        "destination_storage_missing",
    ),
    (
        libvirt.VIR_ERR_SYSTEM_ERROR,
        "Cannot access storage file '/var/lib/libvirt/only/d.img': No such file or directory",
        "destination_storage_missing",
    ),
    (
        libvirt.VIR_ERR_SYSTEM_ERROR,
        "Failed to create file '/var/lib/libvirt/only/v3.serial': No such file or directory",
        "destination_storage_missing",
    ),
    (
        libvirt.VIR_ERR_OPERATION_FAILED,
        "operation failed: job 'migration out' failed: Certificate does not match the hostname other",
        "migration_tls_failed",
    ),
    (
        libvirt.VIR_ERR_INTERNAL_ERROR,
        "internal error: unable to execute QEMU command 'object-add': Unable to access credentials "
        "/etc/libvirt/pki/server-cert.pem: No such file or directory",
        "migration_tls_failed",
    ),
    (
        libvirt.VIR_ERR_OPERATION_FAILED,
        "operation failed: job 'migration out' failed: Cannot write to TLS channel: Input/output error",
        "migration_tls_failed",
    ),
    (
        libvirt.VIR_ERR_SYSTEM_ERROR,
        "unable to connect to server at '10.97.0.9:49152': No route to host",
        "destination_unreachable",
    ),
    (
        libvirt.VIR_ERR_NO_SUPPORT,
        "this function is not supported by the connection driver: the running swtpm does not support migration "
        "with shared storage",
        "tpm_state_shared_unsupported",
    ),
    (
        libvirt.VIR_ERR_OPERATION_ABORTED,
        "operation aborted: job 'migration out' canceled by client",
        "migration_aborted",
    ),
    (libvirt.VIR_ERR_CPU_INCOMPATIBLE, "the CPU is incompatible with host CPU", "destination_cpu_incompatible"),
    (libvirt.VIR_ERR_INVALID_ARG, "invalid argument: missing scheme in migration URI: bogus", "migration_failed"),
]


@pytest.mark.parametrize("number, words, code", SEEN, ids=["%s %s" % (code, number) for number, words, code in SEEN])
def test_libvirts_words_as_codes(number, words, code):
    failure = migration_failure(libvirt_error(number, words), "web1", "hv2")
    assert failure.code == code
    assert failure.details["libvirt_error"] == number
    text = str(failure)
    assert words in text, "libvirt's own words are kept"
    assert "web1" in text and "hv2" in text and failure.hint


def test_every_sign_was_seen():
    assert {sign.error_code for sign in SIGNS} == {code for number, words, code in SEEN} - {"migration_failed"}


def test_our_own_abort_is_a_timeout():
    error = libvirt_error(libvirt.VIR_ERR_OPERATION_ABORTED, "operation aborted: canceled by client")
    assert migration_failure(error, "web1", "hv2", timed_out=30).code == "migration_timeout"


def test_another_failure_after_our_abort_keeps_its_name():
    error = libvirt_error(libvirt.VIR_ERR_NO_SECRET, "Secret not found")
    assert migration_failure(error, "web1", "hv2", timed_out=30).code == "destination_secret_missing"
