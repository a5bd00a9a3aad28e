# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Changes to a parsed ``<domain>``, one aspect each; what is already as wanted is not touched.

So a definition that fits stays byte for byte the same, and that is how a change is found.
"""

from typing import Any, Optional

from .._core.deps import etree
from .._core.errors import TrustedVMError
from .._core.texts import parse_xml
from .._tpm.device import TpmSpec, apply_tpm, read_tpm
from .compare import contains, same_machine
from .description import kib
from .spec import ConsoleSpec, TpmWish, VmSpec


def apply_machine(tree: Any, spec: VmSpec) -> None:
    """Memory, CPUs, machine type, accelerator."""
    if spec.memory is not None:
        _memory(tree, spec.memory * 1024)
    if spec.vcpus is not None:
        vcpu = _child(tree, "vcpu")
        if (vcpu.text or "").strip() != str(spec.vcpus) or vcpu.get("current"):
            vcpu.text = str(spec.vcpus)
            vcpu.attrib.pop("current", None)
    kind = tree.find("os/type")
    if spec.machine is not None and not same_machine(kind.get("machine", ""), spec.machine):
        kind.set("machine", spec.machine)
    if spec.architecture is not None and kind.get("arch") != spec.architecture:
        kind.set("arch", spec.architecture)
    if spec.virt_type not in (None, "auto") and tree.get("type") != spec.virt_type:
        tree.set("type", spec.virt_type)
    _cpu(tree, spec.cpu_mode, spec.cpu_model)


def _memory(tree: Any, wanted: int) -> None:
    memory = _child(tree, "memory")
    if kib(memory) == wanted:
        return
    for element in (memory, tree.find("currentMemory")):
        if element is not None:
            element.set("unit", "KiB")
            element.text = str(wanted)


def _cpu(tree: Any, mode: Optional[str], model: Optional[str]) -> None:
    if mode is None and model is None:
        return
    mode = mode or "custom"
    cpu = tree.find("cpu")
    if cpu is not None and cpu.get("mode") == mode and (model is None or cpu.findtext("model") == model):
        return
    # Attributes and features of another mode (check, migratable, a model's fallback) do not carry over.
    if cpu is None:
        cpu = etree.SubElement(tree, "cpu")
    topology = cpu.find("topology")
    cpu.clear()
    cpu.set("mode", mode)
    if model is not None and mode == "custom":
        etree.SubElement(cpu, "model").text = model
    if topology is not None:
        cpu.append(topology)


def apply_tpm_wish(tree: Any, wish: Optional[TpmWish]) -> None:
    """The vTPM; a device that is there keeps what the wish does not say.

    Raises:
        TrustedVMError: ``tpm_unencrypted`` and those of ``apply_tpm``.
    """
    if wish is None:
        return
    found = read_tpm(tree)
    secret = wish.secret_uuid or (found.secret_uuid if found else None)
    if secret is None and not wish.allow_unencrypted:
        raise TrustedVMError(
            "tpm_unencrypted",
            "The VM's vTPM would keep its state unencrypted",
            wanted="tpm.secret_uuid, the libvirt secret that encrypts it",
            hint="Name a secret, or allow it with tpm.allow_unencrypted=true",
        )
    kept = found or TpmSpec(None)
    apply_tpm(tree, TpmSpec(secret, wish.model or kept.model, wish.version or kept.version))


def apply_console(tree: Any, wish: Optional[ConsoleSpec]) -> None:
    """The first serial port, written to a file."""
    if wish is None:
        return
    devices = _child(tree, "devices")
    serial = devices.find("serial")
    if serial is not None and serial.get("type") == "file":
        source = serial.find("source")
        same_append = (source.get("append") == "on") == wish.append
        if source.get("path") == wish.path and same_append:
            return
    # libvirt mirrors the first serial port as <console>, and insists that both agree.
    for element in [serial] + devices.findall("console"):
        if element is not None:
            devices.remove(element)
    serial = etree.Element("serial", type="file")
    etree.SubElement(serial, "source", path=wish.path, append="on" if wish.append else "off")
    etree.SubElement(serial, "target", port="0")
    devices.insert(0, serial)


def apply_graphics(tree: Any, wish: Optional[str]) -> None:
    """``none``: no display at all; ``vnc``: on the host's loopback address."""
    if wish is None:
        return
    devices = _child(tree, "devices")
    displays = devices.findall("graphics")
    if wish == "none":
        for element in displays + (devices.findall("video") if displays else []):
            devices.remove(element)
    elif not any(element.get("type") == wish for element in displays):
        for element in displays:
            devices.remove(element)
        etree.SubElement(devices, "graphics", type=wish, autoport="yes", listen="127.0.0.1")
        if devices.find("video") is None:
            etree.SubElement(etree.SubElement(devices, "video"), "model", type="virtio")


def apply_devices_xml(tree: Any, snippets: Optional[tuple[str, ...]]) -> None:
    """The user's own devices, each added unless a device of the VM already contains it."""
    devices = _child(tree, "devices")
    for snippet in snippets or ():
        wanted = parse_xml(snippet, "A device in devices_xml")
        if not any(contains(device, wanted) for device in devices.findall(wanted.tag)):
            devices.append(wanted)


def apply_uefi_features(tree: Any, smm: bool) -> None:
    """libvirt wants ACPI for UEFI; Secure Boot firmware keeps its variables behind system management mode."""
    features = _child(tree, "features")
    _child(features, "acpi")
    if smm and _child(features, "smm").get("state") != "on":
        _child(features, "smm").set("state", "on")


def _child(tree: Any, tag: str) -> Any:
    element = tree.find(tag)
    return etree.SubElement(tree, tag) if element is None else element
