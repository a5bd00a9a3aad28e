# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal: one open operation a VM, leases, take-over, and what each refusal says."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

sqlalchemy = pytest.importorskip("sqlalchemy")

from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._core import holder as processes
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._core.errors import ControllerError
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._registry import migrations
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._registry.engine import open_registry
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._registry.operation_records import Holder, OperationRecord
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._registry.schema import tables

VM = "0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11"
OTHER = "7b6a5d0e-92c1-4a53-8f1e-3a44f0f6c922"
ALICE = Holder("alice", "ctl", 4711, "boot/pid:[1]", 99)
BOB = Holder("bob", "awx", 12)


def migration(identity="op-1", vm=VM, run="run-1", **changes):
    values = {"phase": "preparing", "facts": {"source": "a", "destination": "b"}}
    return OperationRecord(identity, "migrate", vm, "web1", run, ALICE, **{**values, **changes})


def begun(registry, record=None, lease=60):
    record = record or migration()
    with registry.write() as session:
        session.operations.begin(record, lease)
        return session.operations.get(record.id)


def refused(registry, act):
    with pytest.raises(ControllerError) as caught:
        with registry.write() as session:
            act(session.operations)
    return caught.value


def test_an_operation_comes_back_as_it_was_begun(registry):
    found = begun(registry)
    assert (found.holder, found.facts, found.phase, found.is_open) == (ALICE, {"source": "a", "destination": "b"}, "preparing", True)
    assert 59 <= (found.lease_until - found.started_at).total_seconds() <= 61
    with registry.read() as session:
        assert session.operations.open_of([VM, OTHER]) == {VM: found}
        assert session.operations.listed() == [found]


def test_a_second_run_is_told_who_has_the_vm_since_when(registry):
    began = begun(registry)
    error = refused(registry, lambda operations: operations.begin(migration("op-2", run="run-2"), 60))
    assert error.code == "vm_in_use"
    assert "web1" in str(error) and "run run-1 by alice@ctl (process 4711)" in str(error)
    assert began.started_at.strftime("%Y-%m-%dT%H:%M:%SZ") in str(error)
    with registry.write() as session:
        session.operations.begin(migration("op-3", vm=OTHER, run="run-2"), 60)


def test_a_lease_that_ran_out_still_holds_the_vm_until_somebody_looked(registry):
    begun(registry, lease=-1)
    error = refused(registry, lambda operations: operations.begin(migration("op-2", run="run-2"), 60))
    assert error.code == "operation_unfinished" and "reconcile" in str(error)


def test_an_ended_operation_makes_room(registry):
    with registry.write() as session:
        session.operations.begin(migration(), 60)
        session.operations.end(migration(), "done")
        session.operations.begin(migration("op-2", run="run-2"), 60)
        assert [record.id for record in session.operations.listed()] == ["op-2"]
        assert {record.outcome for record in session.operations.listed(open_only=False)} == {"done", None}


def test_only_the_run_that_holds_it_writes_to_it(registry):
    found = begun(registry)
    with registry.write() as session:
        session.operations.renew(found, 600, "moving", {"source": "a", "made": ["secret"]})
    with registry.write() as session:
        renewed = session.operations.get("op-1")
        assert (renewed.phase, renewed.facts["made"]) == ("moving", ["secret"])
        assert renewed.lease_until > found.lease_until
        session.operations.take_over(renewed, "run-9", BOB, 60)
    for act in (
        lambda operations: operations.renew(renewed, 60),
        lambda operations: operations.end(renewed, "done"),
        lambda operations: operations.give_up(renewed, "..."),
        lambda operations: operations.take_over(renewed, "run-3", ALICE, 60),
    ):
        error = refused(registry, act)
        assert error.code == "lease_lost" and "taken over by run run-9 (bob@awx (process 12))" in str(error)


def test_what_was_given_up_is_free_to_be_taken_over_at_once(registry):
    found = begun(registry)
    with registry.write() as session:
        session.operations.give_up(found, "the source does not answer")
        left = session.operations.get("op-1")
        assert left.is_open and left.lease_until < session.operations.now() and left.message == "the source does not answer"


def _begin(argument):
    url, number = argument
    with open_registry(url, create=True) as registry:
        try:
            with registry.write() as session:
                session.operations.begin(migration("op-%d" % number, run="run-%d" % number), 60)
            return "begun"
        except ControllerError as error:
            return error.code


def _take_over(argument):
    url, number, found = argument
    with open_registry(url, create=True) as registry:
        try:
            with registry.write() as session:
                session.operations.take_over(found, "run-%d" % number, BOB, 60)
            return "taken"
        except ControllerError as error:
            return error.code


def test_of_many_that_begin_at_once_one_gets_the_vm(registry_url, registry, at_once):
    answers = at_once(_begin, [(registry_url, number) for number in range(6)])
    assert sorted(answers) == ["begun"] + ["vm_in_use"] * 5


def test_of_many_that_take_over_at_once_one_gets_it(registry_url, registry, at_once):
    """All have read the same before the first writes."""
    found = begun(registry, lease=-1)
    answers = at_once(_take_over, [(registry_url, number, found) for number in range(10, 16)])
    assert sorted(answers) == ["lease_lost"] * 5 + ["taken"]


def test_the_journal_forgets_old_ends_only(registry):
    with registry.write() as session:
        session.operations.begin(migration(), 60)
        session.operations.end(migration(), "done")
        session.operations.begin(migration("op-2"), -60)
        assert session.operations.forget_older(30) == 0
        assert session.operations.forget_older(-1) == 1
        assert [record.id for record in session.operations.listed(open_only=False)] == ["op-2"]


def test_a_registry_of_version_1_gets_the_same_table_as_a_new_one(registry_url, registry):
    def shape():
        inspector = sqlalchemy.inspect(registry._connection)
        columns = {column["name"]: (str(column["type"]), column["nullable"]) for column in inspector.get_columns("operations")}
        indexes = {index["name"]: (index["column_names"], bool(index["unique"])) for index in inspector.get_indexes("operations")}
        registry._connection.rollback()
        return columns, indexes

    new = shape()
    with registry._connection.begin():
        registry._connection.execute(sqlalchemy.text("DROP TABLE operations"))
        registry._connection.execute(tables().version.update().values(version=1))
    registry.bring_up_to_date()
    assert registry.found_version() == 2 and sorted(migrations.MIGRATIONS) == [2]
    assert shape() == new
    begun(registry)
    assert refused(registry, lambda operations: operations.begin(migration("op-2"), 60)).code == "vm_in_use"


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs Linux's /proc")
def test_a_process_that_ended_is_known_to_be_gone():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    machine, started = processes.machine_id(), processes.started_at(child.pid)
    try:
        assert not processes.is_gone(machine, child.pid, started)
        # The same number, begun at another time, is another process.
        assert processes.is_gone(machine, child.pid, started + 1)
    finally:
        child.kill()
        child.wait()
    assert processes.is_gone(machine, child.pid, started)
    # On another machine, or where nothing is known, silence proves nothing.
    assert not processes.is_gone("other boot", child.pid, started)
    assert not processes.is_gone("", child.pid, started)
    assert not processes.is_gone(machine, child.pid, 0)
