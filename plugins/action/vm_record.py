# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Placement and state of VMs in the registry, compare-and-set."""
from __future__ import annotations

from typing import Any, Mapping

from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._actions.base import ConvergingAction
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._actions.items import ItemSpec
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._records.runner import Item, Planner
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._records.vm_records import (
    VmRecordPlanner,
    vm_record_subject,
)
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._registry.engine import Session

# No defaults below: what is left out stays as it is in an existing record.
EXPECT = {"host": {"type": "str"}, "generation": {"type": "int"}}

VTPM = {
    "state": {"type": "str", "choices": ["present", "absent"]},
    "secret_uuid": {"type": "str", "no_log": False},
    "model": {"type": "str", "choices": ["tpm-crb", "tpm-tis"]},
    "version": {"type": "str", "choices": ["2.0"]},
    "encrypted": {"type": "bool"},
    "state_exists": {"type": "bool"},
}

NVRAM = {
    "state": {"type": "str", "choices": ["present", "absent"]},
    "storage": {"type": "str"},
    "path": {"type": "path"},
    "size": {"type": "int"},
    "format": {"type": "str", "choices": ["raw"]},
}

OPTIONS: dict[str, dict[str, Any]] = {
    "uuid": {"type": "str"},
    "name": {"type": "str"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "host": {"type": "str"},
    "vm_state": {"type": "str", "choices": ["provisioning", "stopped", "running"]},
    "key_provider": {"type": "str", "no_log": False},
    "expect": {"type": "dict", "options": EXPECT},
    "vtpm": {"type": "dict", "options": VTPM},
    "nvram": {"type": "dict", "options": NVRAM},
    "remove_keys": {"type": "bool", "default": False, "no_log": False},
    "prepared_by_play": {"type": "bool", "default": False},
}


class ActionModule(ConvergingAction):
    SPEC = ItemSpec("records", ("uuid", "name"), OPTIONS)

    def planner(self, session: Session, items: list[Item]) -> Planner:
        return VmRecordPlanner(session, items, bool(self._task.check_mode)).plan

    def subject(self, item: Item) -> Mapping[str, Any]:
        return vm_record_subject(item)
