# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""The domains of a connection, listed once, found by name or UUID."""

import uuid
from typing import Any, Optional

from .deps import etree, libvirt, require_lxml
from .errors import TrustedVMError


def as_uuid(text: str) -> Optional[str]:
    """The canonical form of a UUID, or None for a text that is none (a VM's name)."""
    if len(text) not in (32, 36):
        return None
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return None


class Entry:
    """One domain. Name, UUID and whether it is active came with the list and cost no further call."""

    def __init__(self, domain: Any) -> None:
        self.domain = domain
        self.name: str = domain.name()
        self.uuid: str = domain.UUIDString()
        # libvirt's ID of a domain that is not active.
        self.active: bool = domain.ID() != -1
        self._tree: Any = None

    @property
    def tree(self) -> Any:
        """The persistent definition as a parsed ``<domain>``, read once; not to be changed in place."""
        if self._tree is None:
            self._tree = definition(self.domain)
        return self._tree


class DomainIndex:
    """All domains of one connection: one call to libvirt, made when first needed.

    ``all``, ``get`` and ``find`` give ``virDomain`` objects; ``entries`` and ``entry`` the same with
    what is known of each.
    """

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self._by_uuid: Optional[dict[str, Entry]] = None
        self._by_name: dict[str, Entry] = {}

    def _load(self) -> dict[str, Entry]:
        if self._by_uuid is None:
            self._by_uuid, self._by_name = {}, {}
            for domain in _list_domains(self.connection):
                self._keep(self._by_uuid, Entry(domain))
        return self._by_uuid

    def _keep(self, by_uuid: dict[str, Entry], entry: Entry) -> None:
        by_uuid[entry.uuid] = entry
        self._by_name[entry.name] = entry

    def entries(self) -> list[Entry]:
        """Sorted by name."""
        self._load()
        return [self._by_name[name] for name in sorted(self._by_name)]

    def by_name(self, name: str) -> Optional[Entry]:
        self._load()
        return self._by_name.get(name)

    def by_uuid(self, text: str) -> Optional[Entry]:
        return self._load().get(as_uuid(text) or "")

    def entry(self, vm: str) -> Optional[Entry]:
        """The domain with this name or UUID, or None.

        Raises:
            TrustedVMError: ``vm_ambiguous``: one VM's name is another one's UUID.
        """
        named, numbered = self.by_name(vm), self.by_uuid(vm)
        if named is not None and numbered is not None and named is not numbered:
            raise TrustedVMError(
                "vm_ambiguous",
                "'%s' is the name of one VM and the UUID of another" % vm,
                found="VM %s has that name, VM %s has that UUID" % (named.uuid, numbered.name),
                hint="Use the UUID of the one with that name, or the name of the one with that UUID",
            )
        return named or numbered

    def require(self, vm: str) -> Entry:
        """As :meth:`entry`.

        Raises:
            TrustedVMError: ``vm_not_found``, ``vm_ambiguous``.
        """
        entry = self.entry(vm)
        if entry is None:
            raise self.not_found(vm)
        return entry

    def not_found(self, vm: str) -> TrustedVMError:
        return TrustedVMError(
            "vm_not_found",
            "libvirt at %s knows no VM '%s'" % (self.connection.getURI(), vm),
            found="%d other VMs" % len(self._load()),
            hint="See 'virsh list --all' on that host for names and UUIDs",
        )

    def all(self) -> list[Any]:
        """The ``virDomain`` objects, sorted by name."""
        return [entry.domain for entry in self.entries()]

    def get(self, vm: str) -> Optional[Any]:
        """The ``virDomain`` with this name or UUID, or None; ``vm_ambiguous`` as :meth:`entry`."""
        entry = self.entry(vm)
        return None if entry is None else entry.domain

    def find(self, vm: str) -> Any:
        """As :meth:`get`.

        Raises:
            TrustedVMError: ``vm_not_found``, ``vm_ambiguous``.
        """
        return self.require(vm).domain

    def forget(self) -> None:
        """List anew at the next use: after a define or undefine."""
        self._by_uuid = None

    def refresh(self, uuid_text: str) -> Optional[Entry]:
        """Look at one domain anew, after a define, start, stop or undefine; None: it is gone."""
        by_uuid = self._load()
        old = by_uuid.pop(uuid_text, None)
        if old is not None:
            self._by_name.pop(old.name, None)
        try:
            entry = Entry(self.connection.lookupByUUIDString(uuid_text))
        except libvirt.libvirtError as error:
            if gone(error):
                return None
            raise
        self._keep(by_uuid, entry)
        return entry


def _list_domains(connection: Any) -> list[Any]:
    try:
        return list(connection.listAllDomains())
    except libvirt.libvirtError as error:
        # secret:///… is a connection without a domain driver.
        if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
            return []
        raise


def gone(error: Any) -> bool:
    """Whether a libvirtError says that the domain went away since it was listed."""
    return bool(error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN)


def definition(domain: Any, inactive: bool = True, secure: bool = False) -> Any:
    """A domain's XML as a parsed ``<domain>``.

    Args:
        inactive: the persistent definition; for a transient domain libvirt gives the live one.
        secure: with passwords in it (graphics). Needed when the XML is defined again, because a
            definition without them would erase them; not allowed on a read-only connection.
    """
    require_lxml()
    flags = (libvirt.VIR_DOMAIN_XML_INACTIVE if inactive else 0) | (libvirt.VIR_DOMAIN_XML_SECURE if secure else 0)
    return etree.fromstring(domain.XMLDesc(flags).encode())


def definition_text(domain: Any) -> str:
    """A parsed ``<domain>`` as text for ``defineXML``."""
    return str(etree.tostring(domain, encoding="unicode"))
