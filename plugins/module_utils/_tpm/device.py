# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""The ``<tpm>`` device in a domain's XML: read, compare, apply.

Elements that we do not manage (active_pcr_banks, profile, debug, address, alias) stay as they are.
"""

import copy
from dataclasses import dataclass
from typing import Any, Optional

from .._core.deps import etree
from .._core.errors import TrustedVMError

EMULATOR = "emulator"
MODEL_DEFAULT = "tpm-crb"
VERSION_DEFAULT = "2.0"


@dataclass(frozen=True)
class TpmSource:
    """Where libvirt 10.10 and newer was told to keep the TPM state: ``<source type= path=>``."""

    kind: str
    path: str


@dataclass(frozen=True)
class TpmSpec:
    """What we manage of a vTPM device.

    Attributes:
        secret_uuid: the libvirt secret that encrypts the TPM state; None is an unencrypted state.
        persistent_state: False only when read from a domain that somebody else defined. With
            'no', or without the attribute, libvirt deletes the TPM state as a side effect of an
            undefine, a failed start or the stop of a transient domain (seen on 9.0 and 12.8).
        source: only read, never written; a device keeps the one that it has.
    """

    secret_uuid: Optional[str]
    model: str = MODEL_DEFAULT
    version: str = VERSION_DEFAULT
    persistent_state: bool = True
    source: Optional[TpmSource] = None
    backend: str = EMULATOR

    def as_result(self) -> dict[str, Any]:
        """The device in results and diffs."""
        return {
            "model": self.model,
            "backend": self.backend,
            "version": self.version,
            "persistent_state": self.persistent_state,
            "encrypted": self.secret_uuid is not None,
            "secret_uuid": self.secret_uuid,
        }


def find_tpm(domain: Any) -> Any:
    """The ``<tpm>`` element of a ``<domain>``, or None.

    A POWER guest may have a second device, a tpm-spapr-proxy, which keeps no state of its own.
    """
    for element in domain.findall("devices/tpm"):
        if element.get("model") != "spapr-tpm-proxy":
            return element
    return None


def read_tpm(domain: Any) -> Optional[TpmSpec]:
    """The vTPM of a parsed ``<domain>``, or None where it has none."""
    element = find_tpm(domain)
    if element is None:
        return None
    backend = element.find("backend")
    if backend is None:
        return TpmSpec(None, element.get("model", MODEL_DEFAULT), persistent_state=False, backend="passthrough")
    encryption = backend.find("encryption")
    return TpmSpec(
        secret_uuid=None if encryption is None else encryption.get("secret"),
        model=element.get("model", MODEL_DEFAULT),
        version=backend.get("version", VERSION_DEFAULT),
        persistent_state=backend.get("persistent_state") == "yes",
        source=_read_source(backend),
        backend=backend.get("type", EMULATOR),
    )


def _read_source(backend: Any) -> Optional[TpmSource]:
    source = backend.find("source")
    # An external backend has <source type='unix' …>, a socket and no state.
    if source is None or source.get("type") not in ("dir", "file") or not source.get("path"):
        return None
    return TpmSource(source.get("type"), source.get("path"))


def apply_tpm(domain: Any, spec: TpmSpec) -> bool:
    """Make the ``<tpm>`` of a parsed ``<domain>`` as wanted, in place; always a persistent state.

    Returns:
        Whether anything differs from before.

    Raises:
        TrustedVMError: ``vtpm_backend_differs``, ``tpm_version_differs``: another device would
            be another TPM, so it is never changed in place.
    """
    element = find_tpm(domain)
    before = b"" if element is None else etree.tostring(element)
    if element is None:
        element = etree.SubElement(_devices(domain), "tpm")
        etree.SubElement(element, "backend", type=EMULATOR, version=spec.version)
    else:
        _refuse_other_tpm(read_tpm(domain), spec)
    backend = element.find("backend")
    element.set("model", spec.model)
    backend.set("version", spec.version)
    backend.set("persistent_state", "yes")
    _set_encryption(backend, spec.secret_uuid)
    return bool(etree.tostring(element) != before)


def take_over_tpm(domain: Any, found: Any) -> None:
    """What the ``<tpm>`` of a parsed ``<domain>`` leaves open it takes from another definition of that VM, in place.

    Without the secret the state would not open, and with another source it would not be found.

    Raises:
        TrustedVMError: ``vtpm_backend_differs``, ``tpm_version_differs``.
    """
    old, new = find_tpm(found), find_tpm(domain)
    if old is None:
        return
    if new is None:
        _devices(domain).append(copy.deepcopy(old))
        return
    backend, old_backend = new.find("backend"), old.find("backend")
    if backend is None or old_backend is None:
        return
    for element, kept, name in ((new, old, "model"), (backend, old_backend, "version")):
        if element.get(name) is None and kept.get(name) is not None:
            element.set(name, kept.get(name))
    _refuse_other_tpm(read_tpm(found), read_tpm(domain))
    for tag in ("source", "encryption"):
        if backend.find(tag) is None and old_backend.find(tag) is not None:
            backend.insert(0, copy.deepcopy(old_backend.find(tag)))


def remove_tpm(domain: Any) -> bool:
    """Take the ``<tpm>`` out of a parsed ``<domain>``; False where there was none."""
    element = find_tpm(domain)
    if element is None:
        return False
    element.getparent().remove(element)
    return True


def _devices(domain: Any) -> Any:
    devices = domain.find("devices")
    return etree.SubElement(domain, "devices") if devices is None else devices


def _refuse_other_tpm(found: Optional[TpmSpec], wanted: Optional[TpmSpec]) -> None:
    if found is None or wanted is None:
        return
    if found.backend != wanted.backend:
        raise TrustedVMError(
            "vtpm_backend_differs",
            "The VM has a TPM device of another kind, and with another one it would be another TPM",
            found="backend %s" % found.backend,
            wanted="backend %s" % wanted.backend,
            hint="Remove that device from the VM first, knowing that what the guest sealed with it is lost",
        )
    if found.version != wanted.version:
        raise TrustedVMError(
            "tpm_version_differs",
            "The VM's TPM has another version, and a TPM state cannot be converted",
            found="version %s" % found.version,
            wanted="version %s" % wanted.version,
            hint="Remove the device and its state with state=absent and remove_state=true, then define a new one",
        )


def _set_encryption(backend: Any, secret_uuid: Optional[str]) -> None:
    encryption = backend.find("encryption")
    if secret_uuid is None:
        if encryption is not None:
            backend.remove(encryption)
        return
    if encryption is None:
        # First: the schema interleaves the children, but libvirt itself writes encryption first.
        encryption = etree.Element("encryption")
        backend.insert(0, encryption)
    if encryption.get("secret", "").lower() != secret_uuid.lower():
        encryption.set("secret", secret_uuid)
