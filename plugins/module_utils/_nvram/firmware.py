# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""The UEFI firmware of a host, chosen by features from QEMU's firmware descriptors.

Source: QEMU's docs/interop/firmware.json, "Usage": descriptors of all directories are sorted by
file name, one in a directory of higher priority hides those of the same name below it, an empty
file hides without offering anything, and the first that fits is taken. libvirt does the same.
"""

import fnmatch
import json
import os
from dataclasses import dataclass
from typing import Any, Iterable, Mapping, Optional, Sequence

from .._core.errors import TrustedVMError

# Lowest priority first. libvirt's system instance does not look into a user's directory.
DESCRIPTOR_DIRECTORIES = ("/usr/share/qemu/firmware", "/etc/qemu/firmware")

# Descriptors list canonical machine types only; these are the aliases that QEMU resolves.
MACHINE_ALIASES = {"q35": "pc-q35-0.0", "pc": "pc-i440fx-0.0", "virt": "virt-0.0"}


@dataclass(frozen=True)
class FirmwareWish:
    """What the firmware has to be able to do.

    Attributes:
        secure_boot: True: enforces it; False: does not, which a firmware without enrolled keys
            fulfils as well (it stays in setup mode), but one without the feature is preferred.
        enrolled_keys: the variable store's template holds Microsoft's keys; None is either.
            Never with ``secure_boot`` False.
        flash_mib: code plus variable store, 4 for the "4M" builds; None is any.
    """

    secure_boot: bool = False
    enrolled_keys: Optional[bool] = None
    architecture: str = "x86_64"
    machine: str = "q35"
    flash_mib: Optional[int] = None

    def describe(self) -> str:
        parts = ["UEFI", self.architecture, self.machine, "Secure Boot" if self.secure_boot else "no Secure Boot"]
        if self.enrolled_keys is not None:
            parts.append("keys enrolled" if self.enrolled_keys else "no keys enrolled")
        if self.flash_mib is not None:
            parts.append("%d MiB" % self.flash_mib)
        return ", ".join(parts) + ", raw images"


@dataclass(frozen=True)
class Firmware:
    """A firmware image and the template of its variable store; both raw.

    Attributes:
        smm: the VM needs SMM and ``<loader secure='yes'>``.
        loader_size: bytes.
        template_size: bytes; the exact size of each NVRAM volume for this firmware.
    """

    loader: str
    template: str
    loader_size: int
    template_size: int
    secure_boot: bool
    enrolled_keys: bool
    smm: bool
    descriptor: str

    def as_result(self) -> dict[str, Any]:
        return {
            "loader": self.loader,
            "template": self.template,
            "template_size": self.template_size,
            "format": "raw",
            "secure_boot": self.secure_boot,
            "enrolled_keys": self.enrolled_keys,
        }


@dataclass(frozen=True)
class _Descriptor:
    path: str
    content: Mapping[str, Any]

    @property
    def features(self) -> Sequence[str]:
        return self.content.get("features") or ()

    def serves(self, architecture: str, machine: str) -> bool:
        canonical = MACHINE_ALIASES.get(machine, machine)
        return any(
            target.get("architecture") == architecture
            and any(fnmatch.fnmatchcase(canonical, glob) for glob in target.get("machines") or ())
            for target in self.content.get("targets") or ()
        )


class FirmwareCatalogue:
    """The firmware of one host; descriptors are read once, when first asked."""

    def __init__(self, directories: Sequence[str] = DESCRIPTOR_DIRECTORIES) -> None:
        self._directories = directories
        self._descriptors: Optional[list[_Descriptor]] = None
        self._broken: list[str] = []

    def choose(self, wish: FirmwareWish) -> Firmware:
        """The first firmware, in the specified order, that fits.

        Raises:
            TrustedVMError: ``firmware_not_found``, saying what the host has.
        """
        fitting = [firmware for firmware in self._usable(wish.architecture, wish.machine) if _fits(firmware, wish)]
        if not fitting:
            raise self._not_found(wish)
        if not wish.secure_boot:
            return next((firmware for firmware in fitting if not firmware.secure_boot), fitting[0])
        return fitting[0]

    def templates(self) -> list[str]:
        """Every NVRAM template that the host's descriptors name, whatever it is for."""
        named = [_flash_file(entry.content, "nvram-template") for entry in self._load()]
        return sorted({path for path, unused_format in named if path})

    def for_loader(self, loader: str) -> Optional[Firmware]:
        """The firmware that a domain's loader path belongs to, or None where nothing describes it."""
        for entry in self._load():
            firmware = _firmware(entry)
            if firmware is not None and firmware.loader == loader:
                return firmware
        return None

    def _usable(self, architecture: str, machine: str) -> Iterable[Firmware]:
        for entry in self._load():
            firmware = _firmware(entry) if entry.serves(architecture, machine) else None
            if firmware is not None:
                yield firmware

    def _load(self) -> list[_Descriptor]:
        if self._descriptors is None:
            files: dict[str, str] = {}
            for directory in self._directories:
                files.update(_json_files(directory))
            parsed = [self._parse(files[name]) for name in sorted(files)]
            self._descriptors = [entry for entry in parsed if entry is not None]
        return self._descriptors

    def _parse(self, path: str) -> Optional[_Descriptor]:
        try:
            with open(path, "rb") as stream:
                text = stream.read()
            if not text.strip():
                return None
            content = json.loads(text)
            if not isinstance(content, dict) or not isinstance(content.get("mapping"), dict):
                raise ValueError("no mapping")
        except (OSError, ValueError):
            self._broken.append(path)
            return None
        return _Descriptor(path, content)

    def _not_found(self, wish: FirmwareWish) -> TrustedVMError:
        lines = [_summary(entry) for entry in self._load()]
        lines += ["%s (unreadable)" % path for path in self._broken]
        return TrustedVMError(
            "firmware_not_found",
            "No firmware descriptor of this host fits (looked in %s)" % ", ".join(reversed(self._directories)),
            found="; ".join(lines) or "no descriptors at all",
            wanted=wish.describe(),
            hint="Install the UEFI firmware for QEMU (Debian: ovmf; RHEL kin: edk2-ovmf), or change secure_boot, "
            "enrolled_keys, machine or architecture, or name the images with loader and nvram.template",
        )


def _json_files(directory: str) -> dict[str, str]:
    try:
        names = os.listdir(directory)
    except OSError:
        return {}
    # Hidden files are skipped as QEMU's specification and libvirt do.
    return {
        name: os.path.join(directory, name) for name in names if name.endswith(".json") and not name.startswith(".")
    }


def _flash_file(content: Mapping[str, Any], part: str) -> tuple[Optional[str], Optional[str]]:
    mapping = content["mapping"]
    # mode: since QEMU 7.0; "stateless" has no variable store and "combined" no separate one.
    if mapping.get("device") != "flash" or mapping.get("mode", "split") != "split":
        return None, None
    entry = mapping.get(part) or {}
    return entry.get("filename"), entry.get("format")


def _firmware(entry: _Descriptor) -> Optional[Firmware]:
    """The descriptor as firmware that we can use, else None (not flash, not raw, files missing)."""
    if "uefi" not in (entry.content.get("interface-types") or ()):
        return None
    loader, loader_format = _flash_file(entry.content, "executable")
    template, template_format = _flash_file(entry.content, "nvram-template")
    # libvirt 9.0 takes a qcow2 variable store for raw without a word, so only raw is offered.
    if not loader or not template or loader_format != "raw" or template_format != "raw":
        return None
    if not os.path.isfile(loader) or not os.path.isfile(template):
        return None
    return Firmware(
        loader=loader,
        template=template,
        loader_size=os.path.getsize(loader),
        template_size=os.path.getsize(template),
        secure_boot="secure-boot" in entry.features,
        enrolled_keys="enrolled-keys" in entry.features,
        smm="requires-smm" in entry.features,
        descriptor=entry.path,
    )


def _fits(firmware: Firmware, wish: FirmwareWish) -> bool:
    if wish.secure_boot and not firmware.secure_boot:
        return False
    if firmware.enrolled_keys and not wish.secure_boot:
        return False
    if wish.enrolled_keys is not None and wish.secure_boot and firmware.enrolled_keys != wish.enrolled_keys:
        return False
    return wish.flash_mib is None or firmware.loader_size + firmware.template_size == wish.flash_mib << 20


def _summary(entry: _Descriptor) -> str:
    features = [name for name in ("secure-boot", "enrolled-keys") if name in entry.features]
    reason = "" if _firmware(entry) else ", not usable: not raw UEFI flash with a template, or its files are missing"
    return "%s (%s%s)" % (os.path.basename(entry.path), " ".join(features) or "no Secure Boot", reason)
