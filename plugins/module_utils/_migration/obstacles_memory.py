# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Too little memory at the destination. Only what is clear counts: hosts may overcommit on purpose."""

from typing import Any, Optional

from .._core.deps import libvirt
from .._core.errors import TrustedVMError
from .survey import Survey

# Some of what a VM holds need not move (caches of QEMU), and some of the host's memory can be freed.
_MARGIN = 0.9


def memory_obstacles(survey: Survey, tree: Any, running: bool) -> list[TrustedVMError]:
    """A VM that runs must fit into what is free, one that is off into what the host has.

    What counts of a running one is what its QEMU holds: pages that the guest never wrote take no
    memory on the other side either.
    """
    wanted = _memory(tree)
    try:
        stats = survey.destination.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS, 0)
    except libvirt.libvirtError:
        return []
    total, free = stats.get("total"), stats.get("free")
    if total and wanted > total:
        return [_short(survey, "%d MiB in all" % (total // 1024), wanted)]
    # Huge pages are set aside; they are not in what is free.
    if not running or free is None or tree.find("memoryBacking/hugepages") is not None:
        return []
    available = free + stats.get("buffers", 0) + stats.get("cached", 0)
    held = min(wanted, _held(survey.here) or wanted)
    if held * _MARGIN <= available:
        return []
    return [_short(survey, "%d MiB free or in caches" % (available // 1024), held)]


def _memory(tree: Any) -> int:
    """KiB, the unit in which libvirt writes it."""
    return int(tree.findtext("currentMemory") or tree.findtext("memory") or 0)


def _held(domain: Any) -> Optional[int]:
    """KiB in the host's memory."""
    try:
        rss: Optional[int] = domain.memoryStats().get("rss")
    except libvirt.libvirtError:
        return None
    return rss


def _short(survey: Survey, found: str, wanted: int) -> TrustedVMError:
    return TrustedVMError(
        "destination_memory_short",
        "Host %s has too little memory for VM '%s'"
        % (survey.destination_host, survey.machine.name if survey.machine else ""),
        found=found,
        wanted="%d MiB" % (wanted // 1024),
        hint="Move or stop other VMs there, give the VM less memory, or choose another host",
    )
