# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Taking a TPM state away so that it can be put back until the step after it has succeeded."""

import fcntl
import os
import time
from typing import Optional

from .._core.errors import TrustedVMError
from .state_dir import EMPTY, PRESENT, AsideCopy, TpmState


def holds_something(state: TpmState) -> bool:
    """Whether removing this would lose anything: a state, or files that we do not know."""
    status = state.status()
    return status == PRESENT or (status == EMPTY and not state.has_only_leftovers())


class StateRemoval:
    """The steps that take a state away; remembers what it did so that :meth:`undo` can take it back."""

    def __init__(self, state: TpmState, reason: str) -> None:
        self._state = state
        self._reason = reason
        self._aside: Optional[AsideCopy] = None

    def set_aside(self) -> None:
        """Rename the state out of libvirt's way.

        Raises:
            TrustedVMError: ``tpm_state_in_use``.
        """
        refuse_locked(self._state)
        self._aside = self._state.set_aside(self._reason)

    def remove_leftovers(self) -> None:
        """Remove an empty place: libvirt 9.0 makes a TPM without an endorsement key from one (fixed in 9.6)."""
        refuse_locked(self._state)
        self._state.remove()

    def remove_copies(self) -> None:
        """Delete the set-aside state and those that earlier calls left."""
        for copy in self._state.aside_copies():
            self._state.remove_aside(copy)
        self._aside = None

    def undo(self) -> None:
        """Put the state back."""
        if self._aside is not None:
            self._state.restore(self._aside)
            self._aside = None


def refuse_locked_after_stop(state: TpmState, tries: int = 50, pause: float = 0.1) -> None:
    """As :func:`refuse_locked`, for a VM that was just stopped: its swtpm ends a moment after QEMU."""
    for _try in range(tries - 1):
        try:
            refuse_locked(state)
            return
        except TrustedVMError:
            time.sleep(pause)
    refuse_locked(state)


def refuse_locked(state: TpmState) -> None:
    """A running swtpm holds a POSIX lock in the directory, on NFS seen from other hosts too.

    Raises:
        TrustedVMError: ``tpm_state_in_use``.
    """
    path = state.location.path if state.location.kind == "file" else os.path.join(state.location.path, ".lock")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise TrustedVMError(
            "tpm_state_in_use",
            "The TPM state at %s is in use by a running swtpm" % state.location.path,
            hint="Stop the VM that uses it, on this host or on the one that shares this storage",
        ) from error
    finally:
        os.close(descriptor)
