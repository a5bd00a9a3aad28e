# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The <tpm> device in domain XML."""
from __future__ import annotations

import pytest

etree = pytest.importorskip("lxml.etree")

from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.errors import TrustedVMError
from ansible_collections.trustedvm.libvirt.plugins.module_utils._tpm.device import (
    TpmSource,
    TpmSpec,
    apply_tpm,
    find_tpm,
    read_tpm,
    remove_tpm,
)

SECRET = "6f0c8a3e-2b1d-5c55-9d0f-0a1b2c3d4e5f"
OTHER = "7f0c8a3e-2b1d-5c55-9d0f-0a1b2c3d4e5f"


def domain(tpm=""):
    return etree.fromstring("<domain><name>a</name><devices><disk/>%s</devices></domain>" % tpm)


def tpm(backend="", model="tpm-crb", attributes="type='emulator' version='2.0' persistent_state='yes'"):
    return "<tpm model='%s'><alias name='ua-t'/><backend %s>%s</backend></tpm>" % (model, attributes, backend)


ENCRYPTION = "<encryption secret='%s'/>" % SECRET


@pytest.mark.parametrize(
    "xml, spec",
    [
        ("", None),
        (tpm(ENCRYPTION), TpmSpec(SECRET)),
        (tpm(), TpmSpec(None)),
        (tpm(model="tpm-tis"), TpmSpec(None, "tpm-tis")),
        (tpm(attributes="type='emulator' version='2.0'"), TpmSpec(None, persistent_state=False)),
        (tpm(attributes="type='emulator' version='1.2' persistent_state='no'"), TpmSpec(None, version="1.2", persistent_state=False)),
        (
            tpm(ENCRYPTION + "<source type='file' path='/srv/a'/>"),
            TpmSpec(SECRET, source=TpmSource("file", "/srv/a")),
        ),
        (
            tpm("<source type='unix' path='/s'/>", attributes="type='external'"),
            TpmSpec(None, persistent_state=False, backend="external"),
        ),
        (
            tpm("<device path='/dev/tpm0'/>", attributes="type='passthrough'"),
            TpmSpec(None, persistent_state=False, backend="passthrough"),
        ),
        ("<tpm model='spapr-tpm-proxy'><backend type='passthrough'/></tpm>" + tpm(model="tpm-spapr"), TpmSpec(None, "tpm-spapr")),
    ],
)
def test_read(xml, spec):
    assert read_tpm(domain(xml)) == spec


@pytest.mark.parametrize(
    "xml, spec, differs",
    [
        ("", TpmSpec(SECRET), True),
        (tpm(ENCRYPTION), TpmSpec(SECRET), False),
        (tpm(ENCRYPTION.upper().replace("ENCRYPTION", "encryption").replace("SECRET", "secret")), TpmSpec(SECRET), False),
        (tpm(ENCRYPTION), TpmSpec(OTHER), True),
        (tpm(ENCRYPTION), TpmSpec(None), True),
        (tpm(), TpmSpec(SECRET), True),
        (tpm(ENCRYPTION), TpmSpec(SECRET, "tpm-tis"), True),
        (tpm(ENCRYPTION, attributes="type='emulator' version='2.0'"), TpmSpec(SECRET), True),
        (tpm(ENCRYPTION, attributes="type='emulator' version='2.0' persistent_state='no'"), TpmSpec(SECRET), True),
    ],
)
def test_apply_says_whether_it_differs_and_is_done_once(xml, spec, differs):
    root = domain(xml)
    assert apply_tpm(root, spec) is differs
    found = read_tpm(root)
    assert (found.secret_uuid or "").lower() == (spec.secret_uuid or "")
    assert found.model == spec.model
    assert found.persistent_state
    assert apply_tpm(root, spec) is False


def test_apply_keeps_what_it_does_not_manage():
    kept = "<active_pcr_banks><sha256/></active_pcr_banks><profile name='default-v1'/><source type='dir' path='/srv/a'/>"
    root = domain(tpm(kept, attributes="type='emulator' version='2.0' persistent_state='yes' debug='3'"))
    apply_tpm(root, TpmSpec(SECRET, "tpm-tis"))
    element = find_tpm(root)
    assert [child.tag for child in element.find("backend")] == ["encryption", "active_pcr_banks", "profile", "source"]
    assert element.find("backend").get("debug") == "3"
    assert element.find("alias").get("name") == "ua-t"


@pytest.mark.parametrize(
    "xml, code",
    [
        (tpm("<device path='/dev/tpm0'/>", attributes="type='passthrough'"), "vtpm_backend_differs"),
        (tpm("<source type='unix' path='/s'/>", attributes="type='external'"), "vtpm_backend_differs"),
        (tpm(attributes="type='emulator' version='1.2'"), "tpm_version_differs"),
    ],
)
def test_another_tpm_is_never_changed_in_place(xml, code):
    root = domain(xml)
    before = etree.tostring(root)
    with pytest.raises(TrustedVMError) as caught:
        apply_tpm(root, TpmSpec(SECRET))
    assert caught.value.code == code
    assert etree.tostring(root) == before


def test_remove():
    root = domain(tpm(ENCRYPTION))
    assert remove_tpm(root) is True
    assert read_tpm(root) is None
    assert remove_tpm(root) is False
    assert root.find("devices/disk") is not None
