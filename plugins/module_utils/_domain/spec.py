# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""What a VM is to be, from a module's options; an option that is not set says nothing."""

from dataclasses import dataclass
from typing import Any, Mapping, Optional, Sequence

from .._core.domains import as_uuid
from .._core.errors import TrustedVMError
from .._core.texts import fits_xml
from .disks import DiskSpec, parse_size

_TARGET_PREFIXES = {"virtio": "vd", "scsi": "sd", "sata": "sd", "usb": "sd", "ide": "hd"}


@dataclass(frozen=True)
class NetworkSpec:
    kind: str
    source: str
    model: str = "virtio"
    mac: Optional[str] = None


@dataclass(frozen=True)
class ConsoleSpec:
    path: str
    append: bool = True


@dataclass(frozen=True)
class TpmWish:
    """``secret_uuid`` None: an existing device keeps its secret, a new one needs ``allow_unencrypted``."""

    secret_uuid: Optional[str] = None
    model: Optional[str] = None
    version: Optional[str] = None
    allow_unencrypted: bool = False


@dataclass(frozen=True)
class VmSpec:
    """The wanted definition. None, everywhere: not managed on an existing VM, the default on a new one."""

    name: Optional[str] = None
    uuid: Optional[str] = None
    xml: Optional[str] = None
    memory: Optional[int] = None
    vcpus: Optional[int] = None
    virt_type: Optional[str] = None
    architecture: Optional[str] = None
    machine: Optional[str] = None
    cpu_mode: Optional[str] = None
    cpu_model: Optional[str] = None
    firmware: Optional[str] = None
    secure_boot: Optional[bool] = None
    enrolled_keys: Optional[bool] = None
    loader: Optional[str] = None
    nvram_path: Optional[str] = None
    nvram_directory: Optional[str] = None
    nvram_template: Optional[str] = None
    tpm: Optional[TpmWish] = None
    disks: Optional[tuple[DiskSpec, ...]] = None
    networks: Optional[tuple[NetworkSpec, ...]] = None
    console: Optional[ConsoleSpec] = None
    graphics: Optional[str] = None
    autostart: Optional[bool] = None
    devices_xml: Optional[tuple[str, ...]] = None

    @property
    def says_something(self) -> bool:
        """Whether any option besides the identity is set."""
        return any(value is not None for key, value in vars(self).items() if key not in ("name", "uuid"))


def spec_from_options(item: Mapping[str, Any]) -> VmSpec:
    """The spec of one item.

    Raises:
        TrustedVMError: ``vm_options_invalid``, naming the option.
    """
    for name, value in item.items():
        # The user's own XML is judged by the parser.
        if name not in ("xml", "devices_xml"):
            _refuse_unwritable(name, value)
    nvram = item.get("nvram") or {}
    if nvram.get("path") and nvram.get("directory"):
        raise invalid("nvram.path and nvram.directory exclude each other")
    spec = VmSpec(
        **{name: item.get(name) for name in _PLAIN},
        uuid=_uuid("uuid", item.get("uuid")),
        nvram_path=nvram.get("path"),
        nvram_directory=nvram.get("directory"),
        nvram_template=nvram.get("template"),
        tpm=_tpm(item.get("tpm")),
        disks=None if item.get("disks") is None else disk_specs(item["disks"]),
        networks=None if item.get("networks") is None else tuple(_network(net) for net in item["networks"]),
        console=_console(item.get("console")),
        devices_xml=None if item.get("devices_xml") is None else tuple(item["devices_xml"]),
    )
    _refuse_contradictions(spec)
    return spec


def _refuse_unwritable(name: str, value: Any) -> None:
    """A text that no XML can hold; looked at here, where the option's name is known."""
    if isinstance(value, str) and not fits_xml(value):
        raise invalid("%s holds a control character" % name)
    if isinstance(value, Mapping):
        for key, part in value.items():
            _refuse_unwritable("%s.%s" % (name, key), part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            _refuse_unwritable(name, part)


_PLAIN = (
    "name",
    "xml",
    "memory",
    "vcpus",
    "virt_type",
    "architecture",
    "machine",
    "cpu_mode",
    "cpu_model",
    "firmware",
    "secure_boot",
    "enrolled_keys",
    "loader",
    "graphics",
    "autostart",
)
_NOT_WITH_XML = (
    "memory",
    "vcpus",
    "virt_type",
    "architecture",
    "machine",
    "cpu_mode",
    "cpu_model",
    "disks",
    "networks",
    "console",
    "graphics",
    "devices_xml",
)


def _refuse_contradictions(spec: VmSpec) -> None:
    if spec.xml is not None:
        given = [name for name in _NOT_WITH_XML if getattr(spec, name) is not None]
        if given:
            raise invalid("xml describes the whole VM, so it excludes %s" % ", ".join(given))
    if spec.firmware == "bios":
        if spec.tpm is not None or spec.secure_boot:
            raise TrustedVMError(
                "tpm_needs_uefi",
                "A VM with a vTPM or Secure Boot needs UEFI",
                found="firmware: bios",
                wanted="firmware: uefi",
            )
        if spec.loader or spec.nvram_path or spec.nvram_directory or spec.nvram_template:
            raise invalid("loader and nvram are for firmware: uefi")
    if spec.memory is not None and spec.memory < 1:
        raise invalid("memory has to be at least 1 MiB")
    if spec.vcpus is not None and spec.vcpus < 1:
        raise invalid("vcpus has to be at least 1")
    if spec.cpu_mode == "custom" and not spec.cpu_model:
        raise invalid("cpu_mode: custom needs cpu_model")
    if spec.enrolled_keys and not spec.secure_boot:
        raise invalid("enrolled_keys is for secure_boot: true")


def disk_specs(disks: Sequence[Mapping[str, Any]]) -> tuple[DiskSpec, ...]:
    """The disks with a target each: given, else the next free one of the bus (vda, vdb, sda…)."""
    taken = {disk["target"] for disk in disks if disk.get("target")}
    specs = []
    for disk in disks:
        target = disk.get("target") or _next_target(disk, taken)
        taken.add(target)
        specs.append(_disk(disk, target))
    if len({spec.target for spec in specs}) != len(specs):
        raise invalid("two disks have the same target")
    return tuple(specs)


def _disk(disk: Mapping[str, Any], target: str) -> DiskSpec:
    path, pool, volume = disk.get("path"), disk.get("pool"), disk.get("volume")
    if bool(path) == bool(pool) or bool(pool) != bool(volume):
        raise invalid("a disk has either path, or pool and volume")
    if path and not path.startswith("/"):
        raise invalid("disk path %s is not absolute" % path)
    device = disk.get("device") or "disk"
    return DiskSpec(
        target=target,
        path=path,
        pool=pool,
        volume=volume,
        device=device,
        format=disk.get("format") or _default_format(path, device),
        bus=disk.get("bus") or _default_bus(device),
        readonly=bool(disk.get("readonly")) or device == "cdrom",
        cache=disk.get("cache"),
        size=None if disk.get("size") is None else parse_size(disk["size"]),
        image=disk.get("image"),
    )


def _default_format(path: Optional[str], device: str) -> str:
    return "raw" if device == "cdrom" or (path or "").startswith("/dev/") else "qcow2"


def _default_bus(device: str) -> str:
    # q35 has no IDE, and virtio has no CD drive.
    return "sata" if device == "cdrom" else "virtio"


def _next_target(disk: Mapping[str, Any], taken: set[str]) -> str:
    prefix = _TARGET_PREFIXES[disk.get("bus") or _default_bus(disk.get("device") or "disk")]
    for letter in "abcdefghijklmnopqrstuvwxyz":
        if prefix + letter not in taken:
            return prefix + letter
    raise invalid("more than 26 disks on one bus need a target each")


def _network(net: Mapping[str, Any]) -> NetworkSpec:
    kinds = [kind for kind in ("network", "bridge") if net.get(kind)]
    if len(kinds) != 1:
        raise invalid("a network interface has either network or bridge")
    mac = net.get("mac")
    return NetworkSpec(kinds[0], net[kinds[0]], net.get("model") or "virtio", mac.lower() if mac else None)


def _console(console: Optional[Mapping[str, Any]]) -> Optional[ConsoleSpec]:
    if console is None:
        return None
    append = console.get("append")
    return ConsoleSpec(console["path"], True if append is None else bool(append))


def _tpm(tpm: Optional[Mapping[str, Any]]) -> Optional[TpmWish]:
    if tpm is None:
        return None
    return TpmWish(
        secret_uuid=_uuid("tpm.secret_uuid", tpm.get("secret_uuid")),
        model=tpm.get("model"),
        version=tpm.get("version"),
        allow_unencrypted=bool(tpm.get("allow_unencrypted")),
    )


def _uuid(option: str, value: Optional[str]) -> Optional[str]:
    if not value:
        return None
    canonical = as_uuid(value)
    if canonical is None:
        raise invalid("%s '%s' is not a UUID" % (option, value))
    return canonical


def invalid(message: str) -> TrustedVMError:
    return TrustedVMError("vm_options_invalid", message)
