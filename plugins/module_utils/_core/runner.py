# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Every item is tried; what failed is told item by item."""

import os
import traceback
from dataclasses import dataclass, field
from typing import Any, Callable, Iterable, Mapping, Sequence

from .change import Change
from .connection import libvirt_failure
from .deps import libvirt
from .errors import TrustedVMError

Item = Mapping[str, Any]


@dataclass
class Outcome:
    """What a module returns: one entry per item, in the order of the items."""

    results: list[dict[str, Any]] = field(default_factory=list)
    diffs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        return any(result.get("changed") for result in self.results)

    @property
    def failures(self) -> list[dict[str, Any]]:
        return [result for result in self.results if result.get("failed")]

    def message(self) -> str:
        """One line for the failed task: the first cause, and how many there are."""
        first = self.failures[0]["msg"]
        if len(self.results) == 1:
            return str(first)
        return "%d of %d items failed; the first: %s" % (
            len(self.failures),
            len(self.results),
            first,
        )


def converge_items(
    items: Sequence[Item],
    plan: Callable[[Item], Change],
    subject: Callable[[Item], Mapping[str, Any]],
    host: str,
    check_mode: bool = False,
) -> Outcome:
    """Plan each item and, outside check mode, apply it; go on past failures.

    Args:
        items: complete items (defaults merged).
        plan: reads and compares, changes nothing; called in check mode too.
        subject: the identifying fields of an item, for results of items that could not be planned.
        host: named in every error.
    """
    outcome = Outcome()
    for item in items:
        result, diff = _converge(item, plan, subject, host, check_mode)
        outcome.results.append(result)
        if diff is not None:
            outcome.diffs.append(diff)
    return outcome


def _converge(item, plan, subject, host, check_mode):  # type: ignore[no-untyped-def]
    change = None
    try:
        change = plan(item)
        if not check_mode:
            change.apply()
        return change.result(), change.diff()
    # Whatever it is: the results of the items before it must not be lost.
    except Exception as error:
        failure = failure_of(error, "working on this item")
    if change is None:
        return failed_result(subject(item), failure, host), None
    result = failed_result(change.subject, failure, host)
    result["changed"] = change.left_changed
    if "undo_failed" in change.details:
        result["undo_failed"] = change.details["undo_failed"]
    return result, None


def failure_of(error: Exception, doing: str) -> TrustedVMError:
    """Any exception as ours.

    Args:
        doing: what was tried, for libvirt's errors.
    """
    if isinstance(error, TrustedVMError):
        return error
    if isinstance(error, OSError):
        return host_file_failure(error)
    if libvirt is not None and isinstance(error, libvirt.libvirtError):
        return libvirt_failure(error, doing)
    return _internal_failure(error)


def _internal_failure(error: Exception) -> TrustedVMError:
    """A mistake of ours. Says where, without a traceback, whose lines could show what an item holds."""
    frames = traceback.extract_tb(error.__traceback__)
    place = " (%s, line %s)" % (os.path.basename(frames[-1].filename), frames[-1].lineno) if frames else ""
    return TrustedVMError(
        "internal_error",
        "The module met something that it does not know how to handle",
        found="%s: %s%s" % (type(error).__name__, error, place),
        hint="Report this with the options that lead to it, without keys",
    )


def host_file_failure(error: OSError) -> TrustedVMError:
    """What the operating system refused, with its own words and the path."""
    return TrustedVMError(
        "host_file_error",
        "The host refused access to a file: %s" % error,
        hint="See the file's owner, its mode and the free space on the host; the module usually runs as root",
    )


def failed_result(subject: Mapping[str, Any], error: TrustedVMError, host: str) -> dict[str, Any]:
    """The result of an item that failed: VM, host, what was found and wanted, what to do."""
    fields = error.as_result()
    name = describe_subject(subject)
    fields["msg"] = "%s on host %s: %s" % (name, host, fields["msg"]) if name else (
        "On host %s: %s" % (host, fields["msg"])
    )
    return {**subject, **fields, "changed": False, "failed": True, "outcome": "failed"}


def describe_subject(subject: Mapping[str, Any]) -> str:
    """``vm web1, uuid 1234…``: the identifying fields that have a value."""
    return ", ".join("%s %s" % (key, value) for key, value in subject.items() if value)


def refuse_duplicates(items: Iterable[Item], identity: Callable[[Item], Any]) -> None:
    """Two items for one object would each be planned on what is there before the other.

    Raises:
        TrustedVMError: ``duplicate_item``.
    """
    seen = set()
    for item in items:
        key = identity(item)
        if key in seen:
            raise TrustedVMError(
                "duplicate_item",
                "The list names %s twice" % (key,),
                hint="Give each object one item",
            )
        seen.add(key)
