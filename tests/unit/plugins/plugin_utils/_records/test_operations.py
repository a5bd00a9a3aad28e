# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From options to the journal: a run takes VMs, says how far it is, ends or leaves them, and another goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("cryptography")

from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._core import holder as processes
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._core.errors import ControllerError
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._records.lease_keeper import LeaseKeeper, lease_seconds
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._records.operations import read_operations
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._registry.operation_records import Holder
from ansible_collections.trustedvm.libvirt.tests.unit.plugins.plugin_utils.controllers import OTHER, VM, one, predicted_and_done

RUN = {"vm": VM, "run": "run-1", "facts": {"source": "kvm1"}}


def listed(controller, unfinished_only=False):
    return controller.info(read_operations, None, True, unfinished_only)["operations"]


def test_open_note_close(ready):
    opened = one(predicted_and_done(ready.operations, RUN))
    assert (opened["outcome"], opened["operation"]["phase"], opened["operation"]["holder"]) == ("opened", "begun", "alice@ctl (process 4711)")
    noted = one(ready.operations({**RUN, "state": "renewed", "phase": "moving", "facts": {"made": ["secret"]}}))
    assert noted["operation"]["facts"] == {"source": "kvm1", "made": ["secret"]} and noted["operation"]["phase"] == "moving"
    (found,) = listed(ready)
    assert found["open"] and not found["unfinished"] and found["phase"] == "moving"
    closed = one(predicted_and_done(ready.operations, {**RUN, "state": "closed", "outcome": "failed", "message": "no space"}))
    assert (closed["outcome"], closed["operation"]["outcome_of_operation"], closed["operation"]["message"]) == ("closed", "failed", "no space")
    assert listed(ready) == []
    assert one(ready.operations(RUN))["error_code"] == "lease_lost", "a run that has ended does not begin again"


def test_another_run_is_refused_in_check_mode_too(ready):
    ready.operations(RUN)
    for check_mode in (True, False):
        refused = one(ready.operations({**RUN, "run": "run-2"}, check_mode=check_mode))
        assert (refused["error_code"], refused["run"]) == ("vm_in_use", "run-1")
        for state in ("renewed", "closed", "released"):
            assert one(ready.operations({**RUN, "run": "run-2", "state": state}, check_mode=check_mode))["error_code"] == "lease_lost"
        assert one(ready.operations({**RUN, "run": "run-2", "state": "taken_over"}, check_mode=check_mode))["error_code"] == "vm_in_use"


def test_two_runs_that_planned_on_the_same_snapshot(ready):
    """The second to write is refused by the database, not by what it read."""
    outcome = ready.operations({**RUN, "run": "run-2"}, meanwhile=lambda: ready.operations(RUN))
    assert one(outcome)["error_code"] == "vm_in_use"
    assert [found["run"] for found in listed(ready)] == ["run-1"]


def test_one_vm_in_use_does_not_stop_the_others(ready):
    ready.vms({"uuid": OTHER, "name": "web2", "host": "kvm1"})
    ready.operations(RUN)
    mine, other = ready.operations({**RUN, "run": "run-2"}, {"vm": "web2", "run": "run-2"}).results
    assert mine["error_code"] == "vm_in_use" and other["outcome"] == "opened"


def test_what_was_released_is_finished_by_another_run(ready):
    ready.operations(RUN)
    ready.operations({**RUN, "state": "released", "message": "the source does not answer"})
    assert one(ready.operations({**RUN, "run": "run-2"}))["error_code"] == "operation_unfinished"
    assert [found["message"] for found in listed(ready, unfinished_only=True)] == ["the source does not answer"]
    taken = one(ready.operations({**RUN, "run": "run-3", "state": "taken_over"}))
    assert taken["outcome"] == "taken_over" and taken["operation"]["facts"] == {"source": "kvm1"}
    assert listed(ready, unfinished_only=True) == []
    assert one(ready.operations({**RUN, "state": "closed"}))["error_code"] == "lease_lost"
    assert one(ready.operations({**RUN, "run": "run-3", "state": "closed", "outcome": "undone"}))["outcome"] == "closed"
    assert one(ready.operations({**RUN, "run": "run-4", "state": "taken_over"}))["outcome"] == "not_open"


def test_a_lease_that_ran_out_is_unfinished(ready):
    ready.operations({**RUN, "lease": -1})
    assert [found["unfinished"] for found in listed(ready)] == [True]


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs Linux's /proc")
def test_a_run_whose_process_was_killed_is_unfinished_at_once(ready):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    holder = Holder("alice", "ctl", child.pid, processes.machine_id(), processes.started_at(child.pid))
    ready.operations(RUN, holder=holder)
    assert [found["unfinished"] for found in listed(ready)] == [False]
    child.kill()
    child.wait()
    assert [found["unfinished"] for found in listed(ready)] == [True]
    assert one(ready.operations({**RUN, "run": "run-2"}))["error_code"] == "operation_unfinished"


def test_the_vm_must_still_be_where_the_run_found_it(ready):
    record = ready.record()
    expect = {"host": record["host"], "generation": record["generation"]}
    ready.vms({"uuid": VM, "vm_state": "stopped"})
    assert one(ready.operations({**RUN, "expect": expect}))["error_code"] == "vm_record_conflict"
    assert listed(ready) == []


def test_moved_between_plan_and_lease(ready):
    record = ready.record()
    expect = {"host": record["host"], "generation": record["generation"]}
    outcome = ready.operations({**RUN, "expect": expect}, meanwhile=lambda: ready.vms({"uuid": VM, "vm_state": "stopped"}))
    assert one(outcome)["error_code"] == "vm_record_conflict"
    assert listed(ready) == []


def wait_until(probe, seconds=20):
    deadline = time.monotonic() + seconds
    while not probe():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_lease_is_renewed_while_a_task_works(ready):
    ready.operations({**RUN, "lease": 2})
    first = listed(ready)[0]["lease_until"]
    with LeaseKeeper(ready.url, RUN["run"], 2) as keeper:
        time.sleep(3)
        (found,) = listed(ready)
    assert not found["unfinished"] and found["lease_until"] > first and keeper.problem is None
    wait_until(lambda: listed(ready)[0]["unfinished"])


def test_a_keeper_whose_vm_was_taken_over_stops_without_a_word_to_the_vm(ready):
    ready.operations({**RUN, "lease": -1})
    ready.operations({**RUN, "run": "run-2", "state": "taken_over"})
    before = listed(ready)
    with LeaseKeeper(ready.url, RUN["run"], 1) as keeper:
        time.sleep(0.8)
    assert keeper.problem is None, "it renews what its run has, which is nothing"
    assert listed(ready) == before and before[0]["run"] == "run-2", "another run's lease is neither longer nor shorter for it"


@pytest.mark.parametrize("value", [0, -5, "soon", None, "", []])
def test_a_lease_that_holds_nothing_is_refused(value):
    with pytest.raises(ControllerError) as caught:
        lease_seconds(value)
    assert caught.value.code == "invalid_options" and repr(value) in str(caught.value)
    assert lease_seconds("300") == 300


def test_a_registry_that_is_away_does_not_end_the_task(tmp_path):
    with LeaseKeeper("postgresql://nobody@127.0.0.1:1/none", "run-1", 1) as keeper:
        wait_until(lambda: keeper.problem is not None)
    assert keeper.problem.code == "registry_unavailable"
