# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""The object that describes a change.

Check mode, diff, results and messages are all read from it, so that they cannot disagree.
"""

from dataclasses import dataclass, field
from typing import Any, Callable, Mapping, Optional

UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Step:
    """One thing that applying a change does.

    Attributes:
        what: for the result's ``steps``, as "define secret"; same words in check mode.
        do: does it; may raise TrustedVMError or libvirtError.
        counts: False for work that leaves nothing different (a value written again because
            it cannot be read back), which is not reported as a change.
    """

    what: str
    do: Callable[[], None]
    counts: bool = True


@dataclass
class Change:
    """From what one item is to what it should be.

    Attributes:
        subject: the fields that identify the item in ``results`` (vm, uuid, path…).
        before: the state found; an empty mapping is "absent". No key material.
        after: the state wanted, predicted exactly.
        outcome: one word for what happens: created, updated, removed…
        idle_outcome: the word when there is nothing to do: unchanged, or kept where something
            was left alone on purpose.
        steps: what to do, in order; later steps may rely on earlier ones.
        details: more fields of the item's result; steps may fill them while they run.
        undo: for a step that fails: puts back what the earlier steps made, best effort.
        left_changed: after a failed ``apply``: something was done and not undone.
    """

    subject: Mapping[str, Any]
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)
    outcome: str = "updated"
    idle_outcome: str = UNCHANGED
    steps: list[Step] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    undo: Optional[Callable[[], None]] = None
    left_changed: bool = field(default=False, init=False)

    @property
    def changed(self) -> bool:
        """Whether applying this leaves the item different."""
        return any(step.counts for step in self.steps)

    def apply(self) -> None:
        """Run the steps; on a failure undo what was done and let the first error through.

        Afterwards ``left_changed`` says whether something is different from before.
        """
        try:
            for step in self.steps:
                step.do()
                self.left_changed = self.left_changed or step.counts
        except Exception:
            self._undo_quietly()
            raise

    def _undo_quietly(self) -> None:
        if self.undo is None:
            return
        try:
            self.undo()
            self.left_changed = False
        except Exception as error:  # the first error is the one to report (requirement M4)
            self.left_changed = True
            self.details["undo_failed"] = str(error)

    def result(self) -> dict[str, Any]:
        """The item's entry in ``results``."""
        return {
            **self.subject,
            **self.details,
            "changed": self.changed,
            "outcome": self.outcome if self.changed else self.idle_outcome,
            "steps": [step.what for step in self.steps if step.counts],
        }

    def diff(self) -> dict[str, Any]:
        """Ansible's diff of this item."""
        title = " ".join(str(value) for value in self.subject.values() if value)
        return {
            "before_header": title,
            "after_header": title,
            "before": dict(self.before),
            "after": dict(self.after),
        }
