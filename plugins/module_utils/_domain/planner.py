# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""The VMs of one task: which VM an item means, and what the plans share."""

from typing import Any, Mapping, Optional, Sequence

from .._core.change import Change
from .._core.deps import libvirt, require_lxml
from .._core.domains import Entry
from .._core.errors import TrustedVMError
from .._core.host_paths import host_paths
from .._nvram.backends.directory import DirectoryBackend
from .._nvram.firmware import FirmwareCatalogue
from .definition_plan import DefinitionPlanner
from .disks import DiskStore
from .inventory import Inventory
from .lifecycle import Stopper, power_state
from .nvram_guard import NvramGuard
from .removal import RemovalPlanner
from .spec import VmSpec, invalid, spec_from_options
from .vm_plan import VmPlan


class VmPlanner:
    """Plans the items of one task over one connection and one enumeration."""

    def __init__(
        self,
        connection: Any,
        items: Sequence[Mapping[str, Any]] = (),
        check_mode: bool = False,
        catalogue: Optional[FirmwareCatalogue] = None,
    ) -> None:
        require_lxml()
        self.connection = connection
        self._to_ask = items
        self.check_mode = check_mode
        self.paths = host_paths(connection)
        catalogue = catalogue or FirmwareCatalogue()
        self.inventory = Inventory(connection)
        self.definitions = DefinitionPlanner(connection, catalogue, self.inventory)
        self.guard = NvramGuard(self.inventory, catalogue, DirectoryBackend())
        self.disks = DiskStore(connection, local=self.paths is not None)
        self.stopper = Stopper()
        self._claimed: dict[str, str] = {}
        self._seen: set[str] = set()

    def __call__(self, item: Mapping[str, Any]) -> Change:
        if not item.get("name") and not item.get("uuid"):
            raise invalid("an item needs the VM's name or uuid")
        spec = self.definitions.named(spec_from_options(item))
        entry = self._identify(spec)
        if item["state"] == "absent":
            return self._removals().plan(item, spec, entry)
        if entry is None and not spec.says_something:
            raise self.inventory.not_found(spec.name or spec.uuid or "")
        return VmPlan(self, item, spec, entry).change()

    def _removals(self) -> RemovalPlanner:
        return RemovalPlanner(self.connection, self.inventory, self.disks, self.guard, self.stopper, self.paths)

    def _identify(self, spec: VmSpec) -> Optional[Entry]:
        """The domain that the item means, or None for a new one.

        Raises:
            TrustedVMError: ``vm_name_taken``, ``vm_uuid_taken``, ``duplicate_item``.
        """
        named = self.inventory.by_name(spec.name) if spec.name else None
        numbered = self.inventory.by_uuid(spec.uuid) if spec.uuid else None
        if numbered is not None and spec.name and numbered.name != spec.name:
            raise TrustedVMError(
                "vm_uuid_taken",
                "UUID %s belongs to another VM" % spec.uuid,
                found="VM %s" % numbered.name,
                wanted="VM %s" % spec.name,
                hint="Use that VM's name, or another UUID; a VM is not renamed",
            )
        taken_by = self._claimed.get(spec.name or "") if named is None else named.uuid
        if taken_by is not None and spec.uuid and taken_by != spec.uuid:
            raise TrustedVMError(
                "vm_name_taken",
                "The name %s belongs to another VM" % spec.name,
                found="VM with UUID %s" % taken_by,
                wanted="UUID %s" % spec.uuid,
                hint="Use that VM's UUID, or another name",
            )
        entry = numbered or named
        self._claim(spec, entry)
        return entry

    def _claim(self, spec: VmSpec, entry: Optional[Entry]) -> None:
        identity = entry.uuid if entry else spec.uuid or spec.name or ""
        if identity in self._seen:
            raise TrustedVMError(
                "duplicate_item", "The list names this VM twice", hint="Give each VM one item"
            )
        self._seen.add(identity)
        if entry is None and spec.name and spec.uuid:
            self._claimed[spec.name] = spec.uuid

    def ask_all_to_stop(self) -> None:
        """Send the shutdown to all VMs that this task stops, so that they shut down side by side; only once."""
        items, self._to_ask = self._to_ask, ()
        for item in items:
            if item["state"] != "stopped" or not item["stop_timeout"] or not _only_stops(item):
                continue
            try:
                self._ask_to_stop(item)
            except (TrustedVMError, libvirt.libvirtError):
                # Its own turn comes, and tells what is wrong with it.
                continue

    def _ask_to_stop(self, item: Mapping[str, Any]) -> None:
        entry = self.inventory.entry(item.get("uuid") or item.get("name") or "")
        if entry is None or not entry.active or power_state(entry.domain).state != "running":
            return
        if entry.domain.isPersistent():
            self.stopper.ask(entry.domain)


def _only_stops(item: Mapping[str, Any]) -> bool:
    """Whether nothing but a stop is asked of the VM: another item's plan may still fail, and then it stays up."""
    try:
        return not spec_from_options(item).says_something
    except TrustedVMError:
        return False
