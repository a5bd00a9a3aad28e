# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ansible and the lab for the benchmark: write a playbook, run it, read the times."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import time
from typing import IO, Any

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent


class BenchError(Exception):
    """The measurement cannot be trusted: something did not do what was measured."""


class Lab:
    """The benchmark's own hosts and the files of one run."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        cache = os.environ.get("TRUSTEDVM_CACHE", "/var/cache/trustedvm")
        self.environment = {
            **os.environ,
            "TRUSTEDVM_LAB_DIR": os.path.join(cache, "lab-bench"),
            "TRUSTEDVM_STATE_DIRECTORY": str(directory / "state"),
            "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback_plugins"),
            "ANSIBLE_CALLBACKS_ENABLED": "task_times",
            "ANSIBLE_FORCE_COLOR": "0",
        }
        self.inventory = directory / "inventory.yml"

    def command(self, *arguments: str) -> str:
        done = subprocess.run(
            [str(ROOT / "tests/lab/lab"), *arguments], env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise BenchError("lab %s: %s%s" % (" ".join(arguments), done.stdout, done.stderr))
        return done.stdout

    def up(self, *hosts: str) -> None:
        self.command("up", *hosts)
        self.inventory.write_text(self.command("inventory"))

    def down(self) -> None:
        self.command("down")

    def play(self, name: str, plays: list[dict[str, Any]] | str, *options: str) -> tuple[list[dict[str, Any]], float]:
        """Run a playbook (a list of plays, or the name of one of ours).

        Returns:
            A line for each task (see callback_plugins/task_times.py), and the seconds of the whole process.
        """
        times, log = self.directory / (name + ".times"), self.directory / (name + ".log")
        times.unlink(missing_ok=True)
        playbook = plays
        if not isinstance(plays, str):
            playbook = str(self.directory / (name + ".yml"))
            pathlib.Path(playbook).write_text(yaml.safe_dump(plays, sort_keys=False))
        command = ["ansible-playbook", "-i", str(self.inventory), str(playbook), *options]
        started = time.monotonic()
        with open(log, "w", encoding="utf-8") as stream:
            environment = {**self.environment, "TRUSTEDVM_BENCH_TIMES": str(times)}
            code = self._run(command, environment, stream)
        took = time.monotonic() - started
        if code:
            raise BenchError("%s failed, see %s:\n%s" % (name, log, log.read_text()[-2000:]))
        return [json.loads(line) for line in times.read_text().splitlines()], took

    @staticmethod
    def _run(command: list[str], environment: dict[str, str], stream: IO[str]) -> int:
        with subprocess.Popen(command, env=environment, stdout=stream, stderr=stream) as process:
            try:
                return process.wait()
            except BaseException:
                # Killed, it would leave its workers behind.
                process.terminate()
                raise
