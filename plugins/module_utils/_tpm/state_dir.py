# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Where a VM's TPM state is on this host, and what may be done with it there."""

import os
import re
import shutil
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Callable, Optional

from .._core.errors import TrustedVMError
from .._core.files import sync_directory
from .._core.host_paths import HostPaths
from . import linear_file
from .device import TpmSource, TpmSpec

PRESENT = "present"
EMPTY = "empty"
ABSENT = "absent"

_SUBDIRECTORY = {"2.0": "tpm2", "1.2": "tpm1.2"}
_STATE_FILE = {"2.0": "tpm2-00.permall", "1.2": "tpm-00.permall"}
_LOCK_FILE = ".lock"
# A TPM 2.0 state has some 10 KiB, with all NV space used some 200 KiB.
_MOST_BYTES = 16 * 1024 * 1024

_ASIDE_MARK = ".trustedvm-"
_ASIDE_NAME = re.compile(r"\.trustedvm-(?P<reason>[a-z]+)-(?P<stamp>\d{8}T\d{12}Z)$")


@dataclass(frozen=True)
class StateLocation:
    """Where one VM's TPM state is, or would be.

    Attributes:
        kind: ``dir`` (swtpm's files in a directory) or ``file`` (its linear store).
        path: that directory or file.
        container: what goes when the state goes: for libvirt's own place the directory named
            after the VM, because libvirt makes and deletes it together with the state.
    """

    vm_uuid: str
    kind: str
    path: str
    container: str
    version: str = "2.0"

    @property
    def state_file(self) -> str:
        return self.path if self.kind == "file" else os.path.join(self.path, _STATE_FILE[self.version])


@dataclass(frozen=True)
class AsideCopy:
    """A state that was put aside next to its place, under a name that libvirt does not know."""

    path: str
    reason: str
    made_at: str


def locate(paths: HostPaths, vm_uuid: str, spec: Optional[TpmSpec] = None) -> StateLocation:
    """Where the state of a VM is: the device's ``<source>``, else libvirt's own place."""
    version = spec.version if spec is not None and spec.version in _SUBDIRECTORY else "2.0"
    source: Optional[TpmSource] = spec.source if spec is not None else None
    if source is not None:
        path = source.path.rstrip("/")
        return StateLocation(vm_uuid, source.kind, path, path, version)
    container = os.path.join(paths.tpm_states, vm_uuid)
    return StateLocation(vm_uuid, "dir", os.path.join(container, _SUBDIRECTORY[version]), container, version)


class TpmState:
    """The TPM state at one location. Only :meth:`set_aside`, :meth:`restore` and the removals write."""

    def __init__(self, location: StateLocation) -> None:
        self.location = location

    def status(self) -> str:
        """``present``, ``empty`` (the place is there, a state is not) or ``absent``."""
        if not os.path.lexists(self.location.path):
            return ABSENT
        return EMPTY if self._read_once() is None else PRESENT

    def read(self) -> Optional[bytes]:
        """The state blob, None where there is none; stable also while swtpm writes it.

        Raises:
            TrustedVMError: ``tpm_state_busy``, ``tpm_state_unreadable``, ``tpm_state_damaged``.
        """
        # swtpm replaces the file of a directory store by a rename, but writes a linear store in place.
        return read_stable(self._read_once, pause=0.02 if self.location.kind == "file" else 0.0)

    def _read_once(self) -> Optional[bytes]:
        try:
            data = _read_file(self.location.state_file)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise TrustedVMError(
                "tpm_state_unreadable",
                "The TPM state at %s cannot be read: %s" % (self.location.state_file, error.strerror),
                hint="Run the task as root (become: true)",
            ) from error
        return linear_file.permanent_state(data) if self.location.kind == "file" else (data or None)

    def changed_at(self) -> Optional[str]:
        """When the state was last written, UTC, ISO 8601; None where there is none."""
        try:
            seconds = os.stat(self.location.state_file).st_mtime
        except FileNotFoundError:
            return None
        return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")

    def set_aside(self, reason: str) -> AsideCopy:
        """Rename the state to a name next to its place; owner, mode and label stay.

        It must not stay inside the VM's directory: libvirt deletes that as a whole with the TPM state.
        """
        stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S%fZ")
        aside = "%s%s%s-%s" % (self.location.container, _ASIDE_MARK, reason, stamp)
        os.rename(self.location.container, aside)
        sync_directory(os.path.dirname(aside))
        return AsideCopy(aside, reason, stamp)

    def restore(self, aside: AsideCopy) -> None:
        """Undo :meth:`set_aside`; refuses to replace a state that has appeared since."""
        if os.path.lexists(self.location.container):
            raise TrustedVMError(
                "tpm_state_in_the_way",
                "The set-aside TPM state %s cannot be put back" % aside.path,
                found="%s exists" % self.location.container,
                hint="Decide which of the two is the VM's state and rename it by hand",
            )
        os.rename(aside.path, self.location.container)
        sync_directory(os.path.dirname(aside.path))

    def aside_copies(self) -> list[AsideCopy]:
        """The set-aside copies of this VM's state, oldest first."""
        directory, name = os.path.split(self.location.container)
        try:
            entries = os.listdir(directory)
        except FileNotFoundError:
            return []
        copies = []
        for entry in entries:
            match = _ASIDE_NAME.match(entry[len(name) :]) if entry.startswith(name) else None
            if match:
                copies.append(AsideCopy(os.path.join(directory, entry), match["reason"], match["stamp"]))
        return sorted(copies, key=lambda copy: copy.made_at)

    def remove(self) -> None:
        """Delete the state for good. Removing what is not there is no error."""
        _delete(self.location.container)

    @staticmethod
    def remove_aside(copy: AsideCopy) -> None:
        """Delete one set-aside copy for good."""
        _delete(copy.path)

    def has_only_leftovers(self) -> bool:
        """Whether an ``empty`` place holds nothing but a lock file, so that removing it loses nothing."""
        return self.location.kind == "file" or set(self.names()) <= {_LOCK_FILE}

    def names(self) -> list[str]:
        """The files in a directory store, sorted."""
        try:
            return sorted(os.listdir(self.location.path))
        except FileNotFoundError:
            return []


def read_stable(read: Callable[[], Optional[bytes]], tries: int = 20, pause: float = 0.02) -> Optional[bytes]:
    """Read until two reads in a row are equal.

    Args:
        tries: reads at most.
        pause: seconds between two reads.

    Raises:
        TrustedVMError: ``tpm_state_busy``.
    """
    previous = read()
    for _try in range(tries - 1):
        time.sleep(pause)
        current = read()
        if current == previous:
            return current
        previous = current
    raise TrustedVMError(
        "tpm_state_busy",
        "The TPM state is being written all the time, so it cannot be read as a whole",
        found="%d reads, no two in a row equal" % tries,
        hint="Try again, or stop the VM first",
    )


def _read_file(path: str) -> bytes:
    # The directory belongs to the TPM's user, who must not lead root elsewhere with a link.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read(_MOST_BYTES)


def _delete(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)
