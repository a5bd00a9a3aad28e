# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Opening libvirt, its errors in our words, and the libraries that may be missing."""
from __future__ import annotations

import pytest

libvirt = pytest.importorskip("libvirt")

from ansible_collections.trustedvm.libvirt.plugins.module_utils._core import connection, deps
from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.domains import DomainIndex, as_uuid
from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.errors import TrustedVMError

VM = "0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11"


@pytest.mark.parametrize("uri", ["qemu+unix:///system?socket=/nonexistent", "nosuch:///driver"])
def test_daemon_that_does_not_answer(uri):
    with pytest.raises(TrustedVMError) as caught, connection.open_connection(uri):
        pass
    assert caught.value.code == "libvirt_unreachable"
    assert uri in str(caught.value) and "libvirtd" in caught.value.hint


def test_open_connection_tells_its_host(libvirt_daemon):
    with connection.open_connection(libvirt_daemon.uri) as opened:
        assert connection.host_name(opened) == libvirt_daemon.getHostname()


@pytest.mark.parametrize(
    "library, require, code, package",
    [
        ("libvirt", deps.require_libvirt, "libvirt_python_missing", "python3-libvirt"),
        ("etree", deps.require_lxml, "lxml_missing", "python3-lxml"),
    ],
)
def test_m8_missing_library_is_named_with_its_package(monkeypatch, library, require, code, package):
    require()
    monkeypatch.setattr(deps, library, None)
    with pytest.raises(TrustedVMError) as caught:
        require()
    assert caught.value.code == code
    assert package in caught.value.hint


@pytest.mark.parametrize(
    "text, uuid",
    [
        (VM, VM),
        (VM.upper(), VM),
        (VM.replace("-", ""), VM),
        ("web1", None),
        ("", None),
        ("x" * 36, None),
        ("{%s}" % VM, None),
        ("urn:uuid:" + VM, None),
    ],
)
def test_as_uuid(text, uuid):
    assert as_uuid(text) == uuid


def test_domains_are_found_by_name_and_uuid(libvirt_daemon):
    xml = "<domain type='qemu'><name>%s</name><uuid>%s</uuid><memory>16384</memory><os><type arch='x86_64'>hvm</type></os></domain>"
    libvirt_daemon.defineXML(xml % ("web1", VM))
    index = DomainIndex(libvirt_daemon)
    for vm in ("web1", VM, VM.upper()):
        assert index.find(vm).UUIDString() == VM
    assert index.get("web2") is None
    with pytest.raises(TrustedVMError) as caught:
        index.find("web2")
    assert caught.value.code == "vm_not_found"


def test_connection_without_domains_has_none():
    class SecretDriver:
        """secret:///… answers so."""

        def listAllDomains(self):
            error = libvirt.libvirtError("no")
            error.err = (libvirt.VIR_ERR_NO_SUPPORT, 0, "not supported by the connection driver", 2, None, None, None, -1, -1)
            raise error

    assert DomainIndex(SecretDriver()).all() == []
