# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the options of vm_record to the record that they ask for, and what such a record must not say."""
from __future__ import annotations

import dataclasses
import uuid
from typing import Any, Mapping, Optional, Sequence

from .._core.errors import ControllerError
from .._registry.records import NvramRecord, ResourceKeyRecord, VmRecord, VtpmRecord, vtpm_secret_uuid
from .._registry.vms import vm_name_taken
from .lookup import valid_uuid
from .runner import Item, first_set, given

FIRST_STATE = "provisioning"


def new_record(item: Item) -> VmRecord:
    """Raises:
    ControllerError: ``vm_record_incomplete``, ``uuid_invalid``.
    """
    _refuse_incomplete("The record of a new VM", item, ("name", "host"))
    identity = valid_uuid(item["uuid"], "uuid") if item.get("uuid") else str(uuid.uuid4())
    return VmRecord(
        uuid=identity,
        name=item["name"],
        host=item["host"],
        state=item.get("vm_state") or FIRST_STATE,
        key_provider=item.get("key_provider") or None,
        vtpm=_vtpm(identity, item.get("vtpm"), None),
        nvram=_nvram(identity, item.get("nvram"), None),
    )


def changed_record(item: Item, record: VmRecord) -> VmRecord:
    """What the options leave out stays.

    Raises:
        ControllerError: ``vm_record_incomplete``, ``uuid_invalid``.
    """
    provider = item.get("key_provider")
    wanted = dataclasses.replace(
        record,
        name=first_set(item.get("name"), record.name),
        host=first_set(item.get("host"), record.host),
        state=first_set(item.get("vm_state"), record.state),
        key_provider=record.key_provider if provider is None else (provider or None),
        vtpm=_vtpm(record.uuid, item.get("vtpm"), record.vtpm),
        nvram=_nvram(record.uuid, item.get("nvram"), record.nvram),
    )
    placed_anew = wanted.host != record.host or wanted.state != record.state
    return dataclasses.replace(wanted, generation=record.generation + 1) if placed_anew else wanted


def refuse_contradiction(wanted: VmRecord, bound: Optional[str], keys: Sequence[ResourceKeyRecord]) -> None:
    """Args:
    bound: the key provider that the VM is bound to so far.
    keys: all keys of the VM.

    Raises:
        ControllerError: ``vm_has_resource_keys``, ``unencrypted_vtpm_refused``.
    """
    others = sorted({key.provider for key in keys} - {wanted.key_provider})
    if others and wanted.key_provider != bound:
        raise ControllerError(
            "vm_has_resource_keys",
            "The VM cannot be bound to %s" % (wanted.key_provider or "no key provider"),
            found="keys of the VM under %s" % ", ".join(others),
            wanted="no keys under another provider",
            hint="Leave key_provider as it is, or remove the keys first if what they encrypt is gone",
        )
    if wanted.vtpm is not None and not wanted.vtpm.encrypted and (wanted.key_provider or keys):
        raise ControllerError(
            "unencrypted_vtpm_refused",
            "The vTPM of a VM with a key provider cannot be recorded as unencrypted",
            found="key provider %s, %d keys" % (wanted.key_provider or keys[0].provider, len(keys)),
            wanted="encrypted: true, or a VM without a provider and without keys",
        )


class Names:
    """Which VM has which name on which host, as the items of a task leave it one after the other.

    The database holds the rule (``uq_vms_host_name``); this foretells it.
    """

    def __init__(self, records: Sequence[VmRecord]) -> None:
        self._owners = {(record.host, record.name): record.uuid for record in records}

    def take(self, wanted: VmRecord, found: Optional[VmRecord] = None) -> None:
        """Raises:
        ControllerError: ``vm_name_taken``.
        """
        owner = self._owners.get((wanted.host, wanted.name), wanted.uuid)
        if owner != wanted.uuid:
            raise vm_name_taken(wanted.name, wanted.host, owner)
        if found is not None:
            self.give_up(found)
        self._owners[wanted.host, wanted.name] = wanted.uuid

    def give_up(self, found: VmRecord) -> None:
        self._owners.pop((found.host, found.name), None)


def _vtpm(vm_uuid: str, options: Optional[Mapping[str, Any]], found: Optional[VtpmRecord]) -> Optional[VtpmRecord]:
    if options is None:
        return found
    if options.get("state") == "absent":
        return None
    base = found or VtpmRecord(vm_uuid, vtpm_secret_uuid(vm_uuid), "tpm-crb", "2.0", encrypted=True, state_exists=False)
    values = given(options, "secret_uuid", "model", "version", "encrypted", "state_exists")
    if "secret_uuid" in values:
        values["secret_uuid"] = valid_uuid(values["secret_uuid"], "vtpm.secret_uuid")
    return dataclasses.replace(base, **values)


def _nvram(vm_uuid: str, options: Optional[Mapping[str, Any]], found: Optional[NvramRecord]) -> Optional[NvramRecord]:
    if options is None:
        return found
    if options.get("state") == "absent":
        return None
    if found is None:
        _refuse_incomplete("The record of an NVRAM volume", options, ("path",))
    base = found or NvramRecord(vm_uuid, "directory", options["path"], None, "raw")
    return dataclasses.replace(base, **given(options, "storage", "path", "size", "format"))


def _refuse_incomplete(what: str, options: Mapping[str, Any], names: Sequence[str]) -> None:
    missing = [name for name in names if not options.get(name)]
    if missing:
        raise ControllerError(
            "vm_record_incomplete",
            "%s needs %s" % (what, " and ".join(missing)),
            found="neither" if len(missing) > 1 else "none",
            hint="Give %s" % " and ".join(missing),
        )
