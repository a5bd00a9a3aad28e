# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controllers with a registry, on both databases."""

from __future__ import annotations

import pytest


@pytest.fixture
def controller(registry_url, tmp_path):
    # Here and not above: without the libraries the tests skip themselves.
    from ansible_collections.trustedvm.libvirt.tests.unit.plugins.plugin_utils.controllers import Controller

    return Controller(registry_url, tmp_path / "controller")


@pytest.fixture
def ready(controller):
    """A key provider and a VM that is bound to it."""
    from ansible_collections.trustedvm.libvirt.tests.unit.plugins.plugin_utils.controllers import VM

    controller.providers({"name": "native"})
    controller.vms({"uuid": VM, "name": "web1", "host": "kvm1", "vm_state": "running", "key_provider": "native", "vtpm": {}})
    return controller
