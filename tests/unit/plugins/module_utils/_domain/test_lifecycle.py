# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Power states. The fakes raise libvirt's own error codes, for what a test cannot make a real VM do."""
from __future__ import annotations

import pytest

libvirt = pytest.importorskip("libvirt")

from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.errors import TrustedVMError
from ansible_collections.trustedvm.libvirt.plugins.module_utils._domain.lifecycle import (
    Power,
    StopPolicy,
    Stopper,
    path_to_running,
    start_failure,
)


def libvirt_error(code, text="refused"):
    error = libvirt.libvirtError(text)
    error.err = (code, 10, text, 2, None, None, None, 0, 0)
    return error


@pytest.mark.parametrize(
    "power, way",
    [
        (Power("running", 1), None),
        (Power("stopped", 1), "start"),
        (Power("stopped", libvirt.VIR_DOMAIN_SHUTOFF_CRASHED), "start"),
        (Power("paused", libvirt.VIR_DOMAIN_PAUSED_USER), "resume"),
        (Power("paused", libvirt.VIR_DOMAIN_PAUSED_IOERROR), "resume"),
        (Power("suspended", 0), "wakeup"),
    ],
)
def test_way_to_running(power, way):
    assert path_to_running(power, start_migrated=False) == way


@pytest.mark.parametrize(
    "power, code",
    [
        (Power("stopped", libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED), "vm_migrated_away"),
        (Power("crashed", 0), "vm_crashed"),
        (Power("paused", libvirt.VIR_DOMAIN_PAUSED_CRASHED), "vm_crashed"),
        (Power("paused", libvirt.VIR_DOMAIN_PAUSED_MIGRATION), "vm_busy"),
        (Power("paused", libvirt.VIR_DOMAIN_PAUSED_SAVE), "vm_busy"),
        (Power("shutting_down", 0), "vm_busy"),
    ],
)
def test_states_that_are_not_started(power, code):
    with pytest.raises(TrustedVMError) as caught:
        path_to_running(power, start_migrated=False)
    assert caught.value.code == code


def test_leftover_of_a_migration_starts_only_when_told():
    assert path_to_running(Power("stopped", libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED), start_migrated=True) == "start"


@pytest.mark.parametrize(
    "number, text, code, says",
    [
        (1, "internal error: tpm-emulator: TPM result for CMD_INIT: 0x101 operation failed", "tpm_start_failed", "not the key"),
        (1, "internal error: tpm-emulator: TPM result for CMD_INIT: 0x9 operation failed", "tpm_start_failed", "Another swtpm"),
        (66, "Secret not found: secret 'x' does not have a value", "secret_missing", "libvirt_secret"),
        (38, "Cannot access storage file", "vm_start_failed", "log"),
    ],
)
def test_libvirts_own_words_are_kept(number, text, code, says):
    error = start_failure(libvirt_error(number, text))
    assert error.code == code and text in str(error) and says in str(error)
    assert error.details["libvirt_error"] == number


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class Guest:
    """A domain whose guest obeys after some time, or never; destroy may fail as libvirt's does."""

    def __init__(self, clock, obeys_after=None, state=(1, 1), uuid="u", destroy_error=None, shutdown_error=None):
        self.clock, self.obeys_after, self._state, self.uuid = clock, obeys_after, state, uuid
        self.destroy_error, self.shutdown_error = destroy_error, shutdown_error
        self.asked_at, self.destroyed = None, None

    def UUIDString(self):
        return self.uuid

    def state(self):
        return list(self._state) if self.isActive() else [5, 1]

    def isActive(self):
        if self.destroyed:
            return 0
        return int(self.asked_at is None or self.obeys_after is None or self.clock.now < self.asked_at + self.obeys_after)

    def shutdown(self):
        self.asked_at = self.clock.now
        if self.shutdown_error:
            raise libvirt_error(self.shutdown_error)

    def destroyFlags(self, flags):
        assert flags == libvirt.VIR_DOMAIN_DESTROY_GRACEFUL
        if self.destroy_error:
            raise libvirt_error(self.destroy_error)
        self.destroyed = "graceful"

    def destroy(self):
        self.destroyed = "killed"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def stopper(clock):
    return Stopper(clock, clock.sleep)


def test_guest_that_obeys_is_not_stopped_hard(clock, stopper):
    guest = Guest(clock, obeys_after=30)
    assert stopper.stop(guest, StopPolicy(120)) == "graceful"
    assert guest.destroyed is None and 30 <= clock.now < 32


def test_guest_that_ignores_it_is_stopped_hard_after_the_timeout(clock, stopper):
    guest = Guest(clock)
    assert stopper.stop(guest, StopPolicy(120)) == "hard"
    assert guest.destroyed == "graceful" and 120 <= clock.now < 122


def test_not_forced_means_not_forced(clock, stopper):
    guest = Guest(clock)
    with pytest.raises(TrustedVMError) as caught:
        stopper.stop(guest, StopPolicy(5, force=False))
    assert caught.value.code == "stop_timeout" and guest.destroyed is None


@pytest.mark.parametrize("state", [(3, 1), (6, 0)], ids=["paused", "crashed"])
def test_guest_that_cannot_react_is_stopped_at_once(clock, stopper, state):
    guest = Guest(clock, state=state)
    assert stopper.stop(guest, StopPolicy(120)) == "hard"
    assert clock.now == 0 and guest.asked_at is None


def test_timeout_zero_is_hard_at_once(clock, stopper):
    guest = Guest(clock)
    assert stopper.stop(guest, StopPolicy(0)) == "hard" and guest.asked_at is None


def test_timeouts_of_guests_that_were_asked_together_do_not_add_up(clock, stopper):
    guests = [Guest(clock, uuid=str(number)) for number in range(10)]
    for guest in guests:
        stopper.ask(guest)
    for guest in guests:
        stopper.stop(guest, StopPolicy(60))
    assert clock.now < 62


def test_qemu_that_ignores_sigterm_is_killed(clock, stopper):
    guest = Guest(clock, destroy_error=libvirt.VIR_ERR_SYSTEM_ERROR)
    stopper.stop(guest, StopPolicy(0))
    assert guest.destroyed == "killed"


@pytest.mark.parametrize("code", [libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED])
def test_shutdown_that_is_refused_ends_in_a_hard_stop(clock, stopper, code):
    """No ACPI, no agent: libvirt says so at once, the VM runs on."""
    guest = Guest(clock, shutdown_error=code)
    assert stopper.stop(guest, StopPolicy(10)) == "hard"


def test_vm_that_vanishes_meanwhile_is_off(clock, stopper):
    """A transient domain is gone when it stops: error 42 on every further call."""
    guest = Guest(clock)

    def gone():
        raise libvirt_error(libvirt.VIR_ERR_NO_DOMAIN)

    stopper.ask(guest)
    guest.isActive = gone
    assert stopper.wait_until_off(guest, 10)
