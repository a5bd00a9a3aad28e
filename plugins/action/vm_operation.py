# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal of runs and their leases."""
from __future__ import annotations

import os
from typing import Any, Mapping

from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._actions.base import ConvergingAction
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._actions.items import ItemSpec
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._core import holder
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._records.lease_keeper import lease_seconds
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._records.operations import OperationPlanner, operation_subject
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._records.runner import Item, Planner
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._registry.engine import Session
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._registry.operation_records import Holder

OPTIONS: dict[str, dict[str, Any]] = {
    "vm": {"type": "str"},
    "run": {"type": "str"},
    "kind": {"type": "str", "choices": ["migrate"], "default": "migrate"},
    "state": {"type": "str", "choices": ["open", "renewed", "taken_over", "released", "closed"], "default": "open"},
    "phase": {"type": "str"},
    "facts": {"type": "dict"},
    "lease": {"type": "int", "default": 300},
    "expect": {"type": "dict", "options": {"host": {"type": "str"}, "generation": {"type": "int"}}},
    "outcome": {"type": "str", "choices": ["done", "failed", "undone"]},
    "message": {"type": "str"},
}


def current_holder() -> Holder:
    """The process of the playbook: an action runs in a child of it, which ends with its task."""
    pid = os.getppid()
    return Holder(holder.user_name(), holder.host_name(), pid, holder.machine_id(), holder.started_at(pid) or 0)


class ActionModule(ConvergingAction):
    SPEC = ItemSpec("operations", ("vm",), OPTIONS, required=("run",))

    def planner(self, session: Session, items: list[Item]) -> Planner:
        for item in items:
            lease_seconds(item["lease"])
        return OperationPlanner(session, items, current_holder()).plan

    def subject(self, item: Item) -> Mapping[str, Any]:
        return operation_subject(item)
