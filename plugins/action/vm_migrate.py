# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Live migrations, with keys from the registry to try on the TPM state first."""
from __future__ import annotations

from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._actions.key_injection import KeyCarryingAction


class ActionModule(KeyCarryingAction):
    ITEMS = "migrations"
