# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real libvirt inside the test process, for every test that wants one.

The embedded QEMU and secret drivers need no daemon: domains are defined, started (without an
encrypted vTPM) and undefined for real, below a directory of the test session.
"""
from __future__ import annotations

import os
import shutil

import pytest

QEMU_CONF = """\
security_driver = "none"
cgroup_controllers = [ ]
namespaces = [ ]
user = "root"
group = "root"
swtpm_user = "root"
swtpm_group = "root"
stdio_handler = "file"
"""


class EmbeddedLibvirt:
    """Both embedded drivers as one connection, as a daemon offers them.

    Attributes not found here are the QEMU driver's, and the secret driver's where the name says so.
    """

    def __init__(self, root, qemu, secrets):
        self.root = root
        self.qemu = qemu
        self.secrets = secrets

    @property
    def qemu_uri(self):
        return "qemu:///embed?root=%s" % self.root

    @property
    def secret_uri(self):
        return "secret:///embed?root=%s" % self.root

    def path(self, *parts):
        """A path below the driver's root: ``lib/swtpm``, ``etc/secrets``."""
        return os.path.join(self.root, *parts)

    def __getattr__(self, name):
        driver = self.secrets if "secret" in name.lower() else self.qemu
        return getattr(driver, name)

    def clean(self):
        """Nothing of one test is there for the next."""
        for domain in self.qemu.listAllDomains():
            if domain.isActive():
                domain.destroy()
            if domain.isPersistent():
                domain.undefineFlags(_undefine_all())
        for secret in self.secrets.listAllSecrets():
            secret.undefine()
        shutil.rmtree(self.path("lib", "swtpm"), ignore_errors=True)
        os.makedirs(self.path("lib", "swtpm"))


def _undefine_all():
    import libvirt

    return libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_TPM


@pytest.fixture(scope="session")
def _embedded_drivers(tmp_path_factory):
    pytest.importorskip("libvirt")
    from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.connection import open_connection

    # An embedded driver keeps its root until the process ends, so there is one for all tests. The
    # path of a socket below it must stay under 108 bytes.
    root = str(tmp_path_factory.mktemp("v"))
    os.makedirs(os.path.join(root, "etc"))
    with open(os.path.join(root, "etc", "qemu.conf"), "w", encoding="utf-8") as stream:
        stream.write(QEMU_CONF)
    with open_connection("secret:///embed?root=%s" % root) as secrets, open_connection(
        "qemu:///embed?root=%s" % root
    ) as qemu:
        yield EmbeddedLibvirt(root, qemu, secrets)


@pytest.fixture
def embedded_libvirt(_embedded_drivers):
    """A real libvirt without domains and secrets."""
    _embedded_drivers.clean()
    yield _embedded_drivers
    _embedded_drivers.clean()
