# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Filters of the roles: from descriptions, records and results to the lists of items that one task each takes.

The logic is in plugin_utils/_plans; this file only gives it names in templates.
"""

from functools import wraps
from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ..plugin_utils._core.errors import ControllerError
from ..plugin_utils._plans import descriptions, destroy, journal, migrate, placement, provision, reconcile, start, stop


def _for_templates(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except ControllerError as error:
            raise AnsibleFilterError("%s (error_code: %s)" % (error, error.code)) from error

    return call


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        filters: dict[str, Callable[..., Any]] = {
            "refuse_absent_owners": placement.refuse_absent_owners,
            "provision_identities": descriptions.identities,
            "provision_plan": provision.plan,
            "provision_refuse_rivals": provision.refuse_rivals,
            "provision_outcome": provision.outcome,
            "vm_records": provision.vm_records,
            "start_plan": start.plan,
            "start_outcome": start.outcome,
            "stop_plan": stop.plan,
            "destroy_plan": destroy.plan,
            "destroy_outcome": destroy.outcome,
            "migrate_plan": migrate.plan,
            "migrate_moves": migrate.moves,
            "migrate_secrets": migrate.secrets,
            "migrate_outcome": migrate.outcome,
            "migrate_operations": journal.operations,
            "migrate_closings": journal.closings,
            "reconcile_claims": reconcile.claims,
            "reconcile_decisions": reconcile.decide,
            "reconcile_migrations": reconcile.migrations,
            "reconcile_leftovers": reconcile.leftovers,
            "reconcile_records": reconcile.records,
            "reconcile_closings": reconcile.closings,
        }
        return {name: _for_templates(function) for name, function in filters.items()}
