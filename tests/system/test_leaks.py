# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Neither DEK nor KEK is anywhere but in libvirt's own secret store and in the key ring.

Provision and migrate run at -vvvv with every combination of pipelining and kept remote files; then everything that was written
anywhere is searched: Ansible's output, process lists, the controller's files, the registry, the hosts' files.
"""
from __future__ import annotations

import base64
import binascii
import json
import pathlib
import threading
from typing import Iterator, Optional

import pytest

from .fleet import ROOT, Fleet

COMBINATIONS = [(pipelining, keep) for pipelining in (True, False) for keep in ("0", "1")]


def forms(key: bytes) -> dict[str, bytes]:
    """The ways in which a key of 32 bytes could be written."""
    text = base64.b64encode(key)
    return {
        "raw": key,
        "hex": binascii.hexlify(key),
        "HEX": binascii.hexlify(key).upper(),
        "base64": text.rstrip(b"="),
        "base64url": base64.urlsafe_b64encode(key).rstrip(b"="),
        # The value of a secret is the DEK's base64 text, and libvirt's base64 of that is how it travels.
        "base64 of base64": base64.b64encode(text).rstrip(b"="),
    }


def found_in(content: bytes, keys: dict[str, bytes]) -> list[str]:
    return ["%s as %s" % (name, form) for name, key in keys.items() for form, text in forms(key).items() if text in content]


class ProcessWatch:
    """Collects the command lines and environments of all processes, some fifty times a second."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> ProcessWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            for process in pathlib.Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    try:
                        self.seen.add((process / name).read_bytes())
                    except OSError:
                        pass  # it has ended


@pytest.fixture(scope="module")
def runs(fleet: Fleet) -> Iterator[dict[str, bytes]]:
    """Everything the runs said, by name; the VMs are destroyed afterwards."""
    said: dict[str, bytes] = {}
    names = ["leak%d" % number for number in range(len(COMBINATIONS))]
    with ProcessWatch() as watch:
        for name, (pipelining, keep) in zip(names, COMBINATIONS):
            environment = {"ANSIBLE_KEEP_REMOTE_FILES": keep, "ANSIBLE_DEBUG": "1" if keep == "1" else "0"}
            vm = {"name": name, "memory": 128, "virt_type": "qemu", "networks": [], "disks": []}
            common = {"ansible_ssh_pipelining": pipelining, "ansible_pipelining": pipelining}
            provisioned = fleet.playbook(
                "provision", extra={**common, "trustedvm_hosts": "a", "vm_provision_vms": [vm]}, environment=environment, verbosity=4
            )
            migrated = fleet.playbook(
                "migrate", extra={**common, "vm_migrate_vms": [name], "vm_migrate_destination": "b"}, environment=environment, verbosity=4
            )
            said["provision " + name] = provisioned.output.encode()
            said["migrate " + name] = migrated.output.encode()
    said["process lists"] = b"\n".join(watch.seen)
    yield said
    fleet.playbook("destroy", extra={"vm_destroy_vms": names, "vm_destroy_force": True})


@pytest.fixture(scope="module")
def keys(runs: dict[str, bytes], fleet: Fleet) -> dict[str, bytes]:
    """The DEKs from libvirt's store of the host where the VMs run, and the KEKs from the ring."""
    store = fleet.on("b", "sh", "-c", "for file in /etc/libvirt/secrets/*.base64; do cat $file; echo; done").split()
    keys = {"DEK %d" % number: base64.b64decode(base64.b64decode(value)) for number, value in enumerate(store)}
    ring = json.loads((fleet.state_directory / "key-rings/native.json").read_text(encoding="utf-8"))
    keys.update({"KEK %d" % entry["version"]: base64.b64decode(entry["key"]) for entry in ring["keks"]})
    # Numbers only: a failed assertion shows what it compares.
    count, sizes = len(keys), {len(key) for key in keys.values()}
    assert count == len(COMBINATIONS) + 1 and sizes == {32}
    return keys


def test_the_search_finds_what_is_there(fleet: Fleet, keys: dict[str, bytes]) -> None:
    """A search that finds nothing must be one that can find something."""
    assert len(files_with(fleet.state_directory, keys)) == 1
    assert len(files_with(fleet.lab_directory / "hosts", keys)) >= len(COMBINATIONS)


def test_no_key_in_ansibles_output_or_a_process_list(runs: dict[str, bytes], keys: dict[str, bytes]) -> None:
    assert {name: hits for name, said in runs.items() if (hits := found_in(said, keys))} == {}


def test_no_key_in_the_controllers_files(fleet: Fleet, keys: dict[str, bytes]) -> None:
    for directory in (fleet.directory, ROOT / "build", pathlib.Path.home() / ".ansible"):
        hits = files_with(directory, keys)
        hits.pop(fleet.state_directory / "key-rings/native.json", None)
        assert hits == {}


def test_no_key_in_the_hosts_files(fleet: Fleet, keys: dict[str, bytes]) -> None:
    assert files_with(fleet.lab_directory, keys, skip="libvirt/secrets/") == {}


def test_kept_module_files_were_there_to_search(fleet: Fleet, runs: dict[str, bytes]) -> None:
    """With pipelining off, Ansible writes module files to the host: those without a key are there, so the search has looked at them."""
    kept = list((fleet.lab_directory / "hosts").rglob("AnsiballZ_*.py"))
    assert kept
    assert not [path for path in kept if "libvirt_secret.py" in path.name]


def files_with(directory: pathlib.Path, keys: dict[str, bytes], skip: Optional[str] = None) -> dict[pathlib.Path, list[str]]:
    """The files below a directory that hold a key; those whose path contains ``skip`` are left out."""
    hits = {}
    for path in directory.rglob("*"):
        if path.is_symlink() or not path.is_file() or (skip and skip in str(path)):
            continue
        found = found_in(path.read_bytes(), keys)
        if found:
            hits[path] = found
    return hits
