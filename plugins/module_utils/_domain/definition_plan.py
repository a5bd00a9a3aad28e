# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""From the options of an item to the definition that the VM is to have, and whether it differs."""

import copy
import os
import uuid
from dataclasses import dataclass, replace
from typing import Any, Optional

from .._core.deps import etree
from .._core.host_paths import host_paths
from .._nvram.firmware import FirmwareCatalogue
from .._nvram.location import DEFAULT_DIRECTORY, root_directory, volume_path
from .._tpm.device import EMULATOR, read_tpm, take_over_tpm
from . import edits, storage_edits
from .builder import HostDefaults, complete, parse_user_xml, skeleton
from .compare import contains, digest_of
from .description import has_secure_boot, libvirt_chooses_nvram, loader_of, nvram_of, root_disk_of
from .firmware_edits import apply_firmware, keep_firmware, set_nvram
from .inventory import Inventory
from .metadata import read_marks, write_marks
from .spec import TpmWish, VmSpec


@dataclass(frozen=True)
class Draft:
    """A definition as it is to be.

    Attributes:
        tree: the wanted ``<domain>``; the very one that is there if nothing differs.
        before: the one that is there, None for a new VM.
        validate: the user's own XML is in it, so libvirt shall check it against its schema.
    """

    tree: Any
    before: Any
    changed: bool
    validate: bool = False


class DefinitionPlanner:
    """Works out drafts for the VMs of one connection."""

    def __init__(self, connection: Any, catalogue: FirmwareCatalogue, inventory: Inventory) -> None:
        self._connection = connection
        self._host = HostDefaults(connection)
        self._catalogue = catalogue
        self._inventory = inventory
        paths = host_paths(connection)
        self._nvram_directory = paths.nvram if paths else DEFAULT_DIRECTORY

    def named(self, spec: VmSpec) -> VmSpec:
        """The spec with name and UUID from its XML, if it has one."""
        if spec.xml is None:
            return spec
        tree = parse_user_xml(spec)
        given = (tree.findtext("uuid") or "").strip().lower()
        return replace(spec, name=tree.findtext("name").strip(), uuid=given or None)

    def draft(self, spec: VmSpec, before: Any) -> Draft:
        """The wanted definition; pure: nothing is changed, and the same input gives the same draft."""
        if not spec.says_something:
            return Draft(before, before, changed=False)
        if spec.xml is not None:
            return self._from_user(spec, before)
        return self._from_options(spec, before)

    def _from_options(self, spec: VmSpec, before: Any) -> Draft:
        if before is None:
            spec = complete(spec, self._host)
            tree = skeleton(spec)
        else:
            tree = copy.deepcopy(before)
        edits.apply_machine(tree, spec)
        storage_edits.apply_disks(tree, spec.disks)
        storage_edits.apply_networks(tree, spec.networks)
        edits.apply_console(tree, spec.console)
        edits.apply_graphics(tree, spec.graphics)
        edits.apply_devices_xml(tree, spec.devices_xml)
        self._apply_trust(tree, spec, before)
        changed = before is None or etree.tostring(tree) != etree.tostring(before)
        return Draft(tree if changed else before, before, changed, validate=bool(spec.devices_xml) and changed)

    def _from_user(self, spec: VmSpec, before: Any) -> Draft:
        tree = parse_user_xml(spec)
        digest = digest_of(tree)
        if before is not None:
            _take_over(tree, before)
        elif tree.find("uuid") is None:
            etree.SubElement(tree, "uuid").text = spec.uuid or str(uuid.uuid4())
        self._apply_trust(tree, spec, before)
        if before is not None:
            storage_edits.keep_macs(tree, before)
            marks = read_marks(before)
            if _still_fits(before, tree, digest):
                return Draft(before, before, changed=False)
        else:
            marks = read_marks(tree)
        write_marks(tree, replace(marks, source_digest=digest, rewritten=False))
        return Draft(tree, before, changed=True, validate=True)

    def _apply_trust(self, tree: Any, spec: VmSpec, before: Any) -> None:
        edits.apply_tpm_wish(tree, _tpm_wish(tree, spec, before))
        apply_firmware(tree, spec, self._catalogue, lambda: self.nvram_path(tree, spec), before is not None)
        if before is not None and libvirt_chooses_nvram(before) and loader_of(tree) and nvram_of(tree) is None:
            libvirts = self._libvirts_choice(tree.findtext("uuid"))
            if libvirts is not None:
                set_nvram(tree, libvirts, None)

    def nvram_path(self, tree: Any, spec: VmSpec) -> str:
        """Where the VM's NVRAM goes if its definition does not say it yet."""
        told = spec.nvram_path or spec.nvram_directory
        libvirts = None if told else self._libvirts_choice(tree.findtext("uuid"))
        if libvirts is not None:
            return libvirts
        storage = None if told else root_directory(self._connection, root_disk_of(tree))
        return volume_path(
            tree.findtext("uuid"), spec.nvram_path, spec.nvram_directory, storage, self._nvram_directory
        )

    def _libvirts_choice(self, uuid_text: str) -> Optional[str]:
        """Where the variables of a VM are that had its NVRAM from libvirt so far: they go on there."""
        entry = self._inventory.by_uuid(uuid_text)
        if entry is None or not libvirt_chooses_nvram(entry.tree):
            return None
        path = self._inventory.nvram_path(entry)
        return path if path is not None and os.path.exists(path) else None


def _tpm_wish(tree: Any, spec: VmSpec, before: Any) -> Optional[TpmWish]:
    """The option, and for a vTPM that comes without it our rules all the same: a persistent state, encrypted."""
    tpm = read_tpm(tree)
    if spec.tpm is not None or tpm is None or tpm.backend != EMULATOR:
        return spec.tpm
    # Other options leave the vTPM of an existing VM as it is; only that its state stays is put right.
    untouched = spec.xml is None and before is not None and read_tpm(before) is not None
    return TpmWish(allow_unencrypted=untouched)


def _take_over(tree: Any, before: Any) -> None:
    """What a user's XML leaves open and must not be lost: UUID, vTPM, firmware, NVRAM path, metadata."""
    if tree.find("uuid") is None:
        element = etree.Element("uuid")
        element.text = before.findtext("uuid")
        tree.insert(1, element)
    take_over_tpm(tree, before)
    keep_firmware(tree, before)
    _keep_metadata(tree, before)


def _keep_metadata(tree: Any, before: Any) -> None:
    """Notes of other tools and modules, as which reset a vTPM has had."""
    old = before.find("metadata")
    if old is None:
        return
    new = tree.find("metadata")
    if new is None:
        new = etree.SubElement(tree, "metadata")
    for note in old:
        if isinstance(note.tag, str) and new.find(note.tag) is None:
            new.append(copy.deepcopy(note))


def _still_fits(before: Any, wanted: Any, digest: str) -> bool:
    marks = read_marks(before)
    if marks.source_digest not in (None, digest):
        return False
    if marks.rewritten and marks.source_digest == digest:
        # libvirt put some of the XML into other words: the user's part is the digest's, ours is compared.
        return _own_part(before) == _own_part(wanted)
    return contains(before, wanted)


def _own_part(tree: Any) -> tuple[Any, ...]:
    nvram = nvram_of(tree)
    return read_tpm(tree), loader_of(tree), has_secure_boot(tree), nvram.path if nvram else None
