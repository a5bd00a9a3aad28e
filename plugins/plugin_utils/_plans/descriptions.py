# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VM as a person describes it, with everything filled in that can be known on the controller."""
from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, Mapping, Optional, Sequence
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


def identities(descriptions: Sequence[Description], defaults: Optional[Description] = None) -> list[str]:
    """What to ask the registry for: each VM's name, and its UUID where the description or its XML gives one.

    Raises:
        ControllerError: ``vm_description_invalid``, ``vm_described_twice``.
    """
    merged = [_with_defaults(each, defaults or {}) for each in descriptions]
    names = [_name(each) for each in merged]
    found = names + [given for given in map(given_uuid, merged) if given]
    twice = sorted({each for each in found if found.count(each) > 1})
    if twice:
        raise ControllerError(
            "vm_described_twice",
            "Two VM descriptions are of one VM",
            found=", ".join(twice),
            wanted="a name of its own for each VM and, where it is given, a UUID of its own",
        )
    return found


class KnownVms:
    """What the registry has of the VMs of a run, seen from one host."""

    def __init__(self, records: Sequence[Record], host: str) -> None:
        # Names are unique on a host only: this host's record goes before another host's of the same name.
        self._by_name = {record["name"]: record for record in sorted(records, key=lambda record: record["host"] == host)}
        self._by_uuid = {record["uuid"]: record for record in records}

    def record(self, merged: Description) -> Optional[Record]:
        """The record of a described VM; None for a new one.

        Raises:
            ControllerError: ``vm_uuid_taken``, ``vm_name_taken``: the registry has a VM that is only half the described one.
        """
        name, given = _name(merged), given_uuid(merged)
        same_uuid, same_name = self._by_uuid.get(given or ""), self._by_name.get(name)
        if same_uuid is not None and same_uuid["name"] != name:
            raise ControllerError(
                "vm_uuid_taken",
                "The UUID of VM %s is the one of another VM in the registry" % name,
                found="VM %s, uuid %s, on host %s" % (same_uuid["name"], given, same_uuid["host"]),
                wanted="a UUID that no other VM has",
                hint="Leave the uuid out of the description (or of its XML) for a new VM, or use the recorded name if that VM is meant",
            )
        if given and same_uuid is None and same_name is not None:
            raise ControllerError(
                "vm_name_taken",
                "The registry has another VM with the name %s" % name,
                found="uuid %s on host %s" % (same_name["uuid"], same_name["host"]),
                wanted="uuid %s" % given,
                hint="Choose another name, or leave out the uuid if the recorded VM is meant",
            )
        return same_uuid or same_name


def plan_vm(description: Description, defaults: Description, known: KnownVms, provider: str) -> PlannedVm:
    """A description with the defaults below it and its identity fixed.

    Raises:
        ControllerError: ``vm_description_invalid``, ``vm_uuid_taken``, ``vm_name_taken``, ``unencrypted_vtpm_refused`` (M5).
    """
    merged = _with_defaults(description, defaults)
    record = known.record(merged)
    tpm = {**TPM_DEFAULTS, **(defaults.get("tpm") or {}), **(description.get("tpm") or {})}
    encrypted = tpm["enabled"] and tpm["encrypted"]
    if tpm["enabled"] and not encrypted and (record or {}).get("bound"):
        raise ControllerError(
            "unencrypted_vtpm_refused",
            "The vTPM of VM %s cannot be unencrypted" % merged["name"],
            found="a VM that is bound to the key provider %s or has keys" % (record or {}).get("key_provider"),
            wanted="encrypted: true",
            hint="Destroy the VM and make it anew if what its TPM holds is not needed",
        )
    return PlannedVm(
        uuid=given_uuid(merged) or (record["uuid"] if record else str(uuid.uuid4())),
        name=merged["name"],
        options={key: value for key, value in merged.items() if key not in ROLE_KEYS},
        tpm={key: tpm[key] for key in ("encrypted", "model", "version")} if tpm["enabled"] else None,
        record=record,
        key_provider=_provider(merged, record, provider) if encrypted else None,
    )


def _with_defaults(description: Description, defaults: Description) -> Description:
    if description.get("xml"):
        defaults = {key: value for key, value in defaults.items() if key in COMPLETES_XML}
    return {**defaults, **description}


def _name(merged: Description) -> str:
    if not merged.get("name"):
        raise ControllerError(
            "vm_description_invalid", "A VM description has no name", found=str(sorted(merged)), hint="Give each VM a name"
        )
    return str(merged["name"])


def _provider(merged: Description, record: Optional[Record], default: str) -> str:
    bound = (record or {}).get("key_provider")
    return merged.get("key_provider") or bound or default


def given_uuid(merged: Description) -> Optional[str]:
    """The UUID that the description or the user's XML gives, in libvirt's spelling.

    Raises:
        ControllerError: ``vm_description_invalid``.
    """
    given = merged.get("uuid") or _uuid_in_xml(merged.get("xml"))
    try:
        return str(uuid.UUID(str(given))) if given else None
    except ValueError:
        raise ControllerError(
            "vm_description_invalid", "VM %s: the uuid is none" % merged["name"], found=str(given), wanted="a UUID"
        ) from None


def _uuid_in_xml(xml: Optional[str]) -> Optional[str]:
    if not xml:
        return None
    try:
        return (ElementTree.fromstring(xml).findtext("uuid") or "").strip() or None
    except ElementTree.ParseError:
        return None  # the vm module says what is wrong with it
