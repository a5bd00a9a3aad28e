# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""The domains of a host, with questions that need all their definitions."""

import os
from dataclasses import dataclass
from typing import Any, Iterator, Optional

from .._core.deps import libvirt
from .._core.domains import DomainIndex, Entry, definition, gone
from .._core.host_paths import host_paths
from .description import disks_of, libvirt_chooses_nvram, nvram_of


@dataclass(frozen=True)
class _Paths:
    """What one domain has, as defined and as it runs: NVRAM files, disks by label. Kept: each item asks all domains."""

    entry: Entry
    nvram: frozenset[str]
    disks: frozenset[str]


class Inventory(DomainIndex):
    """The index of :mod:`_core.domains` plus who else has a path, and who starts at boot."""

    def __init__(self, connection: Any) -> None:
        super().__init__(connection)
        self._autostart: Optional[set[str]] = None
        self._paths: dict[str, _Paths] = {}
        paths = host_paths(connection)
        self._nvram_directory = paths.nvram if paths else None

    def autostarts(self, entry: Entry) -> bool:
        """One call for all domains: asking each one is a round trip per VM."""
        if self._autostart is None:
            flag = libvirt.VIR_CONNECT_LIST_DOMAINS_AUTOSTART
            self._autostart = {domain.UUIDString() for domain in self.connection.listAllDomains(flag)}
        return entry.uuid in self._autostart

    def nvram_path(self, entry: Entry) -> Optional[str]:
        """The file that holds a domain's UEFI variables, also where its definition does not say it.

        None: it has none, or one on other storage, or (on another machine) nobody can tell.
        """
        nvram = nvram_of(entry.tree)
        if nvram is not None:
            return nvram.path
        if not libvirt_chooses_nvram(entry.tree):
            return None
        live = nvram_of(definition(entry.domain, inactive=False)) if entry.active else None
        if live is not None:
            return live.path
        if self._nvram_directory is None:
            return None
        # libvirt 9.0, qemu_firmware.c and qemu_domain.c: qemuDomainNVRAMPathFormat.
        return os.path.join(self._nvram_directory, entry.name + "_VARS.fd")

    def nvram_paths(self) -> set[str]:
        """The NVRAM files of all domains. Reads every definition."""
        return {path for entry in self.entries() for path in self._paths_of(entry).nvram}

    def nvram_holder(self, path: str, except_uuid: Optional[str]) -> Optional[Entry]:
        """Another domain that has this NVRAM file. Reads every definition."""
        for entry in self._others(except_uuid):
            if path in self._paths_of(entry).nvram:
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
            known = self._paths[entry.uuid] = self._read_paths(entry)
        return known

    def _read_paths(self, entry: Entry) -> _Paths:
        try:
            # What runs may differ from what is defined, and may not be taken away either.
            trees = [entry.tree, definition(entry.domain, inactive=False)] if entry.active else [entry.tree]
            nvram = {volume.path for volume in map(nvram_of, trees) if volume is not None} | {self.nvram_path(entry)}
        except libvirt.libvirtError as error:
            # Other VMs come and go; one that went has nothing.
            if not gone(error):
                raise
            return _Paths(entry, frozenset(), frozenset())
        disks = frozenset(disk.label for tree in trees for disk in disks_of(tree))
        return _Paths(entry, frozenset(path for path in nvram if path), disks)

    def _others(self, uuid: Optional[str]) -> Iterator[Entry]:
        return (entry for entry in self.entries() if entry.uuid != uuid)

    def refresh(self, uuid_text: str) -> Optional[Entry]:
        self._autostart = None
        return super().refresh(uuid_text)
