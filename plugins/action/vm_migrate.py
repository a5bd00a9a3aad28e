# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Migrations, with keys from the registry to try on the TPM state first, and the run's lease renewed meanwhile."""
from __future__ import annotations

from typing import Any, Optional

from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._actions.key_injection import KeyCarryingAction
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._actions.settings import resolve_settings
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._records.lease_keeper import LeaseKeeper, lease_seconds

DEFAULT_LEASE = 300


class ActionModule(KeyCarryingAction):
    ITEMS = "migrations"
    ITS_OWN = ("run", "lease")

    def _run_module(self, arguments: dict[str, Any], task_vars: Optional[dict[str, Any]]) -> dict[str, Any]:
        run = self._task.args.get("run")
        if not run or self._task.check_mode:
            return super()._run_module(arguments, task_vars)
        settings = resolve_settings(self._options, task_vars or {}, self._templar.template)
        with LeaseKeeper(settings.registry_url, str(run), lease_seconds(self._task.args.get("lease", DEFAULT_LEASE))) as keeper:
            result = super()._run_module(arguments, task_vars)
        if keeper.problem is not None:
            # What the hosts did stands; the run's next word to the registry tells whether it still has the VMs.
            result.setdefault("warnings", []).append("The lease of run %s could not be renewed at the end: %s" % (run, keeper.problem))
        return result
