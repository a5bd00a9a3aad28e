# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Opening a registry: what is made, what is not, and how it fails."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import sys

import pytest

sqlalchemy = pytest.importorskip("sqlalchemy")

from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._core.errors import ControllerError
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._registry import migrations, sqlite_file
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._registry.engine import open_registry, parse_url, shown_url
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._registry.records import VmRecord
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._registry.schema import SCHEMA_VERSION

VM = "0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11"


def failure(url, create=True):
    with pytest.raises(ControllerError) as caught:
        with open_registry(url, create=create) as registry, registry.read() as session:
            session.vms.listed()
    assert caught.value.__cause__ is None
    return caught.value


def set_version(url, version):
    engine = sqlalchemy.create_engine(parse_url(url))
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE trustedvm_schema SET version = :version"), {"version": version})
    engine.dispose()


def path_of(sqlite_url):
    return sqlite_url[len("sqlite:///") :]


def test_first_use_makes_it_and_second_use_finds_it(registry_url):
    with open_registry(registry_url, create=True) as registry, registry.write() as session:
        session.vms.create(VmRecord(VM, "web1", "kvm1", "running"))
    with open_registry(registry_url, create=True) as registry, registry.read() as session:
        assert [record.name for record in session.vms.listed()] == ["web1"]


def test_reading_where_nothing_is_sees_an_empty_registry_and_makes_none(registry_url):
    with open_registry(registry_url, create=False) as registry, registry.read() as session:
        assert session.vms.listed() == []
    engine = sqlalchemy.create_engine(parse_url(registry_url)) if "postgresql" in registry_url else None
    if engine is None:
        assert not os.path.exists(os.path.dirname(path_of(registry_url)))
    else:
        assert sqlalchemy.inspect(engine).get_table_names() == []
        engine.dispose()


def test_file_and_directory_are_private(sqlite_url):
    path = path_of(sqlite_url)
    previous = os.umask(0)
    try:
        with open_registry(sqlite_url, create=True) as registry, registry.write() as session:
            session.vms.create(VmRecord(VM, "web1", "kvm1", "running"))
            modes = {name: stat.S_IMODE(os.stat(os.path.join(os.path.dirname(path), name)).st_mode) for name in os.listdir(os.path.dirname(path))}
    finally:
        os.umask(previous)
    assert set(modes) >= {"registry.sqlite", "registry.sqlite-wal"}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700


def test_sqlite_keeps_what_was_committed_and_does_not_block_readers(sqlite_url):
    with open_registry(sqlite_url, create=True):
        pass
    connection = sqlite3.connect(path_of(sqlite_url))
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_many_first_users_at_once_make_one_registry(registry_url, at_once):
    def use(number):
        with open_registry(registry_url, create=True) as registry, registry.write() as session:
            session.vms.create(VmRecord("00000000-0000-4000-8000-%012d" % number, "vm%d" % number, "kvm1", "running"))
        return "made"

    assert at_once(use, list(range(6))) == ["made"] * 6
    with open_registry(registry_url, create=False) as registry, registry.read() as session:
        assert len(session.vms.listed()) == 6


@pytest.mark.parametrize("create", [True, False])
def test_newer_than_the_code(registry_url, create):
    with open_registry(registry_url, create=True):
        pass
    set_version(registry_url, SCHEMA_VERSION + 1)
    error = failure(registry_url, create)
    assert error.code == "registry_schema_newer"
    assert "schema version %d" % (SCHEMA_VERSION + 1) in str(error) and "Update" in str(error)


def test_older_than_the_code_is_not_migrated_by_reading(registry_url):
    with open_registry(registry_url, create=True):
        pass
    set_version(registry_url, SCHEMA_VERSION - 1)
    assert failure(registry_url, create=False).code == "registry_schema_older"


def test_migrations_run_in_order_once_and_together(registry):
    steps = {
        version: lambda connection, version=version: connection.exec_driver_sql("CREATE TABLE step%d (id INTEGER)" % version)
        for version in (SCHEMA_VERSION + 1, SCHEMA_VERSION + 2)
    }
    for _time in range(2):
        with registry._transaction(immediate=True):
            migrations.bring_up_to_date(registry._connection, "here", steps, SCHEMA_VERSION + 2)
    assert registry.found_version() == SCHEMA_VERSION + 2


def test_a_migration_that_fails_leaves_the_version(registry):
    def fail(connection):
        connection.exec_driver_sql("CREATE TABLE half_made (id INTEGER)")
        raise ControllerError("stopped", "The step fails")

    with pytest.raises(ControllerError):
        with registry._transaction(immediate=True):
            migrations.bring_up_to_date(registry._connection, "here", {SCHEMA_VERSION + 1: fail}, SCHEMA_VERSION + 1)
    assert registry.found_version() == SCHEMA_VERSION
    assert not sqlalchemy.inspect(registry._engine).has_table("half_made")


def test_database_away_and_no_password_in_the_message():
    error = failure("postgresql://operator:s3cr%40t@127.0.0.1:1/trustedvm?sslpassword=hunter2")
    assert error.code == "registry_unavailable"
    assert "127.0.0.1" in str(error)
    for secret in ("s3cr%40t", "s3cr@t", "hunter2"):
        assert secret not in str(error) and secret not in repr(error)


def test_database_that_goes_away_while_in_use(postgresql_url):
    """The connection is cut on the server's side between two tasks of one run."""
    with pytest.raises(ControllerError) as caught:
        with open_registry(postgresql_url, create=True) as registry:
            other = sqlalchemy.create_engine(parse_url(postgresql_url), isolation_level="AUTOCOMMIT")
            with other.connect() as connection:
                connection.exec_driver_sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
                )
            other.dispose()
            with registry.read() as session:
                session.vms.listed()
    assert caught.value.code == "registry_unavailable"


def test_wrong_password_is_not_shown(postgresql_url):
    url = sqlalchemy.make_url(postgresql_url).set(username="nobody_%d" % os.getpid(), password="open sesame")
    error = failure(url.render_as_string(hide_password=False))
    assert error.code == "registry_unavailable"
    assert "open sesame" not in str(error)


@pytest.mark.parametrize(
    "url",
    [
        "nonsense s3cret",
        "mysql://root:s3cret@db/x",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:x?mode=ro&uri=true",
        "postgresql://u:s3cret@h:port/x",
    ],
)
def test_url_that_cannot_be_used(url):
    error = failure(url)
    assert error.code == "registry_url_invalid"
    assert "s3cret" not in str(error)


def test_plain_postgresql_url_means_psycopg_3():
    pytest.importorskip("psycopg")
    assert parse_url("postgresql://u:p@h/d").drivername == "postgresql+psycopg"
    assert shown_url(parse_url("postgresql://u:p4ss@h/d?password=p5ss")) == "postgresql+psycopg://u:***@h/d"


def test_file_that_is_no_database(sqlite_url):
    path = path_of(sqlite_url)
    os.makedirs(os.path.dirname(path))
    with open(path, "w", encoding="utf-8") as file:
        file.write("this is no database " * 100)
    for create in (True, False):
        assert failure(sqlite_url, create).code == "registry_damaged"


def test_registry_without_its_version_is_damaged(registry_url):
    with open_registry(registry_url, create=True):
        pass
    engine = sqlalchemy.create_engine(parse_url(registry_url))
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM trustedvm_schema")
    engine.dispose()
    assert failure(registry_url).code == "registry_damaged"


def test_directory_that_cannot_be_written(tmp_path):
    (tmp_path / "taken").write_text("a file where a directory should be", encoding="utf-8")
    error = failure("sqlite:///%s/taken/registry.sqlite" % tmp_path)
    assert error.code == "registry_unavailable"


def as_nobody(function, *arguments):
    """What the function returns for a user who owns nothing here."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            answer = str(function(*arguments))
        except BaseException as error:
            answer = "%s: %s" % (type(error).__name__, error)
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as answers:
        answer = answers.read()
    os.waitpid(child, 0)
    return answer


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become another user")
def test_a_directory_without_permission_is_not_an_empty_registry(sqlite_url):
    with open_registry(sqlite_url, create=True):
        pass
    os.chmod(os.path.dirname(os.path.dirname(path_of(sqlite_url))), 0o755)
    for create in (True, False):
        answer = as_nobody(lambda create=create: failure(sqlite_url, create).code + " " + str(failure(sqlite_url, create)))
        assert answer.startswith("registry_unavailable ") and "Permission denied" in answer, answer


def test_a_link_to_what_is_not_mounted_is_not_an_empty_registry(tmp_path):
    """Of the state directory, or of the file itself."""
    (tmp_path / "state").symlink_to(tmp_path / "mnt" / "vault")
    for name in ("state/registry.sqlite", "state/deeper/registry.sqlite", "state"):
        error = failure("sqlite:///%s/%s" % (tmp_path, name), create=False)
        assert error.code == "registry_unavailable" and "the link %s/state," % tmp_path in str(error)
    (tmp_path / "mnt" / "vault").mkdir(parents=True)
    with open_registry("sqlite:///%s/state/registry.sqlite" % tmp_path, create=False) as registry, registry.read() as session:
        assert session.vms.listed() == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.ESTALE, errno.EIO, errno.ENOTDIR, errno.ELOOP], ids=errno.errorcode.get)
def test_what_cannot_be_looked_at_is_not_an_empty_registry(sqlite_url, monkeypatch, number):
    """A network file system that has gone away, for one."""

    def stat_(path, **options):
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(sqlite_file.os, "stat", stat_)
    error = failure(sqlite_url, create=False)
    monkeypatch.undo()
    assert error.code == "registry_unavailable" and os.strerror(number) in str(error)


def test_writer_that_holds_the_database_too_long(sqlite_url, monkeypatch):
    from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._registry import engine

    with open_registry(sqlite_url, create=True):
        pass
    monkeypatch.setattr(engine, "BUSY_TIMEOUT", 0.1)
    holder = sqlite3.connect(path_of(sqlite_url), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(ControllerError) as caught:
        with open_registry(sqlite_url, create=True) as registry, registry.write():
            pass
    holder.close()
    assert caught.value.code == "registry_unavailable" and "locked" in str(caught.value)


def test_m8_without_sqlalchemy_the_message_names_it(sqlite_url, monkeypatch):
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    error = failure(sqlite_url)
    assert error.code == "missing_dependency"
    assert "SQLAlchemy" in str(error) and "pip install" in str(error)


def test_m8_without_psycopg_sqlite_still_works(sqlite_url, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    error = failure("postgresql://u@h/d")
    assert error.code == "missing_dependency" and "psycopg" in str(error)
    with open_registry(sqlite_url, create=True):
        pass
