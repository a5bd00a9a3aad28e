# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the lab remembers of a host, and which process is its init."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from .errors import LabError
from .settings import Settings

NAME = re.compile(r"[a-z][a-z0-9-]{0,30}\Z")


@dataclass(frozen=True)
class HostRecord:
    name: str
    index: int
    address: str
    release: str
    uuid: str
    directory: str

    @property
    def path(self) -> Path:
        return Path(self.directory)

    @property
    def root(self) -> Path:
        """Mount point of the host's root; mounted only inside the host's own namespace."""
        return self.path / "root"

    @property
    def local(self) -> Path:
        return self.path / "local"

    @property
    def boot_log(self) -> Path:
        return self.path / "boot.log"

    def save(self) -> None:
        write_atomically(self.path / "host.json", json.dumps(asdict(self), indent=2) + "\n")


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(text, encoding="utf-8")
    temporary.chmod(mode)
    temporary.replace(path)


def check_name(name: str) -> str:
    if not NAME.match(name):
        raise LabError(f"'{name}' is no host name for the lab: small letters, digits and '-', 31 at most, a letter first")
    return name


def load_record(directory: Path) -> HostRecord | None:
    try:
        return HostRecord(**json.loads((directory / "host.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (TypeError, ValueError) as error:
        raise LabError(f"{directory}/host.json is damaged ({error}); 'lab down' removes the lab") from error


def load_records(settings: Settings) -> dict[str, HostRecord]:
    """All hosts that were made and not taken down, by name."""
    if not settings.hosts.is_dir():
        return {}
    found = (load_record(directory) for directory in sorted(settings.hosts.iterdir()))
    return {record.name: record for record in found if record is not None}


def free_index(settings: Settings, taken: set[int]) -> int:
    for index in range(1, settings.capacity + 1):
        if index not in taken:
            return index
    raise LabError(f"the lab's network {settings.network} has no address left")


def start_time(pid: int) -> str | None:
    """Field 22 of /proc/PID/stat: with it a PID names one process for ever. None: gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else fields[19]


def remember_init(record: HostRecord, pid: int) -> None:
    write_atomically(record.path / "run.json", json.dumps({"pid": pid, "start_time": start_time(pid)}))


def init_pid(record: HostRecord) -> int | None:
    """PID of the host's init as this machine sees it; None when the host is off."""
    try:
        run = json.loads((record.path / "run.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    alive = start_time(run["pid"])
    return run["pid"] if alive is not None and alive == run["start_time"] else None


def signal_init(record: HostRecord) -> int | None:
    """Kill PID 1 of the host: the kernel then kills every other process of its PID namespace."""
    pid = init_pid(record)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
    return pid


def end_init(record: HostRecord, timeout: float = 20.0) -> None:
    """Kill the host's init and wait until all its processes are gone."""
    pid = signal_init(record)
    if pid is None:
        return
    deadline = time.monotonic() + timeout
    while start_time(pid) is not None:
        if time.monotonic() > deadline:
            raise LabError(f"host {record.name}: init (PID {pid}) did not end within {timeout:.0f} s")
        time.sleep(0.02)
    # A zombie until this machine's PID 1 reaps it, which the lab cannot hasten; give it a moment.
    patience = time.monotonic() + 3
    while Path(f"/proc/{pid}").exists() and time.monotonic() < patience:
        time.sleep(0.02)
