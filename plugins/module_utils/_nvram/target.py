# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Which volume an item means: by path, by VM, or where a VM that is not defined yet will have it."""

import os
from dataclasses import dataclass
from typing import Any, Mapping, Optional

from .._core.domains import Entry, as_uuid
from .._core.errors import TrustedVMError
from .._domain.description import libvirt_chooses_nvram, nvram_of, root_disk_of
from .._domain.inventory import Inventory
from .._domain.metadata import Marks, read_marks
from .location import root_directory, volume_path


@dataclass(frozen=True)
class Target:
    """The volume that an item means.

    Attributes:
        entry: the domain that it is for, None where there is none on this host (yet).
        own_path: the path that this domain has.
        libvirts: libvirt chooses that path, and the template, at each start.
    """

    path: str
    entry: Optional[Entry]
    uuid: Optional[str]
    own_path: Optional[str] = None
    libvirts: bool = False

    @property
    def active(self) -> bool:
        return self.entry is not None and self.entry.active

    @property
    def marks(self) -> Marks:
        return read_marks(self.entry.tree) if self.entry is not None else Marks()


class TargetFinder:
    """Finds targets over one enumeration."""

    def __init__(self, inventory: Inventory, default_directory: str) -> None:
        self._inventory = inventory
        self._connection = inventory.connection
        self._default_directory = default_directory

    def find(self, item: Mapping[str, Any]) -> Target:
        """Which volume is meant.

        Raises:
            TrustedVMError: ``vm_not_found``, ``nvram_not_managed``, ``nvram_storage_unsuitable``.
        """
        if not item.get("vm"):
            path = volume_path("", item.get("path"))
            return Target(path, self._inventory.nvram_holder(path, None), None)
        entry = self._inventory.entry(item["vm"])
        uuid = entry.uuid if entry else as_uuid(item["vm"])
        if uuid is None:
            raise self._inventory.not_found(item["vm"])
        own = self._own_path(entry)
        told = item.get("path") or item.get("directory")
        if own is not None and not told:
            return Target(own, entry, uuid, own, entry is not None and libvirt_chooses_nvram(entry.tree))
        storage = None if told else self._root_directory(item, entry)
        path = volume_path(uuid, item.get("path"), item.get("directory"), storage, self._default_directory)
        return Target(path, entry, uuid, own)

    def _own_path(self, entry: Optional[Entry]) -> Optional[str]:
        if entry is None:
            return None
        nvram = nvram_of(entry.tree)
        if nvram is not None and nvram.path is None:
            raise TrustedVMError(
                "nvram_not_managed",
                "The VM's NVRAM is on %s storage, which this module does not manage" % nvram.kind,
                found="<nvram type='%s'>" % nvram.kind,
                wanted="a file",
            )
        return self._inventory.nvram_path(entry)

    def _root_directory(self, item: Mapping[str, Any], entry: Optional[Entry]) -> Optional[str]:
        if item.get("root_disk"):
            return os.path.dirname(item["root_disk"])
        return root_directory(self._connection, root_disk_of(entry.tree)) if entry else None
