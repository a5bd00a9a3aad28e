# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab's verbs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TextIO

from . import hostfiles, network, trees
from .errors import LabError
from .records import (
    HostRecord, check_name, end_init, free_index, init_pid, load_records, remember_init, signal_init, write_atomically,
)
from .settings import Settings

BOOT_TIMEOUT = 60.0
SSH_PORT = 22
LIBVIRT_SOCKET = "run/libvirt/libvirt-sock"


class Lab:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One change of the lab at a time; a second one waits for the first."""
        lock = self._lock()
        while lock is None:
            lock = self._lock()
        with lock:
            yield

    def _lock(self) -> TextIO | None:
        """The locked file. None if the holder before was 'down', which removes the file: such a lock keeps out nobody."""
        path = self.settings.state / "lock"
        try:
            self.settings.state.mkdir(parents=True, exist_ok=True)
            lock = path.open("w", encoding="ascii")
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.fstat(lock.fileno()).st_ino == path.stat().st_ino:
                return lock
            lock.close()
        except FileNotFoundError:
            pass
        return None

    def records(self) -> dict[str, HostRecord]:
        return load_records(self.settings)

    def record(self, name: str) -> HostRecord:
        records = self.records()
        if name not in records:
            known = ", ".join(records) or "none"
            raise LabError(f"no host '{name}' in the lab {self.settings.state} (there: {known}); 'lab up {name}' makes it")
        return records[name]

    def running_pid(self, name: str) -> int:
        pid = init_pid(self.record(name))
        if pid is None:
            raise LabError(f"host '{name}' is off; 'lab revive {name}' boots it")
        return pid

    def up(self, names: list[str], release: str) -> list[str]:
        """Make and boot hosts; those that run already are left alone. Returns the names that were booted.

        A failure takes down again what this call made.
        """
        wanted = list(dict.fromkeys(check_name(name) for name in names))
        tree = trees.root_of(self.settings, release)
        made: list[HostRecord] = []
        with self.locked():
            self._prepare_state()
            try:
                records = self.records()
                for name in wanted:
                    if name not in records:
                        records[name] = self._make(name, release, records)
                        made.append(records[name])
                    elif records[name].release != release:
                        raise LabError(f"host '{name}' is there with release {records[name].release}, not {release}; 'lab down {name}' first")
                off = [records[name] for name in wanted if init_pid(records[name]) is None]
                network.ensure_bridge(self.settings)
                self._boot_all(off, tree)
            except BaseException:
                for record in made:
                    self._remove(record)
                self._tidy()
                raise
        return [record.name for record in off]

    def down(self, names: list[str]) -> list[str]:
        """Remove hosts with all that is theirs; no names: the whole lab. Hosts that are not there are no error."""
        if not self.settings.state.exists():
            return []
        with self.locked():
            records = self.records()
            doomed = [records[name] for name in names if name in records] if names else list(records.values())
            for record in doomed:
                signal_init(record)
            for record in doomed:
                self._remove(record)
            if not names and self.settings.hosts.is_dir():
                for leftover in self.settings.hosts.iterdir():
                    remove_tree(leftover)
            self._tidy()
        return [record.name for record in doomed]

    def kill(self, names: list[str]) -> None:
        """Power loss: every process of the host dies at once, its network is gone, its disks stay."""
        with self.locked():
            for record in [self.record(name) for name in names]:
                self._power_off(record)

    def revive(self, names: list[str]) -> list[str]:
        with self.locked():
            off = [record for record in map(self.record, names) if init_pid(record) is None]
            network.ensure_bridge(self.settings)
            for record in off:
                self._boot_all([record], trees.root_of(self.settings, record.release))
        return [record.name for record in off]

    def set_cable(self, names: list[str], plugged: bool) -> None:
        for name in names:
            self.running_pid(name)
            network.set_cable(self.settings, self.record(name).index, plugged)

    def command(self, name: str, command: list[str]) -> list[str]:
        """The argument list that runs a command inside a host, also when its network is cut."""
        pid = self.running_pid(name)
        environment = [f"{key}={value}" for key, value in hostfiles.ENVIRONMENT.items()]
        environment.append(f"TERM={os.environ.get('TERM', 'dumb')}")
        root = f"/proc/{pid}/root"
        enter = ["nsenter", f"--target={pid}", "--mount", "--uts", "--ipc", "--net", "--pid", f"--root={root}", f"--wd={root}"]
        return [*enter, "env", "-i", *environment, *command]

    def _prepare_state(self) -> None:
        settings = self.settings
        for directory, mode in ((settings.hosts, 0o755), (settings.shared, 0o755), (settings.control_sockets, 0o700)):
            if not directory.exists():
                directory.mkdir(parents=True)
                directory.chmod(mode)
        if not settings.key.exists():
            make_key(settings.key, "trustedvm lab")

    def _make(self, name: str, release: str, records: dict[str, HostRecord]) -> HostRecord:
        settings = self.settings
        index = free_index(settings, {record.index for record in records.values()})
        directory = settings.hosts / name
        remove_tree(directory)
        (directory / "local").mkdir(parents=True)
        record = HostRecord(name, index, settings.address(index), release, str(uuid.uuid4()), str(directory))
        make_key(directory / "ssh_host_ed25519_key", name)
        shutil.copyfile(settings.key.with_suffix(".pub"), directory / "authorized_keys")
        record.save()
        return record

    def _boot_all(self, records: list[HostRecord], tree: Path) -> None:
        self._write_known_hosts()
        with ThreadPoolExecutor(max_workers=8) as pool:
            for _done in pool.map(lambda record: self._boot(record, tree), records):
                pass
        self._write_hosts_files()

    def _boot(self, record: HostRecord, tree: Path) -> None:
        program = Path(__file__).with_name("boot.py")
        arguments = (program, record.path / "host.json", tree, self.settings.shared, self.settings.cache)
        with record.boot_log.open("ab") as log:
            stage = subprocess.Popen(
                [sys.executable, *map(str, arguments)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
            )
        assert stage.stdin is not None and stage.stdout is not None
        with stage.stdin as power_good:
            pid = stage.stdout.readline().strip()
            if stage.wait() or not pid:
                raise LabError(f"host {record.name}: no namespaces; {last_lines(record.boot_log)}")
            remember_init(record, int(pid))
            network.connect(self.settings, record.index, int(pid))
            with contextlib.suppress(BrokenPipeError):
                power_good.write("go\n")
                power_good.flush()
        stage.stdout.close()
        self._wait_until_ready(record)

    def _wait_until_ready(self, record: HostRecord) -> None:
        deadline = time.monotonic() + BOOT_TIMEOUT
        while True:
            pid = init_pid(record)
            if pid is None:
                raise LabError(f"host {record.name}: init ended; {last_lines(record.boot_log)}")
            if Path(f"/proc/{pid}/root", LIBVIRT_SOCKET).exists() and answers_ssh(record.address):
                return
            if time.monotonic() > deadline:
                raise LabError(f"host {record.name}: not ready after {BOOT_TIMEOUT:.0f} s; {last_lines(record.boot_log)}")
            time.sleep(0.05)

    def _write_known_hosts(self) -> None:
        lines = []
        for record in self.records().values():
            public = (record.path / "ssh_host_ed25519_key.pub").read_text(encoding="utf-8").split()
            lines.append(f"{record.name},{record.address} {public[0]} {public[1]}\n")
        write_atomically(self.settings.known_hosts, "".join(lines))

    def _write_hosts_files(self) -> None:
        """Every running host knows the names of all; the file is written through init's root."""
        records = list(self.records().values())
        text = hostfiles.hosts_file(records, self.settings.gateway)
        for record in records:
            pid = init_pid(record)
            if pid is not None:
                Path(f"/proc/{pid}/root/etc/hosts").write_text(text, encoding="utf-8")

    def _power_off(self, record: HostRecord) -> None:
        end_init(record)
        network.remove_link(self.settings.port(record.index))
        forget_connection(self.settings, record)

    def _remove(self, record: HostRecord) -> None:
        self._power_off(record)
        remove_tree(record.path)

    def _tidy(self) -> None:
        """After a removal: what only a lab with hosts needs goes with the last host."""
        if self.records():
            self._write_known_hosts()
            self._write_hosts_files()
            return
        network.remove_bridge(self.settings)
        settings = self.settings
        for directory in (settings.hosts, settings.shared, settings.control_sockets):
            remove_tree(directory)
        for file in (settings.key, settings.key.with_suffix(".pub"), settings.known_hosts, settings.state / "lock"):
            file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            # Not empty: somebody keeps own files in TRUSTEDVM_LAB_DIR.
            settings.state.rmdir()


def make_key(path: Path, comment: str) -> None:
    network.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path))


def answers_ssh(address: str) -> bool:
    try:
        with socket.create_connection((address, SSH_PORT), timeout=1) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def last_lines(log: Path, count: int = 15) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-count:]
    except FileNotFoundError:
        lines = []
    return f"{log} says:\n  " + "\n  ".join(lines or ["(nothing)"])


def forget_connection(settings: Settings, record: HostRecord) -> None:
    """End SSH's shared connection to a host that is gone; the next one would hang on it."""
    for control in settings.control_sockets.glob(f"{record.address}-*"):
        subprocess.run(["ssh", "-o", f"ControlPath={control}", "-O", "exit", record.address], capture_output=True, check=False)
        control.unlink(missing_ok=True)


def remove_tree(directory: Path) -> None:
    """Remove a directory, but never what is mounted in it."""
    if not directory.exists():
        return
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    inside = [point for point in (line.split()[4] for line in mounts) if Path(point).is_relative_to(directory)]
    if inside:
        raise LabError(f"{inside[0]} is mounted inside {directory}; unmount it first")
    if directory.is_dir():
        shutil.rmtree(directory)
    else:
        directory.unlink()
