# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host whose VMs the tests define, start and take away: real libvirt, real QEMU, real swtpm."""
from __future__ import annotations

import os
import shutil
import tempfile

import pytest

VM = "0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11"
SECRET = "6f0c8a3e-2b1d-5c55-9d0f-0a1b2c3d4e5f"

DEFAULTS = {
    "name": None,
    "uuid": None,
    "state": "defined",
    "expect_state": None,
    "prepared_by_play": False,
    "stop_timeout": 0,
    "force_stop": True,
    "start_migrated": False,
    "remove_disks": False,
    "remove_nvram": False,
    "remove_tpm_state": False,
    "force": False,
}


class Host:
    """Runs items as the module does, and sees that check mode predicts and a second run is idle."""

    def __init__(self, daemon, root):
        self.daemon = daemon
        self.root = root

    def planner(self, items, check_mode=False):
        from ansible_collections.trustedvm.libvirt.plugins.module_utils._domain.planner import VmPlanner

        return VmPlanner(self.daemon.connection, items, check_mode)

    def item(self, **options):
        return {**DEFAULTS, "name": "web1", "uuid": VM, **options}

    def plan(self, check_mode=False, **options):
        item = self.item(**options)
        return self.planner([item], check_mode)(item)

    def run(self, **options):
        """Predict, apply, compare; then once more, which has nothing to do. Returns the result."""
        predicted = self.plan(check_mode=True, **options)
        change = self.plan(**options)
        change.apply()
        assert change.result() == predicted.result()
        again = self.plan(**options)
        assert not again.changed, again.result()["steps"]
        for step in again.steps:
            step.do()
        return change.result()

    def refused(self, **options):
        from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.errors import TrustedVMError

        before = self.snapshot()
        with pytest.raises(TrustedVMError) as caught:
            self.plan(**options).apply()
        assert self.snapshot() == before, "a refusal leaves everything as it was"
        return caught.value

    def domain(self, name="web1"):
        return self.daemon.lookupByName(name)

    def tree(self, name="web1", inactive=True):
        from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.domains import definition

        return definition(self.domain(name), inactive=inactive)

    def described(self):
        from ansible_collections.trustedvm.libvirt.plugins.module_utils._domain.description import describe

        return describe(self.tree())

    def snapshot(self):
        domains = {domain.name(): (domain.isActive(), domain.XMLDesc(2)) for domain in self.daemon.listAllDomains()}
        return domains, self.files(), self.tpm_states()

    def files(self):
        return sorted(os.path.join(top, name) for top, _dirs, names in os.walk(self.root) for name in names)

    def tpm_states(self):
        return sorted(os.listdir(self.daemon.path("qemu", "swtpm")))

    def secret(self, value=b"c2VjcmV0"):
        secret = self.daemon.secretDefineXML(
            "<secret private='yes'><uuid>%s</uuid><usage type='vtpm'><name>x</name></usage></secret>" % SECRET
        )
        if value is not None:
            secret.setValue(value)
        return secret


@pytest.fixture
def host(libvirt_daemon, monkeypatch):
    from ansible_collections.trustedvm.libvirt.plugins.module_utils._nvram.backends import directory

    # The tests' daemon is nobody's, and cannot give files to its QEMU as a system daemon does.
    monkeypatch.setattr(directory, "FILE_MODE", 0o666)
    monkeypatch.setattr(directory, "DIRECTORY_MODE", 0o777)
    root = tempfile.mkdtemp(prefix="images-", dir=libvirt_daemon.root)
    os.chmod(root, 0o777)
    yield Host(libvirt_daemon, root)
    libvirt_daemon.clean()
    shutil.rmtree(root)
