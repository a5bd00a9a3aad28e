# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""NVRAM volumes as files: a directory on the host, NFS or any shared mount."""

import os
import stat
import tempfile
from contextlib import contextmanager
from typing import Iterator, Optional

from ..._core.errors import TrustedVMError
from ..._core.files import NoHardLinks, copy_as_new, link, publish, sync_directory
from ..volume import HEADER_SIZE, Facts

SUFFIX = ".fd"
COPY_INFIX = ".before-reset-"

# The VM's user needs to get to the file, which libvirt hands to it at start; nobody has to list it.
DIRECTORY_MODE = 0o711
FILE_MODE = 0o600


class DirectoryBackend:
    """Files below a directory that exists; ``nvram/<uuid>/`` below it is made as needed."""

    name = "directory"

    def require_room(self, path: str, size: int) -> None:
        """Raise ``nvram_storage_unsuitable`` where the file cannot be made; changes nothing."""
        base = nearest_directory(path)
        if not os.path.isdir(base):
            raise unsuitable(path, "%s is not a directory" % base)
        if not os.access(base, os.W_OK | os.X_OK):
            raise unsuitable(path, "%s cannot be written to" % base)
        room = os.statvfs(base)
        if room.f_flag & os.ST_RDONLY:
            raise unsuitable(path, "the file system of %s is read-only" % base)
        if room.f_bavail * room.f_frsize < size:
            raise unsuitable(path, "the file system of %s has less than %d bytes free" % (base, size))

    def probe(self, path: str) -> Facts:
        try:
            status = os.stat(path)
        except FileNotFoundError:
            return Facts(exists=False)
        except NotADirectoryError:
            return Facts(exists=False)
        except OSError as error:
            return Facts(exists=True, header=None, problem=error.strerror)
        if not stat.S_ISREG(status.st_mode):
            return Facts(exists=True, size=status.st_size, header=None, regular=False, problem=_kind(status.st_mode))
        try:
            with open(path, "rb") as stream:
                return Facts(exists=True, size=status.st_size, header=stream.read(HEADER_SIZE))
        except OSError as error:
            return Facts(exists=True, size=status.st_size, header=None, problem=error.strerror)

    def read(self, path: str) -> bytes:
        with open(path, "rb") as stream:
            return stream.read()

    def create(self, path: str, content: bytes) -> None:
        """Make the volume; ``nvram_exists`` if there is one, which stays as it is."""
        self._make_directories(path)
        with _written_beside(path, content) as temporary:
            try:
                publish(temporary, path)
            except FileExistsError:
                raise TrustedVMError(
                    "nvram_exists",
                    "NVRAM volume %s appeared while it was about to be made" % path,
                    hint="Run again: the volume that is there is never written over",
                ) from None
        sync_directory(os.path.dirname(path))

    def replace(self, path: str, content: bytes, keep_copy: bool) -> Optional[str]:
        """Swap the content atomically; returns the path of the copy of the old one."""
        copy = None
        with _written_beside(path, content) as temporary:
            _take_owner(path, temporary)
            if keep_copy:
                copy = self.next_copy(path)
                _keep(path, copy)
            os.replace(temporary, path)
        sync_directory(os.path.dirname(path))
        return copy

    def remove(self, path: str) -> None:
        """Remove the file and the VM's directory if nothing is left in it; gone is fine."""
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        try:
            # Ours has the VM's UUID for a name, as the file; another directory is not ours to remove.
            if os.path.basename(os.path.dirname(path)) + SUFFIX == os.path.basename(path):
                os.rmdir(os.path.dirname(path))
        except OSError:
            pass

    def restore(self, copy: str, path: str) -> None:
        """Put a copy back in the volume's place."""
        os.replace(copy, path)
        sync_directory(os.path.dirname(path))

    def copies(self, path: str) -> list[str]:
        """Earlier contents that resets kept beside the volume."""
        return [entry for entry in _entries(os.path.dirname(path)) if entry.startswith(path + COPY_INFIX)]

    def drop_copies(self, path: str) -> None:
        for copy in self.copies(path):
            os.unlink(copy)

    def strays(self, path: str) -> list[str]:
        """Other ``.fd`` files in the volume's own directory, if that directory is one VM's."""
        directory = os.path.dirname(path)
        if os.path.basename(directory) + SUFFIX != os.path.basename(path):
            return []
        return [entry for entry in _entries(directory) if entry != path and entry.endswith(SUFFIX)]

    def volumes_below(self, directory: str) -> list[str]:
        """All ``.fd`` files of a directory and of the VMs' directories in it."""
        found = []
        for entry in _entries(directory):
            inner = _entries(entry) if os.path.isdir(entry) else [entry]
            found += [name for name in inner if name.endswith(SUFFIX) and os.path.isfile(name)]
        return found

    def _make_directories(self, path: str) -> None:
        missing = []
        directory = os.path.dirname(path)
        while directory and not os.path.isdir(directory):
            missing.append(directory)
            directory = os.path.dirname(directory)
        for directory in reversed(missing):
            try:
                os.mkdir(directory, DIRECTORY_MODE)
                # mkdir's mode is cut by the umask, and a VM's user could not get to its file.
                os.chmod(directory, DIRECTORY_MODE)
            except FileExistsError:
                pass

    def next_copy(self, path: str) -> str:
        """The name that the next reset's copy gets; numbered, so that check mode can tell it."""
        number = 1
        while os.path.lexists("%s%s%d" % (path, COPY_INFIX, number)):
            number += 1
        return "%s%s%d" % (path, COPY_INFIX, number)


def nearest_directory(path: str) -> str:
    """The directory that has to be there: ``nvram/<uuid>`` and anything else of ours is made below it."""
    directory = os.path.dirname(path)
    if os.path.isdir(directory):
        return directory
    stem = os.path.basename(path)[: -len(SUFFIX)]
    if os.path.basename(directory) == stem:
        directory = os.path.dirname(directory)
        if not os.path.isdir(directory) and os.path.basename(directory) == "nvram":
            directory = os.path.dirname(directory)
    return directory


def unsuitable(path: str, found: str) -> TrustedVMError:
    return TrustedVMError(
        "nvram_storage_unsuitable",
        "The storage cannot hold NVRAM volume %s" % path,
        found=found,
        wanted="a writable directory: on the host, NFS or another shared mount, or a pool of type dir or netfs",
        hint="Name one with nvram.directory, or the file with nvram.path",
    )


@contextmanager
def _written_beside(path: str, content: bytes) -> Iterator[str]:
    """A complete, synced temporary file in the same directory, removed if it was not used."""
    descriptor, temporary = tempfile.mkstemp(prefix=".nvram-", dir=os.path.dirname(path))
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(descriptor, FILE_MODE)
            stream.write(content)
            stream.flush()
            os.fsync(descriptor)
        yield temporary
    finally:
        try:
            os.unlink(temporary)
        except FileNotFoundError:
            pass


def _keep(path: str, copy: str) -> None:
    """A second name for the content that is about to be replaced."""
    try:
        link(path, copy)
    except NoHardLinks:
        copy_as_new(path, copy, FILE_MODE)


def _take_owner(path: str, temporary: str) -> None:
    """A shared storage without root access leaves the owner to whoever made the file."""
    try:
        status = os.stat(path)
        os.chown(temporary, status.st_uid, status.st_gid)
    except OSError:
        pass


def _entries(directory: str) -> list[str]:
    try:
        return [os.path.join(directory, name) for name in sorted(os.listdir(directory))]
    except OSError:
        return []


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a directory"
    return "a block device" if stat.S_ISBLK(mode) else "a special file"
