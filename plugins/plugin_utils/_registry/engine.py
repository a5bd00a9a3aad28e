# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a URL to an open registry: one connection, one schema check, errors without passwords."""
from __future__ import annotations

import contextlib
import os
import time
from typing import Any, Iterator, Optional

from .._core.dependencies import PSYCOPG, SQLALCHEMY
from .._core.errors import ControllerError
from . import migrations
from .key_providers import KeyProviderRepository
from .operations import OperationRepository
from .resource_keys import ResourceKeyRepository
from .schema import SCHEMA_VERSION
from .sql import sa
from .sqlite_file import is_there, make_private_file
from .vms import VmRepository

# Seconds that a writer waits for another one, and that a connection may take to open.
BUSY_TIMEOUT = 30
CONNECT_TIMEOUT = 10

# Libpq takes passwords in the query part as well.
SECRET_QUERY_KEYS = ("password", "sslpassword")


class Session:
    """The tables within one transaction.

    Attributes:
        where: the registry's URL as it may be shown.
        shared: whether the registry is not a file of this machine, so that other controllers can have it.
    """

    def __init__(self, connection: Any, where: str, shared: bool, url: Any) -> None:
        self.where = where
        self.shared = shared
        self.vms = VmRepository(connection)
        self.resource_keys = ResourceKeyRepository(connection)
        self.key_providers = KeyProviderRepository(connection)
        self.operations = OperationRepository(connection)
        self._connection = connection
        self._url = url

    @contextlib.contextmanager
    def item(self) -> Iterator[None]:
        """What fails inside is undone by itself; what other items wrote in this transaction stays."""
        with database_errors(self.where, self._url), self._connection.begin_nested():
            yield


class Registry:
    """An open registry; ``where`` is its URL as it may be shown."""

    def __init__(self, engine: Any, where: str, shared: bool) -> None:
        self._engine = engine
        self._shared = shared
        self._immediate = False
        self.where = where
        if engine.dialect.name == "sqlite":
            sa.event.listen(engine, "connect", _set_up_sqlite)
            sa.event.listen(engine, "begin", self._begin_sqlite)
        with self._errors():
            self._connection = engine.connect()

    def close(self) -> None:
        with contextlib.suppress(sa.exc.SQLAlchemyError):
            self._connection.close()
        self._engine.dispose()

    @contextlib.contextmanager
    def read(self) -> Iterator[Session]:
        """One snapshot to read from."""
        with self._transaction(immediate=False) as session:
            yield session

    @contextlib.contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction: committed at the end, rolled back if anything leaves it."""
        with self._transaction(immediate=True) as session:
            yield session

    def found_version(self) -> Optional[int]:
        with self._errors(), self._connection.begin():
            return migrations.found_version(self._connection)

    def bring_up_to_date(self) -> None:
        with self._errors():
            if self._engine.dialect.name == "sqlite":
                _switch_to_wal(self._connection)
            self._immediate = True
            with self._connection.begin():
                migrations.bring_up_to_date(self._connection, self.where)

    @contextlib.contextmanager
    def _transaction(self, immediate: bool) -> Iterator[Session]:
        self._immediate = immediate
        if self._engine.dialect.name == "postgresql":
            self._connection.execution_options(isolation_level="READ COMMITTED" if immediate else "REPEATABLE READ")
        with self._errors(), self._connection.begin():
            yield Session(self._connection, self.where, self._shared, self._engine.url)

    def _begin_sqlite(self, connection: Any) -> None:
        # A transaction that reads first and writes later cannot wait for another writer: SQLite
        # answers SQLITE_BUSY at once, because its snapshot is old. So writers say so at the start.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if self._immediate else "BEGIN")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        with database_errors(self.where, self._engine.url):
            yield


@contextlib.contextmanager
def open_registry(url: str, create: bool) -> Iterator[Registry]:
    """Open the registry at ``url``, check its schema, close it in the end.

    Args:
        url: SQLAlchemy's, for SQLite (a file) or PostgreSQL.
        create: whether a missing registry may be made and an older one migrated. Without it
            (reading, check mode) a registry that is not there yet reads as an empty one.
    Raises:
        ControllerError: ``registry_url_invalid``, ``registry_unavailable``, ``registry_damaged``,
            ``registry_schema_newer``, ``registry_schema_older``, ``missing_dependency``.
    """
    SQLALCHEMY.load()
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        if create:
            make_private_file(parsed.database)
        elif not is_there(parsed.database):
            parsed = sa.engine.make_url("sqlite://")
    with contextlib.ExitStack() as stack:
        registry = stack.enter_context(contextlib.closing(_connect(parsed, url)))
        version = registry.found_version()
        if version is None and not create:
            registry = stack.enter_context(contextlib.closing(_connect(sa.engine.make_url("sqlite://"), url)))
            registry.bring_up_to_date()
        elif version is not None and version >= SCHEMA_VERSION:
            migrations.refuse_newer(version, registry.where)
        elif create:
            registry.bring_up_to_date()
        else:
            migrations.refuse_older(version or 0, registry.where)
        yield registry


def parse_url(url: str) -> Any:
    """SQLAlchemy's URL object, for the two databases that are supported."""
    try:
        parsed = sa.engine.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        parsed = None  # what SQLAlchemy says quotes the URL, and with it the password
    backend = None if parsed is None else parsed.drivername.split("+")[0]
    if parsed is None or backend not in ("sqlite", "postgresql", "postgres"):
        raise ControllerError(
            "registry_url_invalid",
            "The registry's URL cannot be used",
            found="no URL" if parsed is None else "a URL for %s" % backend,
            wanted="sqlite:////absolute/path or postgresql://user@host/database",
            hint="Set registry_url, trustedvm_registry_url or TRUSTEDVM_REGISTRY_URL",
        )
    if backend == "sqlite":
        return _parse_sqlite(parsed)
    PSYCOPG.load()
    # Without a driver's name SQLAlchemy 2.0 would take psycopg2.
    return parsed.set(drivername="postgresql+psycopg")


def _parse_sqlite(parsed: Any) -> Any:
    if not parsed.database or parsed.database == ":memory:" or parsed.database.startswith("file:"):
        raise ControllerError(
            "registry_url_invalid",
            "The registry's URL names no file",
            found=parsed.render_as_string(),
            wanted="sqlite:////absolute/path",
            hint="Set registry_url, trustedvm_registry_url or TRUSTEDVM_REGISTRY_URL",
        )
    return parsed.set(drivername="sqlite", database=os.path.abspath(os.path.expanduser(parsed.database)))


def shown_url(parsed: Any) -> str:
    """The URL without any password."""
    hidden = parsed.set(query={key: value for key, value in parsed.query.items() if key not in SECRET_QUERY_KEYS})
    return str(hidden.render_as_string(hide_password=True))


def _connect(parsed: Any, url: str) -> Registry:
    options: dict[str, Any] = {"timeout": BUSY_TIMEOUT}
    if parsed.get_backend_name() == "postgresql":
        defaults = {"connect_timeout": CONNECT_TIMEOUT, "application_name": "trustedvm.libvirt"}
        options = {key: value for key, value in defaults.items() if key not in parsed.query}
    # One task is one connection: a pool would keep connections that nobody comes back for.
    engine = sa.create_engine(parsed, poolclass=sa.pool.StaticPool, connect_args=options)
    asked = parse_url(url)
    return Registry(engine, shown_url(asked), asked.get_backend_name() != "sqlite")


def _set_up_sqlite(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # Python's sqlite3 must not begin transactions by itself
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    # With WAL the default loses the last commits in a power loss; one of them may be a key.
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()


def _switch_to_wal(connection: Any) -> None:
    """The journal mode is kept in the file. Switching it does not wait for others as statements do."""
    driver = connection.connection.driver_connection
    deadline = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            driver.execute("PRAGMA journal_mode = WAL")
            return
        except driver.Error as error:
            if time.monotonic() > deadline:
                raise sa.exc.OperationalError("PRAGMA journal_mode", None, error) from None
        time.sleep(0.05)


@contextlib.contextmanager
def database_errors(where: str, url: Any) -> Iterator[None]:
    """The database's exceptions as ours, with every password removed."""
    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        # Not chained: Ansible prints the chain of exceptions, and the original quotes parameters.
        raise _database_failure(error, where, url) from None


def _database_failure(error: Exception, where: str, url: Any) -> ControllerError:
    cause = getattr(error, "orig", None) or error
    found = " ".join(str(cause).split())
    secrets = [url.password, *(url.query.get(key) for key in SECRET_QUERY_KEYS)]
    for secret in filter(None, secrets):
        found = found.replace(str(secret), "***")
    if isinstance(error, sa.exc.IntegrityError):
        return ControllerError(
            "registry_conflict",
            "The registry %s refused a row, because it contradicts another one" % where,
            found=found,
            hint="Run the task again; another controller may have written at the same time",
        )
    if isinstance(error, sa.exc.DatabaseError) and not isinstance(error, sa.exc.OperationalError) and url.get_backend_name() == "sqlite":
        return ControllerError(
            "registry_damaged",
            "The file of the registry %s is not a usable database" % where,
            found=found,
            hint="Restore it from a backup",
        )
    return ControllerError(
        "registry_unavailable",
        "The registry %s does not answer" % where,
        found=found,
        hint="Look at the database and at registry_url, trustedvm_registry_url or TRUSTEDVM_REGISTRY_URL",
    )
