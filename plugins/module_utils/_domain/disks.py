# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Disks of a VM: what is missing is made, what is to go is removed, each only when told."""

import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from typing import Any, Optional, Sequence

from .._core.deps import etree, libvirt
from .._core.errors import TrustedVMError
from .._core.files import publish
from .description import Disk

_SIZE = re.compile(r"^(\d+)\s*([KMGT]?)(i?B)?$", re.IGNORECASE)
_FACTORS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_QEMU_IMG_TIMEOUT = 3600


@dataclass(frozen=True)
class DiskSpec:
    """A disk as the user wants it.

    Attributes:
        size: bytes of a disk that is made if it is missing; None: it must be there.
        image: an image that a missing disk starts as a full copy of.
    """

    target: str
    path: Optional[str] = None
    pool: Optional[str] = None
    volume: Optional[str] = None
    device: str = "disk"
    format: str = "qcow2"
    bus: str = "virtio"
    readonly: bool = False
    cache: Optional[str] = None
    size: Optional[int] = None
    image: Optional[str] = None

    @property
    def kind(self) -> str:
        if self.pool:
            return "volume"
        return "block" if (self.path or "").startswith("/dev/") else "file"

    @property
    def label(self) -> str:
        return self.path or "volume %s of pool %s" % (self.volume, self.pool)


def parse_size(text: str) -> int:
    """``10G``, ``512 MiB`` or plain bytes, in bytes; units are powers of 1024.

    Raises:
        TrustedVMError: ``vm_options_invalid``.
    """
    match = _SIZE.match(str(text).strip())
    if match is None or int(match.group(1)) == 0:
        raise TrustedVMError("vm_options_invalid", "'%s' is not a size" % text, wanted="a size such as 10G or 512MiB")
    return int(match.group(1)) * _FACTORS[match.group(2).upper()]


class DiskStore:
    """The disks of one host: files, block devices, and volumes of storage pools."""

    def __init__(self, connection: Any, local: bool) -> None:
        """``local``: the connection's hypervisor is this machine, so that paths can be looked at."""
        self._connection = connection
        self._local = local

    def exists(self, disk: Any) -> Optional[bool]:
        """For a Disk or DiskSpec; None where it cannot be told (network disks, other machines)."""
        if disk.pool:
            return self._volume(disk.pool, disk.volume) is not None
        if disk.path and self._local:
            return os.path.exists(disk.path)
        return None

    def require_creatable(self, spec: DiskSpec) -> None:
        """Raise for a missing disk that cannot be made: ``disk_missing``, ``disk_create_failed``."""
        if spec.size is None and spec.image is None:
            raise disk_missing(spec.label)
        if spec.kind == "block":
            raise disk_missing(spec.label, "A block device is not made here; make it, or name a file")
        if spec.image is not None and not os.path.isfile(spec.image):
            raise disk_missing(spec.image, "Put the image there that disk %s is copied from" % spec.label)
        if spec.kind == "file" and not os.path.isdir(os.path.dirname(spec.path or "")):
            raise _create_failed(spec, "%s is not a directory" % os.path.dirname(spec.path or ""))

    def create(self, spec: DiskSpec) -> None:
        """Make a missing disk; an existing one is never written over."""
        if spec.kind == "volume":
            self._create_volume(spec)
        else:
            _create_file(spec)

    def remove(self, disk: Disk) -> None:
        """Delete a file or a pool's volume; gone is fine."""
        if disk.pool and disk.volume:
            volume = self._volume(disk.pool, disk.volume)
            if volume is not None:
                volume.delete(0)
        elif disk.path:
            try:
                os.unlink(disk.path)
            except FileNotFoundError:
                pass

    def _volume(self, pool: str, name: Optional[str]) -> Any:
        try:
            found = self._connection.storagePoolLookupByName(pool)
            return found.storageVolLookupByName(name)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_STORAGE_VOL:
                return None
            if error.get_error_code() == libvirt.VIR_ERR_NO_STORAGE_POOL:
                raise TrustedVMError(
                    "storage_pool_not_found",
                    "Storage pool '%s' of volume %s is not defined on this host" % (pool, name),
                    hint="Define the pool, or correct its name",
                ) from error
            raise

    def _create_volume(self, spec: DiskSpec) -> None:
        if spec.image is not None:
            raise _create_failed(spec, "a pool's volume cannot be copied from an image here; give path instead")
        root = etree.Element("volume")
        etree.SubElement(root, "name").text = spec.volume
        etree.SubElement(root, "capacity", unit="bytes").text = str(spec.size)
        etree.SubElement(etree.SubElement(root, "target"), "format", type=spec.format)
        pool = self._connection.storagePoolLookupByName(spec.pool)
        pool.createXML(etree.tostring(root, encoding="unicode"), 0)


def removable(disk: Disk) -> bool:
    """Whether ``remove_disks`` may delete it: the VM's own file or volume, nothing that is lent to it."""
    return disk.device == "disk" and disk.kind in ("file", "volume") and not disk.readonly and not disk.shareable


def require_format(disk: Disk) -> None:
    """A file's format by its magic against the definition's.

    A qcow2 file defined as raw shows the guest its metadata; the reverse does not start.

    Raises:
        TrustedVMError: ``disk_wrong_format``.
    """
    if disk.kind != "file" or not disk.path or disk.format not in ("qcow2", "raw"):
        return
    try:
        with open(disk.path, "rb") as stream:
            found = "qcow2" if stream.read(4) == b"QFI\xfb" else "raw"
    except OSError:
        return
    if found != disk.format:
        raise TrustedVMError(
            "disk_wrong_format",
            "Disk %s has another format than the VM's definition says" % disk.path,
            found=found,
            wanted=disk.format,
            hint="Set the disk's format, or convert it with qemu-img",
        )


def disk_missing(label: str, hint: Optional[str] = None) -> TrustedVMError:
    return TrustedVMError(
        "disk_missing",
        "Disk %s does not exist on this host" % label,
        hint=hint or "Put it there, or give it a size or an image so that it is made",
    )


def _create_failed(spec: DiskSpec, found: str) -> TrustedVMError:
    return TrustedVMError("disk_create_failed", "Disk %s could not be made" % spec.label, found=found)


def _create_file(spec: DiskSpec) -> None:
    path = spec.path or ""
    descriptor, temporary = tempfile.mkstemp(prefix=".disk-", dir=os.path.dirname(path))
    os.close(descriptor)
    try:
        for command in _qemu_img_commands(spec, temporary):
            _run(spec, command)
        try:
            publish(temporary, path)
        except FileExistsError:
            raise _create_failed(spec, "a file of that name appeared meanwhile") from None
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def _qemu_img_commands(spec: DiskSpec, path: str) -> list[list[str]]:
    if spec.image is None:
        return [["qemu-img", "create", "-q", "-f", spec.format, path, str(spec.size)]]
    copy = [["qemu-img", "convert", "-O", spec.format, spec.image, path]]
    if spec.size is not None:
        copy.append(["qemu-img", "resize", "-q", "-f", spec.format, path, str(spec.size)])
    return copy


def _run(spec: DiskSpec, command: Sequence[str]) -> None:
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        # Not AnsibleModule.run_command: this class knows nothing of Ansible.
        done = subprocess.run(  # pylint: disable=ansible-bad-function
            command, env=environment, capture_output=True, text=True, timeout=_QEMU_IMG_TIMEOUT, check=False
        )
    except FileNotFoundError:
        raise TrustedVMError(
            "qemu_img_missing",
            "This host has no qemu-img to make disk %s with" % spec.label,
            hint="Install qemu-utils (Debian, Ubuntu) or qemu-img (RHEL kin)",
        ) from None
    except subprocess.TimeoutExpired:
        raise _create_failed(spec, "%s took more than %d s" % (command[0], _QEMU_IMG_TIMEOUT)) from None
    if done.returncode != 0:
        raise _create_failed(spec, done.stderr.strip() or "qemu-img ended with %d" % done.returncode)


def read_back(spec: DiskSpec) -> Disk:
    """A disk that was just made, as it reads in a definition."""
    where = (spec.path, spec.pool, spec.volume)
    return Disk(spec.target, spec.device, spec.kind, *where, spec.format, spec.bus, spec.readonly, False, None)
