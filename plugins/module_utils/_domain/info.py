# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""VMs as ``vm_info`` tells them. Reads only."""

from typing import Any, Optional, Sequence

from .._core.deps import libvirt, require_lxml
from .._core.domains import Entry, as_uuid, definition, gone
from .._core.host_paths import host_paths
from .._nvram.backends.directory import DirectoryBackend
from .._secret.uses import secrets_used_by
from .._tpm.device import read_tpm
from .._tpm.state_dir import PRESENT
from .description import describe, differs_from_running, nvram_of
from .inventory import Inventory
from .lifecycle import power_state
from .metadata import read_marks
from .preflight import tpm_state_of


class VmInspector:
    """Describes the VMs of one connection over one enumeration."""

    def __init__(self, connection: Any) -> None:
        require_lxml()
        self._inventory = Inventory(connection)
        self._paths = host_paths(connection)
        self._backend = DirectoryBackend()

    def all(self) -> list[dict[str, Any]]:
        """Every VM; one that vanishes meanwhile is left out."""
        found = []
        for entry in self._inventory.entries():
            try:
                found.append(self._describe(entry))
            except libvirt.libvirtError as error:
                if not gone(error):
                    raise
        return found

    def chosen(self, references: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
        """The VMs with these names or UUIDs, and those that there are none of."""
        found, missing = [], []
        for reference in references:
            entry = self._inventory.entry(reference)
            if entry is None:
                missing.append(as_uuid(reference) or reference)
            else:
                found.append(self._describe(entry))
        return found, missing

    def _describe(self, entry: Entry) -> dict[str, Any]:
        tree, power = entry.tree, power_state(entry.domain)
        persistent = bool(entry.domain.isPersistent())
        running = definition(entry.domain, inactive=False) if entry.active and persistent else None
        return {
            **describe(tree),
            "state": power.state,
            "reason": power.reason,
            "nvram": self._nvram(tree),
            "tpm": self._tpm(entry),
            "secrets": sorted(secrets_used_by(tree).uuids),
            "marks": read_marks(tree).as_result(),
            "persistent": persistent,
            "autostart": persistent and self._inventory.autostarts(entry),
            "managed_save": _managed_save(entry),
            "migration_leftover": power.migrated_away,
            "migrating": power.migrating,
            "job_active": entry.active and _job_active(entry),
            "restart_required": running is not None and differs_from_running(running, tree),
        }

    def _nvram(self, tree: Any) -> Optional[dict[str, Any]]:
        nvram = nvram_of(tree)
        if nvram is None:
            return None
        exists = None
        if nvram.path is not None and self._paths is not None:
            exists = self._backend.probe(nvram.path).exists
        return {"path": nvram.path, "type": nvram.kind, "template": nvram.template, "exists": exists}

    def _tpm(self, entry: Entry) -> Optional[dict[str, Any]]:
        spec = read_tpm(entry.tree)
        if spec is None:
            return None
        state = tpm_state_of(self._paths, entry.uuid, spec)
        return {**spec.as_result(), "state_exists": None if state is None else state.status() == PRESENT}


def _job_active(entry: Entry) -> bool:
    try:
        return bool(entry.domain.jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE)
    except libvirt.libvirtError:
        # Off by now: then nothing is going on any more.
        return False


def _managed_save(entry: Entry) -> Optional[bool]:
    if entry.active:
        return False
    try:
        return bool(entry.domain.hasManagedSaveImage(0))
    except libvirt.libvirtError:
        return None
