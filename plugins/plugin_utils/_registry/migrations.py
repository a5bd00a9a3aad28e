# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From nothing, or from an older schema, to the schema of this code."""
from __future__ import annotations

from types import MappingProxyType
from typing import Any, Callable, Mapping, Optional

from .._core.errors import ControllerError
from .schema import SCHEMA_VERSION, VERSION_TABLE, tables
from .sql import sa


def _add_operations(connection: Any) -> None:
    """The journal of operations with their leases."""
    time = "TIMESTAMP WITH TIME ZONE" if connection.dialect.name == "postgresql" else "DATETIME"
    connection.exec_driver_sql(
        """
        CREATE TABLE operations (
            id VARCHAR(36) NOT NULL PRIMARY KEY,
            kind VARCHAR(32) NOT NULL,
            vm_uuid VARCHAR(36) NOT NULL,
            vm_name VARCHAR(255) NOT NULL,
            run VARCHAR(64) NOT NULL,
            holder_user VARCHAR(255) NOT NULL,
            holder_host VARCHAR(255) NOT NULL,
            holder_pid BIGINT NOT NULL,
            holder_machine VARCHAR(255) NOT NULL,
            holder_started BIGINT NOT NULL,
            phase VARCHAR(32) NOT NULL,
            facts JSON NOT NULL,
            started_at {time} NOT NULL,
            lease_until {time} NOT NULL,
            ended_at {time},
            outcome VARCHAR(32),
            message TEXT
        )
        """.replace("{time}", time)
    )
    connection.exec_driver_sql("CREATE UNIQUE INDEX uq_operations_open ON operations (vm_uuid) WHERE ended_at IS NULL")
    connection.exec_driver_sql("CREATE INDEX ix_operations_ended ON operations (ended_at)")


# Schema version → what brings the one before it there, given the connection of one transaction.
# A step is frozen when it is released: it spells out its own DDL and does not read schema.py.
Migrations = Mapping[int, Callable[[Any], None]]
MIGRATIONS: Migrations = MappingProxyType({2: _add_operations})

# Any number, the same for all of us: two controllers that find an empty database wait for each other.
ADVISORY_LOCK = 0x7472_7573_7476_6D


def found_version(connection: Any) -> Optional[int]:
    """The schema version of the database; None where there is no registry yet."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    version = connection.execute(sa.select(tables().version.c.version)).scalar_one_or_none()
    if version is None:
        raise ControllerError(
            "registry_damaged",
            "The registry has no schema version",
            hint="Restore the registry from a backup",
        )
    return int(version)


def refuse_newer(version: int, where: str, newest: int = SCHEMA_VERSION) -> None:
    if version > newest:
        raise ControllerError(
            "registry_schema_newer",
            "The registry %s was written by a newer release of the collection" % where,
            found="schema version %d" % version,
            wanted="schema version %d or older" % newest,
            hint="Update trustedvm.libvirt on this controller",
        )


def refuse_older(version: int, where: str) -> None:
    """For reading only: bringing the schema up to date is a change."""
    if version < SCHEMA_VERSION:
        raise ControllerError(
            "registry_schema_older",
            "The registry %s was written by an older release of the collection" % where,
            found="schema version %d" % version,
            wanted="schema version %d" % SCHEMA_VERSION,
            hint="Run a task that changes the registry, outside check mode; it brings the schema up to date",
        )


def bring_up_to_date(
    connection: Any, where: str, migrations: Migrations = MIGRATIONS, newest: int = SCHEMA_VERSION
) -> None:
    """Create or migrate, inside the caller's write transaction."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(ADVISORY_LOCK)))
    version = found_version(connection)
    if version is None:
        tables().metadata.create_all(connection)
        connection.execute(tables().version.insert().values(id=1, version=newest))
        return
    refuse_newer(version, where, newest)
    for step in range(version + 1, newest + 1):
        migrations[step](connection)
    connection.execute(tables().version.update().values(version=newest))
