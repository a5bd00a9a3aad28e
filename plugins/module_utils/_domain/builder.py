# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""The skeleton of a new VM; everything that an option can say is put in by the same edits as later."""

import uuid
from dataclasses import replace
from typing import Any, Optional

from .._core.deps import etree, libvirt
from .._core.domains import as_uuid
from .._core.errors import TrustedVMError
from .._core.texts import parse_xml
from .description import describe
from .spec import VmSpec

DEFAULT_MACHINES = {"x86_64": "q35", "aarch64": "virt", "riscv64": "virt"}
DEFAULT_CPU_MODES = {"kvm": "host-model", "qemu": "maximum"}


class HostDefaults:
    """What a new VM gets on this host unless told otherwise; asked once, whatever the number of VMs."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._architecture: Optional[str] = None
        self._virt_types: dict[tuple[str, str], str] = {}

    @property
    def architecture(self) -> str:
        if self._architecture is None:
            self._architecture = str(self._connection.getInfo()[0])
        return self._architecture

    def best_virt_type(self, architecture: str, machine: str) -> str:
        """``kvm`` where libvirt offers it for that machine, else ``qemu`` (emulation)."""
        key = (architecture, machine)
        if key not in self._virt_types:
            try:
                self._connection.getDomainCapabilities(None, architecture, machine, "kvm", 0)
                self._virt_types[key] = "kvm"
            except libvirt.libvirtError:
                self._virt_types[key] = "qemu"
        return self._virt_types[key]


def complete(spec: VmSpec, host: HostDefaults) -> VmSpec:
    """The spec of a new VM with the defaults filled in.

    Raises:
        TrustedVMError: ``vm_options_invalid``: without name or memory there is nothing to make.
    """
    if not spec.name or spec.memory is None:
        raise TrustedVMError(
            "vm_options_invalid",
            "The VM does not exist yet, and to make it name and memory are needed",
            wanted="name and memory, or xml",
        )
    architecture = spec.architecture or host.architecture
    machine = spec.machine or DEFAULT_MACHINES.get(architecture, "q35")
    virt_type = spec.virt_type or "kvm"
    if virt_type == "auto":
        virt_type = host.best_virt_type(architecture, machine)
    return replace(
        spec,
        uuid=spec.uuid or str(uuid.uuid4()),
        architecture=architecture,
        machine=machine,
        virt_type=virt_type,
        vcpus=spec.vcpus or 1,
        cpu_mode=spec.cpu_mode or ("custom" if spec.cpu_model else DEFAULT_CPU_MODES.get(virt_type)),
        firmware=spec.firmware or "uefi",
        secure_boot=bool(spec.secure_boot),
        disks=spec.disks or (),
        networks=spec.networks or (),
        graphics=spec.graphics or "none",
        devices_xml=spec.devices_xml or (),
    )


def skeleton(spec: VmSpec) -> Any:
    """A ``<domain>`` with what no option says, for a completed spec."""
    tree = etree.Element("domain", type=spec.virt_type or "kvm")
    etree.SubElement(tree, "name").text = spec.name
    etree.SubElement(tree, "uuid").text = spec.uuid
    etree.SubElement(tree, "memory", unit="KiB").text = "0"
    etree.SubElement(tree, "vcpu").text = "0"
    system = etree.SubElement(tree, "os")
    kind = {"arch": spec.architecture or "", "machine": spec.machine or ""}
    etree.SubElement(system, "type", kind).text = "hvm"
    features = etree.SubElement(tree, "features")
    etree.SubElement(features, "acpi")
    if spec.architecture == "x86_64":
        etree.SubElement(features, "apic")
    etree.SubElement(tree, "clock", offset="utc")
    devices = etree.SubElement(tree, "devices")
    if spec.console is None:
        etree.SubElement(etree.SubElement(devices, "serial", type="pty"), "target", port="0")
    rng = etree.SubElement(devices, "rng", model="virtio")
    etree.SubElement(rng, "backend", model="random").text = "/dev/urandom"
    return tree


def parse_user_xml(spec: VmSpec) -> Any:
    """The user's own XML, with name and UUID from the options or, failing that, a new UUID.

    Raises:
        TrustedVMError: ``xml_invalid``; ``vm_options_invalid`` where XML and options contradict.
    """
    tree = parse_xml(spec.xml or "", "The VM's xml")
    if tree.tag != "domain":
        raise TrustedVMError("xml_invalid", "The VM's xml is no domain", found="<%s>" % tree.tag, wanted="<domain>")
    if tree.find("os/type") is None or tree.find("memory") is None:
        raise TrustedVMError("xml_invalid", "The VM's xml lacks <os><type> or <memory>")
    # What we read ourselves has to be readable before anything is made; the rest is for libvirt to judge.
    describe(tree)
    _normalize_uuid(tree)
    _settle(tree, "name", spec.name)
    _settle(tree, "uuid", spec.uuid)
    if not tree.findtext("name"):
        raise TrustedVMError("vm_options_invalid", "Neither the option name nor the xml names the VM")
    return tree


def _normalize_uuid(tree: Any) -> None:
    """libvirt takes a UUID in capitals and without dashes, too, and shows it in its own form."""
    element = tree.find("uuid")
    text = "" if element is None else (element.text or "").strip()
    if not text:
        return
    uuid_text = as_uuid(text)
    if uuid_text is None:
        raise TrustedVMError("xml_invalid", "The VM's xml has a UUID that is none", found="<uuid>%s</uuid>" % text)
    element.text = uuid_text


def _settle(tree: Any, tag: str, value: Any) -> None:
    found = (tree.findtext(tag) or "").strip()
    if value and found and found != value:
        raise TrustedVMError(
            "vm_options_invalid",
            "The option %s and the xml contradict each other" % tag,
            found="<%s>%s</%s>" % (tag, found, tag),
            wanted=value,
        )
    if value and not found:
        old = tree.find(tag)
        if old is not None:
            tree.remove(old)
        element = etree.Element(tag)
        element.text = value
        tree.insert(0 if tag == "name" else 1, element)
