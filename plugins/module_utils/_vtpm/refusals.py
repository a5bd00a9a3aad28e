# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""The refusals of ``vtpm``, each with what was found, what was wanted and what to do."""

from typing import Any

from .._core.deps import libvirt
from .._core.errors import TrustedVMError
from .._tpm.state_dir import TpmState


def refuse_busy_vm(domain: Any) -> None:
    """A device or a state changes only while nothing uses it.

    Raises:
        TrustedVMError: ``vm_running``; ``managed_save_present``: the saved memory holds the TPM's
            volatile state under the device as it was, and the VM would not resume.
    """
    if domain.isActive():
        raise TrustedVMError(
            "vm_running",
            "The VM is not shut off, and its vTPM cannot change while it runs",
            found="state %s" % _state_name(domain),
            wanted="state shut off",
            hint="Stop the VM first",
        )
    if domain.hasManagedSaveImage(0):
        raise TrustedVMError(
            "managed_save_present",
            "The VM has a managed-save image, which holds TPM state that belongs to the vTPM as it is",
            hint="Start the VM and shut it down properly, or drop the saved memory with 'virsh managedsave-remove'",
        )


def _state_name(domain: Any) -> str:
    names = {
        libvirt.VIR_DOMAIN_RUNNING: "running",
        libvirt.VIR_DOMAIN_BLOCKED: "running",
        libvirt.VIR_DOMAIN_PAUSED: "paused",
        libvirt.VIR_DOMAIN_SHUTDOWN: "shutting down",
        libvirt.VIR_DOMAIN_CRASHED: "crashed",
        libvirt.VIR_DOMAIN_PMSUSPENDED: "suspended",
    }
    return names.get(domain.state()[0], "active")


def state_missing(state: TpmState) -> TrustedVMError:
    """libvirt would make a new, empty TPM without a word."""
    return TrustedVMError(
        "tpm_state_missing",
        "The VM had a TPM state, and there is none at %s" % state.location.path,
        found="no TPM state",
        wanted="the state that the VM had",
        hint="Restore it before a start: libvirt would make a new, empty TPM, and what the guest sealed "
        "(BitLocker, LUKS) would not open. state=reset says that a new one is wanted",
    )


def state_would_be_lost(state: TpmState) -> TrustedVMError:
    """Removing a device does not silently remove what the guest has sealed."""
    return TrustedVMError(
        "tpm_state_would_be_lost",
        "The VM has TPM state at %s, and the task does not say that it may go" % state.location.path,
        found=_what_is_there(state),
        hint="Give remove_state=true if what the guest sealed with it (BitLocker, LUKS) may be lost",
    )


def _what_is_there(state: TpmState) -> str:
    written, copies = state.changed_at(), state.aside_copies()
    if written is not None:
        return "TPM state, last written %s" % written
    if copies:
        return "%d copies that were put aside" % len(copies)
    if not state.has_only_leftovers():
        return "files that are no TPM state"
    return "no TPM state in that place, though the VM ran with one; see whether its storage is mounted"


def data_loss_not_accepted(state: TpmState) -> TrustedVMError:
    """A reset loses what the guest has sealed."""
    return TrustedVMError(
        "data_loss_not_accepted",
        "A reset replaces the TPM state at %s by a new, empty one" % state.location.path,
        found=_what_is_there(state),
        hint="Give accept_data_loss=true if what the guest sealed with it (BitLocker, LUKS) may be lost",
    )


def vtpm_not_found() -> TrustedVMError:
    """There is nothing to reset."""
    return TrustedVMError(
        "vtpm_not_found",
        "The VM has no vTPM device, so there is none to reset",
        hint="Define one with state=present",
    )


def state_not_local(uri: str) -> TrustedVMError:
    """The connection goes to another machine, or to a driver without TPM state."""
    return TrustedVMError(
        "tpm_state_not_local",
        "The TPM state of a VM at %s is not on this machine, so it can be neither checked nor removed" % uri,
        hint="Run the task on the hypervisor itself with uri=qemu:///system",
    )


def vm_defined_here(domain: Any) -> TrustedVMError:
    """What a VM left behind is only what it left behind while it is not here."""
    return TrustedVMError(
        "vm_defined_here",
        "The VM is defined on this host, so its TPM state here is not a copy that it left behind",
        found="VM %s, %s" % (domain.name(), "active" if domain.isActive() else "shut off"),
        wanted="no VM of that UUID",
        hint="Undefine the VM here first, keeping its TPM state, if it really lives on another host",
    )
