# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""The files that hold a VM's NVRAM and TPM state, here and at the destination of a cold migration."""

import os
import stat
from dataclasses import dataclass, field, replace
from typing import Any, Optional

from .._core.deps import libvirt
from .._core.domains import definition
from .._core.errors import TrustedVMError
from .._domain.metadata import read_marks
from .._nvram.volume import READ_LIMIT
from .._tpm.linear_file import permanent_state
from .._tpm.state_blob import parse
from .._tpm.state_dir import StateLocation
from .machine import Machine
from .remote_files import INCOMING, RemoteDirectory, digest, incoming, remote_directory
from .sharing import Sharing, is_missing
from .survey import Survey

NVRAM = "nvram"
TPM_STATE = "tpm_state"
WORDS = {NVRAM: "NVRAM", TPM_STATE: "TPM state"}

_LOCK_FILE = ".lock"
# swtpm's files of one TPM together; see _tpm.state_dir.
_MOST_BYTES = READ_LIMIT


@dataclass(frozen=True)
class StateFile:
    """A file of the source.

    Attributes:
        there: the destination has an equal one.
        new_directory: the destination does not even have the directory.
    """

    kind: str
    path: str
    data: bytes = field(repr=False)
    there: bool = False
    new_directory: bool = False

    @property
    def directory(self) -> str:
        return os.path.dirname(self.path)

    @property
    def name(self) -> str:
        return os.path.basename(self.path)


def source_files(survey: Survey) -> list[StateFile]:
    """What is to be at the destination too; nothing of what both hosts share.

    Raises:
        TrustedVMError: ``nvram_missing``, ``tpm_state_missing``, ``state_unreadable``.
    """
    machine = survey.machine
    if machine is None:
        return []
    _refuse_missing(survey, machine)
    found = []
    if machine.nvram is not None and _is_apart(survey.nvram):
        found += _read(NVRAM, [machine.nvram])
    if machine.tpm_state is not None and _is_apart(survey.tpm_state):
        found += _read(TPM_STATE, _tpm_paths(machine.tpm_state))
    return found


def compare(survey: Survey, files: list[StateFile]) -> list[StateFile]:
    """The same files, each with whether the destination has it; another one there is never written over.

    Raises:
        TrustedVMError: ``destination_state_in_the_way``.
        libvirtError: of the destination.
    """
    return compare_kind(survey, NVRAM, files) + compare_kind(survey, TPM_STATE, files)


def compare_kind(survey: Survey, kind: str, files: list[StateFile]) -> list[StateFile]:
    """As :func:`compare`, of the NVRAM or of the TPM state."""
    machine = survey.machine
    own = {one.name: one for one in files if one.kind == kind}
    if machine is None or not _is_apart(survey.nvram if kind == NVRAM else survey.tpm_state):
        return []
    if kind == NVRAM and machine.nvram is not None:
        return _compare(survey, os.path.dirname(machine.nvram), [os.path.basename(machine.nvram)], own)
    if kind == TPM_STATE and machine.tpm_state is not None:
        state = machine.tpm_state
        # All of the directory is the TPM's, so nothing else may be in it.
        names = [os.path.basename(state.path)] if state.kind == "file" else None
        return _compare(survey, os.path.dirname(state.state_file), names, own)
    return []


def _compare(
    survey: Survey, directory: str, names: Optional[list[str]], own: dict[str, StateFile]
) -> list[StateFile]:
    """``names``: the files of the directory that count, None for all."""
    result = []
    try:
        with remote_directory(survey.destination, directory) as there:
            present = there.names()
            for name in sorted(set(own) | {one for one in present if names is None or one in names}):
                if name != _LOCK_FILE and not name.startswith(INCOMING):
                    result.append(_compare_file(survey, os.path.join(directory, name), own.get(name), there, present))
    except libvirt.libvirtError as error:
        if not is_missing(error):
            raise
        return [replace(one, new_directory=True) for one in own.values()]
    return result


def _compare_file(
    survey: Survey, path: str, known: Optional[StateFile], there: RemoteDirectory, present: list[str]
) -> StateFile:
    content = there.read(os.path.basename(path))
    if known is not None:
        if content == known.data:
            return replace(known, there=True)
        if content is None or incoming(known.name) in present:
            return known
    raise _in_the_way(survey, path, known, content)


def digests(files: list[StateFile], machine: Optional[Machine]) -> dict[str, Optional[str]]:
    """SHA-256 of the NVRAM and of the TPM's permanent state; None for what was not to be copied."""
    state = machine.tpm_state.state_file if machine is not None and machine.tpm_state is not None else None
    result: dict[str, Optional[str]] = {NVRAM: None, TPM_STATE: None}
    for one in files:
        if one.kind == NVRAM or one.path == state:
            result[one.kind] = digest(one.data)
    return result


def opens_with(location: StateLocation, data: bytes, passphrase: bytes) -> bool:
    """Whether a key opens the content of a TPM's state file.

    Raises:
        TrustedVMError: ``tpm_state_damaged``.
    """
    blob = permanent_state(data) if location.kind == "file" else data
    return blob is not None and parse(blob).opens_with(passphrase)


def _is_apart(sharing: Optional[Sharing]) -> bool:
    return sharing is not None and sharing.shared is False


def _tpm_paths(location: StateLocation) -> list[str]:
    if location.kind == "file":
        return [location.path]
    try:
        names = sorted(os.listdir(location.path))
    except (FileNotFoundError, NotADirectoryError):
        return []
    own = [name for name in names if name != _LOCK_FILE and not name.startswith(".trustedvm-")]
    return [os.path.join(location.path, name) for name in own]


def _read(kind: str, paths: list[str]) -> list[StateFile]:
    found = []
    for path in paths:
        try:
            # A TPM's directory belongs to the TPM's user, who must not lead root elsewhere with a link.
            no_link = os.O_NOFOLLOW if kind == TPM_STATE else 0
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | no_link)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _unreadable(path, error.strerror or "") from error
        with os.fdopen(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_BYTES:
                raise _unreadable(path, "%d bytes, mode %o" % (status.st_size, status.st_mode))
            found.append(StateFile(kind, path, stream.read()))
    return found


def _refuse_missing(survey: Survey, machine: Machine) -> None:
    """At the next start libvirt would make a new TPM, or new variables, without a word."""
    marks = read_marks(definition(survey.here)) if survey.here is not None else None
    if marks is None:
        return
    state = machine.tpm_state
    if marks.tpm_state and state is not None and not os.path.exists(state.state_file):
        raise _missing("tpm_state_missing", "TPM state", state.state_file, machine)
    if marks.nvram and machine.nvram is not None and not os.path.exists(machine.nvram):
        raise _missing("nvram_missing", "NVRAM", machine.nvram, machine)


def _missing(code: str, what: str, path: str, machine: Machine) -> TrustedVMError:
    return TrustedVMError(
        code,
        "The %s of VM '%s' is not where the VM had it" % (what, machine.name),
        found="no %s" % path,
        wanted="the file that the VM used here",
        hint="Restore it from a copy, or reset it by name (vtpm or nvram_volume, state=reset); then migrate again",
    )


def _unreadable(path: str, found: str) -> TrustedVMError:
    return TrustedVMError(
        "state_unreadable",
        "%s cannot be copied" % path,
        found=found,
        wanted="a readable file of at most %d bytes" % _MOST_BYTES,
        hint="Run the task as root (become: true), and see what the file is",
    )


def _in_the_way(survey: Survey, path: str, known: Optional[StateFile], content: Any) -> TrustedVMError:
    return TrustedVMError(
        "destination_state_in_the_way",
        "Host %s has a file of its own at %s" % (survey.destination_host, path),
        found="SHA-256 %s" % digest(content or b""),
        wanted="none, or SHA-256 %s as on %s" % (digest(known.data), survey.source_host)
        if known
        else "none: %s has no such file" % survey.source_host,
        hint="Decide which of the two is the VM's. If it is the source's, remove the other one there (nvram_volume or "
        "vtpm with state=absent and the VM's UUID), then run again",
        details={"path": path},
    )
