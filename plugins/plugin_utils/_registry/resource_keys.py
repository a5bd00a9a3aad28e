# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wrapped DEKs. Reading never creates; of two controllers that create at once one is first."""
from __future__ import annotations

import dataclasses
from typing import Any, Iterable, Optional

from .records import KeyIdentity, ResourceKeyRecord, resource_key_from_row
from .schema import tables
from .sql import add_if_absent, chunks, sa


class ResourceKeyRepository:
    """The table ``resource_keys``; belongs to one connection."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def of_resources(self, resource_type: str, uuids: Iterable[str]) -> dict[str, list[ResourceKeyRecord]]:
        """All versions, the oldest first, by resource; a resource without a key is not in the answer."""
        columns = tables().resource_keys.c
        found: dict[str, list[ResourceKeyRecord]] = {}
        for chunk in chunks(uuids):
            for record in self._select(columns.resource_type == resource_type, columns.resource_uuid.in_(chunk)):
                found.setdefault(record.identity.resource_uuid, []).append(record)
        return found

    def listed(self, provider: Optional[str] = None, created_by: Optional[str] = None) -> list[ResourceKeyRecord]:
        columns = tables().resource_keys.c
        pairs = ((columns.provider, provider), (columns.created_by, created_by))
        return self._select(sa.true(), *[column == value for column, value in pairs if value is not None])

    def add_if_absent(self, record: ResourceKeyRecord) -> bool:
        """Whether this call made the record: False when there was one, which stays as it is."""
        row = dataclasses.asdict(record)
        row.update(row.pop("identity"))
        return add_if_absent(self._connection, tables().resource_keys, row)

    def remove(self, identity: KeyIdentity, created_by: Optional[str] = None) -> bool:
        """Whether there was one to remove; with ``created_by``, only that operation's (requirement C6)."""
        columns = tables().resource_keys.c
        statement = sa.delete(tables().resource_keys).where(
            columns.resource_type == identity.resource_type,
            columns.resource_uuid == identity.resource_uuid,
            columns.key_version == identity.key_version,
        )
        if created_by is not None:
            statement = statement.where(columns.created_by == created_by)
        return bool(self._connection.execute(statement).rowcount == 1)

    def _select(self, *conditions: Any) -> list[ResourceKeyRecord]:
        columns = tables().resource_keys.c
        order = (columns.resource_type, columns.resource_uuid, columns.key_version)
        rows = self._connection.execute(sa.select(tables().resource_keys).where(*conditions).order_by(*order))
        return [resource_key_from_row(row) for row in rows.mappings()]
