# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""The secrets of a connection, listed once, found by UUID or usage."""

from typing import Any, Optional

from .definition import NO_USAGE, SecretDefinition, parse_secret, usage_type_name


class SecretIndex:
    """All secrets of one connection: one call to libvirt. Kept true by :meth:`put` and :meth:`drop`."""

    def __init__(self, connection: Any) -> None:
        self._by_uuid: dict[str, Any] = {}
        self._by_usage: dict[tuple[str, str], str] = {}
        for secret in connection.listAllSecrets():
            self.put(secret)

    def put(self, secret: Any) -> None:
        """Add a ``virSecret`` that was defined since."""
        uuid = secret.UUIDString()
        self._by_uuid[uuid] = secret
        usage_type = usage_type_name(secret.usageType())
        if usage_type != NO_USAGE:
            self._by_usage[usage_type, secret.usageID()] = uuid

    def drop(self, uuid: str) -> None:
        """Forget a secret that was undefined since."""
        self._by_uuid.pop(uuid, None)
        for usage in [usage for usage, holder in self._by_usage.items() if holder == uuid]:
            del self._by_usage[usage]

    def all(self) -> list[Any]:
        """The ``virSecret`` objects, sorted by UUID."""
        return [self._by_uuid[uuid] for uuid in sorted(self._by_uuid)]

    def get(self, uuid: Optional[str]) -> Optional[Any]:
        """The ``virSecret`` with this UUID, or None."""
        return self._by_uuid.get(uuid) if uuid else None

    def holder(self, usage_type: str, usage: Optional[str]) -> Optional[str]:
        """The UUID of the secret that has this usage, or None."""
        return self._by_usage.get((usage_type, usage)) if usage is not None else None


def read_definition(secret: Any) -> SecretDefinition:
    """What libvirt says of a ``virSecret`` now."""
    return parse_secret(secret.XMLDesc(0))
