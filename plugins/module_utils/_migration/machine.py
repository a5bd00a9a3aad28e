# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""What of a VM matters for its move, read from its XML."""

import os
from dataclasses import dataclass
from typing import Any, Optional

from .._core.deps import etree
from .._core.domains import as_uuid
from .._core.host_paths import HostPaths
from .._domain.description import Nvram, loader_of, nvram_of
from .._tpm.device import EMULATOR, TpmSpec, read_tpm
from .._tpm.state_dir import StateLocation, locate


@dataclass(frozen=True)
class Machine:
    """A VM as the migration sees it.

    Attributes:
        nvram: path of a file NVRAM; None without one, and for block and network NVRAM, which
            libvirt leaves alone.
        vcpus: how many it may have.
        tpm_state: where the emulated TPM's state is on the source; None without one, and where
            the source's libvirt is not on this machine.
        cpu: the ``<cpu>`` as XML when libvirt would check it at the destination, else None.
    """

    name: str
    uuid: str
    kind: str
    arch: str
    machine: str
    emulator: Optional[str]
    vcpus: int
    loader: Optional[str]
    nvram: Optional[str]
    nvram_template: Optional[str]
    tpm: Optional[TpmSpec]
    tpm_state: Optional[StateLocation]
    cpu: Optional[str]

    @property
    def needs_tpm_emulator(self) -> bool:
        return self.tpm is not None and self.tpm.backend == EMULATOR

    @property
    def secret_uuids(self) -> tuple[str, ...]:
        """The secrets that the destination needs before it can take the TPM."""
        if self.tpm is None or self.tpm.secret_uuid is None:
            return ()
        return (as_uuid(self.tpm.secret_uuid) or self.tpm.secret_uuid,)


def read_machine(domain: Any, paths: Optional[HostPaths]) -> Machine:
    """Read a parsed ``<domain>``: the live one of a VM that runs."""
    uuid = domain.findtext("uuid")
    tpm = read_tpm(domain)
    emulated = tpm is not None and tpm.backend == EMULATOR
    os_type = domain.find("os/type")
    nvram = nvram_of(domain)
    return Machine(
        name=domain.findtext("name"),
        uuid=uuid,
        kind=domain.get("type"),
        arch=os_type.get("arch"),
        machine=os_type.get("machine"),
        emulator=domain.findtext("devices/emulator"),
        vcpus=int(domain.findtext("vcpu") or 1),
        loader=loader_of(domain),
        nvram=_nvram_path(domain, nvram, paths),
        nvram_template=nvram.template if nvram is not None else None,
        tpm=tpm,
        tpm_state=locate(paths, uuid, tpm) if paths is not None and emulated else None,
        cpu=_checked_cpu(domain.find("cpu")),
    )


def _nvram_path(domain: Any, nvram: Optional[Nvram], paths: Optional[HostPaths]) -> Optional[str]:
    """With firmware autoselection libvirt before 9.2 has the path only in the XML of a VM that runs."""
    if nvram is not None:
        return os.path.normpath(nvram.path) if nvram.path else None
    if paths is None or domain.find("os").get("firmware") != "efi":
        return None
    # qemu_firmware.c and qemu_domain.c, 9.0 to 12.8: the name of a raw one.
    return os.path.join(paths.nvram, domain.findtext("name") + "_VARS.fd")


def _checked_cpu(cpu: Any) -> Optional[str]:
    """A host-passthrough CPU cannot be compared, and check='none' starts with what is there."""
    if cpu is None or cpu.get("mode") != "custom" or cpu.get("check") == "none":
        return None
    return str(etree.tostring(cpu, encoding="unicode", with_tail=False))
