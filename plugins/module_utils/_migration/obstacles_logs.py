# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Files on the host that the VM's ports write: QEMU and virtlogd make them, but not their directory."""

import os
from typing import Any

from .._core.errors import TrustedVMError
from .sharing import directory_exists
from .survey import Survey

# There on every host, and a pool that looked into them would open every device.
_NEVER_ASKED = ("/dev", "/proc", "/sys")


def log_obstacles(survey: Survey, tree: Any) -> list[TrustedVMError]:
    """One for each directory that the destination lacks."""
    paths: dict[str, str] = {}
    for path in _files(tree):
        paths.setdefault(os.path.dirname(os.path.normpath(path)), path)
    return [
        _missing(survey, path)
        for directory, path in sorted(paths.items())
        if not _is_below(directory, _NEVER_ASKED) and directory_exists(survey.destination, directory) is False
    ]


def _files(tree: Any) -> list[str]:
    devices = tree.find("devices")
    if devices is None:
        return []
    found = [source.get("path") for device in devices for source in device.findall("source") if device.get("type") == "file"]
    found += [log.get("file") for device in devices for log in device.findall("log")]
    # A disk's <source> has no path, but another attribute.
    return [path for path in found if path and path.startswith("/")]


def _is_below(directory: str, places: tuple[str, ...]) -> bool:
    return any(directory == place or directory.startswith(place + "/") for place in places)


def _missing(survey: Survey, path: str) -> TrustedVMError:
    return TrustedVMError(
        "destination_log_directory_missing",
        "Host %s lacks the directory of a file that VM '%s' writes, %s"
        % (survey.destination_host, survey.machine.name if survey.machine else "", path),
        found="no directory %s" % os.path.dirname(path),
        wanted="the directory, as on %s" % survey.source_host,
        hint="Make it there, or take the file out of the VM's definition (a <serial>, <console> or <log>)",
    )
