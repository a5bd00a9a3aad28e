# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A journalled run on one VM, as a plain value."""
from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Mapping, Optional


@dataclass(frozen=True)
class Holder:
    """The process that works on the VM: enough to tell later, on its own machine, whether it still lives.

    Attributes:
        machine: boot id and PID namespace; two processes can be compared only where this is the same. Empty if unknown.
        started: when the process began, in clock ticks since boot: process numbers are used again.
    """

    user: str
    host: str
    pid: int
    machine: str = ""
    started: int = 0

    def __str__(self) -> str:
        return "%s@%s (process %d)" % (self.user, self.host, self.pid)


@dataclass(frozen=True)
class OperationRecord:
    """One row of the journal; times are the registry's own clock.

    Attributes:
        run: which run of a role holds it; only that run may write to it.
        phase: how far the run is.
        facts: what finishing or undoing needs to know: hosts, what was there before. Nothing secret.
        outcome: how it ended; None while it is open.
    """

    id: str
    kind: str
    vm_uuid: str
    vm_name: str
    run: str
    holder: Holder
    phase: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    started_at: Optional[datetime] = None
    lease_until: Optional[datetime] = None
    ended_at: Optional[datetime] = None
    outcome: Optional[str] = None
    message: Optional[str] = None

    @property
    def is_open(self) -> bool:
        return self.ended_at is None
