# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every item is tried; every kind of failure becomes an entry, never a traceback."""
from __future__ import annotations

import pytest

libvirt = pytest.importorskip("libvirt")

from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.change import Change, Step
from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.errors import TrustedVMError
from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.runner import converge_items, refuse_duplicates


def libvirt_error():
    error = libvirt.libvirtError("no")
    error.err = (libvirt.VIR_ERR_OPERATION_INVALID, 0, "domain is not running", 2, None, None, None, -1, -1)
    return error


FAILURES = {
    "ours": (TrustedVMError("vm_running", "The VM runs", found="running", wanted="off", hint="Stop it"), "vm_running"),
    "libvirt": (libvirt_error(), "libvirt_error"),
    "host": (PermissionError(13, "Permission denied", "/etc/libvirt"), "host_file_error"),
    "a mistake of ours": (ValueError("what lxml says of a control character"), "internal_error"),
}


def plan(item):
    if item["at"] == "plan":
        raise FAILURES[item["fails"]][0]

    def do():
        if item["at"] == "step":
            raise FAILURES[item["fails"]][0]

    return Change({"vm": item["vm"], "uuid": "u"}, outcome="updated", steps=[Step("work", do)])


def run(*items, check_mode=False):
    return converge_items(items, plan, lambda item: {"vm": item["vm"]}, "kvm1", check_mode)


@pytest.mark.parametrize("at", ["plan", "step"])
@pytest.mark.parametrize("kind", sorted(FAILURES))
def test_all_items_are_tried_and_the_failure_is_told(kind, at):
    outcome = run({"vm": "a", "at": at, "fails": kind}, {"vm": "b", "at": None})
    failed, good = outcome.results
    assert (failed["failed"], failed["error_code"], failed["changed"], failed["outcome"]) == (True, FAILURES[kind][1], False, "failed")
    assert "vm a" in failed["msg"] and "on host kvm1" in failed["msg"]
    assert good["changed"] is True and "failed" not in good
    assert outcome.changed
    assert outcome.message().startswith("1 of 2 items failed; the first: ")


def test_message_says_found_wanted_and_what_to_do():
    message = run({"vm": "a", "at": "plan", "fails": "ours"}).message()
    assert message == "vm a on host kvm1: The VM runs. Found: running. Wanted: off. What to do: Stop it."


def test_check_mode_plans_and_does_nothing():
    outcome = run({"vm": "a", "at": "step", "fails": "ours"}, check_mode=True)
    assert outcome.results == [{"vm": "a", "uuid": "u", "changed": True, "outcome": "updated", "steps": ["work"]}]


def test_mistake_of_ours_says_what_and_where_without_a_traceback():
    failed = run({"vm": "a", "at": "step", "fails": "nothing of this name"}).results[0]
    assert failed["error_code"] == "internal_error"
    assert "KeyError: 'nothing of this name' (test_runner.py, line " in failed["msg"]
    assert "Traceback" not in repr(failed) and "raise FAILURES" not in repr(failed)


def test_mistake_of_ours_does_not_lose_what_was_done_before():
    good, failed, other = run({"vm": "a", "at": None}, {"vm": "b", "at": "step", "fails": "a mistake of ours"}, {"vm": "c", "at": None}).results
    assert (good["changed"], failed["changed"], other["changed"]) == (True, False, True)


def test_duplicates_are_refused():
    refuse_duplicates([{"vm": "a"}, {"vm": "b"}], lambda item: item["vm"])
    with pytest.raises(TrustedVMError) as caught:
        refuse_duplicates([{"vm": "a"}, {"vm": "a"}], lambda item: item["vm"])
    assert caught.value.code == "duplicate_item"
