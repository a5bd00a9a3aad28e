# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Taking a VM away: its definition, and what else was told by name."""

from functools import partial
from typing import Any, Mapping, Optional

from .._core.change import Change, Step
from .._core.deps import libvirt
from .._core.domains import Entry, definition
from .._core.errors import TrustedVMError
from .._core.host_paths import HostPaths
from .._nvram.location import volume_path
from .._nvram.volume import held_by_another
from .._tpm.device import TpmSpec, read_tpm
from .._tpm.removal import refuse_locked, refuse_locked_after_stop
from .._tpm.state_dir import ABSENT, TpmState, locate
from .description import Disk, describe, disks_of
from .disks import DiskStore, read_back, removable
from .inventory import Inventory
from .lifecycle import StopPolicy, Stopper, power_state
from .nvram_guard import NvramGuard
from .preflight import tpm_state_of
from .spec import VmSpec
from .undefine import undefine


class RemovalPlanner:
    """Plans ``state: absent``: files first, the definition last, so that a failed removal can be repeated."""

    def __init__(
        self,
        connection: Any,
        inventory: Inventory,
        disks: DiskStore,
        guard: NvramGuard,
        stopper: Stopper,
        paths: Optional[HostPaths],
    ) -> None:
        self._connection = connection
        self._inventory = inventory
        self._disks = disks
        self._guard = guard
        self._stopper = stopper
        self._paths = paths

    def plan(self, item: Mapping[str, Any], spec: VmSpec, entry: Optional[Entry]) -> Change:
        if entry is None:
            return self._leftovers(item, spec)
        self._refuse(item, entry)
        steps = []
        persistent = bool(entry.domain.isPersistent())
        if entry.active:
            policy = StopPolicy(item["stop_timeout"], True)
            steps.append(Step("stop VM", lambda: self._stop(entry, policy)))
        tpm_state = tpm_state_of(self._paths, entry.uuid, read_tpm(entry.tree))
        if tpm_state is not None and item["remove_tpm_state"]:
            steps += self._lock_steps(entry, tpm_state)
        steps += self._disk_steps(item, [disk for disk in disks_of(entry.tree) if removable(disk)], entry.uuid)
        steps += self._nvram_steps(item, self._inventory.nvram_path(entry), entry.uuid)
        if persistent:
            steps.append(Step("undefine VM", lambda: self._undefine(item, entry)))
        steps += self._tpm_steps(item, tpm_state)
        state = power_state(entry.domain).state
        return Change(
            subject={"name": entry.name, "uuid": entry.uuid},
            before={"state": state, **describe(entry.tree)},
            outcome="removed",
            steps=steps,
            details={"state": "absent", "kept": self._kept(item, entry)},
        )

    def _refuse(self, item: Mapping[str, Any], entry: Entry) -> None:
        domain = entry.domain
        if entry.active and not item["force"]:
            raise TrustedVMError(
                "vm_running",
                "The VM is %s and is not removed" % power_state(domain).state,
                hint="Stop it first with state=stopped, or set force=true",
            )
        if not item["force"] and _has_managed_save(domain):
            raise TrustedVMError(
                "managed_save_exists",
                "The VM's memory is saved on disk (managed save) and would be lost",
                hint="Start the VM and shut it down, or set force=true",
            )
        files = [name for name in ("remove_disks", "remove_nvram", "remove_tpm_state") if item[name]]
        if files and not item["force"] and power_state(domain).migrated_away:
            raise TrustedVMError(
                "vm_migrated_away",
                "The VM was migrated away, and its files here may be those that it runs with elsewhere",
                found="shut off, reason: migrated; %s" % ", ".join(files),
                hint="Remove the definition alone; if the files are on no storage that the other host shares, set force=true",
            )
        tpm = read_tpm(entry.tree)
        if tpm and not tpm.persistent_state and not domain.isPersistent() and not item["remove_tpm_state"]:
            raise TrustedVMError(
                "tpm_state_would_be_lost",
                "The VM is transient and libvirt deletes its TPM state when it stops",
                hint="Define the VM first, or allow the loss with remove_tpm_state=true",
            )

    def _stop(self, entry: Entry, policy: StopPolicy) -> None:
        self._stopper.stop(entry.domain, policy)
        self._inventory.refresh(entry.uuid)

    def _undefine(self, item: Mapping[str, Any], entry: Entry) -> None:
        tree = definition(entry.domain)
        undefine(
            self._connection,
            entry.domain,
            tree,
            keep_nvram=not item["remove_nvram"],
            # We remove it ourselves, after a look at its lock, unless it is another machine's.
            keep_tpm=not item["remove_tpm_state"] or self._paths is not None,
        )
        self._inventory.refresh(entry.uuid)

    def _disk_steps(self, item: Mapping[str, Any], disks: list[Disk], uuid: Optional[str]) -> list[Step]:
        if not item["remove_disks"]:
            return []
        steps = []
        for disk in disks:
            if self._disks.exists(disk) is not True:
                continue
            holder = self._inventory.disk_holder(disk.label, uuid)
            if holder is not None:
                raise TrustedVMError(
                    "disk_in_use",
                    "Disk %s belongs to VM %s as well" % (disk.label, holder.name),
                    hint="Remove it with the last VM that has it, or set remove_disks=false",
                )
            steps.append(Step("remove disk %s" % disk.label, partial(self._disks.remove, disk)))
        return steps

    def _nvram_steps(self, item: Mapping[str, Any], path: Optional[str], uuid: Optional[str]) -> list[Step]:
        if not item["remove_nvram"] or path is None or self._paths is None:
            return []
        backend = self._guard.backend
        if not backend.probe(path).exists and not backend.copies(path):
            return []
        holder = self._inventory.nvram_holder(path, uuid)
        if holder is not None:
            raise held_by_another(path, holder.name, "Set remove_nvram=false, or remove that VM first")

        def remove() -> None:
            backend.drop_copies(path)
            backend.remove(path)

        return [Step("remove NVRAM volume %s" % path, remove)]

    @staticmethod
    def _lock_steps(entry: Entry, state: TpmState) -> list[Step]:
        """Before anything goes: the state may be in use by the VM on another host that shares the storage."""
        if not entry.active:
            refuse_locked(state)
            return []
        return [Step("check TPM state", lambda: refuse_locked_after_stop(state), counts=False)]

    def _tpm_steps(self, item: Mapping[str, Any], state: Optional[TpmState]) -> list[Step]:
        if not item["remove_tpm_state"] or state is None:
            return []
        copies = state.aside_copies()
        if state.status() == ABSENT and not copies:
            return []

        def remove() -> None:
            refuse_locked(state)
            for copy in copies:
                state.remove_aside(copy)
            state.remove()

        return [Step("remove TPM state %s" % state.location.container, remove)]

    def _leftovers(self, item: Mapping[str, Any], spec: VmSpec) -> Change:
        """The VM is not defined (any more): what a removal that failed half-way left behind."""
        steps: list[Step] = []
        if spec.disks:
            steps += self._disk_steps(item, [disk for disk in map(read_back, spec.disks) if removable(disk)], None)
        if spec.uuid and self._paths is not None:
            path = volume_path(spec.uuid, spec.nvram_path, spec.nvram_directory, None, self._paths.nvram)
            steps += self._nvram_steps(item, path, None)
            state = TpmState(locate(self._paths, spec.uuid, TpmSpec(None)))
            if item["remove_tpm_state"]:
                refuse_locked(state)
            steps += self._tpm_steps(item, state)
        subject = {key: value for key, value in (("name", spec.name), ("uuid", spec.uuid)) if value}
        return Change(subject=subject, outcome="removed", steps=steps, details={"state": "absent", "kept": []})

    def _kept(self, item: Mapping[str, Any], entry: Entry) -> list[str]:
        """What stays on the host after the removal, by path."""
        kept = []
        nvram, state = self._inventory.nvram_path(entry), tpm_state_of(self._paths, entry.uuid, read_tpm(entry.tree))
        for disk in disks_of(entry.tree):
            goes = item["remove_disks"] and removable(disk)
            if disk.device == "disk" and not goes and self._disks.exists(disk) is not False:
                kept.append(disk.label)
        if nvram and not item["remove_nvram"] and self._guard.backend.probe(nvram).exists:
            kept.append(nvram)
        if state is not None and not item["remove_tpm_state"] and state.status() != ABSENT:
            kept.append(state.location.container)
        return kept


def _has_managed_save(domain: Any) -> bool:
    try:
        return bool(domain.hasManagedSaveImage(0))
    except libvirt.libvirtError:
        return False
