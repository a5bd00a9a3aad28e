# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making and removing disks, with the real qemu-img and the test driver's pools."""
from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

libvirt = pytest.importorskip("libvirt")

from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.errors import TrustedVMError
from ansible_collections.trustedvm.libvirt.plugins.module_utils._domain import disks as disks_module
from ansible_collections.trustedvm.libvirt.plugins.module_utils._domain.disks import (
    DiskSpec,
    DiskStore,
    read_back,
    removable,
    require_format,
)

needs_qemu_img = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")


@pytest.fixture
def store():
    connection = libvirt.open("test:///default")
    yield DiskStore(connection, local=True)
    connection.close()


def image_info(path):
    return json.loads(subprocess.run(["qemu-img", "info", "--output=json", path], capture_output=True, check=True).stdout)


@needs_qemu_img
@pytest.mark.parametrize("form", ["qcow2", "raw"])
def test_missing_disk_is_made(store, tmp_path, form):
    spec = DiskSpec("vda", path=str(tmp_path / "a.img"), format=form, size=1 << 20)
    store.require_creatable(spec)
    store.create(spec)
    info = image_info(spec.path)
    assert (info["format"], info["virtual-size"]) == (form, 1 << 20)
    assert os.listdir(tmp_path) == ["a.img"]


@needs_qemu_img
def test_copy_of_an_image_is_resized(store, tmp_path):
    source = DiskSpec("vda", path=str(tmp_path / "base.img"), format="raw", size=1 << 20)
    store.create(source)
    spec = DiskSpec("vda", path=str(tmp_path / "a.qcow2"), size=2 << 20, image=source.path)
    store.create(spec)
    info = image_info(spec.path)
    assert (info["format"], info["virtual-size"]) == ("qcow2", 2 << 20) and "backing-filename" not in info


@needs_qemu_img
def test_existing_disk_is_never_written_over(store, tmp_path):
    path = tmp_path / "a.qcow2"
    path.write_bytes(b"data")
    with pytest.raises(TrustedVMError) as caught:
        store.create(DiskSpec("vda", path=str(path), size=1 << 20))
    assert caught.value.code == "disk_create_failed"
    assert path.read_bytes() == b"data" and os.listdir(tmp_path) == ["a.qcow2"]


@needs_qemu_img
def test_disk_on_a_file_system_without_hard_links(store, tmp_path, monkeypatch):
    def none(source, target):
        raise PermissionError(1, "Operation not permitted", source)

    monkeypatch.setattr(os, "link", none)
    spec = DiskSpec("vda", path=str(tmp_path / "a.img"), size=1 << 20)
    store.create(spec)
    assert image_info(spec.path)["virtual-size"] == 1 << 20 and os.listdir(tmp_path) == ["a.img"]
    with pytest.raises(TrustedVMError) as caught:
        store.create(spec)
    assert caught.value.code == "disk_create_failed"


@needs_qemu_img
def test_qemu_imgs_own_words_are_kept(store, tmp_path):
    broken = tmp_path / "base.qcow2"
    broken.write_bytes(b"QFI\xfb" + (99).to_bytes(4, "big") + bytes(1000))
    with pytest.raises(TrustedVMError, match="qcow2") as caught:
        store.create(DiskSpec("vda", path=str(tmp_path / "a.img"), image=str(broken)))
    assert "qemu-img: Could not open" in str(caught.value)
    assert caught.value.code == "disk_create_failed" and os.listdir(tmp_path) == ["base.qcow2"]


def test_host_without_qemu_img(store, tmp_path, monkeypatch):
    def missing(*_arguments, **_keywords):
        raise FileNotFoundError(2, "qemu-img")

    monkeypatch.setattr(disks_module.subprocess, "run", missing)
    with pytest.raises(TrustedVMError) as caught:
        store.create(DiskSpec("vda", path=str(tmp_path / "a.qcow2"), size=1 << 20))
    assert caught.value.code == "qemu_img_missing" and os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "spec, code",
    [
        (DiskSpec("vda", path="/nowhere/a.qcow2"), "disk_missing"),
        (DiskSpec("vda", path="/nowhere/a.qcow2", size=1), "disk_create_failed"),
        (DiskSpec("vda", path="/dev/vg/a", size=1), "disk_missing"),
        (DiskSpec("vda", path="/tmp/a.qcow2", image="/nowhere.img"), "disk_missing"),
    ],
)
def test_disks_that_cannot_be_made_are_refused_before(store, spec, code):
    with pytest.raises(TrustedVMError) as caught:
        store.require_creatable(spec)
    assert caught.value.code == code and ("/nowhere" in str(caught.value) or "/dev/vg/a" in str(caught.value))


def test_volume_of_a_pool(store):
    spec = DiskSpec("vda", pool="default-pool", volume="web1.qcow2", size=1 << 20)
    assert store.exists(spec) is False
    store.create(spec)
    assert store.exists(spec) is True
    store.remove(read_back(spec))
    store.remove(read_back(spec))
    assert store.exists(spec) is False


def test_unknown_pool_is_named(store):
    with pytest.raises(TrustedVMError) as caught:
        store.exists(DiskSpec("vda", pool="nopool", volume="x"))
    assert caught.value.code == "storage_pool_not_found" and "nopool" in str(caught.value)


@pytest.mark.parametrize(
    "content, form, fits",
    [(b"QFI\xfbxx", "qcow2", True), (b"QFI\xfbxx", "raw", False), (b"xxxxxx", "qcow2", False), (b"xxxxxx", "raw", True)],
)
def test_format_is_compared_with_the_content(tmp_path, content, form, fits):
    path = tmp_path / "a"
    path.write_bytes(content)
    disk = read_back(DiskSpec("vda", path=str(path), format=form))
    if fits:
        require_format(disk)
        return
    with pytest.raises(TrustedVMError) as caught:
        require_format(disk)
    assert caught.value.code == "disk_wrong_format"


@pytest.mark.parametrize(
    "spec, expected",
    [
        (DiskSpec("vda", path="/a"), True),
        (DiskSpec("vda", pool="p", volume="v"), True),
        (DiskSpec("vda", path="/dev/vg/a"), False),
        (DiskSpec("sda", path="/a.iso", device="cdrom"), False),
        (DiskSpec("vda", path="/a", readonly=True), False),
    ],
)
def test_what_removal_may_delete(spec, expected):
    assert removable(read_back(spec)) is expected
