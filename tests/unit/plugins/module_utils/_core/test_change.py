# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One object describes a change; results, diff and what was left behind are read from it."""
from __future__ import annotations

import pytest

from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.change import Change, Step
from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.errors import TrustedVMError


class Log:
    """Steps that write down that they ran, or fail."""

    def __init__(self):
        self.ran = []

    def step(self, name, fails=False, counts=True):
        def do():
            if fails:
                raise TrustedVMError("made_to_fail", "step %s fails" % name)
            self.ran.append(name)

        return Step(name, do, counts=counts)

    def undo(self):
        self.ran.append("undo")

    def undo_fails(self):
        raise RuntimeError("the undo fails too")


@pytest.fixture
def log():
    return Log()


def test_steps_run_in_order_and_are_reported(log):
    change = Change({"vm": "a"}, outcome="created", steps=[log.step("one"), log.step("two"), log.step("look", counts=False)])
    change.apply()
    assert log.ran == ["one", "two", "look"]
    assert change.result() == {"vm": "a", "changed": True, "outcome": "created", "steps": ["one", "two"]}
    assert change.left_changed


@pytest.mark.parametrize("steps", [[], [Step("written again", lambda: None, counts=False)]])
def test_nothing_that_counts_is_unchanged(steps):
    change = Change({"vm": "a"}, outcome="created", steps=steps)
    change.apply()
    assert change.result()["outcome"] == "unchanged"
    assert not change.changed and not change.left_changed


def test_left_alone_on_purpose_says_so():
    assert Change({}, idle_outcome="kept").result()["outcome"] == "kept"


def test_m4_failure_undoes_and_the_first_error_is_reported(log):
    change = Change({}, steps=[log.step("one"), log.step("two", fails=True), log.step("three")], undo=log.undo)
    with pytest.raises(TrustedVMError, match="step two fails"):
        change.apply()
    assert log.ran == ["one", "undo"]
    assert not change.left_changed


def test_m4_failing_undo_does_not_hide_the_first_error(log):
    change = Change({}, steps=[log.step("one"), log.step("two", fails=True)], undo=log.undo_fails)
    with pytest.raises(TrustedVMError, match="step two fails"):
        change.apply()
    assert change.left_changed
    assert change.details["undo_failed"] == "the undo fails too"


def test_without_undo_what_was_done_is_left(log):
    change = Change({}, steps=[log.step("one"), log.step("two", fails=True)])
    with pytest.raises(TrustedVMError):
        change.apply()
    assert change.left_changed


def test_diff_names_the_subject():
    diff = Change({"vm": "a", "uuid": None}, before={"x": 1}, after={"x": 2}).diff()
    assert diff == {"before_header": "a", "after_header": "a", "before": {"x": 1}, "after": {"x": 2}}
