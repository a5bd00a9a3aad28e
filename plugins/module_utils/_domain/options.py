# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""The options of a VM, as Ansible's argument spec."""

from typing import Any

_DISK: dict[str, Any] = {
    "path": {"type": "path"},
    "pool": {"type": "str"},
    "volume": {"type": "str"},
    "target": {"type": "str"},
    "device": {"type": "str", "choices": ["disk", "cdrom"], "default": "disk"},
    "bus": {"type": "str", "choices": ["virtio", "scsi", "sata", "usb", "ide"]},
    "format": {"type": "str", "choices": ["qcow2", "raw"]},
    "size": {"type": "str"},
    "image": {"type": "path"},
    "readonly": {"type": "bool", "default": False},
    "cache": {"type": "str", "choices": ["none", "writeback", "writethrough", "directsync", "unsafe"]},
}

_NETWORK: dict[str, Any] = {
    "network": {"type": "str"},
    "bridge": {"type": "str"},
    "model": {"type": "str", "default": "virtio"},
    "mac": {"type": "str"},
}

_NVRAM: dict[str, Any] = {
    "path": {"type": "path"},
    "directory": {"type": "path"},
    "template": {"type": "path"},
}

_TPM: dict[str, Any] = {
    # The UUID of a secret, not a secret.
    "secret_uuid": {"type": "str", "no_log": False},
    "model": {"type": "str", "choices": ["tpm-crb", "tpm-tis"]},
    "version": {"type": "str", "choices": ["1.2", "2.0"]},
    "allow_unencrypted": {"type": "bool", "default": False},
}

_CONSOLE: dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "append": {"type": "bool", "default": True},
}

_DEFINITION: dict[str, Any] = {
    "xml": {"type": "str"},
    "memory": {"type": "int"},
    "vcpus": {"type": "int"},
    "virt_type": {"type": "str", "choices": ["kvm", "qemu", "auto"]},
    "architecture": {"type": "str"},
    "machine": {"type": "str"},
    "cpu_mode": {"type": "str", "choices": ["host-model", "host-passthrough", "maximum", "custom"]},
    "cpu_model": {"type": "str"},
    "firmware": {"type": "str", "choices": ["uefi", "bios"]},
    "secure_boot": {"type": "bool"},
    "enrolled_keys": {"type": "bool", "no_log": False},
    "loader": {"type": "path"},
    "nvram": {"type": "dict", "options": _NVRAM},
    "tpm": {"type": "dict", "options": _TPM},
    "disks": {"type": "list", "elements": "dict", "options": _DISK},
    "networks": {"type": "list", "elements": "dict", "options": _NETWORK},
    "console": {"type": "dict", "options": _CONSOLE},
    "graphics": {"type": "str", "choices": ["none", "vnc"]},
    "autostart": {"type": "bool"},
    "devices_xml": {"type": "list", "elements": "str"},
}

VM_OPTIONS: dict[str, Any] = {
    "name": {"type": "str"},
    "uuid": {"type": "str"},
    "state": {"type": "str", "choices": ["defined", "running", "stopped", "absent"], "default": "defined"},
    **_DEFINITION,
    "expect_state": {"type": "bool"},
    "prepared_by_play": {"type": "bool", "default": False},
    "stop_timeout": {"type": "int", "default": 120},
    "force_stop": {"type": "bool", "default": True},
    "start_migrated": {"type": "bool", "default": False},
    "remove_disks": {"type": "bool", "default": False},
    "remove_nvram": {"type": "bool", "default": False},
    "remove_tpm_state": {"type": "bool", "default": False},
    "force": {"type": "bool", "default": False},
}
