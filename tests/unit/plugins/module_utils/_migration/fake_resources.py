# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""What a scripted host has besides VMs, secrets and files, and what a VM there is busy with."""

from typing import Any, Optional

import libvirt

GIB = 1024 * 1024  # in KiB


def refusal(code: int, message: str) -> libvirt.libvirtError:
    error = libvirt.libvirtError("scripted")
    error.err = (code, libvirt.VIR_FROM_QEMU, message, libvirt.VIR_ERR_ERROR, "%s", message, None, -1, -1)
    return error


def answer(value: Any) -> Any:
    """A value, or an exception that stands for it."""
    if isinstance(value, Exception):
        raise value
    return value


class NodeDevice:
    def __init__(self, name: str, xml: str = "<device/>") -> None:
        self._name = name
        self._xml = xml

    def name(self) -> str:
        return self._name

    def XMLDesc(self, flags: int = 0) -> str:
        return self._xml


class Active:
    """A network or a pool."""

    def __init__(self, active: bool) -> None:
        self._active = active

    def isActive(self) -> int:
        return int(self._active)


class Volume:
    def __init__(self, path: str) -> None:
        self._path = path

    def path(self) -> str:
        return self._path


class NamedPool(Active):
    """A pool that the host's administrator defined; volumes by name."""

    def __init__(self, kind: str, volumes: dict[str, str], active: bool = True) -> None:
        super().__init__(active)
        self.kind = kind
        self.volumes = volumes

    def XMLDesc(self, flags: int = 0) -> str:
        return "<pool type='%s'/>" % self.kind

    def storageVolLookupByName(self, name: str) -> Volume:
        if not self._active:
            raise refusal(libvirt.VIR_ERR_OPERATION_INVALID, "Requested operation is not valid: storage pool is not active")
        if name not in self.volumes:
            raise refusal(libvirt.VIR_ERR_NO_STORAGE_VOL, "Storage volume not found: no storage vol with matching name")
        return Volume(self.volumes[name])


class HostResources:
    """A host on which nothing is short. A value that is an exception is what libvirt answers."""

    libvirt_version: Any = 9000000
    qemu_version: Any = 7002000
    vcpu_limit: Optional[int] = None

    def __init__(self) -> None:
        self.networks: Any = {}
        self.interfaces: Any = ["lo", "eth0"]
        self.node_devices: Any = [NodeDevice("computer"), NodeDevice("net_lo_00_00_00_00_00_00"), NodeDevice("pci_0000_00_00_0")]
        self.named_pools: dict[str, NamedPool] = {}
        self.memory: Any = {"total": 64 * GIB, "free": 32 * GIB, "buffers": 0, "cached": 0}

    def getLibVersion(self) -> int:
        return int(answer(self.libvirt_version))

    def getVersion(self) -> int:
        return int(answer(self.qemu_version))

    def networkLookupByName(self, name: str) -> Active:
        networks = answer(self.networks)
        if name not in networks:
            raise refusal(libvirt.VIR_ERR_NO_NETWORK, "Network not found: no network with matching name '%s'" % name)
        return Active(networks[name])

    def interfaceLookupByName(self, name: str) -> object:
        if name not in answer(self.interfaces):
            raise refusal(libvirt.VIR_ERR_NO_INTERFACE, "Interface not found: couldn't find interface named '%s'" % name)
        return object()

    def listAllDevices(self, flags: int = 0) -> list[NodeDevice]:
        prefixes = {
            libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_NET: "net_",
            libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_PCI_DEV: "pci_",
            libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_MDEV: "mdev_",
            libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_USB_DEV: "usb_",
        }
        devices: list[NodeDevice] = answer(self.node_devices)
        return [device for device in devices if not flags or device.name().startswith(prefixes[flags])]

    def storagePoolLookupByName(self, name: str) -> NamedPool:
        if name not in self.named_pools:
            raise refusal(libvirt.VIR_ERR_NO_STORAGE_POOL, "Storage pool not found: no storage pool with matching name '%s'" % name)
        return self.named_pools[name]

    def getMemoryStats(self, cell: int, flags: int = 0) -> dict[str, int]:
        assert cell == libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS
        return dict(answer(self.memory))


class DomainResources:
    """What libvirt tells of a VM besides its definition and state."""

    rss: Any = 100 * 1024
    block_jobs: tuple[str, ...] = ()

    def blockJobInfo(self, disk: str, flags: int = 0) -> dict[str, int]:
        return {"type": libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY, "cur": 1, "end": 2} if disk in self.block_jobs else {}

    def memoryStats(self) -> dict[str, int]:
        return {"actual": 131072, "rss": answer(self.rss)}
