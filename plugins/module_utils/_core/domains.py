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


class DomainIndex:
    """All domains of one connection: one call to libvirt, made when first needed."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._by_uuid: Optional[dict[str, Any]] = None
        self._by_name: dict[str, Any] = {}

    def _load(self) -> dict[str, Any]:
        if self._by_uuid is None:
            domains = _list_domains(self._connection)
            self._by_uuid = {domain.UUIDString(): domain for domain in domains}
            self._by_name = {domain.name(): domain for domain in domains}
        return self._by_uuid

    def all(self) -> list[Any]:
        """The ``virDomain`` objects, sorted by name."""
        self._load()
        return [self._by_name[name] for name in sorted(self._by_name)]

    def get(self, vm: str) -> Optional[Any]:
        """The ``virDomain`` with this name or UUID, or None. A name wins over a UUID."""
        by_uuid = self._load()
        return self._by_name.get(vm) or by_uuid.get(as_uuid(vm) or "")

    def find(self, vm: str) -> Any:
        """As :meth:`get`.

        Raises:
            TrustedVMError: ``vm_not_found``.
        """
        domain = self.get(vm)
        if domain is None:
            raise TrustedVMError(
                "vm_not_found",
                "libvirt at %s knows no VM '%s'" % (self._connection.getURI(), vm),
                found="%d other VMs" % len(self._load()),
                hint="See 'virsh list --all' on that host for names and UUIDs",
            )
        return domain

    def forget(self) -> None:
        """List anew at the next use: after a define or undefine."""
        self._by_uuid = None


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
