# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the journal says of runs."""
from __future__ import annotations

from typing import Any, Mapping

from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._actions.base import ReadingAction
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._actions.items import CONTROLLER_OPTIONS
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._records.operations import read_operations
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._registry.engine import Registry

OPTIONS = {
    "vms": {"type": "list", "elements": "str"},
    "open_only": {"type": "bool", "default": True},
    "unfinished_only": {"type": "bool", "default": False},
    **CONTROLLER_OPTIONS,
}


class ActionModule(ReadingAction):
    OPTIONS = OPTIONS

    def read(self, registry: Registry, params: Mapping[str, Any]) -> dict[str, Any]:
        return read_operations(registry, params["vms"], params["open_only"], params["unfinished_only"])
