# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is measured: for each case the items, our task, the loop that it replaces, and the raw calls."""

from __future__ import annotations

import base64
import hashlib
import uuid
from dataclasses import dataclass
from typing import Any

NAMESPACE = uuid.UUID("5b0e7b3a-8b5b-4d1c-9e3a-2f1f0e6d7c11")
NVRAM_DIRECTORY = "/srv/local/bench-nvram"
TEMPLATE = "/usr/share/OVMF/OVMF_VARS_4M.fd"


@dataclass(frozen=True)
class Case:
    """One kind of object.

    Attributes:
        module: our module.
        list_name: its list option.
        items: as the module takes them.
        raw: what the raw script needs to do the same work.
        needs: cases whose objects must be there.
    """

    name: str
    module: str
    list_name: str
    items: list[dict[str, Any]]
    raw: list[dict[str, Any]]
    needs: tuple[str, ...] = ()

    def task(self) -> dict[str, Any]:
        return {"trustedvm.libvirt." + self.module: {self.list_name: "{{ bench_items }}"}}

    def empty_task(self) -> dict[str, Any]:
        """The same module with nothing to do: what any call of it costs."""
        return {"trustedvm.libvirt." + self.module: {self.list_name: []}}

    def loop_task(self, count: int) -> dict[str, Any]:
        """One item a task, over the first so many items."""
        keys = sorted(self.items[0])
        arguments = {key: "{{ item.%s }}" % key for key in keys}
        return {
            "trustedvm.libvirt." + self.module: arguments,
            "loop": "{{ bench_items[:%d] }}" % count,
            "loop_control": {"label": "item"},
            "no_log": False,
        }


def make_cases(count: int) -> dict[str, Case]:
    vms = [str(uuid.uuid5(NAMESPACE, "vm %d" % number)) for number in range(count)]
    secrets = {vm: str(uuid.uuid5(NAMESPACE, "secret " + vm)) for vm in vms}
    cases = (_secrets(vms, secrets), _nvram(vms), _domains(vms, secrets))
    return {case.name: case for case in cases}


def _secrets(vms: list[str], secrets: dict[str, str]) -> Case:
    items = []
    for vm in vms:
        key = base64.b64encode(hashlib.sha256(vm.encode()).digest())
        items.append({"uuid": secrets[vm], "usage": "trustedvm:vtpm:" + vm, "value": base64.b64encode(key).decode()})
    return Case("secrets", "libvirt_secret", "secrets", items, items)


def _nvram(vms: list[str]) -> Case:
    items = [{"path": _nvram_path(vm), "template": TEMPLATE} for vm in vms]
    return Case("nvram_volumes", "nvram_volume", "volumes", items, items)


def _domains(vms: list[str], secrets: dict[str, str]) -> Case:
    items = [
        {
            "name": "bench-%03d" % number,
            "uuid": vm,
            "memory": 128,
            "virt_type": "qemu",
            "networks": [],
            "tpm": {"secret_uuid": secrets[vm]},
            "nvram": {"path": _nvram_path(vm), "template": TEMPLATE},
        }
        for number, vm in enumerate(vms)
    ]
    raw = [{"uuid": vm, "name": item["name"]} for vm, item in zip(vms, items)]
    return Case("domains", "vm", "vms", items, raw, needs=("secrets", "nvram_volumes"))


def _nvram_path(vm: str) -> str:
    return "%s/%s/%s.fd" % (NVRAM_DIRECTORY, vm, vm)
