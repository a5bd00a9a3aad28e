# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the registry says of resource keys. Never creates one."""
from __future__ import annotations

from typing import Any, Mapping

from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._actions.base import ReadingAction
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._actions.items import CONTROLLER_OPTIONS
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._records.reading import read_resource_keys
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._registry.engine import Registry

OPTIONS = {
    "vms": {"type": "list", "elements": "str"},
    "provider": {"type": "str"},
    "created_by": {"type": "str"},
    "verify": {"type": "bool", "default": False},
    **CONTROLLER_OPTIONS,
}


class ActionModule(ReadingAction):
    OPTIONS = OPTIONS

    def read(self, registry: Registry, params: Mapping[str, Any]) -> dict[str, Any]:
        open_provider = self.open_provider if params["verify"] else None
        return read_resource_keys(registry, params["vms"], params["provider"], params["created_by"], open_provider)
