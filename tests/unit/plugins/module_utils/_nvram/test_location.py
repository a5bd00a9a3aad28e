# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a VM's NVRAM volume is."""
from __future__ import annotations

import pytest

libvirt = pytest.importorskip("libvirt")

from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.errors import TrustedVMError
from ansible_collections.trustedvm.libvirt.plugins.module_utils._domain.description import Disk
from ansible_collections.trustedvm.libvirt.plugins.module_utils._nvram.location import root_directory, volume_path

UUID = "0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11"
OWN = "%s/%s.fd" % (UUID, UUID)


def disk(kind="file", path=None, pool=None):
    return Disk("vda", "disk", kind, path, pool, "web1" if pool else None, "qcow2", "virtio", False, False, None)


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"root_directory": "/srv/images"}, "/srv/images/nvram/" + OWN),
        ({"root_directory": "/srv/images", "directory": "/srv/nv"}, "/srv/nv/" + OWN),
        ({"root_directory": "/srv/images", "path": "/srv/own.fd"}, "/srv/own.fd"),
        ({"path": "/srv//x/../own.fd"}, "/srv/own.fd"),
        ({"default_directory": "/var/lib/libvirt/qemu/nvram"}, "/var/lib/libvirt/qemu/nvram/" + OWN),
    ],
)
def test_n2_on_the_root_disks_storage_unless_told_otherwise(options, expected):
    assert volume_path(UUID, **options) == expected


@pytest.mark.parametrize("option", ["path", "directory"])
def test_relative_paths_are_refused(option):
    with pytest.raises(TrustedVMError) as caught:
        volume_path(UUID, **{option: "nvram/x"})
    assert caught.value.code == "vm_options_invalid"


def test_root_disk_in_a_file():
    assert root_directory(None, disk(path="/srv/images/web1.qcow2")) == "/srv/images"
    assert root_directory(None, None) is None


@pytest.mark.parametrize("kind, path", [("block", "/dev/vg/web1"), ("network", None)])
def test_n7_root_disk_that_is_no_file_is_named(kind, path):
    with pytest.raises(TrustedVMError) as caught:
        root_directory(None, disk(kind, path))
    assert caught.value.code == "nvram_storage_unsuitable"
    assert (path or "vda") in str(caught.value) and "nvram.directory" in str(caught.value)


@pytest.fixture
def pools():
    """The test driver's pools."""
    connection = libvirt.open("test:///default")
    definitions = (
        "<pool type='dir'><name>images</name><target><path>/srv/images</path></target></pool>",
        "<pool type='logical'><name>vg</name><source><name>vg</name></source><target><path>/dev/vg</path></target></pool>",
    )
    for definition in definitions:
        connection.storagePoolDefineXML(definition, 0)
    yield connection
    for name in ("images", "vg"):
        connection.storagePoolLookupByName(name).undefine()
    connection.close()


def test_root_disk_in_a_directory_pool(pools):
    assert root_directory(pools, disk("volume", pool="images")) == "/srv/images"


@pytest.mark.parametrize("pool, code", [("vg", "nvram_storage_unsuitable"), ("none", "storage_pool_not_found")])
def test_n7_pools_that_hold_no_files(pools, pool, code):
    with pytest.raises(TrustedVMError) as caught:
        root_directory(pools, disk("volume", pool=pool))
    assert caught.value.code == code and "'%s'" % pool in str(caught.value)
