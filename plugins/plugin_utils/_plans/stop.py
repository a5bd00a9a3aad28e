# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stopping."""
from __future__ import annotations

from typing import Any, Sequence

from .descriptions import Record


def plan(records: Sequence[Record], host: str) -> list[dict[str, Any]]:
    """vm items that name the VMs which this host owns."""
    return [{"name": record["name"], "uuid": record["uuid"]} for record in records if record["host"] == host]
