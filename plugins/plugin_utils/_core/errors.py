# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one exception that leaves the controller-side classes.

The host side has its own of the same shape: the two sides never import each other.
"""
from __future__ import annotations

from typing import Any, Mapping, Optional


class ControllerError(Exception):
    """What went wrong, in the parts that a person needs to act on it.

    Args:
        code: stable snake_case name, for scripts and tests (``key_ring_damaged``).
        message: one sentence that names the object it is about, without a final period.
        found: what was there.
        wanted: what should have been there.
        hint: what to do next, an imperative sentence without a final period.
        details: more fields for the result of the item; never key material.
    """

    def __init__(
        self,
        code: str,
        message: str,
        found: Optional[str] = None,
        wanted: Optional[str] = None,
        hint: Optional[str] = None,
        details: Optional[Mapping[str, Any]] = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.found = found
        self.wanted = wanted
        self.hint = hint
        self.details = dict(details or {})

    def __str__(self) -> str:
        parts = [self.message]
        if self.found is not None:
            parts.append("Found: %s" % self.found)
        if self.wanted is not None:
            parts.append("Wanted: %s" % self.wanted)
        if self.hint is not None:
            parts.append("What to do: %s" % self.hint)
        return ". ".join(part.rstrip(".") for part in parts) + "."

    def as_result(self) -> dict[str, Any]:
        """The fields of an item's result: ``error_code``, ``msg`` and the details."""
        return {**self.details, "error_code": self.code, "msg": str(self)}
