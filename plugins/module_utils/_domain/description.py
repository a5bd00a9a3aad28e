# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""What a domain's XML says, in plain values: for results, diffs and decisions."""

import re
from dataclasses import dataclass
from typing import Any, Optional

from .._core.errors import TrustedVMError
from .._tpm.device import read_tpm

# libvirt's virScaleInteger (9.0 to 12.8): K and KiB are 1024, KB is 1000, and so on; case does not matter.
_UNITS = {"b": 1, "byte": 1, "bytes": 1}
for _power, _letter in enumerate("kmgtpe", start=1):
    _UNITS[_letter] = _UNITS[_letter + "ib"] = 1024**_power
    _UNITS[_letter + "b"] = 1000**_power
_NUMBER = re.compile(r"\s*[0-9]+\s*")


def kib(element: Any) -> int:
    """A ``<memory>``-like element in KiB; libvirt's default unit is KiB and it rounds up.

    Raises:
        TrustedVMError: ``xml_invalid``.
    """
    unit = element.get("unit") or "KiB"
    factor = _UNITS.get(unit.lower())
    if factor is None:
        raise _not_as_libvirt_reads("<%s unit='%s'>" % (element.tag, unit), "a unit such as KiB, MiB or GiB")
    return -(-whole_number(element.text, "<%s>" % element.tag) * factor // 1024)


def whole_number(text: Optional[str], where: str) -> int:
    """A number in a definition.

    Raises:
        TrustedVMError: ``xml_invalid``.
    """
    if text is None or not _NUMBER.fullmatch(text):
        raise _not_as_libvirt_reads("%s with '%s'" % (where, (text or "").strip()), "a whole number")
    return int(text)


def _not_as_libvirt_reads(found: str, wanted: str) -> TrustedVMError:
    return TrustedVMError("xml_invalid", "The VM's definition holds what libvirt does not take", found=found, wanted=wanted)


@dataclass(frozen=True)
class Nvram:
    """A domain's ``<nvram>``.

    Attributes:
        path: the file, or None for a block or network volume, which is not ours to manage.
    """

    path: Optional[str]
    template: Optional[str]
    kind: str
    format: Optional[str]


def nvram_of(tree: Any) -> Optional[Nvram]:
    element = tree.find("os/nvram")
    if element is None:
        return None
    kind = element.get("type", "file")
    source = element.find("source")
    path = (element.text or "").strip() or (None if source is None else source.get("file"))
    if kind == "file" and not path:
        # libvirt 9.0 with firmware='efi': the path is chosen at each start.
        return None
    return Nvram(path if kind == "file" else None, element.get("template"), kind, element.get("format"))


def libvirt_chooses_nvram(tree: Any) -> bool:
    """``firmware='efi'`` and no ``<nvram>``: libvirt before 9.2 chooses at each start and writes it nowhere."""
    return tree.find("os").get("firmware") == "efi" and nvram_of(tree) is None


@dataclass(frozen=True)
class Disk:
    """A ``<disk>``. ``path`` is None for a pool's volume and for network disks."""

    target: str
    device: str
    kind: str
    path: Optional[str]
    pool: Optional[str]
    volume: Optional[str]
    format: Optional[str]
    bus: Optional[str]
    readonly: bool
    shareable: bool
    boot: Optional[int]

    @property
    def label(self) -> str:
        """How messages name the disk."""
        return self.path or (
            "volume %s of pool %s" % (self.volume, self.pool) if self.pool else "%s disk %s" % (self.kind, self.target)
        )

    def as_result(self) -> dict[str, Any]:
        where = {"path": self.path} if self.path else {"pool": self.pool, "volume": self.volume}
        return {"target": self.target, "device": self.device, "kind": self.kind, "format": self.format, **where}


def disks_of(tree: Any) -> list[Disk]:
    return [read_disk(element) for element in tree.findall("devices/disk")]


def read_disk(element: Any) -> Disk:
    source, target, driver = element.find("source"), element.find("target"), element.find("driver")
    boot = element.find("boot")

    def attribute(part: Any, name: str) -> Optional[str]:
        return None if part is None else part.get(name)

    return Disk(
        target=attribute(target, "dev") or "",
        device=element.get("device", "disk"),
        kind=element.get("type", "file"),
        path=attribute(source, "file") or attribute(source, "dev"),
        pool=attribute(source, "pool"),
        volume=attribute(source, "volume"),
        format=attribute(driver, "type"),
        bus=attribute(target, "bus"),
        readonly=element.find("readonly") is not None,
        shareable=element.find("shareable") is not None,
        boot=None if boot is None else whole_number(boot.get("order", "0"), "<boot order>"),
    )


def root_disk_of(tree: Any) -> Optional[Disk]:
    """The disk that the VM boots from: the lowest boot order, else the first."""
    disks = [disk for disk in disks_of(tree) if disk.device == "disk"]
    ordered = sorted((disk for disk in disks if disk.boot is not None), key=lambda disk: disk.boot or 0)
    return next(iter(ordered or disks), None)


def loader_of(tree: Any) -> Optional[str]:
    text = tree.findtext("os/loader")
    return text.strip() if text and text.strip() else None


def is_uefi(tree: Any) -> bool:
    """Firmware chosen by libvirt (``firmware='efi'``) or given as a flash image."""
    loader = tree.find("os/loader")
    return tree.find("os").get("firmware") == "efi" or (loader is not None and loader.get("type") == "pflash")


def has_secure_boot(tree: Any) -> bool:
    """Whether the definition asks for Secure Boot; whether keys are enrolled is in the NVRAM."""
    loader = tree.find("os/loader")
    if loader is not None and loader.get("secure") == "yes":
        return True
    features = tree.findall("os/firmware/feature")
    return any(item.get("name") == "secure-boot" and item.get("enabled") == "yes" for item in features)


def networks_of(tree: Any) -> list[dict[str, Any]]:
    found = []
    for element in tree.findall("devices/interface"):
        source, mac, model = element.find("source"), element.find("mac"), element.find("model")
        kind = element.get("type")
        found.append(
            {
                "type": kind,
                "source": None if source is None else source.get(kind) or source.get("dev"),
                "mac": None if mac is None else mac.get("address"),
                "model": None if model is None else model.get("type"),
            }
        )
    return found


def describe(tree: Any) -> dict[str, Any]:
    """A definition for humans and diffs. Holds no secret: a vTPM names its libvirt secret only."""
    cpu, tpm, nvram = tree.find("cpu"), read_tpm(tree), nvram_of(tree)
    os_type = tree.find("os/type")
    uefi = is_uefi(tree)
    return {
        "name": tree.findtext("name"),
        "uuid": tree.findtext("uuid"),
        "virt_type": tree.get("type"),
        "memory_mib": kib(tree.find("memory")) // 1024,
        "vcpus": whole_number(tree.findtext("vcpu") or "1", "<vcpu>"),
        "machine": os_type.get("machine"),
        "architecture": os_type.get("arch"),
        "cpu_mode": None if cpu is None else cpu.get("mode"),
        "cpu_model": None if cpu is None else cpu.findtext("model"),
        "firmware": "uefi" if uefi else "bios",
        "loader": loader_of(tree),
        "secure_boot": has_secure_boot(tree),
        "nvram": None if nvram is None else nvram.path or nvram.kind,
        "tpm": None if tpm is None else tpm.as_result(),
        "disks": [disk.as_result() for disk in disks_of(tree)],
        "networks": networks_of(tree),
        "console": _console(tree),
        "graphics": [element.get("type") for element in tree.findall("devices/graphics")],
    }


def _console(tree: Any) -> Optional[str]:
    for element in tree.findall("devices/serial"):
        if element.get("type") == "file":
            source = element.find("source")
            return None if source is None else str(source.get("path"))
    return None


# A running VM's cpu is libvirt's expansion of the defined one; name and UUID cannot differ.
_COMPARED_WITH_RUNNING = (
    "memory_mib",
    "vcpus",
    "machine",
    "firmware",
    "loader",
    "secure_boot",
    "nvram",
    "tpm",
    "disks",
    "console",
    "graphics",
)


def differs_from_running(running: Any, defined: Any) -> bool:
    """Whether the VM would be another one after a restart, in what we describe."""
    live, wanted = describe(running), describe(defined)
    for key in _COMPARED_WITH_RUNNING:
        # libvirt 9.0 with firmware='efi' tells loader and NVRAM of the running VM only.
        open_choice = wanted[key] is None and key in ("loader", "nvram")
        if live[key] != wanted[key] and not open_choice:
            return True
    cards = [[{**card, "mac": None} for card in side["networks"]] for side in (live, wanted)]
    return bool(cards[0] != cards[1])
