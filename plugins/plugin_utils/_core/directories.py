# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories that only their owner may enter."""
from __future__ import annotations

import os


def make_private_directory(path: str) -> None:
    """Make the directory and what is missing above it, each with mode 0700; one that is there stays as it is.

    ``os.makedirs(mode=…)`` gives the mode to the last one only.
    """
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    if parent != path:
        make_private_directory(parent)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:  # another process was first
        if not os.path.isdir(path):
            raise
