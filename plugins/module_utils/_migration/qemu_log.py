# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""The end of the destination's QEMU log, read over libvirt.

When the destination's QEMU ends, its last words reach the source only if libvirt's error from the
destination comes before the source's own "job 'migration out' unexpectedly failed" (seen on 9.0.0:
in one of six migrations with a wrong secret it does not).
"""

import re
from typing import Any, Optional

from .._core.deps import libvirt
from .directory_pool import directory_pool

# libvirt 9.0 to 12.8, qemu:///system: qemu_conf.c, logDir.
LOG_DIRECTORY = "/var/log/libvirt/qemu"
LAST_BYTES = 8192

_VAGUE = re.compile(r"unexpectedly failed|unexpectedly closed the monitor\s*$", re.IGNORECASE)
_START = re.compile(r"^.*: starting up libvirt version.*$", re.MULTILINE)
_QEMU_LINE = re.compile(r"^\S+Z qemu-system-\S+: (.*)$", re.MULTILINE)


def is_vague(error: Any) -> bool:
    """Whether libvirt says only that it failed."""
    return _VAGUE.search(error.get_error_message() or "") is not None


def last_words(destination: Any, vm: str) -> Optional[str]:
    """What QEMU said in the VM's last run on the destination; None where it cannot be had."""
    try:
        with directory_pool(destination, LOG_DIRECTORY) as pool:
            text = _tail(destination, pool.storageVolLookupByName(vm + ".log"))
    except libvirt.libvirtError:
        return None
    starts = list(_START.finditer(text))
    lines = _QEMU_LINE.findall(text[starts[-1].end() :] if starts else text)
    # The command line and what it warns of comes first, what ended it last.
    return "; ".join(lines[-4:]) or None


def _tail(destination: Any, volume: Any) -> str:
    size = volume.info()[1]
    length = min(size, LAST_BYTES)
    stream = destination.newStream(0)
    volume.download(stream, size - length, length, 0)
    parts: list[bytes] = []
    stream.recvAll(lambda _stream, data, _opaque: parts.append(bytes(data)), None)
    stream.finish()
    return b"".join(parts).decode(errors="replace")
