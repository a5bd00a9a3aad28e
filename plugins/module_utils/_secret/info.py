# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""What ``libvirt_secret_info`` tells of the secrets of a host. Never a value."""

from typing import Any, Optional

from .._core.domains import DomainIndex
from .._core.host_paths import host_paths
from .index import SecretIndex, read_definition
from .uses import SecretUses
from .value import stored_value
from .wanted import checked_uuid


class SecretReader:
    """Reads secrets through one connection; changes nothing."""

    def __init__(self, connection: Any) -> None:
        self._index = SecretIndex(connection)
        self._uses = SecretUses(DomainIndex(connection))
        self._paths = host_paths(connection)

    def read(
        self, uuid: Optional[str] = None, usage_type: Optional[str] = None, usage: Optional[str] = None
    ) -> list[dict[str, Any]]:
        """The secrets that fit all filters given, sorted by UUID.

        Raises:
            TrustedVMError: ``uuid_invalid``.
        """
        uuid = checked_uuid(uuid)
        entries = []
        for secret in self._index.all():
            found = read_definition(secret)
            if uuid is not None and found.uuid != uuid:
                continue
            if usage_type is not None and found.usage_type != usage_type:
                continue
            if usage is not None and found.usage != usage:
                continue
            stored = stored_value(secret, found, self._paths)
            entry = found.as_result()
            entry["has_value"] = (stored.data is not None) if stored.known else None
            entry["used_by"] = self._uses.domains_using(str(found.uuid), found.usage_type, found.usage)
            entries.append(entry)
        return entries
