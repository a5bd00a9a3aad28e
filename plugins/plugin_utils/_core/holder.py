# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which process runs this playbook, and whether one that ran another still lives (Linux's /proc; see proc(5))."""
from __future__ import annotations

import getpass
import os
import socket
from typing import Optional

BOOT_ID = "/proc/sys/kernel/random/boot_id"
PID_NAMESPACE = "/proc/self/ns/pid"


def user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return str(os.getuid())


def host_name() -> str:
    return socket.gethostname()


def machine_id() -> str:
    """Where process numbers mean the same: this boot of this machine, and this container. Empty where that cannot be told."""
    try:
        with open(BOOT_ID, encoding="ascii") as stream:
            return "%s/%s" % (stream.read().strip(), os.readlink(PID_NAMESPACE))
    except OSError:
        return ""


def started_at(pid: int) -> Optional[int]:
    """When a process began, in clock ticks since boot; None if there is no such process, 0 if it cannot be told."""
    try:
        with open("/proc/%d/stat" % pid, encoding="utf-8", errors="replace") as stream:
            # The second field is the name in parentheses, which may hold anything; the 22nd is starttime.
            fields = stream.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    except OSError:
        return 0
    # A zombie does nothing any more; its parent just has not asked yet.
    return None if fields[0] in ("Z", "X") else int(fields[19])


def is_gone(machine: str, pid: int, started: int) -> bool:
    """Whether that process has certainly ended. False wherever it cannot be known."""
    if not machine or machine != machine_id() or not started:
        return False
    found = started_at(pid)
    return found is None or found not in (0, started)
