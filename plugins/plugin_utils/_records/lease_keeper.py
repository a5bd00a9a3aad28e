# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds the VMs of a run while one long task of it works."""
from __future__ import annotations

import threading
from typing import Any, Optional

from .._core.errors import ControllerError
from .._registry.engine import open_registry

# A lease is renewed often enough that two renewals may fail before it ends.
RENEWALS_PER_LEASE = 3


def lease_seconds(value: Any) -> int:
    """A lease as an option says it.

    Raises:
        ControllerError: ``invalid_options``: a lease of no length holds nothing, and would be renewed without a pause.
    """
    try:
        seconds = int(value)
    except (TypeError, ValueError):
        seconds = 0
    if seconds < 1:
        raise ControllerError("invalid_options", "A lease cannot be that long", found=repr(value), wanted="a number of seconds, 1 or more")
    return seconds


class LeaseKeeper:
    """A thread that renews the leases of one run until the ``with`` block ends.

    A registry that does not answer for a while is no reason to disturb a migration: the lease is there for that time.

    Attributes:
        problem: what speaks against going on with these VMs after the task; None if all is well.
    """

    def __init__(self, registry_url: str, run: str, lease_seconds: int) -> None:
        self._registry_url = registry_url
        self._run_name = run
        self._lease = lease_seconds
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._work, name="lease", daemon=True)
        self.problem: Optional[ControllerError] = None

    def __enter__(self) -> LeaseKeeper:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._done.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._done.wait(self._lease / RENEWALS_PER_LEASE):
            try:
                self._renew()
                self.problem = None
            except ControllerError as error:
                self.problem = error
                if error.code == "lease_lost":
                    return

    def _renew(self) -> None:
        # A connection of this thread's own, and no longer open than needed: SQLite has one writer at a time.
        with open_registry(self._registry_url, create=False) as registry, registry.write() as session:
            for record in session.operations.listed():
                if record.run == self._run_name:
                    session.operations.renew(record, self._lease)
