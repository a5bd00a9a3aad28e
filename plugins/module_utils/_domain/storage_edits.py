# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Disks and network interfaces of a parsed ``<domain>``: the exact list that is wanted."""

from typing import Any, Optional

from .._core.deps import etree
from .description import read_disk
from .disks import DiskSpec
from .spec import NetworkSpec


def apply_disks(tree: Any, wanted: Optional[tuple[DiskSpec, ...]]) -> None:
    """Disks are told apart by their target; a fitting one is left alone, others are detached.

    CD drives and the like that the list does not name stay: they hold nothing of the VM.
    """
    if wanted is None:
        return
    devices = tree.find("devices")
    by_target = {read_disk(element).target: element for element in devices.findall("disk")}
    for spec in wanted:
        element = by_target.pop(spec.target, None)
        if element is None:
            devices.append(disk_element(spec))
        elif not disk_fits(element, spec):
            devices.replace(element, disk_element(spec))
    for element in by_target.values():
        if element.get("device", "disk") == "disk":
            devices.remove(element)


def disk_fits(element: Any, spec: DiskSpec) -> bool:
    found = read_disk(element)
    driver = element.find("driver")
    cache = None if driver is None else driver.get("cache")
    return (
        (found.device, found.kind, found.path, found.pool, found.volume)
        == (spec.device, spec.kind, spec.path, spec.pool, spec.volume)
        and found.format == spec.format
        and found.bus == spec.bus
        and found.readonly == spec.readonly
        and (spec.cache is None or spec.cache == cache)
    )


def disk_element(spec: DiskSpec) -> Any:
    element = etree.Element("disk", type=spec.kind, device=spec.device)
    driver = etree.SubElement(element, "driver", name="qemu", type=spec.format)
    if spec.cache is not None:
        driver.set("cache", spec.cache)
    if spec.kind == "volume":
        etree.SubElement(element, "source", pool=spec.pool or "", volume=spec.volume or "")
    else:
        etree.SubElement(element, "source", {"dev" if spec.kind == "block" else "file": spec.path or ""})
    etree.SubElement(element, "target", dev=spec.target, bus=spec.bus)
    if spec.readonly:
        etree.SubElement(element, "readonly")
    return element


def apply_networks(tree: Any, wanted: Optional[tuple[NetworkSpec, ...]]) -> None:
    """Interfaces are told apart by their order; a changed one keeps its MAC address."""
    if wanted is None:
        return
    devices = tree.find("devices")
    found = devices.findall("interface")
    for index, spec in enumerate(wanted):
        if index >= len(found):
            devices.append(interface_element(spec, None))
        elif not _interface_fits(found[index], spec):
            devices.replace(found[index], interface_element(spec, _mac(found[index])))
    for element in found[len(wanted) :]:
        devices.remove(element)


def keep_macs(wanted: Any, found: Any) -> None:
    """Interfaces of a wanted ``<domain>`` without a MAC take those that the VM has, in order.

    Otherwise libvirt would draw a new one at each define, and the guest would see a new card.
    """
    pairs = zip(wanted.findall("devices/interface"), found.findall("devices/interface"))
    for new, old in pairs:
        address = _mac(old)
        if new.find("mac") is None and address:
            new.insert(0, etree.Element("mac", address=address))


def interface_element(spec: NetworkSpec, mac: Optional[str]) -> Any:
    element = etree.Element("interface", type=spec.kind)
    address = spec.mac or mac
    if address:
        etree.SubElement(element, "mac", address=address)
    etree.SubElement(element, "source", {spec.kind: spec.source})
    etree.SubElement(element, "model", type=spec.model)
    return element


def _interface_fits(element: Any, spec: NetworkSpec) -> bool:
    source, model = element.find("source"), element.find("model")
    return (
        element.get("type") == spec.kind
        and source is not None
        and source.get(spec.kind) == spec.source
        and model is not None
        and model.get("type") == spec.model
        and (spec.mac is None or spec.mac == _mac(element))
    )


def _mac(element: Any) -> Optional[str]:
    mac = element.find("mac")
    return None if mac is None else str(mac.get("address")).lower()
