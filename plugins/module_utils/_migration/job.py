# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""One running ``migrateToURI3``: watched, and aborted when its time is over."""

import threading
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Mapping, Optional

from .._core.deps import libvirt
from .request import Request

POLL_SECONDS = 0.1

Progress = Callable[[Mapping[str, Any]], None]


@dataclass
class JobReport:
    """What was measured; times in seconds by this machine's clock.

    Attributes:
        setup_s: until the first byte of memory moved: both QEMUs made ready, TPM started there.
        transfer_s: from then until libvirt said that it is done.
        stats: libvirt's statistics of the completed job, from the destination.
    """

    setup_s: float = 0.0
    transfer_s: float = 0.0
    total_s: float = 0.0
    stats: Mapping[str, Any] = field(default_factory=dict)

    def timings(self, preflight_s: float) -> dict[str, Any]:
        return {
            "preflight_s": round(preflight_s, 3),
            "setup_s": round(self.setup_s, 3),
            "transfer_s": round(self.transfer_s, 3),
            "total_s": round(self.total_s, 3),
            "downtime_ms": self.stats.get("downtime"),
        }

    def bytes(self) -> dict[str, Any]:
        names = ("memory_total", "memory_processed", "memory_remaining", "disk_total", "disk_processed")
        return {name: self.stats.get(name) for name in names}


class MigrationJob:
    """Runs one migration in a thread of its own, because libvirt's call blocks to the end."""

    def __init__(self, domain: Any, request: Request, on_progress: Optional[Progress] = None) -> None:
        self._domain = domain
        self._request = request
        self._on_progress = on_progress
        self._memory_moves_at: Optional[float] = None
        self._error: Optional[BaseException] = None
        self.timed_out = False

    def run(self) -> JobReport:
        """Migrate and wait for the end.

        Raises:
            libvirtError: libvirt's, as it is. After our abort ``timed_out`` is set.
        """
        started = time.monotonic()
        thread = threading.Thread(target=self._migrate, name="migration", daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(POLL_SECONDS)
            self._watch()
            if self._request.timeout and time.monotonic() - started > self._request.timeout:
                self._abort()
        ended = time.monotonic()
        if self._error is not None:
            raise self._error
        moves_at = self._memory_moves_at or ended
        return JobReport(moves_at - started, ended - moves_at, ended - started)

    def _migrate(self) -> None:
        try:
            self._domain.migrateToURI3(
                self._request.destination_uri, self._request.parameters(), self._request.flags()
            )
        except BaseException as error:  # raised again in the waiting thread
            self._error = error

    def _watch(self) -> None:
        try:
            stats = self._domain.jobStats()
        except libvirt.libvirtError:
            # Between the phases, and at the end, there is no job to ask about.
            return
        if stats.get("memory_total") and self._memory_moves_at is None:
            self._memory_moves_at = time.monotonic()
        if self._on_progress is not None:
            self._on_progress(stats)

    def _abort(self) -> None:
        """Asked again at each turn: libvirt refuses while the destination is still being prepared."""
        try:
            self._domain.abortJob()
            self.timed_out = True
        except libvirt.libvirtError:
            pass


def completed_stats(domain: Any) -> dict[str, Any]:
    """Statistics of the job that brought a VM here; {} where libvirt has none.

    The destination has them in all cases; the source only while the VM stays defined there.
    """
    flags = libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED | libvirt.VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED
    try:
        return dict(domain.jobStats(flags))
    except libvirt.libvirtError:
        return {}
