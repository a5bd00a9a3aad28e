# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""The domains of a host, with questions that need all their definitions."""

from dataclasses import dataclass
from typing import Any, Iterator, Optional

from .._core.deps import libvirt
from .._core.domains import DomainIndex, Entry
from .description import disks_of, nvram_of


@dataclass(frozen=True)
class _Paths:
    """What one definition names: its NVRAM file, its disks by label. Kept: each item asks all definitions."""

    entry: Entry
    nvram: Optional[str]
    disks: frozenset[str]


class Inventory(DomainIndex):
    """The index of :mod:`_core.domains` plus who else has a path, and who starts at boot."""

    def __init__(self, connection: Any) -> None:
        super().__init__(connection)
        self._autostart: Optional[set[str]] = None
        self._paths: dict[str, _Paths] = {}

    def autostarts(self, entry: Entry) -> bool:
        """One call for all domains: asking each one is a round trip per VM."""
        if self._autostart is None:
            flag = libvirt.VIR_CONNECT_LIST_DOMAINS_AUTOSTART
            self._autostart = {domain.UUIDString() for domain in self.connection.listAllDomains(flag)}
        return entry.uuid in self._autostart

    def nvram_holder(self, path: str, except_uuid: Optional[str]) -> Optional[Entry]:
        """Another domain whose definition names this NVRAM path. Reads every definition."""
        for entry in self._others(except_uuid):
            if self._paths_of(entry).nvram == path:
                return entry
        return None

    def disk_holder(self, label: str, except_uuid: Optional[str]) -> Optional[Entry]:
        """Another domain that has the disk of this ``Disk.label``. Reads every definition."""
        for entry in self._others(except_uuid):
            if label in self._paths_of(entry).disks:
                return entry
        return None

    def _paths_of(self, entry: Entry) -> _Paths:
        known = self._paths.get(entry.uuid)
        # A refresh makes a new Entry.
        if known is None or known.entry is not entry:
            nvram = nvram_of(entry.tree)
            disks = frozenset(disk.label for disk in disks_of(entry.tree))
            known = _Paths(entry, None if nvram is None else nvram.path, disks)
            self._paths[entry.uuid] = known
        return known

    def _others(self, uuid: Optional[str]) -> Iterator[Entry]:
        return (entry for entry in self.entries() if entry.uuid != uuid)

    def refresh(self, uuid_text: str) -> Optional[Entry]:
        self._autostart = None
        return super().refresh(uuid_text)
