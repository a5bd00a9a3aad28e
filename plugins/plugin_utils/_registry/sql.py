# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQLAlchemy, or None: this file can be imported where the library is missing (requirement M8).

``open_registry()`` asks for the library first, so that nothing else here ever meets the None.
"""
from __future__ import annotations

from typing import Any, Iterable, Iterator, Mapping, Sequence, TypeVar

try:
    import sqlalchemy
    from sqlalchemy.dialects import postgresql, sqlite
except ImportError:
    sa: Any = None
    INSERTS: dict[str, Any] = {}
else:
    sa = sqlalchemy
    # "INSERT … ON CONFLICT" is spelled the same by both, but is not part of the generic insert().
    INSERTS = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}

# A statement's parameters are limited (SQLite before 3.32: 999).
CHUNK = 500

T = TypeVar("T")


def chunks(values: Iterable[T]) -> Iterator[Sequence[T]]:
    """Lists short enough for one IN clause, without repetitions, in a stable order."""
    unique = list(dict.fromkeys(values))
    for start in range(0, len(unique), CHUNK):
        yield unique[start:start + CHUNK]


def insert(connection: Any, table: Any) -> Any:
    """An INSERT that knows ON CONFLICT, for the database at hand."""
    return INSERTS[connection.dialect.name](table)


def add_if_absent(connection: Any, table: Any, row: Mapping[str, Any]) -> bool:
    """Insert unless a row with this primary key is there; whether it was inserted."""
    keys = list(table.primary_key.columns)
    statement = insert(connection, table).values(row).on_conflict_do_nothing(index_elements=keys)
    if connection.dialect.name == "postgresql":
        # SQLAlchemy gives no row count of an INSERT there; SQLite before 3.35 has no RETURNING.
        return connection.execute(statement.returning(keys[0])).first() is not None
    return bool(connection.execute(statement).rowcount == 1)
