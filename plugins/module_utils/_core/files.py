# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Files that appear as a whole or not at all, and that never replace another."""

import errno
import os

# What file systems without hard links answer: some network and FUSE ones.
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


def publish(temporary: str, path: str) -> None:
    """Give a complete file its name; afterwards the temporary name is gone.

    Raises:
        FileExistsError: the name is taken.
    """
    try:
        link(temporary, path)
    except NoHardLinks:
        # An empty file of our own holds the name, so that the rename can replace nothing else.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            os.replace(temporary, path)
        except OSError:
            os.unlink(path)
            raise
    else:
        os.unlink(temporary)


class NoHardLinks(OSError):
    """The file system has none."""


def link(source: str, target: str) -> None:
    """``os.link``.

    Raises:
        FileExistsError: the name is taken.
        NoHardLinks: do it in another way.
    """
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno in _NO_HARD_LINKS:
            raise NoHardLinks(error.errno, error.strerror) from error
        raise


def copy_as_new(source: str, target: str, mode: int) -> None:
    """Copy a small file under a new name; what could not be written as a whole is removed again.

    Raises:
        FileExistsError: the name is taken.
    """
    with open(source, "rb") as stream:
        content = stream.read()
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as copy:
            copy.write(content)
            copy.flush()
            os.fsync(descriptor)
    except OSError:
        os.unlink(target)
        raise


def sync_directory(path: str) -> None:
    """Make a rename or a new name in it survive a power failure, where the file system can."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError:
        # Not every file system can sync a directory; the rename itself is done.
        pass
    finally:
        os.close(descriptor)
