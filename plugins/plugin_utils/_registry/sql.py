# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQLAlchemy, or None: this file can be imported where the library is missing (requirement M8).

``open_registry()`` asks for the library first, so that nothing else here ever meets the None.
"""
from __future__ import annotations

import functools
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


def add_if_absent(connection: Any, table: Any, row: Mapping[str, Any], any_conflict: bool = False) -> bool:
    """Insert unless a row with this primary key is there; whether it was inserted.

    Args:
        any_conflict: not either where any other unique index speaks against it.
    """
    result = connection.execute(_insert_if_absent(connection.dialect.name, table, any_conflict), row)
    if connection.dialect.name == "postgresql":
        return result.first() is not None
    return bool(result.rowcount == 1)


def put(connection: Any, table: Any, row: Mapping[str, Any], keep: Sequence[str] = ()) -> None:
    """Insert, or overwrite the row of this primary key except the columns to ``keep``."""
    connection.execute(_upsert(connection.dialect.name, table, tuple(keep)), row)


# Building a statement takes longer than running it, and a task can have hundreds of rows.


@functools.cache
def _insert_if_absent(dialect: str, table: Any, any_conflict: bool) -> Any:
    keys = list(table.primary_key.columns)
    statement = INSERTS[dialect](table).on_conflict_do_nothing(index_elements=None if any_conflict else keys)
    # SQLAlchemy gives no row count of an INSERT on PostgreSQL; SQLite before 3.35 has no RETURNING.
    return statement.returning(keys[0]) if dialect == "postgresql" else statement


@functools.cache
def _upsert(dialect: str, table: Any, keep: tuple[str, ...]) -> Any:
    keys = [column.name for column in table.primary_key.columns]
    statement = INSERTS[dialect](table)
    changes = {column.name: statement.excluded[column.name] for column in table.c if column.name not in (*keys, *keep)}
    return statement.on_conflict_do_update(index_elements=keys, set_=changes)
