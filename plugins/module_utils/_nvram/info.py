# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""What NVRAM volumes there are, and which of them no VM uses. Reads only."""

from typing import Any, Iterable, Mapping, Optional, Sequence

from .._core.deps import libvirt, require_lxml
from .._core.domains import Entry, as_uuid, gone
from .._core.errors import TrustedVMError
from .._core.host_paths import host_paths
from .._domain.description import libvirt_chooses_nvram, nvram_of, root_disk_of
from .._domain.firmware_edits import nvram_needed, template_for
from .._domain.inventory import Inventory
from .._domain.nvram_guard import NvramGuard
from .backends.directory import DirectoryBackend
from .firmware import FirmwareCatalogue
from .location import DEFAULT_DIRECTORY, root_directory, volume_path
from .volume import Template, as_result, digest


class NvramInspector:
    """Describes volumes by VM, by path, or all of a directory."""

    def __init__(self, connection: Any, catalogue: Optional[FirmwareCatalogue] = None) -> None:
        require_lxml()
        self._connection = connection
        self._catalogue = catalogue or FirmwareCatalogue()
        self._backend = DirectoryBackend()
        self._inventory = Inventory(connection)
        self._guard = NvramGuard(self._inventory, self._catalogue, self._backend)
        paths = host_paths(connection)
        self._default_directory = paths.nvram if paths else DEFAULT_DIRECTORY

    def volumes(self, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """One entry per item, each with ``vm`` or ``path``.

        Raises:
            TrustedVMError: ``vm_not_found``, ``vm_ambiguous``.
        """
        return [self._by_path(item["path"]) if item.get("path") else self._by_vm(item["vm"]) for item in items]

    def of_all_vms(self) -> list[dict[str, Any]]:
        """The volumes that the host's VMs have; a VM that vanishes meanwhile is left out."""
        found = []
        for entry in self._inventory.entries():
            try:
                if nvram_of(entry.tree) is not None or libvirt_chooses_nvram(entry.tree):
                    found.append(self._of_entry(entry))
            except libvirt.libvirtError as error:
                if not gone(error):
                    raise
        return found

    def below(self, directory: str) -> list[dict[str, Any]]:
        """All volumes of a directory and of the VMs' directories in it."""
        return [self._by_path(path) for path in self._backend.volumes_below(directory)]

    def strays(self, directories: Iterable[str], volumes: Sequence[Mapping[str, Any]]) -> list[str]:
        """Volumes that no VM of this host uses, in the directories and beside the volumes told of (N6)."""
        found: set[str] = set()
        for directory in directories:
            found.update(self._backend.volumes_below(directory))
        for volume in volumes:
            if volume["path"]:
                found.update(self._backend.strays(volume["path"]))
        return sorted(found - self._inventory.nvram_paths())

    def _by_vm(self, reference: str) -> dict[str, Any]:
        entry = self._inventory.entry(reference)
        if entry is not None:
            return self._of_entry(entry)
        uuid = as_uuid(reference)
        if uuid is None:
            raise self._inventory.not_found(reference)
        return {**self._describe(volume_path(uuid, default_directory=self._default_directory), None), "uuid": uuid}

    def _by_path(self, path: str) -> dict[str, Any]:
        holder = self._inventory.nvram_holder(path, None)
        return self._of_entry(holder) if holder is not None else self._describe(path, None)

    def _of_entry(self, entry: Entry) -> dict[str, Any]:
        nvram = nvram_of(entry.tree)
        path = self._inventory.nvram_path(entry)
        if nvram is None and path is None:
            path = self._expected_path(entry)
        if path is None:
            return {**_UNKNOWN, **self._owner(entry), "type": nvram.kind if nvram else None}
        return self._describe(path, entry)

    def _expected_path(self, entry: Entry) -> Optional[str]:
        """Where the volume would be made; None where the root disk's storage holds none."""
        try:
            storage = root_directory(self._connection, root_disk_of(entry.tree))
        except TrustedVMError:
            return None
        return volume_path(entry.uuid, root_directory=storage, default_directory=self._default_directory)

    def _describe(self, path: str, entry: Optional[Entry]) -> dict[str, Any]:
        facts = self._backend.probe(path)
        template = self._template(entry)
        readable = facts.exists and facts.header is not None
        return {
            **as_result(path, facts, template),
            "type": "file",
            "sha256": digest(self._backend.read(path)) if readable else None,
            "pristine": self._guard.pristine(path, template) if readable else None,
            "template": template.path if template else None,
            "copies": self._backend.copies(path),
            **self._owner(entry),
        }

    def _template(self, entry: Optional[Entry]) -> Optional[Template]:
        # Which template libvirt takes by itself nobody can tell beforehand.
        if entry is None or libvirt_chooses_nvram(entry.tree):
            return None
        try:
            return template_for(entry.tree, None, self._catalogue)
        except TrustedVMError:
            return None

    @staticmethod
    def _owner(entry: Optional[Entry]) -> dict[str, Any]:
        if entry is None:
            return {"vm": None, "uuid": None, "needed": None}
        return {"vm": entry.name, "uuid": entry.uuid, "needed": nvram_needed(entry.tree)}


_UNKNOWN: dict[str, Any] = {
    "path": None,
    "exists": None,
    "size": None,
    "format": None,
    "ready": None,
    "sha256": None,
    "pristine": None,
    "template": None,
    "copies": [],
}
