# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the host's libvirt can do, by its capabilities."""
from __future__ import annotations

import pytest

etree = pytest.importorskip("lxml.etree")

from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.errors import TrustedVMError
from ansible_collections.trustedvm.libvirt.plugins.module_utils._tpm.device import TpmSpec
from ansible_collections.trustedvm.libvirt.plugins.module_utils._tpm.requirements import VtpmSupport

DOMAIN = "<domain type='qemu'><os><type arch='x86_64' machine='q35'>hvm</type></os></domain>"


class Capabilities:
    """A libvirt whose host lacks what this machine has; counts the calls."""

    def __init__(self, tpm):
        self.xml = "<domainCapabilities><devices>%s</devices></domainCapabilities>" % tpm
        self.calls = 0

    def getDomainCapabilities(self, *_arguments):
        self.calls += 1
        return self.xml


def enum(name, *values):
    return "<enum name='%s'>%s</enum>" % (name, "".join("<value>%s</value>" % value for value in values))


@pytest.mark.parametrize(
    "tpm, found",
    [
        ("", "no TPM for this kind"),
        ("<tpm supported='no'/>", "no TPM for this kind"),
        ("<tpm supported='yes'>%s</tpm>" % enum("backendModel", "passthrough"), "did not find swtpm"),
        ("<tpm supported='yes'>%s%s</tpm>" % (enum("backendModel", "emulator"), enum("model", "tpm-tis")), "TPM model tpm-tis"),
        ("<tpm supported='yes'>%s%s</tpm>" % (enum("backendModel", "emulator"), enum("backendVersion", "1.2")), "TPM version 1.2"),
    ],
)
def test_m8_what_is_missing_is_named(tpm, found):
    with pytest.raises(TrustedVMError) as caught:
        VtpmSupport(Capabilities(tpm)).require(etree.fromstring(DOMAIN), TpmSpec(None))
    assert caught.value.code == "vtpm_unsupported"
    assert found in str(caught.value)
    assert ("swtpm-tools" in str(caught.value)) == ("swtpm" in found)


def test_this_machines_libvirt_offers_a_vtpm(libvirt_daemon):
    VtpmSupport(libvirt_daemon).require(etree.fromstring(DOMAIN), TpmSpec(None))


def test_one_call_for_each_kind_of_machine():
    connection = Capabilities("<tpm supported='yes'>%s</tpm>" % enum("backendModel", "emulator"))
    support = VtpmSupport(connection)
    for _vm in range(5):
        support.require(etree.fromstring(DOMAIN), TpmSpec(None))
    assert connection.calls == 1
