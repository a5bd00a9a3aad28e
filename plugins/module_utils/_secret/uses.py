# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Which domains need a secret: vTPMs, disks (authentication, LUKS), anything that names one."""

from typing import Any, Container, NamedTuple, Optional

from .._core.deps import libvirt
from .._core.domains import DomainIndex, as_uuid, definition, gone


class SecretReferences(NamedTuple):
    """The secrets that a domain's XML names: by UUID, or by usage type and usage."""

    uuids: frozenset[str]
    usages: frozenset[tuple[str, str]]


def secrets_used_by(domain: Any) -> SecretReferences:
    """The secrets that a parsed ``<domain>`` names."""
    uuids = {element.get("secret") for element in domain.iter("encryption")}
    elements = list(domain.iter("secret"))
    uuids |= {element.get("uuid") for element in elements}
    usages = {(element.get("type"), element.get("usage")) for element in elements if element.get("usage")}
    # <secret type='passphrase' usage='…'> of a LUKS disk means a volume secret.
    usages = {("volume" if kind == "passphrase" else str(kind), usage) for kind, usage in usages}
    return SecretReferences(frozenset(as_uuid(text) or text for text in uuids if text), frozenset(usages))


class SecretUses:
    """Which domains of a connection use which secret; reads every domain once, when first asked."""

    def __init__(self, domains: DomainIndex) -> None:
        self._domains = domains
        self._references: Optional[list[tuple[str, str, SecretReferences]]] = None

    def domains_using(
        self, uuid: str, usage_type: str, usage: Optional[str], without: Container[str] = ()
    ) -> list[str]:
        """The names of the domains, defined or running, that name this secret.

        Args:
            without: UUIDs of domains that do not count.
        """
        if self._references is None:
            self._references = self._read()
        names = {
            name
            for name, domain, references in self._references
            if domain not in without and (uuid in references.uuids or (usage_type, usage) in references.usages)
        }
        return sorted(names)

    def _read(self) -> list[tuple[str, str, SecretReferences]]:
        references = []
        for domain in self._domains.all():
            try:
                # What runs may differ from what is defined; either may need the secret.
                for inactive in (True, False) if domain.isActive() else (True,):
                    used = secrets_used_by(definition(domain, inactive))
                    references.append((domain.name(), domain.UUIDString(), used))
            except libvirt.libvirtError as error:
                if not gone(error):
                    raise
        return references
