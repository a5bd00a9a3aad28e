# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os

import libvirt
import pytest
from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.errors import TrustedVMError
from ansible_collections.trustedvm.libvirt.plugins.module_utils._migration.destination import Destinations
from ansible_collections.trustedvm.libvirt.plugins.module_utils._migration.planner import MigrationPlanner
from ansible_collections.trustedvm.libvirt.plugins.module_utils._migration.qemu_log import LOG_DIRECTORY, is_vague, last_words
from ansible_collections.trustedvm.libvirt.tests.unit.plugins.module_utils._migration.fakes import libvirt_error, options

VAGUE = "operation failed: job 'migration out' unexpectedly failed"
LOG = """2026-11-21 01:00:00.000+0000: starting up libvirt version: 9.0.0, qemu version: 7.2.22
2026-11-21T01:00:01.000000Z qemu-system-x86_64: terminating on signal 15 from pid 1
2026-11-21 01:45:28.000+0000: starting up libvirt version: 9.0.0, qemu version: 7.2.22
/usr/bin/qemu-system-x86_64 -name guest=web1
2026-11-21T01:45:29.870623Z qemu-system-x86_64: tpm-emulator: Setting the stateblob (type 1) failed with a TPM error 0x21 decryption error
2026-11-21T01:45:29.870716Z qemu-system-x86_64: load of migration failed: Input/output error
2026-11-21 01:45:29.900+0000: shutting down, reason=failed
"""


@pytest.fixture
def logged(pair):
    """The destination has a log of the VM."""
    directory = pair.destination.root + LOG_DIRECTORY
    os.makedirs(directory)
    with open(os.path.join(directory, "web1.log"), "w", encoding="utf-8") as stream:
        stream.write(LOG)
    return pair


def test_last_words_are_of_the_last_run(logged):
    assert last_words(logged.destination, "web1") == (
        "tpm-emulator: Setting the stateblob (type 1) failed with a TPM error 0x21 decryption error; "
        "load of migration failed: Input/output error"
    )


def test_no_log(pair):
    assert last_words(pair.destination, "web1") is None


def test_no_log_of_this_vm(logged):
    assert last_words(logged.destination, "web2") is None


@pytest.mark.parametrize(
    "words, vague",
    [
        (VAGUE, True),
        ("internal error: qemu unexpectedly closed the monitor", True),
        ("internal error: qemu unexpectedly closed the monitor: 2026-11-21T01:45:29Z qemu: load failed", False),
        ("operation aborted: canceled by client", False),
    ],
)
def test_vague(words, vague):
    assert is_vague(libvirt_error(libvirt.VIR_ERR_OPERATION_FAILED, words)) is vague


def test_the_cause_is_named_although_libvirt_does_not(logged):
    def fail(domain, uri, parameters, flags):
        raise libvirt_error(libvirt.VIR_ERR_OPERATION_FAILED, VAGUE)

    logged.vm.on_migrate = fail
    change = MigrationPlanner(logged.source, Destinations(logged.connect), False).plan(options())
    with pytest.raises(TrustedVMError) as caught:
        change.apply()
    assert caught.value.code == "destination_secret_wrong"
    assert VAGUE in str(caught.value) and "0x21 decryption error" in str(caught.value)
