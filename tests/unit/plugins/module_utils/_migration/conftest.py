# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.trustedvm.libvirt.tests.unit.plugins.module_utils._migration.fakes import Pair


@pytest.fixture
def pair(tmp_path):
    """Two hosts; the VM web1 runs on the first."""
    return Pair(str(tmp_path))
