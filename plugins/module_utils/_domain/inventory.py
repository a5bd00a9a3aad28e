# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""The domains of a host: listed once, each definition read at most once."""

from typing import Any, Iterator, Optional

from .._core.deps import libvirt
from .._core.domains import DomainIndex, as_uuid, definition
from .._core.errors import TrustedVMError

_INACTIVE_ID = -1


class Entry:
    """One domain. Name, UUID and whether it is active came with the list and cost no further call."""

    def __init__(self, domain: Any) -> None:
        self.domain = domain
        self.name: str = domain.name()
        self.uuid: str = domain.UUIDString()
        self.active: bool = domain.ID() != _INACTIVE_ID
        self._tree: Any = None

    @property
    def tree(self) -> Any:
        """The persistent definition as a parsed ``<domain>``; not to be changed in place."""
        if self._tree is None:
            self._tree = definition(self.domain)
        return self._tree


class Inventory:
    """All domains of one connection, kept true by :meth:`refresh` while a module works."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self._index = DomainIndex(connection)
        self._entries: dict[str, Entry] = {}
        self._names: dict[str, str] = {}
        self._autostart: Optional[set[str]] = None
        self._loaded = False

    def _load(self) -> dict[str, Entry]:
        if not self._loaded:
            for domain in self._index.all():
                self._keep(Entry(domain))
            self._loaded = True
        return self._entries

    def _keep(self, entry: Entry) -> None:
        self._entries[entry.uuid] = entry
        self._names[entry.name] = entry.uuid

    def all(self) -> list[Entry]:
        return sorted(self._load().values(), key=lambda entry: entry.name)

    def by_name(self, name: str) -> Optional[Entry]:
        entries = self._load()
        return entries.get(self._names.get(name, ""))

    def by_uuid(self, uuid: str) -> Optional[Entry]:
        return self._load().get(as_uuid(uuid) or uuid)

    def get(self, reference: str) -> Optional[Entry]:
        """The domain with this name or UUID.

        Raises:
            TrustedVMError: ``vm_ambiguous``: one VM's name is another one's UUID.
        """
        named, numbered = self.by_name(reference), self.by_uuid(reference)
        if named is not None and numbered is not None and named is not numbered:
            raise TrustedVMError(
                "vm_ambiguous",
                "'%s' is the name of one VM and the UUID of another" % reference,
                found="VM %s has that name, VM %s has that UUID" % (named.uuid, numbered.name),
                hint="Use the UUID of the one with that name, or the name of the one with that UUID",
            )
        return named or numbered

    def find(self, reference: str) -> Entry:
        """As :meth:`get`.

        Raises:
            TrustedVMError: ``vm_not_found``, ``vm_ambiguous``.
        """
        entry = self.get(reference)
        if entry is None:
            raise not_found(self.connection, reference, len(self._load()))
        return entry

    def autostarts(self, entry: Entry) -> bool:
        """One call for all domains: asking each one is a round trip per VM."""
        if self._autostart is None:
            flag = libvirt.VIR_CONNECT_LIST_DOMAINS_AUTOSTART
            self._autostart = {domain.UUIDString() for domain in self.connection.listAllDomains(flag)}
        return entry.uuid in self._autostart

    def nvram_holder(self, path: str, except_uuid: Optional[str]) -> Optional[Entry]:
        """Another domain whose definition names this NVRAM path. Reads every definition."""
        return next((entry for entry in self._others(except_uuid) if _nvram_path(entry.tree) == path), None)

    def disk_holder(self, path: str, except_uuid: Optional[str]) -> Optional[Entry]:
        """Another domain that has this disk. Reads every definition."""
        for entry in self._others(except_uuid):
            sources = entry.tree.findall("devices/disk/source")
            if any(path in (source.get("file"), source.get("dev")) for source in sources):
                return entry
        return None

    def _others(self, uuid: Optional[str]) -> Iterator[Entry]:
        return (entry for entry in self.all() if entry.uuid != uuid)

    def refresh(self, uuid: str) -> Optional[Entry]:
        """Look at one domain anew, after a define, start, stop or undefine."""
        old = self._load().pop(uuid, None)
        if old is not None:
            self._names.pop(old.name, None)
        self._autostart = None
        try:
            entry = Entry(self.connection.lookupByUUIDString(uuid))
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return None
            raise
        self._keep(entry)
        return entry


def not_found(connection: Any, reference: str, others: int) -> TrustedVMError:
    return TrustedVMError(
        "vm_not_found",
        "libvirt at %s knows no VM '%s'" % (connection.getURI(), reference),
        found="%d other VMs" % others,
        hint="See 'virsh list --all' on that host for names and UUIDs",
    )


def _nvram_path(tree: Any) -> Optional[str]:
    element = tree.find("os/nvram")
    if element is None:
        return None
    source = element.find("source")
    return (element.text or "").strip() or (None if source is None else source.get("file"))
