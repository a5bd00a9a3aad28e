# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""What the destination's libvirt says it can run, before anything moves."""

from typing import Any, Optional

from .._core.connection import libvirt_message
from .._core.deps import etree, libvirt
from .._core.errors import TrustedVMError
from .._tpm.requirements import lacking
from .machine import Machine


def obstacles(source: Any, destination: Any, machine: Machine, host: str) -> list[TrustedVMError]:
    """Machine type, firmware, TPM emulator, CPU and how many of them; an empty list where nothing speaks against it."""
    try:
        there = _domain_capabilities(destination, machine)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
            return []
        return [_unsupported_machine(machine, host, libvirt_message(error))]
    found = (
        _tpm_obstacle(machine, there, host),
        _firmware_obstacle(source, machine, there, host),
        _vcpu_obstacle(machine, there, host),
        _cpu_obstacle(destination, machine, host),
    )
    return [obstacle for obstacle in found if obstacle is not None]


def _domain_capabilities(connection: Any, machine: Machine) -> Any:
    text = connection.getDomainCapabilities(machine.emulator, machine.arch, machine.machine, machine.kind, 0)
    return etree.fromstring(text.encode())


def _unsupported_machine(machine: Machine, host: str, words: str) -> TrustedVMError:
    return TrustedVMError(
        "destination_machine_unsupported",
        "Host %s cannot run VM '%s'" % (host, machine.name),
        found=words,
        wanted="machine type %s (%s, %s) with %s" % (machine.machine, machine.arch, machine.kind, machine.emulator),
        hint="Install a QEMU there that is as new as the source's, or move the VM to another host",
    )


def _tpm_obstacle(machine: Machine, there: Any, host: str) -> Optional[TrustedVMError]:
    if not machine.needs_tpm_emulator or machine.tpm is None:
        return None
    lack = lacking(there.find("devices/tpm"), machine.tpm)
    if lack is None:
        return None
    return TrustedVMError(
        "destination_tpm_unsupported",
        "Host %s cannot emulate the TPM of VM '%s'" % (host, machine.name),
        found=lack.found,
        wanted=lack.wanted,
        hint="On host %s: %s" % (host, lack.hint),
    )


def _firmware_obstacle(source: Any, machine: Machine, there: Any, host: str) -> Optional[TrustedVMError]:
    """Only a firmware that the source's own packages list is expected in the destination's list.

    A loader at a path of the operator's own choice is in neither; libvirt will say.
    """
    if machine.loader is None or machine.loader in _loaders(there):
        return None
    if machine.loader not in _loaders(_domain_capabilities(source, machine)):
        return None
    return TrustedVMError(
        "destination_firmware_missing",
        "Host %s does not have the firmware of VM '%s'" % (host, machine.name),
        found=_words(sorted(_loaders(there))),
        wanted=machine.loader,
        hint="Install the firmware package of the source there (Debian: ovmf), in a release that has this file",
    )


def _vcpu_obstacle(machine: Machine, there: Any, host: str) -> Optional[TrustedVMError]:
    limit = there.find("vcpu")
    if limit is None or machine.vcpus <= int(limit.get("max", machine.vcpus)):
        return None
    return TrustedVMError(
        "destination_vcpu_limit",
        "VM '%s' has more virtual CPUs than host %s can give to one VM" % (machine.name, host),
        found="at most %s for machine type %s" % (limit.get("max"), machine.machine),
        wanted="%d" % machine.vcpus,
        hint="Give the VM fewer (virsh setvcpus --maximum --config, then restart it), or choose a host with a newer QEMU",
    )


def _cpu_obstacle(destination: Any, machine: Machine, host: str) -> Optional[TrustedVMError]:
    if machine.cpu is None:
        return None
    try:
        verdict = destination.compareHypervisorCPU(
            machine.emulator, machine.arch, machine.machine, machine.kind, machine.cpu, 0
        )
        words = "the host lacks features of it"
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_CPU_INCOMPATIBLE:
            # Not a verdict: an architecture or a driver without a comparison.
            return None
        verdict, words = libvirt.VIR_CPU_COMPARE_INCOMPATIBLE, libvirt_message(error)
    if verdict != libvirt.VIR_CPU_COMPARE_INCOMPATIBLE:
        return None
    return TrustedVMError(
        "destination_cpu_incompatible",
        "The CPU of VM '%s' cannot be had on host %s" % (machine.name, host),
        found=words,
        wanted=machine.cpu,
        hint="Give the VM a CPU model that both hosts have (virsh hypervisor-cpu-baseline) and restart it once",
    )


def _loaders(capabilities: Any) -> set[str]:
    return {value.text for value in capabilities.findall("os/loader/value")}


def _words(values: list[str]) -> str:
    return ", ".join(values) or "none"
