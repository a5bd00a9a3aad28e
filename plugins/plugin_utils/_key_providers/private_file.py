# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that only their owner may read, replaced as a whole, written by one process at a time."""
from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from typing import Iterator, Optional

from .._core.errors import ControllerError

# Seconds that a writer waits for another one.
LOCK_TIMEOUT = 30
LARGEST = 1 << 20


def read_private(path: str, what: str, insecure_code: str) -> Optional[bytes]:
    """The file's content, None where there is none.

    Looks at the file that it opened, not at its name, so that nobody can exchange it in between.

    Raises:
        ControllerError: ``insecure_code`` if others can read or write it; ``file_unreadable``.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, what, error) from None
    try:
        _refuse_insecure(os.fstat(descriptor), path, what, insecure_code)
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(LARGEST)
    except OSError as error:
        raise _unreadable(path, what, error) from None
    finally:
        os.close(descriptor)


def is_there(path: str, what: str) -> bool:
    """Whether there is something of this name; ``os.path.lexists()`` says no also where it cannot look.

    Raises:
        ControllerError: ``file_unreadable``.
    """
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _unreadable(path, what, error) from None
    return True


def replace_private(path: str, content: bytes, only_new: bool = False) -> None:
    """Put a file of mode 0600 in place so that after a crash it is the old one or the new one, whole.

    The caller holds ``writer_lock(path)``: the temporary file has one name, and what a killed
    writer left of it is replaced, so that no copy of a key stays behind.

    Raises:
        FileExistsError: with ``only_new``, there is one that was not made under the lock (a
            restored backup, say); it is not touched.
    """
    temporary = _temporary(path)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    if only_new:
        try:
            os.link(temporary, path)
        finally:
            os.unlink(temporary)
    else:
        os.rename(temporary, path)
    _sync_directory(os.path.dirname(path))


def remove_private(path: str) -> None:
    """Remove the file; the caller holds ``writer_lock(path)``."""
    for name in (path, _temporary(path)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
    _sync_directory(os.path.dirname(path))


@contextlib.contextmanager
def writer_lock(path: str) -> Iterator[None]:
    """One writer at a time, between processes; readers need no lock, as the file is replaced whole.

    flock() of the standard library: the kernel drops it with a killed process, and it needs no
    package more in an execution environment. The lock file stays: removing it would let two
    processes hold locks on two files of one name.

    Raises:
        ControllerError: ``key_ring_busy``.
    """
    descriptor = os.open(path + ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + LOCK_TIMEOUT
        while not _try_lock(descriptor):
            if time.monotonic() > deadline:
                raise ControllerError(
                    "key_ring_busy",
                    "Another process has been writing the key ring %s for %d seconds" % (path, LOCK_TIMEOUT),
                    hint="Look for a run that hangs: lsof %s.lock" % path,
                )
            time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _temporary(path: str) -> str:
    return path + ".new"


def _sync_directory(path: str) -> None:
    """A rename is on the disk when the directory is."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse_insecure(status: os.stat_result, path: str, what: str, code: str) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISREG(status.st_mode):
        problem = "not a regular file"
    elif mode & 0o077:
        problem = "mode %04o" % mode
    elif status.st_uid not in (os.geteuid(), 0):
        problem = "owned by user id %d" % status.st_uid
    else:
        return
    raise ControllerError(
        code,
        "%s %s can be read or written by others" % (what, path),
        found=problem,
        wanted="a regular file of mode 0600, owned by the user who runs Ansible",
        hint="Find out who could read it, because whoever has it can open keys of the registry; then chmod 0600",
    )


def _unreadable(path: str, what: str, error: OSError) -> ControllerError:
    return ControllerError(
        "file_unreadable",
        "%s %s cannot be read" % (what, path),
        found=error.strerror or str(error),
        hint="Run Ansible as the user who owns it",
    )
