# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Power states: what a VM is in, and the way to running or off."""

import time
from dataclasses import dataclass
from typing import Any, Callable, Optional

from .._core.connection import libvirt_message
from .._core.deps import libvirt
from .._core.errors import TrustedVMError

_STATES = {
    0: "unknown",
    1: "running",
    2: "running",
    3: "paused",
    4: "shutting_down",
    5: "stopped",
    6: "crashed",
    7: "suspended",
}
_PAUSED_USER, _PAUSED_MIGRATION, _PAUSED_IOERROR, _PAUSED_WATCHDOG = 1, 2, 5, 6
_PAUSED_FROM_SNAPSHOT, _PAUSED_CRASHED = 7, 10
_PAUSED_POSTCOPY, _PAUSED_POSTCOPY_FAILED = 12, 13
_SHUTOFF_MIGRATED = 4
_RESUMABLE = (0, _PAUSED_USER, _PAUSED_IOERROR, _PAUSED_WATCHDOG, _PAUSED_FROM_SNAPSHOT)

# swtpm's answers to CMD_INIT, as libvirt quotes them (seen on libvirt 9.0 and 12.8).
_TPM_WRONG_KEY = "CMD_INIT: 0x101"
_TPM_LOCKED = "CMD_INIT: 0x9"


@dataclass(frozen=True)
class Power:
    """A domain's state and libvirt's reason for it."""

    state: str
    reason: int

    @property
    def off(self) -> bool:
        return self.state == "stopped"

    @property
    def migrated_away(self) -> bool:
        """Left behind by a migration; the VM runs elsewhere, and libvirt would start it here again."""
        return self.off and self.reason == _SHUTOFF_MIGRATED

    @property
    def migrating(self) -> bool:
        return self.state == "paused" and self.reason in (
            _PAUSED_MIGRATION,
            _PAUSED_POSTCOPY,
            _PAUSED_POSTCOPY_FAILED,
        )

    @property
    def crashed(self) -> bool:
        return self.state == "crashed" or (self.state == "paused" and self.reason == _PAUSED_CRASHED)

    @property
    def resumable(self) -> bool:
        return self.state == "paused" and self.reason in _RESUMABLE


def power_state(domain: Any) -> Power:
    state, reason = domain.state()
    return Power(_STATES.get(state, "unknown"), reason)


def path_to_running(power: Power, start_migrated: bool) -> Optional[str]:
    """What brings a VM to running: ``start``, ``resume``, ``wakeup``, or None where it runs.

    Raises:
        TrustedVMError: ``vm_migrated_away``, ``vm_crashed``, ``vm_busy``.
    """
    if power.state == "running":
        return None
    if power.migrated_away and not start_migrated:
        raise TrustedVMError(
            "vm_migrated_away",
            "The VM was migrated away; what is left here is its old definition",
            found="shut off, reason: migrated",
            hint="Remove only the definition here, with state=absent and no remove option, because disks and state may be those "
            "that the VM runs with elsewhere; if it runs nowhere else for certain, set start_migrated=true",
        )
    if power.off:
        return "start"
    if power.crashed:
        raise TrustedVMError(
            "vm_crashed",
            "The VM's guest crashed and was kept for inspection",
            hint="Stop it with state=stopped, which ends the crashed guest, and start it again",
        )
    if power.resumable:
        return "resume"
    if power.state == "suspended":
        return "wakeup"
    raise TrustedVMError(
        "vm_busy",
        "The VM is %s and cannot be started now" % power.state.replace("_", " "),
        found="%s, libvirt's reason %d%s" % (power.state, power.reason, " (migration)" if power.migrating else ""),
        hint="Wait until the migration, snapshot or shutdown is over, and run again",
    )


def start(domain: Any) -> None:
    """Start a domain that is off.

    Raises:
        TrustedVMError: ``tpm_start_failed``, ``vm_start_failed``, with libvirt's own words.
    """
    try:
        domain.create()
    except libvirt.libvirtError as error:
        raise start_failure(error) from error


def start_failure(error: Any) -> TrustedVMError:
    words = libvirt_message(error)
    details = {"libvirt_error": error.get_error_code()}
    if _TPM_WRONG_KEY in words:
        return TrustedVMError(
            "tpm_start_failed",
            "libvirt could not start the VM's TPM: %s" % words,
            hint="swtpm says this when the secret's value is not the key of the TPM state, when the state is not "
            "encrypted or is damaged; trustedvm.libvirt.vtpm_info with the key tells which",
            details=details,
        )
    if _TPM_LOCKED in words:
        return TrustedVMError(
            "tpm_start_failed",
            "libvirt could not start the VM's TPM: %s" % words,
            hint="Another swtpm holds the TPM state: see whether the VM runs on another host that shares the directory",
            details=details,
        )
    if error.get_error_code() == libvirt.VIR_ERR_NO_SECRET:
        return TrustedVMError(
            "secret_missing",
            "libvirt could not start the VM: %s" % words,
            hint="Define the secret with its value (trustedvm.libvirt.libvirt_secret), then start again",
            details=details,
        )
    return TrustedVMError(
        "vm_start_failed",
        "libvirt could not start the VM: %s" % words,
        hint="See the VM's log in libvirt's log directory on the host (qemu/NAME.log)",
        details=details,
    )


@dataclass(frozen=True)
class StopPolicy:
    """How to stop.

    Attributes:
        timeout: seconds that the guest gets; 0 stops it hard at once.
        force: stop it hard after the timeout.
    """

    timeout: float = 120
    force: bool = True


class Stopper:
    """Stops VMs; those of one task are asked together, so that their time-outs do not add up."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._asked_at: dict[str, float] = {}

    def ask(self, domain: Any) -> None:
        """Ask the guest to shut down, once; a guest that ignores it is seen by :meth:`stop`."""
        uuid = domain.UUIDString()
        if uuid in self._asked_at:
            return
        self._asked_at[uuid] = self._clock()
        try:
            domain.shutdown()
        except libvirt.libvirtError as error:
            # OPERATION_INVALID: it stopped by itself meanwhile. Others (no ACPI, no agent): hard stop.
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                raise

    def stop(self, domain: Any, policy: StopPolicy) -> str:
        """Bring an active domain to off; returns ``graceful`` or ``hard``.

        Raises:
            TrustedVMError: ``stop_timeout``: it still runs and may not be stopped hard.
        """
        power = power_state(domain)
        if power.off:
            return "graceful"
        if power.state in ("running", "shutting_down") and policy.timeout > 0:
            self.ask(domain)
            if self.wait_until_off(domain, self._asked_at[domain.UUIDString()] + policy.timeout):
                return "graceful"
        if not policy.force:
            raise TrustedVMError(
                "stop_timeout",
                "The VM did not shut down within %d s" % policy.timeout,
                found=power_state(domain).state,
                wanted="stopped",
                hint="Give it more time with stop_timeout, or allow a hard stop with force_stop=true",
            )
        self._destroy(domain)
        return "hard"

    def wait_until_off(self, domain: Any, deadline: float) -> bool:
        """Poll, first often and then every second; a transient domain that vanished is off."""
        pause = 0.05
        while not is_off(domain):
            left = deadline - self._clock()
            if left <= 0:
                return False
            self._sleep(min(pause, left))
            pause = min(pause * 1.5, 1.0)
        return True

    @staticmethod
    def _destroy(domain: Any) -> None:
        try:
            # GRACEFUL: SIGTERM, so that QEMU writes out its caches; libvirt gives up after 15 s.
            domain.destroyFlags(libvirt.VIR_DOMAIN_DESTROY_GRACEFUL)
        except libvirt.libvirtError as error:
            if is_off(domain):
                return
            if error.get_error_code() in (libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_DOMAIN):
                raise
            domain.destroy()


def is_off(domain: Any) -> bool:
    try:
        return not domain.isActive()
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return True
        raise
