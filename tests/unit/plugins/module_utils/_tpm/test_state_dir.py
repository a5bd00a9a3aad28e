# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where TPM state is, reading it while it changes, putting it aside and back."""
from __future__ import annotations

import os

import pytest

from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.errors import TrustedVMError
from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.host_paths import paths_of_uri
from ansible_collections.trustedvm.libvirt.plugins.module_utils._tpm.device import TpmSource, TpmSpec
from ansible_collections.trustedvm.libvirt.plugins.module_utils._tpm.removal import StateRemoval, holds_something, refuse_locked
from ansible_collections.trustedvm.libvirt.plugins.module_utils._tpm.state_dir import TpmState, locate, read_stable

VM = "0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11"


@pytest.fixture
def state(tmp_path):
    paths = paths_of_uri("qemu:///embed?root=%s" % tmp_path)
    os.makedirs(paths.tpm_states)
    return TpmState(locate(paths, VM))


def fill(state, data=b"state", lock=True):
    os.makedirs(state.location.path, exist_ok=True)
    if lock:
        open(os.path.join(state.location.path, ".lock"), "wb").close()
    if data is not None:
        with open(state.location.state_file, "wb") as stream:
            stream.write(data)


@pytest.mark.parametrize(
    "spec, kind, path, container",
    [
        (None, "dir", "/var/lib/libvirt/swtpm/%s/tpm2" % VM, "/var/lib/libvirt/swtpm/%s" % VM),
        (TpmSpec(None), "dir", "/var/lib/libvirt/swtpm/%s/tpm2" % VM, "/var/lib/libvirt/swtpm/%s" % VM),
        (TpmSpec(None, version="1.2"), "dir", "/var/lib/libvirt/swtpm/%s/tpm1.2" % VM, "/var/lib/libvirt/swtpm/%s" % VM),
        (TpmSpec(None, source=TpmSource("dir", "/srv/tpm/a/")), "dir", "/srv/tpm/a", "/srv/tpm/a"),
        (TpmSpec(None, source=TpmSource("file", "/srv/tpm/a.tpm")), "file", "/srv/tpm/a.tpm", "/srv/tpm/a.tpm"),
    ],
)
def test_location_follows_from_device_and_connection(spec, kind, path, container):
    location = locate(paths_of_uri("qemu:///system"), VM, spec)
    assert (location.kind, location.path, location.container) == (kind, path, container)


@pytest.mark.parametrize(
    "uri, tpm_states",
    [
        ("qemu:///system", "/var/lib/libvirt/swtpm"),
        ("qemu+unix:///system?socket=/run/x", "/var/lib/libvirt/swtpm"),
        ("qemu:///session", "/config/libvirt/qemu/swtpm"),
        ("qemu:///embed?root=/tmp/r", "/tmp/r/lib/swtpm"),
        ("qemu+tls://other/system", None),
        ("qemu+ssh://root@other/system", None),
        ("test:///default", None),
        ("qemu:///embed", None),
    ],
)
def test_only_this_machine_has_paths(uri, tpm_states, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", "/config")
    paths = paths_of_uri(uri)
    assert (paths.tpm_states if paths else None) == tpm_states


@pytest.mark.parametrize(
    "prepare, status, holds",
    [
        (lambda state: None, "absent", False),
        (lambda state: os.makedirs(state.location.path), "empty", False),
        (lambda state: fill(state, None), "empty", False),
        (lambda state: fill(state, b""), "empty", True),
        (fill, "present", True),
    ],
    ids=["nothing", "empty directory", "lock only", "empty file", "state"],
)
def test_status(state, prepare, status, holds):
    prepare(state)
    assert state.status() == status
    assert holds_something(state) is holds


def test_unknown_files_in_an_empty_place_are_not_leftovers(state):
    fill(state, None)
    open(os.path.join(state.location.path, "tpm2-00.volatilestate"), "wb").close()
    assert not state.has_only_leftovers()
    assert holds_something(state)


def test_read_is_stable_while_the_state_is_being_written():
    reads = iter([b"a", b"ab", b"abc", b"abc", b"never"])
    assert read_stable(lambda: next(reads), pause=0) == b"abc"


def test_state_that_never_settles_is_busy():
    count = iter(range(1000))
    with pytest.raises(TrustedVMError) as caught:
        read_stable(lambda: b"%d" % next(count), pause=0)
    assert caught.value.code == "tpm_state_busy"


def test_a_link_in_the_state_directory_is_not_followed(state, tmp_path):
    fill(state, None)
    (tmp_path / "secret").write_bytes(b"of somebody else")
    os.symlink(tmp_path / "secret", state.location.state_file)
    with pytest.raises(TrustedVMError) as caught:
        state.read()
    assert caught.value.code == "tpm_state_unreadable"


def test_set_aside_leaves_libvirts_place_and_can_be_put_back(state):
    fill(state, b"precious")
    copy = state.set_aside("reset")
    assert state.status() == "absent"
    assert not os.path.exists(state.location.container)
    assert os.path.dirname(copy.path) == os.path.dirname(state.location.container)
    assert [found.reason for found in state.aside_copies()] == ["reset"]
    state.restore(copy)
    assert state.read() == b"precious"
    assert not state.aside_copies()


def test_put_back_never_replaces_a_newer_state(state):
    fill(state, b"old")
    copy = state.set_aside("reset")
    fill(state, b"new")
    with pytest.raises(TrustedVMError) as caught:
        state.restore(copy)
    assert caught.value.code == "tpm_state_in_the_way"
    assert state.read() == b"new"
    assert os.path.exists(copy.path)


def test_copies_of_other_vms_are_not_ours(state):
    fill(state)
    os.makedirs(state.location.container + "2.trustedvm-reset-20261121T010203000000Z")
    os.makedirs(state.location.container + ".trustedvm-something-else")
    assert not state.aside_copies()


def test_linear_file_is_set_aside_too(tmp_path, real_states):
    source = TpmSource("file", str(tmp_path / "web1.tpm"))
    state = TpmState(locate(paths_of_uri("qemu:///system"), VM, TpmSpec(None, source=source)))
    assert state.status() == "absent"
    (tmp_path / "web1.tpm").write_bytes(real_states.linear)
    assert state.status() == "present"
    copy = state.set_aside("reset")
    assert state.status() == "absent"
    state.restore(copy)
    state.remove()
    assert os.listdir(tmp_path) == []


def test_removal_of_what_is_not_there_is_no_error(state):
    state.remove()
    StateRemoval(state, "removed").remove_copies()


def test_state_that_a_running_swtpm_holds_is_not_touched(state):
    """The lock is another process's: one held by this process would not refuse this process."""
    import subprocess
    import sys

    fill(state)
    lock = os.path.join(state.location.path, ".lock")
    script = "import fcntl,sys; f = open(sys.argv[1], 'r+'); fcntl.lockf(f, fcntl.LOCK_EX); print(1, flush=True); sys.stdin.read()"
    holder = subprocess.Popen([sys.executable, "-c", script, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        holder.stdout.readline()
        with pytest.raises(TrustedVMError) as caught:
            StateRemoval(state, "removed").set_aside()
        assert caught.value.code == "tpm_state_in_use"
        assert state.status() == "present"
    finally:
        holder.communicate()
    refuse_locked(state)
