# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a play reaches the hosts that own its VMs."""
from __future__ import annotations

from typing import Optional, Sequence

from .._core.errors import ControllerError
from .descriptions import Record


def refuse_absent_owners(records: Sequence[Record], play_hosts: Sequence[str], settled_on: Optional[str] = None) -> bool:
    """Each host of a play works on the VMs that it owns; a VM whose owner is not in the play would be left out without a word.

    Args:
        play_hosts: all hosts of the play, also those that failed.
        settled_on: a host on which there is nothing to do: the destination of a migration.

    Raises:
        ControllerError: ``vm_host_not_in_play``.
    """
    left_out = [record for record in records if record["host"] not in play_hosts and record["host"] != settled_on]
    if left_out:
        raise ControllerError(
            "vm_host_not_in_play",
            "No host of this play owns %s; nothing was done" % ", ".join("VM %s" % record["name"] for record in left_out),
            found="in the registry %s" % ", ".join("%s on %s" % (record["name"], record["host"]) for record in left_out),
            wanted="a play on these hosts, among others or alone; it is on %s" % ", ".join(play_hosts),
            hint="See trustedvm_hosts and --limit; a host that was renamed in the inventory needs its records moved with vm_record",
        )
    return True
