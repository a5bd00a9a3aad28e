# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wanted is contained in what libvirt made of it."""
from __future__ import annotations

import pytest

etree = pytest.importorskip("lxml.etree")

from ansible_collections.trustedvm.libvirt.plugins.module_utils._domain.compare import contains, digest_of, same_machine


@pytest.mark.parametrize(
    "found, wanted, expected",
    [
        ("q35", "q35", True),
        ("pc-q35-7.2", "q35", True),
        ("pc-i440fx-7.2", "q35", False),
        ("pc-i440fx-7.2", "pc", True),
        ("pc-q35-7.2", "pc", False),
        ("virt-9.0", "virt", True),
        ("pc-q35-7.2", "pc-q35-8.0", False),
    ],
)
def test_machine_aliases(found, wanted, expected):
    assert same_machine(found, wanted) is expected


@pytest.mark.parametrize(
    "found, wanted, expected",
    [
        pytest.param("<a x='1' y='2'/>", "<a x='1'/>", True, id="more attributes"),
        pytest.param("<a/>", "<a x='1'/>", False, id="attribute missing"),
        pytest.param("<a x='2'/>", "<a x='1'/>", False, id="attribute differs"),
        pytest.param("<a><b/><c/></a>", "<a> <c/> </a>", True, id="more children"),
        pytest.param("<a><b/></a>", "<a><b/><b/></a>", False, id="two wanted, one there"),
        pytest.param("<a><b x='1'/><b x='2'/></a>", "<a><b x='2'/><b x='1'/></a>", True, id="another order"),
        pytest.param("<a>t</a>", "<a>\n t </a>", True, id="blank text around"),
        pytest.param("<a>t</a>", "<a>u</a>", False, id="text differs"),
        pytest.param("<memory unit='KiB'>1048576</memory>", "<memory unit='GiB'>1</memory>", True, id="memory in GiB"),
        pytest.param("<memory unit='KiB'>1048576</memory>", "<memory>1048576</memory>", True, id="memory without unit"),
        pytest.param("<memory unit='KiB'>976563</memory>", "<memory unit='GB'>1</memory>", True, id="rounded up"),
        pytest.param("<memory unit='KiB'>1024</memory>", "<memory unit='MiB'>2</memory>", False, id="memory differs"),
        pytest.param("<type machine='pc-q35-7.2'/>", "<type machine='q35'/>", True, id="machine alias"),
        pytest.param("<a bus='0x00'/>", "<a bus='0'/>", True, id="numbers in another notation"),
        pytest.param("<mac address='52:54:00:aa:bb:cc'/>", "<mac address='52:54:00:AA:BB:CC'/>", True, id="MAC in upper case"),
        pytest.param("<source file='/srv/a'/>", "<source file='/srv/A'/>", False, id="paths have cases"),
        pytest.param("<uuid>0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11</uuid>", "<uuid>0D0B1BD25C3A4E0F9F3A6D2F4F1F6B11</uuid>", True, id="UUID"),
        pytest.param("<graphics type='vnc'/>", "<graphics type='vnc' passwd='x'/>", True, id="passwords are never read back"),
        pytest.param("<d/>", "<d><metadata><x/></metadata></d>", True, id="metadata"),
    ],
)
def test_contained(found, wanted, expected):
    assert contains(etree.fromstring(found), etree.fromstring(wanted)) is expected


def digest(text):
    return digest_of(etree.fromstring(text))


def test_digest_is_of_the_machine_not_of_its_spelling():
    base = digest("<domain><name>a</name><memory>1</memory></domain>")
    assert base == digest("<domain>\n  <name>b</name><!-- c --><uuid>u</uuid><memory>1</memory><metadata/>\n</domain>")
    assert base != digest("<domain><name>a</name><memory>2</memory></domain>")
