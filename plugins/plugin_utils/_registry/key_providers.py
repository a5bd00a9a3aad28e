# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Key providers by name, with their settings; what is secret about them is elsewhere."""
from __future__ import annotations

import dataclasses
from typing import Any, Iterable, Optional

from .._core.errors import ControllerError
from .records import KeyProviderRecord, key_provider_from_row, now
from .schema import tables
from .sql import put, sa


@dataclasses.dataclass(frozen=True)
class Uses:
    """Who refers to a key provider."""

    keys: int = 0
    vms: int = 0

    def __str__(self) -> str:
        return "%d resource keys and %d VMs refer to it" % (self.keys, self.vms)


class KeyProviderRepository:
    """The table ``key_providers``; belongs to one connection."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def all(self) -> dict[str, KeyProviderRecord]:
        rows = self._connection.execute(sa.select(tables().key_providers).order_by(tables().key_providers.c.name))
        return {row["name"]: key_provider_from_row(row) for row in rows.mappings()}

    def uses(self) -> dict[str, Uses]:
        """By provider; one that nobody uses is not in the answer."""
        keys = self._count(tables().resource_keys.c.provider)
        vms = self._count(tables().vms.c.key_provider)
        return {name: Uses(keys.get(name, 0), vms.get(name, 0)) for name in {*keys, *vms}}

    def get(self, name: str) -> Optional[KeyProviderRecord]:
        return self.all().get(name)

    def put(self, record: KeyProviderRecord) -> Optional[str]:
        """Write the record; its KEK id only where there is none yet, compared and set in one statement.

        Returns the KEK id that is registered then: another one than the record's if another controller was first.
        """
        row = {**dataclasses.asdict(record), "updated_at": now()}
        put(self._connection, tables().key_providers, row, keep=["created_at", "kek_id"])
        columns = tables().key_providers.c
        unclaimed = sa.and_(columns.name == record.name, columns.kek_id.is_(None))
        self._connection.execute(sa.update(tables().key_providers).where(unclaimed).values(kek_id=record.kek_id))
        found: Optional[str] = self._connection.execute(sa.select(columns.kek_id).where(columns.name == record.name)).scalar_one()
        return found

    def remove(self, name: str) -> None:
        """Raises:
        ControllerError: ``key_provider_in_use``.
        """
        # Inside the transaction: a key made since the caller looked would lose its provider.
        uses = self.uses().get(name, Uses())
        if uses != Uses():
            raise key_provider_in_use(name, uses)
        self._connection.execute(sa.delete(tables().key_providers).where(tables().key_providers.c.name == name))

    def _count(self, column: Any) -> dict[str, int]:
        statement = sa.select(column, sa.func.count()).where(column.is_not(None)).group_by(column)
        return dict(self._connection.execute(statement).all())


def names(known: Iterable[str]) -> str:
    return ", ".join(sorted(known)) or "none"


def key_provider_in_use(name: str, uses: Uses) -> ControllerError:
    return ControllerError(
        "key_provider_in_use",
        "The key provider %s cannot be removed" % name,
        found=str(uses),
        wanted="no resource key and no VM that refers to it",
        hint="Remove the resource keys and unbind the VMs first",
    )


def key_provider_unknown(name: str, known: Iterable[str], where: str) -> ControllerError:
    return ControllerError(
        "key_provider_unknown",
        "There is no key provider %s in the registry %s" % (name, where),
        found=names(known),
        hint="Make it with the module key_provider, or name another one",
    )
