# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that appear as a whole or not at all, with and without hard links."""
from __future__ import annotations

import errno
import os

import pytest

from ansible_collections.trustedvm.libvirt.plugins.module_utils._core import files


@pytest.fixture(params=["links", errno.EPERM, errno.EOPNOTSUPP], ids=str)
def links(request, monkeypatch):
    if request.param != "links":

        def none(source, target):
            raise OSError(request.param, os.strerror(request.param), source)

        monkeypatch.setattr(files.os, "link", none)


@pytest.fixture
def temporary(tmp_path):
    (tmp_path / ".new").write_bytes(b"new")
    return str(tmp_path / ".new")


def test_file_gets_its_name(links, temporary, tmp_path):
    files.publish(temporary, str(tmp_path / "a"))
    assert os.listdir(tmp_path) == ["a"] and (tmp_path / "a").read_bytes() == b"new"


def test_name_that_is_taken_stays_taken(links, temporary, tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        files.publish(temporary, str(tmp_path / "a"))
    assert (tmp_path / "a").read_bytes() == b"old" and os.path.exists(temporary)


def test_other_errors_are_let_through(temporary, tmp_path):
    with pytest.raises(FileNotFoundError):
        files.publish(temporary, str(tmp_path / "nowhere" / "a"))


def test_copy_that_finds_no_room_is_removed(temporary, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError):
        files.copy_as_new(temporary, str(tmp_path / "a"), 0o600)
    assert os.listdir(tmp_path) == [".new"]


def test_copy_never_replaces(temporary, tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        files.copy_as_new(temporary, str(tmp_path / "a"), 0o600)
    assert (tmp_path / "a").read_bytes() == b"old"
