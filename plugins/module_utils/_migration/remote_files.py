# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Files in a directory of the destination, read and written over libvirt: no shell there, no SSH."""

import errno
import hashlib
from contextlib import contextmanager
from typing import Any, Iterator, Optional

from .._core.deps import etree, libvirt
from .._core.errors import TrustedVMError
from .._nvram.volume import Facts
from .directory_pool import directory_pool
from .lookup import find_volume

# The name under which a file arrives. While it is there, the file of the plain name is our unfinished work.
INCOMING = ".trustedvm-incoming-"


def incoming(name: str) -> str:
    return INCOMING + name


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class RemoteDirectory:
    """What a transient pool shows of one directory."""

    def __init__(self, destination: Any, pool: Any) -> None:
        self._destination = destination
        self._pool = pool

    def names(self) -> list[str]:
        return sorted(volume.name() for volume in self._pool.listAllVolumes(0))

    def read(self, name: str) -> Optional[bytes]:
        """The content; None where there is no such file."""
        volume = find_volume(self._pool, name)
        if volume is None:
            return None
        stream = self._destination.newStream(0)
        parts: list[bytes] = []
        volume.download(stream, 0, 0, 0)
        stream.recvAll(lambda _stream, data, _opaque: parts.append(bytes(data)), None)
        stream.finish()
        return b"".join(parts)

    def delete(self, name: str) -> None:
        """Remove a file; gone is fine."""
        volume = find_volume(self._pool, name)
        if volume is not None:
            volume.delete(0)

    def put(self, name: str, data: bytes) -> None:
        """Make a file that is whole or not there: it arrives under another name and is read back first.

        libvirt has no call that renames a file. Its copy on the destination (createXMLFrom) takes
        milliseconds and is synced to the disk (storage_util.c, virStorageBackendCopyToFD); an upload is not.

        Raises:
            TrustedVMError: ``state_copy_differs``.
            libvirtError: libvirt's, as it is.
        """
        arriving = incoming(name)
        self.delete(arriving)
        self._upload(arriving, data)
        self._require_equal(arriving, data)
        self.delete(name)
        if _is_raw(data):
            self._pool.createXMLFrom(_volume_xml(name, len(data)), self._pool.storageVolLookupByName(arriving), 0)
        else:
            # libvirt would convert an image to another format.
            self._upload(name, data)
        self._require_equal(name, data)
        self.delete(arriving)

    def _upload(self, name: str, data: bytes) -> None:
        volume = self._pool.createXML(_volume_xml(name, len(data)), 0)
        stream = self._destination.newStream(0)
        volume.upload(stream, 0, len(data), 0)
        sent = 0

        def next_part(_stream: Any, size: int, _opaque: Any) -> bytes:
            nonlocal sent
            part = data[sent : sent + size]
            sent += len(part)
            return part

        stream.sendAll(next_part, None)
        stream.finish()

    def _require_equal(self, name: str, data: bytes) -> None:
        found = self.read(name)
        if found == data:
            return
        raise TrustedVMError(
            "state_copy_differs",
            "What arrived at the destination as %s is not what was sent" % name,
            found="nothing" if found is None else "%d bytes, SHA-256 %s" % (len(found), digest(found)),
            wanted="%d bytes, SHA-256 %s" % (len(data), digest(data)),
            hint="See the destination's storage; nothing was changed on the source",
        )


@contextmanager
def remote_directory(destination: Any, path: str) -> Iterator[RemoteDirectory]:
    """A directory of the destination that exists.

    Raises:
        libvirtError: it does not, or libvirt may not read it.
    """
    with directory_pool(destination, path) as pool:
        yield RemoteDirectory(destination, pool)


def _is_raw(data: bytes) -> bool:
    return Facts(exists=True, size=len(data), header=data[:64]).format == "raw"


def _volume_xml(name: str, size: int) -> str:
    root = etree.Element("volume")
    etree.SubElement(root, "name").text = name
    # Allocated at once: a full disk is told before anything is sent.
    for tag in ("capacity", "allocation"):
        etree.SubElement(root, tag, unit="bytes").text = str(size)
    target = etree.SubElement(root, "target")
    etree.SubElement(target, "format", type="raw")
    etree.SubElement(etree.SubElement(target, "permissions"), "mode").text = "0600"
    return str(etree.tostring(root, encoding="unicode"))


def no_space(error: Any) -> bool:
    """Whether a libvirtError says that the destination's file system is full."""
    return "No space left" in (error.get_error_message() or "") or (
        error.get_error_code() == libvirt.VIR_ERR_SYSTEM_ERROR and error.get_int1() == errno.ENOSPC
    )
