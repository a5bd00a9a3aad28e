# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VM as a person describes it, with everything filled in that can be known on the controller."""
from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, Mapping, Optional
from xml.etree import ElementTree

from .._core.errors import ControllerError
from .._registry.records import vtpm_secret_uuid, vtpm_usage

Description = Mapping[str, Any]
Record = Mapping[str, Any]

TPM_DEFAULTS = {"enabled": True, "encrypted": True, "model": "tpm-crb", "version": "2.0"}

# What a domain XML of the user is completed with; all other defaults are the XML's to say.
COMPLETES_XML = ("tpm", "nvram", "key_provider", "autostart")

# Keys of a description that are the role's; all others are options of the vm module.
ROLE_KEYS = ("tpm", "key_provider")


@dataclass(frozen=True)
class PlannedVm:
    """One VM of a run.

    Attributes:
        options: the description's options for the vm module.
        tpm: model, version, encrypted; None without a vTPM.
        record: what the registry knew before the run; None for a new VM.
        key_provider: the provider that a new key is made with; None without one.
    """

    uuid: str
    name: str
    options: Description
    tpm: Optional[Mapping[str, Any]]
    record: Optional[Record]
    key_provider: Optional[str]

    @property
    def encrypted(self) -> bool:
        return bool(self.tpm and self.tpm["encrypted"])

    @property
    def secret_uuid(self) -> str:
        known = ((self.record or {}).get("vtpm") or {}).get("secret_uuid")
        return known or vtpm_secret_uuid(self.uuid)

    @property
    def usage(self) -> str:
        return vtpm_usage(self.uuid)

    @property
    def had_state(self) -> bool:
        """Whether the VM has run before, so that its TPM state and NVRAM must be there."""
        return bool(((self.record or {}).get("vtpm") or {}).get("state_exists"))


def plan_vm(description: Description, defaults: Description, record: Optional[Record], provider: str) -> PlannedVm:
    """A description with the defaults below it and its identity fixed.

    Raises:
        ControllerError: ``vm_description_invalid``.
    """
    if description.get("xml"):
        defaults = {key: value for key, value in defaults.items() if key in COMPLETES_XML}
    merged = {**defaults, **description}
    name = merged.get("name")
    if not name:
        raise ControllerError(
            "vm_description_invalid", "A VM description has no name", found=str(sorted(merged)), hint="Give each VM a name"
        )
    tpm = {**TPM_DEFAULTS, **(defaults.get("tpm") or {}), **(description.get("tpm") or {})}
    encrypted = tpm["enabled"] and tpm["encrypted"]
    return PlannedVm(
        uuid=_identity(merged, record),
        name=name,
        options={key: value for key, value in merged.items() if key not in ROLE_KEYS},
        tpm={key: tpm[key] for key in ("encrypted", "model", "version")} if tpm["enabled"] else None,
        record=record,
        key_provider=_provider(merged, record, provider) if encrypted else None,
    )


def _provider(merged: Description, record: Optional[Record], default: str) -> str:
    bound = (record or {}).get("key_provider")
    return merged.get("key_provider") or bound or default


def _identity(merged: Description, record: Optional[Record]) -> str:
    """The UUID: given, in the user's XML, in the registry, or new."""
    given = merged.get("uuid") or _uuid_in_xml(merged.get("xml")) or (record or {}).get("uuid")
    try:
        wanted = str(uuid.UUID(str(given))) if given else str(uuid.uuid4())
    except ValueError:
        raise ControllerError(
            "vm_description_invalid", "VM %s: the uuid is none" % merged["name"], found=str(given), wanted="a UUID"
        ) from None
    if record and record["uuid"] != wanted:
        raise ControllerError(
            "vm_name_taken",
            "The registry has another VM with the name %s" % merged["name"],
            found="uuid %s on host %s" % (record["uuid"], record["host"]),
            wanted="uuid %s" % wanted,
            hint="Choose another name, or leave out the uuid if the recorded VM is meant",
        )
    return wanted


def _uuid_in_xml(xml: Optional[str]) -> Optional[str]:
    if not xml:
        return None
    try:
        return (ElementTree.fromstring(xml).findtext("uuid") or "").strip() or None
    except ElementTree.ParseError:
        return None  # the vm module says what is wrong with it
