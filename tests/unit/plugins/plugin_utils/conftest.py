# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same registry tests on SQLite and on a real PostgreSQL server.

The test command starts a server and says where in TRUSTEDVM_TEST_POSTGRESQL_URL. Without that, one is
started here from Debian's packages, for this test session.
"""

from __future__ import annotations

import glob
import multiprocessing
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid

import pytest

POSTGRESQL_VARIABLE = "TRUSTEDVM_TEST_POSTGRESQL_URL"


def pytest_collection_modifyitems(config, items):
    """`ansible-test units` runs every test in a fork, and each fork would start a server of its own; pytest
    (`make test-unit`) runs the tests on PostgreSQL. They are taken out and not skipped: nothing is missing here."""
    if config.pluginmanager.hasplugin("ansible_forked"):
        with_server = [item for item in items if "postgresql" in item.name or "postgresql_server" in item.fixturenames]
        config.hook.pytest_deselected(items=with_server)
        items[:] = [item for item in items if item not in with_server]


@pytest.fixture(scope="session")
def postgresql_server():
    """The URL of a real server whose user may create databases."""
    pytest.importorskip("psycopg")
    if os.environ.get(POSTGRESQL_VARIABLE):
        yield os.environ[POSTGRESQL_VARIABLE]
        return
    binaries = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    if not binaries or os.geteuid() != 0 or "postgres" not in [entry.pw_name for entry in pwd.getpwall()]:
        pytest.skip("no %s, and no PostgreSQL server could be started here" % POSTGRESQL_VARIABLE)
    with private_server(binaries[-1]) as url:
        yield url


class private_server:
    """A server of our own on a Unix socket, without network; it ends with this process, however that ends."""

    def __init__(self, binaries):
        self.binaries = binaries
        self.root = tempfile.mkdtemp(prefix="trustedvm-pg-")

    def __enter__(self):
        shutil.chown(self.root, "postgres", "postgres")
        data = self.root + "/data"
        subprocess.run(
            self._command("initdb", "-D", data, "-A", "trust", "-U", "tester", "--no-sync"), check=True, capture_output=True, cwd=self.root
        )
        settings = ("listen_addresses=", "unix_socket_directories=" + self.root, "fsync=off")
        options = [word for setting in settings for word in ("-c", setting)]
        with open(self.root + "/log", "wb") as log:
            self.server = subprocess.Popen(self._command("postgres", "-D", data, *options), stdout=log, stderr=log, cwd=self.root)
        self._wait()
        return "postgresql://tester@/postgres?host=%s" % self.root

    def __exit__(self, *exception):
        self.server.send_signal(signal.SIGINT)
        self.server.wait(60)
        shutil.rmtree(self.root, ignore_errors=True)

    def _command(self, program, *arguments):
        # The kernel interrupts it (PostgreSQL: a fast shutdown) when we are killed.
        become = ("setpriv", "--pdeathsig", "INT", "--reuid", "postgres", "--regid", "postgres", "--clear-groups")
        return [*become, os.path.join(self.binaries, program), *arguments]

    def _wait(self):
        ready = [os.path.join(self.binaries, "pg_isready"), "-q", "-h", self.root]
        deadline = time.monotonic() + 60
        while subprocess.run(ready, check=False).returncode != 0:
            if self.server.poll() is not None or time.monotonic() > deadline:
                with open(self.root + "/log", encoding="utf-8") as log:
                    raise RuntimeError("PostgreSQL does not start: " + log.read())
            time.sleep(0.1)


@pytest.fixture(scope="session")
def postgresql_database(postgresql_server):
    """A database of our own on the server, for this process."""
    sqlalchemy = pytest.importorskip("sqlalchemy")
    url = sqlalchemy.make_url(postgresql_server).set(drivername="postgresql+psycopg")
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.pool.NullPool)
    name = "trustedvm_" + uuid.uuid4().hex
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE %s" % name)
    yield url.set(database=name)
    with engine.connect() as connection:
        connection.exec_driver_sql("DROP DATABASE %s WITH (FORCE)" % name)


@pytest.fixture
def postgresql_url(postgresql_database):
    """An empty database for one test."""
    import sqlalchemy

    yield postgresql_database.render_as_string(hide_password=False)
    engine = sqlalchemy.create_engine(postgresql_database, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.pool.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")


@pytest.fixture
def sqlite_url():
    """A file in memory where there is such a place: the registry waits for the disk at each commit."""
    pytest.importorskip("sqlalchemy")
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="trustedvm-registry-", dir=place) as root:
        yield "sqlite:///%s" % os.path.join(root, "state", "registry.sqlite")


@pytest.fixture(params=["sqlite", "postgresql"])
def registry_url(request):
    """Where no registry is yet."""
    return request.getfixturevalue(request.param + "_url")


@pytest.fixture
def registry(registry_url):
    """An open, empty registry."""
    from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._registry.engine import open_registry

    with open_registry(registry_url, create=True) as opened:
        yield opened


@pytest.fixture
def at_once():
    """Runs one function in several processes that start together; returns what each returned."""
    return _at_once


def _at_once(function, arguments):
    """``function`` gets one of ``arguments``; an exception of a process comes back as its text."""
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(len(arguments)), context.Queue()

    def work(index, argument):
        barrier.wait(30)
        try:
            results.put((index, function(argument)))
        except Exception as error:
            results.put((index, "%s: %s" % (type(error).__name__, error)))

    processes = [context.Process(target=work, args=pair) for pair in enumerate(arguments)]
    for process in processes:
        process.start()
    answers = dict(results.get(timeout=60) for _process in processes)
    for process in processes:
        process.join(60)
    return [answers[index] for index in range(len(arguments))]
