# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import time
from types import SimpleNamespace

import libvirt
import pytest
from lxml import etree
from ansible_collections.trustedvm.libvirt.plugins.module_utils._migration import sharing
from ansible_collections.trustedvm.libvirt.plugins.module_utils._migration.directory_pool import remove_strays

from ansible_collections.trustedvm.libvirt.tests.unit.plugins.module_utils._migration.fakes import FakePool, libvirt_error


def probe(pair):
    directory, name = os.path.split(pair.nvram)
    return sharing.probe(pair.destination, directory, [name])


def test_one_directory_at_both_ends_is_proven(pair):
    pair.share(os.path.dirname(pair.nvram))
    assert probe(pair) == sharing.Sharing(True, True)


def test_a_file_of_the_same_name_is_no_proof(pair):
    pair.own_copy(pair.nvram)
    assert probe(pair) == sharing.Sharing(False, True)


def test_no_such_directory(pair):
    assert probe(pair) is sharing.NO_DIRECTORY


def test_no_such_file(pair):
    pair.own_copy(pair.nvram + ".of-another-vm")
    assert probe(pair) == sharing.NOT_THERE


@pytest.mark.parametrize(
    "error",
    [
        libvirt_error(libvirt.VIR_ERR_SYSTEM_ERROR, "cannot open directory: Permission denied", 13),
        libvirt_error(libvirt.VIR_ERR_NO_SUPPORT, "this function is not supported by the connection driver"),
    ],
    ids=["root squash", "no storage driver"],
)
def test_undecided_is_never_taken_for_separate(pair, error):
    pair.destination.pool_error = error
    found = probe(pair)
    assert found.shared is None
    assert error.get_error_message() in found.reason


def old_listing(pair, monkeypatch):
    """The destination is a client with a directory cache: it does not see what was made since."""
    pair.share(os.path.dirname(pair.nvram))
    monkeypatch.setattr(FakePool, "refresh", lambda pool, flags: None)


@pytest.mark.parametrize("listed", [True, False], ids=["the file is listed", "the file is not listed yet"])
def test_n5_a_source_that_exports_its_file_system_is_seen_through_an_old_listing(pair, monkeypatch, listed):
    """The source is the NFS server: on its ext4 "not seen" by the client is no proof, and the NVRAM is the running VM's."""
    old_listing(pair, monkeypatch)
    monkeypatch.setattr(FakePool, "files", [os.path.basename(pair.nvram)] if listed else [], raising=False)
    assert probe(pair) == sharing.Sharing(True, listed)


def test_n5_a_client_that_may_not_write_proves_nothing(pair, monkeypatch):
    """Root squashed: its marker cannot be made, and ours it may not see for a while."""
    old_listing(pair, monkeypatch)
    monkeypatch.setattr(FakePool, "files", [os.path.basename(pair.nvram)], raising=False)
    pair.destination.volume_error = libvirt_error(libvirt.VIR_ERR_SYSTEM_ERROR, "cannot create path: Permission denied", 13)
    found = probe(pair)
    assert (found.shared, found.exists) == (None, True) and "Permission denied" in found.reason


def test_a_client_that_may_not_write_can_still_see_our_marker(pair):
    pair.share(os.path.dirname(pair.nvram))
    pair.destination.volume_error = libvirt_error(libvirt.VIR_ERR_SYSTEM_ERROR, "cannot create path: Permission denied", 13)
    assert probe(pair) == sharing.Sharing(True, True)


def test_an_equal_file_in_another_directory_is_not_shared(pair):
    """What an earlier migration left on the destination may well be equal."""
    pair.own_copy(pair.nvram, b"state")
    assert probe(pair) == sharing.Sharing(False, True)


@pytest.mark.parametrize("filesystem", ["nfs4", "fuse.glusterfs", "ceph", "unknown"])
@pytest.mark.parametrize("listed", [True, False], ids=["the file is listed", "an old listing without the file"])
def test_n5_an_unseen_marker_on_a_network_file_system_proves_nothing(pair, monkeypatch, filesystem, listed):
    """The destination may still show an old listing; "not shared" would have the running VM's NVRAM removed."""
    if listed:
        pair.own_copy(pair.nvram)
    monkeypatch.setattr(sharing, "filesystem_type", lambda directory: filesystem)
    assert probe(pair).shared is None


def test_a_seen_marker_is_proof_on_a_network_file_system(pair, monkeypatch):
    pair.share(os.path.dirname(pair.nvram))
    monkeypatch.setattr(sharing, "filesystem_type", lambda directory: "nfs4")
    assert probe(pair) == sharing.Sharing(True, True)


def test_the_type_of_a_file_system_is_the_kernels():
    assert sharing.filesystem_type("/proc/self") == "proc"
    assert sharing.filesystem_type("/dev/shm") == "tmpfs"
    assert sharing.filesystem_type("/no/such/directory") == sharing.filesystem_type("/")


def test_no_marker_can_be_made(pair, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(13, "Permission denied")

    pair.own_copy(pair.nvram)
    pair.destination.volume_error = libvirt_error(libvirt.VIR_ERR_SYSTEM_ERROR, "cannot create path: Permission denied", 13)
    monkeypatch.setattr(sharing.os, "open", refuse)
    assert probe(pair).shared is None


def test_neither_marker_nor_pool_stays(pair):
    pair.share(os.path.dirname(pair.nvram))
    probe(pair)
    assert os.listdir(os.path.dirname(pair.nvram)) == [os.path.basename(pair.nvram)]
    assert [pool.destroyed for pool in pair.destination.pools] == [True]


def test_the_pool_does_not_meet_the_operators_own(pair, monkeypatch):
    """libvirt compares the target paths of pools as text; nor does it meet one that a killed run left."""
    asked = []
    create = pair.destination.storagePoolCreateXML
    monkeypatch.setattr(pair.destination, "storagePoolCreateXML", lambda xml, flags: asked.append(xml) or create(xml))
    paths = set()
    for _run in range(8):
        probe(pair)
        paths.add(etree.fromstring(asked[-1]).findtext("target/path"))
    assert len(paths) > 1 and os.path.dirname(pair.nvram) not in paths
    assert {os.path.normpath(path) for path in paths} == {os.path.dirname(pair.nvram)}


def test_libvirts_words_have_the_path_as_people_know_it(pair, monkeypatch):
    def refuse(xml, flags=0):
        path = etree.fromstring(xml).findtext("target/path")
        raise libvirt_error(libvirt.VIR_ERR_SYSTEM_ERROR, "cannot open directory '%s': Permission denied" % path, 13)

    monkeypatch.setattr(pair.destination, "storagePoolCreateXML", refuse)
    assert "cannot open directory '%s': Permission denied" % os.path.dirname(pair.nvram) in probe(pair).reason


def test_another_runs_pool_of_the_same_path_is_gone_round(pair, monkeypatch):
    pair.own_copy(pair.nvram)
    create = pair.destination.storagePoolCreateXML
    refusals = [1, 2]

    def refuse_twice(xml, flags=0):
        if refusals:
            refusals.pop()
            raise libvirt_error(libvirt.VIR_ERR_OPERATION_FAILED, "operation failed: Storage source conflict with pool: 'other'")
        return create(xml, flags)

    monkeypatch.setattr(pair.destination, "storagePoolCreateXML", refuse_twice)
    assert probe(pair) == sharing.Sharing(False, True)


def test_pools_that_killed_runs_left_are_removed_once_they_are_old():
    old, young, other = (StrayPool(name) for name in ("trustedvm-probe-1000-ab", "trustedvm-probe-%d-ab" % time.time(), "default"))
    host = SimpleNamespace(listAllStoragePools=lambda flags: [old, young, other])
    remove_strays(host)

    def gone():
        raise libvirt_error(libvirt.VIR_ERR_NO_STORAGE_POOL, "no storage pool")

    old.destroy = gone
    remove_strays(host)
    assert (old.destroyed, young.destroyed, other.destroyed) == (True, False, False)


class StrayPool:
    destroyed = False

    def __init__(self, name):
        self.name = lambda: name

    def destroy(self):
        self.destroyed = True


@pytest.mark.parametrize("there", [True, False])
def test_exists_there(pair, there):
    if there:
        pair.own_copy(pair.nvram)
    assert sharing.exists_there(pair.destination, pair.nvram) is there
