# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resource keys: get or create, remove."""
from __future__ import annotations

from typing import Any, Mapping

from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._actions.base import ConvergingAction
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._actions.items import ItemSpec
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._records.key_request import PURPOSES, RESOURCE_TYPES
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._records.resource_keys import (
    ResourceKeyPlanner,
    resource_key_subject,
)
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._records.runner import Item, Planner
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._registry.engine import Session

OPTIONS: dict[str, dict[str, Any]] = {
    "resource_type": {"type": "str", "choices": list(RESOURCE_TYPES), "default": "vtpm"},
    "vm": {"type": "str"},
    "purpose": {"type": "str", "choices": list(PURPOSES)},
    "key_version": {"type": "int", "no_log": False},
    "provider": {"type": "str"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "operation": {"type": "str"},
    "only_created_by": {"type": "str"},
    "prepared_by_play": {"type": "bool", "default": False},
}


class ActionModule(ConvergingAction):
    SPEC = ItemSpec("keys", ("vm",), OPTIONS, required=("purpose",))

    def planner(self, session: Session, items: list[Item]) -> Planner:
        return ResourceKeyPlanner(session, items, self.open_provider, bool(self._task.check_mode)).plan

    def subject(self, item: Item) -> Mapping[str, Any]:
        return resource_key_subject(item)
