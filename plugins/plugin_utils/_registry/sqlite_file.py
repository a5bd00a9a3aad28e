# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file of an SQLite registry: whether it is there, and making it."""
from __future__ import annotations

import os

from .._core.directories import make_private_directory
from .._core.errors import ControllerError


def is_there(path: str) -> bool:
    """Whether the registry's file is there. What cannot be looked at must not pass for an empty registry.

    Raises:
        ControllerError: ``registry_unavailable``: no permission, a network file system that does not answer, a link
            to a place that is not mounted.
    """
    try:
        os.stat(path)
        return True
    except FileNotFoundError:
        above = path
        while not os.path.lexists(above):
            above = os.path.dirname(above)
        if not os.path.exists(above):
            raise _unavailable("looked at", path, "the link %s, whose target is not there" % above) from None
        return False
    except OSError as error:
        raise _unavailable("looked at", path, error.strerror or str(error)) from None


def make_private_file(path: str) -> None:
    """SQLite gives its journal files the mode of the database file."""
    try:
        make_private_directory(os.path.dirname(path))
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise _unavailable("opened for writing", path, error.strerror or str(error)) from None


def _unavailable(what: str, path: str, found: str) -> ControllerError:
    return ControllerError(
        "registry_unavailable",
        "The registry's file %s cannot be %s" % (path, what),
        found=found,
        hint="Look at the permissions and the mounts, or set state_directory or registry_url",
    )
