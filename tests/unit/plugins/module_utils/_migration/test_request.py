# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import libvirt
import pytest
from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.errors import TrustedVMError
from ansible_collections.trustedvm.libvirt.plugins.module_utils._migration.request import Request

from ansible_collections.trustedvm.libvirt.tests.unit.plugins.module_utils._migration.fakes import options

BASE = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER
SAFE = BASE | libvirt.VIR_MIGRATE_TLS | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE | libvirt.VIR_MIGRATE_PERSIST_DEST


@pytest.mark.parametrize(
    "given, flags",
    [
        pytest.param({}, SAFE, id="encrypted, gone from the source, defined at the destination"),
        pytest.param({"tls": False}, SAFE & ~libvirt.VIR_MIGRATE_TLS, id="tls off"),
        pytest.param({"undefine_source": False}, SAFE & ~libvirt.VIR_MIGRATE_UNDEFINE_SOURCE, id="stays defined"),
        pytest.param({"persist_destination": False}, SAFE & ~libvirt.VIR_MIGRATE_PERSIST_DEST, id="transient"),
        pytest.param({"unsafe": True}, SAFE | libvirt.VIR_MIGRATE_UNSAFE, id="unsafe"),
        pytest.param({"auto_converge": True}, SAFE | libvirt.VIR_MIGRATE_AUTO_CONVERGE, id="auto-converge"),
    ],
)
def test_flags(given, flags):
    assert Request.from_options(options(**given)).flags() == flags


def test_offline_is_never_asked_of_libvirt():
    """libvirt's offline migration with "undefine source" deletes the TPM state."""
    assert not Request.from_options(options()).flags() & libvirt.VIR_MIGRATE_OFFLINE


@pytest.mark.parametrize(
    "given, parameters",
    [
        ({}, {}),
        ({"bandwidth": 200}, {"bandwidth": 200}),
        ({"migrate_uri": "tcp://10.0.0.2"}, {"migrate_uri": "tcp://10.0.0.2"}),
        ({"tls_hostname": "hv2"}, {"tls.destination": "hv2"}),
        ({"tls_hostname": "hv2", "tls": False}, {}),
    ],
)
def test_parameters(given, parameters):
    assert Request.from_options(options(**given)).parameters() == parameters


@pytest.mark.parametrize(
    "host, pkipath, uri",
    [
        ("hv2", None, "qemu+tls://hv2/system"),
        ("hv2", "/etc/pki/my vm", "qemu+tls://hv2/system?pkipath=/etc/pki/my%20vm"),
        ("fd00::2", None, "qemu+tls://[fd00::2]/system"),
        ("[fd00::2]", None, "qemu+tls://[fd00::2]/system"),
    ],
)
def test_destination_from_a_host_name(host, pkipath, uri):
    given = options(destination_uri=None, destination_host=host, pkipath=pkipath)
    assert Request.from_options(given).destination_uri == uri


@pytest.mark.parametrize(
    "given, code",
    [
        ({"destination_uri": None}, "invalid_destination"),
        ({"timeout": -1}, "invalid_option"),
        ({"bandwidth": -1}, "invalid_option"),
    ],
)
def test_refused(given, code):
    with pytest.raises(TrustedVMError) as caught:
        Request.from_options(options(**given))
    assert caught.value.code == code
