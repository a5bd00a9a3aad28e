# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plan every item on one snapshot, apply what changes in one transaction; what failed is told item by item."""
from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Callable, Iterable, Mapping, Optional, Sequence, Union

from .._core.change import Change
from .._core.errors import ControllerError
from .._registry.engine import Registry, Session

Item = Mapping[str, Any]
Planner = Callable[[Item], Change]
Planned = Union[Change, ControllerError]


@dataclass
class Outcome:
    """What an action returns: one entry per item, in the order of the items."""

    results: list[dict[str, Any]] = field(default_factory=list)
    diffs: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def failures(self) -> list[dict[str, Any]]:
        return [result for result in self.results if result.get("failed")]

    def message(self) -> str:
        first = str(self.failures[0]["msg"])
        if len(self.results) == 1:
            return first
        return "%d of %d items failed; the first: %s" % (len(self.failures), len(self.results), first)

    def as_result(self) -> dict[str, Any]:
        """The task's result; fails if any item did, with the first one's error code."""
        result: dict[str, Any] = {
            "results": self.results,
            "changed": any(entry["changed"] for entry in self.results),
            "diff": self.diffs,
        }
        if self.warnings:
            result["warnings"] = self.warnings
        if self.failures:
            result.update(failed=True, msg=self.message(), error_code=self.failures[0]["error_code"])
        return result


def converge(
    registry: Registry,
    items: Sequence[Item],
    make_planner: Callable[[Session], Planner],
    subject: Callable[[Item], Mapping[str, Any]],
    check_mode: bool,
) -> Outcome:
    """Bring all items into their wanted states.

    Args:
        make_planner: gets the snapshot, reads at once what all items need, and returns the planner of one item.
        subject: the identifying fields of an item, for results of items that could not be planned.
    """
    with registry.read() as session:
        planner = make_planner(session)
        planned = [attempt(partial(planner, item)) for item in items]
    if not check_mode:
        planned = [attempt(partial(_prepared, change)) for change in planned]
        if any(isinstance(change, Change) and change.changed for change in planned):
            with registry.write() as session:
                planned = [attempt(partial(_applied, change, session)) for change in planned]
    return collect(items, planned, subject)


def attempt(action: Callable[[], Any]) -> Any:
    """What the action returns, or the error that it ended with: the other items go on."""
    try:
        return action()
    except ControllerError as error:
        return error


def collect(
    items: Sequence[Item], planned: Sequence[Planned], subject: Callable[[Item], Mapping[str, Any]]
) -> Outcome:
    outcome = Outcome()
    for item, change in zip(items, planned):
        if isinstance(change, ControllerError):
            outcome.results.append(failed_result(subject(item), change))
        else:
            outcome.results.append(change.result())
            outcome.diffs.append(change.diff())
            outcome.warnings += change.warnings
    return outcome


def failed_result(subject: Mapping[str, Any], error: ControllerError) -> dict[str, Any]:
    fields = error.as_result()
    name = ", ".join("%s %s" % (key, value) for key, value in subject.items() if value)
    if name:
        fields["msg"] = "%s: %s" % (name, fields["msg"])
    return {**subject, **fields, "changed": False, "failed": True, "outcome": "failed"}


def refuse_duplicates(items: Iterable[Item], identity: Callable[[Item], Any]) -> None:
    """Two items for one record would each be planned on what is there before the other.

    Raises:
        ControllerError: ``duplicate_item``.
    """
    seen = set()
    for item in items:
        key = identity(item)
        if key in seen:
            raise ControllerError(
                "duplicate_item", "The list names %s twice" % (key,), hint="Give each record one item"
            )
        seen.add(key)


def _prepared(change: Planned) -> Planned:
    """Slow work before the transaction begins: a database must not wait for a key manager."""
    if isinstance(change, Change) and change.changed and change.prepare is not None:
        change.prepare()
    return change


def _applied(change: Planned, session: Session) -> Planned:
    if isinstance(change, Change) and change.apply is not None:
        with session.item():
            change.apply(session)
    return change


def given(item: Item, *names: str) -> dict[str, Any]:
    """The named options that the item sets."""
    return {name: item[name] for name in names if item.get(name) is not None}


def first_set(*values: Optional[Any]) -> Any:
    """The first value that is not None."""
    return next((value for value in values if value is not None), None)
