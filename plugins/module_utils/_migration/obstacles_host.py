# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""What the destination lacks for the VM's definition, whether it runs or is off."""

from .._core.domains import definition
from .._core.errors import TrustedVMError
from .checks import Checks
from .obstacles_hostdev import missing_obstacles
from .obstacles_logs import log_obstacles
from .obstacles_memory import memory_obstacles
from .obstacles_network import network_obstacles
from .obstacles_release import release_obstacles
from .survey import Survey


def host_obstacles(survey: Survey) -> list[TrustedVMError]:
    """All of them, for the definition that the VM has now."""
    domain = survey.here
    if domain is None:
        return []
    running = bool(domain.isActive())
    tree = definition(domain, inactive=not running)
    checks = Checks(survey)
    checks.run("its release of libvirt", lambda: release_obstacles(survey, tree))
    checks.run("its memory", lambda: memory_obstacles(survey, tree, running))
    checks.run("its networks", lambda: network_obstacles(survey, tree))
    checks.run("its devices", lambda: missing_obstacles(survey, tree))
    checks.run("its directories", lambda: log_obstacles(survey, tree))
    return checks.found
