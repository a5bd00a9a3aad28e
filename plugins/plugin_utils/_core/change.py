# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The object that describes a change of one record; check mode, diff, results and messages are read from it."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Mapping, Optional

UNCHANGED = "unchanged"


@dataclass
class Change:
    """From what one item is to what it should be.

    Attributes:
        subject: the fields that identify the item in ``results``.
        before: the state found; an empty mapping is "absent". No key material.
        after: the state wanted, predicted exactly.
        outcome: one word for what happens: created, updated, removed…; with nothing to
            apply it says why, and is ``unchanged`` if it says nothing.
        details: more fields of the item's result; ``apply`` may correct them while it runs.
        apply: does it within a transaction; None is "nothing to do". May raise ControllerError.
        prepare: what has to be done before the transaction begins, because it is slow.
        warnings: what the user should know although nothing failed.
    """

    subject: Mapping[str, Any]
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)
    outcome: str = UNCHANGED
    details: dict[str, Any] = field(default_factory=dict)
    apply: Optional[Callable[[Any], None]] = None
    prepare: Optional[Callable[[], None]] = None
    warnings: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        return self.apply is not None

    def drop(self, outcome: str = UNCHANGED) -> None:
        """Somebody else brought the item into the wanted state first."""
        self.apply = None
        self.outcome = outcome

    def result(self) -> dict[str, Any]:
        """The item's entry in ``results``."""
        return {**self.subject, **self.details, "changed": self.changed, "outcome": self.outcome}

    def diff(self) -> dict[str, Any]:
        """Ansible's diff of this item."""
        title = " ".join(str(value) for value in self.subject.values() if value)
        before = dict(self.before)
        return {
            "before_header": title,
            "after_header": title,
            "before": before,
            "after": dict(self.after) if self.changed else before,
        }
