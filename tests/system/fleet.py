# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet of lab hypervisors as an operator has it: an inventory, playbooks, and a look at the hosts.

Used by the system tests, the demonstration and the benchmark.
"""
from __future__ import annotations

import os
import pathlib
import re
import shutil
import sqlite3
import subprocess
import time
from dataclasses import dataclass
from typing import Any, Callable, Mapping, Optional, Sequence

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = pathlib.Path(os.environ.get("TRUSTEDVM_CACHE", "/var/cache/trustedvm"))
RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.M)


@dataclass(frozen=True)
class Run:
    """One ansible-playbook run."""

    returncode: int
    output: str
    seconds: float

    @property
    def changed(self) -> int:
        """How many tasks changed something, over all hosts."""
        return sum(int(host[2]) for host in RECAP.findall(self.output))

    @property
    def changes(self) -> list[tuple[str, str]]:
        """Task and host of each change, in their order."""
        tasks = re.split(r"^TASK \[([^\]]*)\] \**$", self.output, flags=re.M)
        return [(task, host) for task, said in zip(tasks[1::2], tasks[2::2]) for host in re.findall(r"^changed: \[(\w+)", said, re.M)]

    @property
    def hosts(self) -> dict[str, dict[str, int]]:
        return {
            name: {"ok": int(ok), "changed": int(changed), "unreachable": int(away), "failed": int(failed)}
            for name, ok, changed, away, failed in RECAP.findall(self.output)
        }


class Fleet:
    """Lab hosts with an inventory and a registry of their own.

    Args:
        name: keeps several fleets on one machine apart.
        directory: for the inventory, the registry and the logs.
        hosts: names; two of them are enough for a migration.
        lab_directory: where the lab is, instead of a place that comes from the name.
    """

    def __init__(
        self, name: str, directory: pathlib.Path, hosts: Sequence[str] = ("a", "b"), lab_directory: Optional[pathlib.Path] = None
    ) -> None:
        self.directory = directory
        self.hosts = tuple(hosts)
        self.lab_directory = lab_directory or CACHE / ("lab-" + name)
        self.state_directory = directory / "state"
        self.inventory = directory / "inventory.yml"
        self.environment = {**os.environ, "TRUSTEDVM_LAB_DIR": str(self.lab_directory), "ANSIBLE_NOCOWS": "1"}

    # -- hosts

    def up(self, variables: Optional[Mapping[str, Any]] = None) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        # Hosts that a killed run left would bring their VMs along.
        self.lab("down")
        self.lab("up", *self.hosts)
        inventory = yaml.safe_load(self.lab("inventory").stdout)
        inventory["all"].setdefault("vars", {}).update(
            {"trustedvm_state_directory": str(self.state_directory), "hypervisor_virt_type": "qemu", **(variables or {})}
        )
        self.inventory.write_text(yaml.safe_dump(inventory), encoding="utf-8")

    def down(self) -> None:
        self.lab("down")
        shutil.rmtree(self.state_directory, ignore_errors=True)

    def lab(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [str(ROOT / "tests/lab/lab"), *arguments]
        result = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        if check and result.returncode:
            raise RuntimeError("lab %s: %s%s" % (" ".join(arguments), result.stdout, result.stderr))
        return result

    def on(self, host: str, *command: str, check: bool = True) -> str:
        """Run a command on a host; its output."""
        return self.lab("exec", host, "--", *command, check=check).stdout

    def virsh(self, host: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.lab("exec", host, "--", "virsh", "-q", *arguments, check=check)

    def read(self, host: str, path: str) -> str:
        return self.on(host, "cat", path, check=False)

    # -- Ansible

    def playbook(
        self,
        playbook: str,
        *arguments: str,
        extra: Optional[Mapping[str, Any]] = None,
        environment: Optional[Mapping[str, str]] = None,
        check: bool = False,
        verbosity: int = 0,
        ok: Optional[bool] = True,
        tell: Callable[[str], object] = lambda line: None,
    ) -> Run:
        """Run a playbook of the collection by its name, or a file.

        Args:
            ok: True and False demand that outcome; None takes both.
            tell: gets each line of the output as it comes.
        """
        command = ["ansible-playbook", "-i", str(self.inventory), playbook if "/" in playbook else "trustedvm.libvirt." + playbook, *arguments]
        if extra:
            variables = self.directory / "extra.yml"
            variables.write_text(yaml.safe_dump(dict(extra)), encoding="utf-8")
            command += ["-e", "@%s" % variables]
        if check:
            command.append("--check")
        if verbosity:
            command.append("-" + "v" * verbosity)
        began = time.monotonic()
        lines = []
        with subprocess.Popen(
            command,
            env={**self.environment, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
        ) as process:
            try:
                for line in process.stdout or ():
                    lines.append(line)
                    tell(line)
            except BaseException:
                # Told to end: the playbook does not get to its own end first.
                process.terminate()
                raise
        run = Run(process.returncode, "".join(lines), time.monotonic() - began)
        if ok is not None and ok != (run.returncode == 0):
            raise AssertionError("%s ended with %d:\n%s" % (" ".join(command), run.returncode, run.output))
        return run

    # -- what is there

    def share(self, file: pathlib.Path, name: str) -> str:
        """Copy a file to the hosts' shared directory; its path there."""
        shutil.copyfile(file, self.lab_directory / "shared" / name)
        return "/srv/shared/" + name

    def registry_rows(self) -> dict[str, int]:
        """How many VMs, vTPMs, NVRAM volumes and keys the registry has; none if there is no registry yet."""
        tables = ("vms", "vtpms", "nvram_volumes", "resource_keys")
        if not (self.state_directory / "registry.sqlite").exists():
            return dict.fromkeys(tables, 0)
        with sqlite3.connect("file:%s?mode=ro" % (self.state_directory / "registry.sqlite"), uri=True) as database:
            return {table: database.execute("SELECT count(*) FROM %s" % table).fetchone()[0] for table in tables}

    def left_on(self, host: str) -> dict[str, list[str]]:
        """Everything of VMs that a host holds: domains, secrets, TPM states, NVRAM volumes."""
        return {
            "domains": self.virsh(host, "list", "--all", "--name").stdout.split(),
            "secrets": [line.split()[0] for line in self.virsh(host, "secret-list").stdout.splitlines() if line.strip()],
            "tpm_states": self._files(host, "/var/lib/libvirt/swtpm", "tpm2-00.permall"),
            "nvram": self._files(host, "/srv /var/lib/libvirt", "*.fd"),
        }

    def _files(self, host: str, below: str, pattern: str) -> list[str]:
        return sorted(self.on(host, "find", *below.split(), "-name", pattern, check=False).split())


def wait_for(what: str, probe: Any, seconds: float, interval: float = 0.5) -> Any:
    """Call ``probe`` until it answers with something true."""
    end = time.monotonic() + seconds
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError("%s did not come within %g s" % (what, seconds))
        time.sleep(interval)
