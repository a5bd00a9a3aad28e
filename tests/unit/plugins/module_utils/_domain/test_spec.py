# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of a VM: what they mean, and each contradiction by name."""
from __future__ import annotations

import pytest

pytest.importorskip("lxml")

from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.errors import TrustedVMError
from ansible_collections.trustedvm.libvirt.plugins.module_utils._domain.disks import parse_size
from ansible_collections.trustedvm.libvirt.plugins.module_utils._domain.spec import spec_from_options


@pytest.mark.parametrize(
    "text, size",
    [("10G", 10 << 30), ("512 MiB", 512 << 20), ("1t", 1 << 40), ("4096", 4096), ("7KB", 7 << 10), (1024, 1024)],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "10X", "-1", "1.5G", "G"])
def test_what_is_no_size(text):
    with pytest.raises(TrustedVMError) as caught:
        parse_size(text)
    assert caught.value.code == "vm_options_invalid"


def targets(*disks):
    return [disk.target for disk in spec_from_options({"name": "x", "disks": list(disks)}).disks]


def test_disks_get_the_next_free_target_of_their_bus():
    assert targets({"path": "/a"}, {"path": "/b"}, {"path": "/c", "bus": "sata"}, {"path": "/d", "device": "cdrom"}) == ["vda", "vdb", "sda", "sdb"]
    assert targets({"path": "/a"}, {"path": "/b", "target": "vda"}) == ["vdb", "vda"]


@pytest.mark.parametrize(
    "disk, expected",
    [
        ({"path": "/a.qcow2"}, ("qcow2", "virtio", "file", False)),
        ({"path": "/dev/vg/a"}, ("raw", "virtio", "block", False)),
        ({"pool": "p", "volume": "v"}, ("qcow2", "virtio", "volume", False)),
        ({"path": "/a.iso", "device": "cdrom"}, ("raw", "sata", "file", True)),
    ],
)
def test_defaults_of_a_disk(disk, expected):
    (spec,) = spec_from_options({"name": "x", "disks": [disk]}).disks
    assert (spec.format, spec.bus, spec.kind, spec.readonly) == expected


@pytest.mark.parametrize(
    "options, code, names",
    [
        ({"uuid": "0d0b"}, "vm_options_invalid", "uuid"),
        ({"tpm": {"secret_uuid": "x"}}, "vm_options_invalid", "secret_uuid"),
        ({"xml": "<domain/>", "memory": 1}, "vm_options_invalid", "memory"),
        ({"xml": "<domain/>", "disks": []}, "vm_options_invalid", "disks"),
        ({"firmware": "bios", "tpm": {}}, "tpm_needs_uefi", "UEFI"),
        ({"firmware": "bios", "secure_boot": True}, "tpm_needs_uefi", "UEFI"),
        ({"firmware": "bios", "loader": "/x"}, "vm_options_invalid", "loader"),
        ({"memory": 0}, "vm_options_invalid", "memory"),
        ({"vcpus": 0}, "vm_options_invalid", "vcpus"),
        ({"cpu_mode": "custom"}, "vm_options_invalid", "cpu_model"),
        ({"enrolled_keys": True}, "vm_options_invalid", "secure_boot"),
        ({"nvram": {"path": "/a", "directory": "/b"}}, "vm_options_invalid", "directory"),
        ({"disks": [{}]}, "vm_options_invalid", "path"),
        ({"disks": [{"path": "/a", "pool": "p", "volume": "v"}]}, "vm_options_invalid", "pool"),
        ({"disks": [{"pool": "p"}]}, "vm_options_invalid", "volume"),
        ({"disks": [{"path": "a.qcow2"}]}, "vm_options_invalid", "absolute"),
        ({"disks": [{"path": "/a", "size": "big"}]}, "vm_options_invalid", "big"),
        ({"disks": [{"path": "/a", "target": "vda"}, {"path": "/b", "target": "vda"}]}, "vm_options_invalid", "target"),
        ({"networks": [{}]}, "vm_options_invalid", "network"),
        ({"networks": [{"network": "a", "bridge": "b"}]}, "vm_options_invalid", "bridge"),
    ],
)
def test_bad_options_are_named(options, code, names):
    with pytest.raises(TrustedVMError) as caught:
        spec_from_options({"name": "web1", **options})
    assert caught.value.code == code and names in str(caught.value)


def test_identity_alone_says_nothing_about_the_definition():
    assert not spec_from_options({"name": "web1", "uuid": "0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11"}).says_something
    assert spec_from_options({"name": "web1", "networks": []}).says_something
