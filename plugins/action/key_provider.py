# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Key providers in the registry."""
from __future__ import annotations

from typing import Any, Mapping

from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._actions.base import ConvergingAction
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._actions.items import ItemSpec
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._records.key_providers import (
    KeyProviderPlanner,
    key_provider_subject,
)
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._records.runner import Item, Planner
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._registry.engine import Session

NATIVE = {"key_ring": {"type": "path"}, "passphrase_file": {"type": "path"}}

OPTIONS: dict[str, dict[str, Any]] = {
    "name": {"type": "str"},
    "type": {"type": "str", "choices": ["native"], "default": "native"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "native": {"type": "dict", "options": NATIVE},
    "remove_key_ring": {"type": "bool", "default": False},
}


class ActionModule(ConvergingAction):
    SPEC = ItemSpec("providers", ("name",), OPTIONS)

    def planner(self, session: Session, items: list[Item]) -> Planner:
        # A registry in a file beside the ring goes where the ring goes.
        temporary_place = self._settings.home if session.shared else None
        return KeyProviderPlanner(session, items, self.open_provider, temporary_place).plan

    def subject(self, item: Item) -> Mapping[str, Any]:
        return key_provider_subject(item)
