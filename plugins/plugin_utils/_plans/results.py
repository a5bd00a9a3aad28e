# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the `results` lists of modules: some items may have failed, or the task may not have been reached."""
from __future__ import annotations

from typing import Any, Mapping, Sequence

Result = Mapping[str, Any]


def succeeded(results: Sequence[Result] | None) -> list[Result]:
    return [result for result in results or () if not result.get("failed")]


def failed(results: Sequence[Result] | None) -> list[Result]:
    return [result for result in results or () if result.get("failed")]


def created(results: Sequence[Result] | None) -> list[Result]:
    """The items that did not exist before the task."""
    return [result for result in succeeded(results) if result.get("outcome") == "created"]


def place(result: Result) -> str:
    """Where vm_migrate's result says that a VM is: ``source``, ``destination``, ``both`` or ``unknown``.

    A VM that is off is where it is defined.
    """
    if not result.get("failed"):
        return "destination"
    runs = result.get("running_on") or "unknown"
    return str(result.get("defined_on") or "unknown") if runs == "neither" else str(runs)
