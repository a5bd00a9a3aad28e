# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Devices of the host that the VM has for itself: what cannot travel, and what the destination lacks."""

from typing import Any, Callable, Iterator, Optional

from .._core.deps import etree, libvirt
from .._core.errors import TrustedVMError
from .survey import Survey

# From QEMU 8.1 VFIO migration is on by default, and it depends on the device whether it can (vfio/migration.c).
_QEMU_WITH_VFIO_MIGRATION = 8001000


def stuck_obstacles(survey: Survey, tree: Any) -> list[TrustedVMError]:
    """Of a VM that runs: devices whose state QEMU cannot send.

    Those of USB come off and are attached again at the destination, and so are those of a
    ``<teaming type='transient'>`` pair.
    """
    if survey.source.getVersion() >= _QEMU_WITH_VFIO_MIGRATION:
        return []
    stuck = [
        label for kind, label, element in _devices(tree) if kind in ("pci", "mdev") and not _comes_off_by_itself(element)
    ]
    if not stuck:
        return []
    return [
        TrustedVMError(
            "host_device_not_migratable",
            "VM '%s' has devices of host %s that cannot be migrated live" % (_name(survey), survey.source_host),
            found=", ".join(stuck),
            wanted="none, or those of a teaming pair",
            hint="Detach them for the migration (virsh detach-device), or shut the VM down and set mode=cold",
        )
    ]


def missing_obstacles(survey: Survey, tree: Any) -> list[TrustedVMError]:
    """Devices that libvirt on the destination does not list; nothing is concluded where it lists none at all."""
    lookups: dict[str, Callable[[Any, Any], Optional[bool]]] = {"pci": _has_pci, "mdev": _has_mdev, "usb": _has_usb}
    missing = []
    for kind, label, element in _devices(tree):
        try:
            there = lookups[kind](survey.destination, element) if kind in lookups else None
        except libvirt.libvirtError:
            there = None
        if there is False:
            missing.append(label)
    if not missing:
        return []
    return [
        TrustedVMError(
            "destination_host_device_missing",
            "Host %s lacks devices that VM '%s' takes from its host" % (survey.destination_host, _name(survey)),
            found="none of this address or name there",
            wanted=", ".join(missing),
            hint="Take them out of the VM's definition, put them into that host, or choose another one (virsh nodedev-list)",
        )
    ]


def _devices(tree: Any) -> Iterator[tuple[str, str, Any]]:
    for element in tree.findall("devices/hostdev"):
        if element.get("mode", "subsystem") == "subsystem":
            kind = element.get("type", "")
            yield kind, _label(kind, element), element
    for element in tree.findall("devices/interface[@type='hostdev']"):
        # With a network the destination picks a device of its own.
        if element.find("source[@network]") is None:
            yield "pci", _label("pci", element), element


def _label(kind: str, element: Any) -> str:
    if kind == "pci":
        return "PCI device %s" % _pci_name(element)[4:]
    address = element.find("source/address")
    if kind == "mdev":
        return "mediated device %s" % (address.get("uuid") if address is not None else "?")
    if kind == "usb":
        ids = _usb_ids(element)
        return "USB device %s" % (":".join("%04x" % number for number in ids) if ids else "by its address")
    return "%s device" % kind


def _comes_off_by_itself(element: Any) -> bool:
    return element.find("teaming[@type='transient']") is not None


def _pci_name(element: Any) -> str:
    """As libvirt names it: ``pci_0000_03_00_1`` (node_device_udev.c, from the kernel's name)."""
    address = element.find("source/address")
    if address is None:
        return "pci_unknown"
    numbers = [int(address.get(part, "0"), 16) for part in ("domain", "bus", "slot", "function")]
    return "pci_%04x_%02x_%02x_%x" % tuple(numbers)


def _has_pci(connection: Any, element: Any) -> Optional[bool]:
    known = _names(connection, libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_PCI_DEV)
    return _pci_name(element) in known if known else None


def _has_mdev(connection: Any, element: Any) -> Optional[bool]:
    """Since libvirt 7.3 the parent's name comes after the UUID."""
    address = element.find("source/address")
    if address is None or not _names(connection, libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_PCI_DEV):
        return None
    wanted = "mdev_" + address.get("uuid", "").replace("-", "_")
    return any(name.startswith(wanted) for name in _names(connection, libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_MDEV))


def _has_usb(connection: Any, element: Any) -> Optional[bool]:
    """By vendor and product; a bus address is another one on every host."""
    wanted, source = _usb_ids(element), element.find("source")
    # With a startup policy libvirt drops a device that is missing.
    if wanted is None or (source is not None and source.get("startupPolicy") in ("optional", "requisite")):
        return None
    devices = connection.listAllDevices(libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_USB_DEV)
    if not devices:
        return None if not _names(connection, 0) else False
    return any(_ids(etree.fromstring(device.XMLDesc(0).encode()), "capability") == wanted for device in devices)


def _usb_ids(element: Any) -> Optional[tuple[int, int]]:
    return _ids(element, "source")


def _ids(element: Any, place: str) -> Optional[tuple[int, int]]:
    vendor, product = (element.find("%s/%s" % (place, name)) for name in ("vendor", "product"))
    if vendor is None or product is None or not vendor.get("id") or not product.get("id"):
        return None
    return int(vendor.get("id"), 16), int(product.get("id"), 16)


def _names(connection: Any, flags: int) -> list[str]:
    return [device.name() for device in connection.listAllDevices(flags)]


def _name(survey: Survey) -> str:
    return survey.machine.name if survey.machine else ""
