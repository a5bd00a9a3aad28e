# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NVRAM volumes as files: atomic, private, never over an existing one."""
from __future__ import annotations

import os
import stat

import pytest

from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.errors import TrustedVMError
from ansible_collections.trustedvm.libvirt.plugins.module_utils._nvram.backends import directory as backend_module
from ansible_collections.trustedvm.libvirt.plugins.module_utils._nvram.backends.directory import DirectoryBackend

UUID = "0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11"


@pytest.fixture
def backend():
    return DirectoryBackend()


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "nvram" / UUID / (UUID + ".fd"))


def files_below(directory):
    return sorted(name for _root, _dirs, names in os.walk(directory) for name in names)


def test_create_makes_a_private_file_that_the_vms_user_can_reach(backend, path, tmp_path):
    os.umask(0o077)
    try:
        backend.create(path, b"content")
    finally:
        os.umask(0o022)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o711
    assert files_below(tmp_path) == [UUID + ".fd"]
    assert backend.read(path) == b"content"


def test_create_is_never_over_an_existing_volume(backend, path, tmp_path):
    backend.create(path, b"first")
    with pytest.raises(TrustedVMError) as caught:
        backend.create(path, b"second")
    assert caught.value.code == "nvram_exists"
    assert backend.read(path) == b"first"
    assert files_below(tmp_path) == [UUID + ".fd"]


def test_create_without_hard_links(backend, path, monkeypatch):
    """Some network and FUSE file systems have none."""

    def no_links(source, target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(backend_module.os, "link", no_links)
    backend.create(path, b"first")
    with pytest.raises(TrustedVMError) as caught:
        backend.create(path, b"second")
    assert caught.value.code == "nvram_exists"
    assert backend.read(path) == b"first"


def test_a_write_that_fails_leaves_nothing(backend, path, monkeypatch, tmp_path):
    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backend_module.os, "fsync", full)
    with pytest.raises(OSError):
        backend.create(path, b"content")
    assert files_below(tmp_path) == []


def test_replace_keeps_a_copy_and_the_owner(backend, path):
    backend.create(path, b"old")
    os.chmod(path, 0o640)
    first = backend.replace(path, b"new", keep_copy=True)
    second = backend.replace(path, b"newer", keep_copy=True)
    assert (backend.read(path), backend.read(first), backend.read(second)) == (b"newer", b"old", b"new")
    assert backend.copies(path) == [first, second]
    backend.drop_copies(path)
    assert backend.copies(path) == []


def test_replace_without_copy(backend, path, tmp_path):
    backend.create(path, b"old")
    assert backend.replace(path, b"new", keep_copy=False) is None
    assert files_below(tmp_path) == [UUID + ".fd"]


def test_remove_takes_the_vms_own_directory_only(backend, path, tmp_path):
    backend.create(path, b"content")
    backend.remove(path)
    backend.remove(path)
    assert os.listdir(tmp_path / "nvram") == []
    own = str(tmp_path / "elsewhere" / "web1.fd")
    backend.create(own, b"content")
    backend.remove(own)
    assert (tmp_path / "elsewhere").is_dir()


def test_n6_more_than_one_stray_breaks_nothing(backend, path, tmp_path):
    backend.create(path, b"content")
    for name in ("old.fd", "older.fd", "notes.txt"):
        (tmp_path / "nvram" / UUID / name).write_bytes(b"x")
    backend.replace(path, b"new", keep_copy=True)
    assert [os.path.basename(stray) for stray in backend.strays(path)] == ["old.fd", "older.fd"]
    below = [os.path.basename(entry) for entry in backend.volumes_below(str(tmp_path / "nvram"))]
    assert below == [UUID + ".fd", "old.fd", "older.fd"]
    backend.remove(path)
    assert (tmp_path / "nvram" / UUID / "old.fd").exists()


def test_a_directory_that_is_not_one_vms_has_no_strays(backend, tmp_path):
    (tmp_path / "other.fd").write_bytes(b"x")
    assert backend.strays(str(tmp_path / "web1.fd")) == []


@pytest.mark.parametrize(
    "content, size, expected",
    [(b"QFI\xfb1234", 8, "qcow2"), (b"KDMV", 4, "vmdk"), (b"\x00" * 9, 9, "raw"), (b"", 0, "raw")],
)
def test_probe_tells_size_and_format(backend, tmp_path, content, size, expected):
    path = tmp_path / "volume"
    path.write_bytes(content)
    facts = backend.probe(str(path))
    assert (facts.exists, facts.size, facts.format, facts.regular) == (True, size, expected, True)


def test_probe_of_what_is_no_file(backend, tmp_path):
    assert not backend.probe(str(tmp_path / "none")).exists
    assert not backend.probe(str(tmp_path / "none" / "below")).exists
    facts = backend.probe(str(tmp_path))
    assert (facts.exists, facts.regular, facts.problem, facts.format) == (True, False, "a directory", None)


def test_probe_of_an_unreadable_file(backend, tmp_path, monkeypatch):
    """NFS with root squash refuses root, too."""
    path = tmp_path / "volume"
    path.write_bytes(b"x")

    def denied(*_arguments, **_keywords):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(backend_module, "open", denied, raising=False)
    facts = backend.probe(str(path))
    assert (facts.exists, facts.header, facts.problem) == (True, None, "Permission denied")


class _Room:
    f_flag = 0
    f_bavail = 1
    f_frsize = 4096


@pytest.mark.parametrize(
    "setting, found",
    [
        pytest.param({"path": "/nowhere/at/all/nvram/u/u.fd"}, "is not a directory", id="no directory"),
        pytest.param({"room": {"f_flag": os.ST_RDONLY}}, "read-only", id="read-only"),
        pytest.param({"room": {"f_bavail": 0}}, "less than 540672 bytes free", id="full"),
        pytest.param({"access": False}, "cannot be written", id="not writable"),
    ],
)
def test_n7_storage_that_cannot_hold_it_is_refused_and_named(backend, tmp_path, monkeypatch, setting, found):
    path = setting.get("path", str(tmp_path / "nvram" / UUID / (UUID + ".fd")))
    room = type("Room", (_Room,), setting.get("room", {}))
    if "room" in setting:
        monkeypatch.setattr(backend_module.os, "statvfs", lambda _path: room)
    if "access" in setting:
        monkeypatch.setattr(backend_module.os, "access", lambda *_arguments: False)
    with pytest.raises(TrustedVMError) as caught:
        backend.require_room(path, 540672)
    assert caught.value.code == "nvram_storage_unsuitable"
    assert found in str(caught.value) and path in str(caught.value)
    assert "NFS" in str(caught.value), "what can hold it is named"
    assert files_below(tmp_path) == []


def test_storage_with_room_is_fine_before_its_directories_are_made(backend, path):
    backend.require_room(path, 540672)
    assert not os.path.exists(os.path.dirname(path))
