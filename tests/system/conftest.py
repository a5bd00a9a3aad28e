# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two lab hypervisors for all system tests of a run; TRUSTEDVM_LAB_DIR says where, so that two runs can go side by side."""
from __future__ import annotations

import os
import pathlib
from typing import Iterator

import pytest

from .fleet import Fleet


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    lab = os.environ.get("TRUSTEDVM_LAB_DIR")
    fleet = Fleet("system", pathlib.Path(tmp_path_factory.mktemp("fleet")), lab_directory=pathlib.Path(lab) if lab else None)
    try:
        fleet.up()
        fleet.playbook("hypervisor")
        yield fleet
    finally:
        fleet.down()
