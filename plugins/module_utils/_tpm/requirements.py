# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Can this host give a VM a vTPM? Asked of libvirt, by capability, not guessed from versions."""

from dataclasses import dataclass
from typing import Any, Optional

from .._core.deps import etree
from .._core.errors import TrustedVMError
from .device import TpmSpec

_SEE_CAPABILITIES = "See the <tpm> part of 'virsh domcapabilities'"


@dataclass(frozen=True)
class Lack:
    """What a host lacks for a vTPM, in the words of an error."""

    found: str
    wanted: str
    hint: str = _SEE_CAPABILITIES


def lacking(tpm: Any, spec: TpmSpec) -> Optional[Lack]:
    """What the ``<tpm>`` of domain capabilities lacks for such a vTPM, or None."""
    if tpm is None or tpm.get("supported") != "yes":
        return Lack("libvirt offers no TPM for this kind of machine", "a TPM device")
    if "emulator" not in _values(tpm, "backendModel"):
        # libvirt offers the emulator backend when it finds swtpm, swtpm_setup and swtpm_ioctl.
        return Lack(
            "no emulated TPM: libvirt did not find swtpm and swtpm_setup",
            "the emulator backend",
            "Install the packages swtpm and swtpm-tools on the host",
        )
    for what, enum, value in (("model", "model", spec.model), ("version", "backendVersion", spec.version)):
        # libvirt before 8.10 had no backendVersion here; an empty list says nothing.
        offered = _values(tpm, enum)
        if offered and value not in offered:
            return Lack("TPM %s %s" % (what, ", ".join(offered)), "TPM %s %s" % (what, value))
    return None


class VtpmSupport:
    """What libvirt's domain capabilities say of TPMs; one call for each kind of machine."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._known: dict[tuple[Any, ...], Any] = {}

    def require(self, domain: Any, spec: TpmSpec) -> None:
        """Refuse a device that the host cannot give to a parsed ``<domain>``.

        Raises:
            TrustedVMError: ``vtpm_unsupported``.
        """
        lack = lacking(self._capabilities(domain), spec)
        if lack is not None:
            raise TrustedVMError(
                "vtpm_unsupported", "This host cannot give the VM such a vTPM", lack.found, lack.wanted, lack.hint
            )

    def _capabilities(self, domain: Any) -> Any:
        machine = domain.find("os/type")
        key = (
            domain.findtext("devices/emulator"),
            None if machine is None else machine.get("arch"),
            None if machine is None else machine.get("machine"),
            domain.get("type"),
        )
        if key not in self._known:
            xml = self._connection.getDomainCapabilities(*key, 0)
            self._known[key] = etree.fromstring(xml.encode()).find("devices/tpm")
        return self._known[key]


def _values(tpm: Any, enum: str) -> list[str]:
    return [value.text for value in tpm.findall("enum[@name='%s']/value" % enum)]
