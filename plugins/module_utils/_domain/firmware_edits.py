# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Loader and NVRAM of a parsed ``<domain>``: explicit paths, chosen from the host's descriptors.

Explicit, because libvirt 9.0 with ``firmware='efi'`` chooses anew at each start and does not say
in the definition where the NVRAM is, so neither a migration nor a backup could find it.
"""

import os
from typing import Any, Callable, Optional

from .._core.deps import etree
from .._core.errors import TrustedVMError
from .._nvram.firmware import Firmware, FirmwareCatalogue, FirmwareWish
from .._nvram.volume import BLANK, Template
from .._tpm.device import read_tpm
from .description import has_secure_boot, is_uefi, libvirt_chooses_nvram, loader_of, nvram_of
from .edits import apply_uefi_features
from .spec import VmSpec


def nvram_needed(tree: Any) -> bool:
    """Requirement N1: if and only if the VM has a vTPM or Secure Boot."""
    return read_tpm(tree) is not None or has_secure_boot(tree)


def apply_firmware(
    tree: Any,
    spec: VmSpec,
    catalogue: FirmwareCatalogue,
    default_path: Callable[[], str],
    exists: bool,
) -> None:
    """Set loader and NVRAM path where the spec or a vTPM asks for them.

    Args:
        default_path: where the NVRAM goes if neither the spec nor the definition says it.
        exists: the VM is defined already, and keeps its firmware unless the spec says otherwise.

    Raises:
        TrustedVMError: ``firmware_not_found``, ``tpm_needs_uefi`` and those of ``default_path``.
    """
    needed = nvram_needed(tree) or bool(spec.secure_boot)
    if spec.firmware == "bios":
        _remove_flash(tree, needed)
        return
    asked = bool(spec.loader or spec.nvram_path or spec.nvram_directory) or spec.secure_boot is not None
    # Left alone, libvirt takes firmware with Secure Boot and Microsoft's keys (9.0 to 12.8 on Debian).
    open_choice = not exists and libvirt_chooses_nvram(tree)
    if not needed and not asked and not open_choice and (is_uefi(tree) or spec.firmware != "uefi"):
        return
    if exists and libvirt_chooses_nvram(tree) and not asked:
        # Its NVRAM is somewhere that only libvirt knows; another path would lose the variables.
        return
    chosen = _apply_loader(tree, spec, catalogue)
    if loader_of(tree) is not None:
        apply_uefi_features(tree, smm=tree.find("os/loader").get("secure") == "yes")
    if needed or spec.nvram_path or spec.nvram_directory:
        _apply_nvram(tree, spec, chosen, default_path)


def _apply_loader(tree: Any, spec: VmSpec, catalogue: FirmwareCatalogue) -> Optional[Firmware]:
    """Returns the firmware that was chosen, None where the loader stays or is the user's own."""
    current = loader_of(tree)
    secure_boot = has_secure_boot(tree) if spec.secure_boot is None else spec.secure_boot
    if spec.loader is not None:
        if current != spec.loader or has_secure_boot(tree) != secure_boot:
            _set_loader(tree, spec.loader, secure_boot)
        return None
    if current is not None and has_secure_boot(tree) == secure_boot:
        return None
    chosen = catalogue.choose(_wish(tree, spec, secure_boot))
    if current != chosen.loader:
        _set_loader(tree, chosen.loader, chosen.smm)
    return chosen


def _wish(tree: Any, spec: VmSpec, secure_boot: bool) -> FirmwareWish:
    kind = tree.find("os/type")
    machine = kind.get("machine") or "q35"
    keys = spec.enrolled_keys
    if keys is None and secure_boot:
        keys = _feature(tree, "enrolled-keys")
        # Without keys the firmware is in setup mode and enforces nothing.
        keys = True if keys is None and spec.nvram_template is None else keys
    return FirmwareWish(secure_boot, keys, kind.get("arch") or os.uname().machine, machine)


def _feature(tree: Any, name: str) -> Optional[bool]:
    for feature in tree.findall("os/firmware/feature"):
        if feature.get("name") == name:
            return bool(feature.get("enabled") == "yes")
    return None


def _set_loader(tree: Any, path: str, secure: bool) -> None:
    system = tree.find("os")
    # firmware='efi' would make libvirt choose by itself, and refuse paths that differ from its choice.
    system.attrib.pop("firmware", None)
    for element in system.findall("firmware") + system.findall("loader"):
        system.remove(element)
    loader = etree.SubElement(system, "loader", readonly="yes", secure="yes" if secure else "no", type="pflash")
    loader.text = path


def _apply_nvram(
    tree: Any, spec: VmSpec, chosen: Optional[Firmware], default_path: Callable[[], str]
) -> None:
    current = nvram_of(tree)
    if current is not None and current.kind != "file":
        return
    told = bool(spec.nvram_path or spec.nvram_directory)
    path = default_path() if told or current is None or not current.path else current.path
    template = spec.nvram_template or (chosen.template if chosen else None)
    if current is None or current.path != path or (template and template != current.template):
        keep = None if current is None else current.template
        set_nvram(tree, path, template or keep)


def set_nvram(tree: Any, path: str, template: Optional[str]) -> None:
    system = tree.find("os")
    for element in system.findall("nvram"):
        system.remove(element)
    element = etree.SubElement(system, "nvram")
    element.text = path
    if template is not None:
        element.set("template", template)


def _remove_flash(tree: Any, needed: bool) -> None:
    if needed:
        raise TrustedVMError(
            "tpm_needs_uefi",
            "A VM with a vTPM or Secure Boot needs UEFI",
            found="firmware: bios",
            wanted="firmware: uefi",
        )
    if not is_uefi(tree):
        return
    system = tree.find("os")
    system.attrib.pop("firmware", None)
    for tag in ("firmware", "loader", "nvram"):
        for element in system.findall(tag):
            system.remove(element)


def keep_firmware(wanted: Any, found: Any) -> None:
    """A user's XML that leaves the choice of firmware open takes what the VM has, in place."""
    if loader_of(wanted) is not None or not is_uefi(found):
        return
    asks = _feature(wanted, "secure-boot")
    if asks is not None and asks != has_secure_boot(found):
        return
    new, old = wanted.find("os"), found.find("os")
    new.attrib.pop("firmware", None)
    if old.get("firmware"):
        new.set("firmware", old.get("firmware"))
    own_nvram = nvram_of(wanted) is not None
    for tag in ("firmware", "loader", "nvram"):
        if tag == "nvram" and own_nvram:
            continue
        for element in new.findall(tag):
            new.remove(element)
        for element in old.findall(tag):
            new.append(etree.fromstring(etree.tostring(element)))


def template_path(tree: Any, spec_template: Optional[str], catalogue: FirmwareCatalogue) -> Optional[str]:
    """What the VM's NVRAM starts from: as told, as defined, by its loader's descriptor; None is blank."""
    nvram = nvram_of(tree)
    told = spec_template or (nvram.template if nvram else None)
    loader = None if told else loader_of(tree)
    firmware = catalogue.for_loader(loader) if loader else None
    return told or (firmware.template if firmware else None)


def template_for(tree: Any, spec_template: Optional[str], catalogue: FirmwareCatalogue) -> Template:
    """As :func:`template_path`, with its size.

    Raises:
        TrustedVMError: ``nvram_template_missing``.
    """
    path = template_path(tree, spec_template, catalogue)
    return BLANK if path is None else template_from(path)


def template_from(path: str) -> Template:
    """A template file.

    Raises:
        TrustedVMError: ``nvram_template_missing``.
    """

    def read() -> bytes:
        with open(path, "rb") as stream:
            return stream.read()

    try:
        return Template(path, os.stat(path).st_size, read)
    except OSError as error:
        raise TrustedVMError(
            "nvram_template_missing",
            "The NVRAM template %s cannot be used: %s" % (path, error.strerror),
            hint="Install the firmware that it belongs to, or name another with nvram.template",
        ) from error
