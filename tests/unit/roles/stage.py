# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's roles, playbooks, registry and key ring as they are, with scripted hosts: what happens when something breaks half-way."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import sqlite3
import subprocess
import sys

ROOT = pathlib.Path(__file__).absolute().parents[3]
HOST_MODULES = ("libvirt_secret", "libvirt_secret_info", "nvram_volume", "vm", "vm_info", "vm_migrate", "vtpm")


class Run:
    def __init__(self, process, calls):
        self.output = process.stdout + process.stderr
        self.code = process.returncode
        self.calls = calls

    def tasks(self, *names):
        """The calls of these tasks that were no look ahead, as (host, task)."""
        return [(call["host"], call["task"].split(" : ")[-1]) for call in self.calls if not call["check"] and call["module"] in names]

    @property
    def changed(self):
        """How many tasks changed something, over all hosts."""
        return sum(map(int, re.findall(r"^\S+ +: ok=\d+ +changed=(\d+)", self.output, re.MULTILINE)))

    @property
    def reported(self):
        """What the run ends with."""
        found = re.findall(r"TASK \[\S+ : Report the first error\].*?\nfatal: \[\S+\]: FAILED! => (\{.*?\})\n", self.output, re.DOTALL)
        assert len(found) == 1, self.output
        return json.loads(found[0])["msg"]


class Stage:
    """A controller with an inventory of scripted hosts, in one directory."""

    def __init__(self, directory, hosts=("hv1", "hv2")):
        self.directory = directory
        self.hosts = hosts
        if not directory.exists() or not any(directory.iterdir()):
            self._build()

    def _build(self):
        collection = self.directory / "collections/ansible_collections/trustedvm/libvirt"
        (collection / "plugins/action").mkdir(parents=True)
        for name in ("roles", "playbooks", "meta", "galaxy.yml"):
            (collection / name).symlink_to(ROOT / name)
        for path in (ROOT / "plugins").iterdir():
            if path.name != "action":
                (collection / "plugins" / path.name).symlink_to(path)
        for path in (ROOT / "plugins/action").glob("*.py"):
            (collection / "plugins/action" / path.name).symlink_to(path)
        for name in HOST_MODULES:
            (collection / "plugins/action" / (name + ".py")).unlink(missing_ok=True)
            shutil.copyfile(pathlib.Path(__file__).with_name("fake_host.py"), collection / "plugins/action" / (name + ".py"))
        self.mishaps()

    def copy(self, directory):
        """As it is now, to go on from elsewhere."""
        shutil.copytree(self.directory, directory, symlinks=True, dirs_exist_ok=True)
        return Stage(directory, self.hosts)

    def mishaps(self, *entries):
        """What goes wrong in the next runs, each once."""
        (self.directory / "script.json").write_text(json.dumps(entries), encoding="utf-8")

    def play(self, playbook, *arguments, ok=True, **variables):
        inventory = {"hypervisors": {"hosts": {name: {"ansible_host": name} for name in self.hosts}, "vars": {"ansible_connection": "local"}}}
        (self.directory / "inventory.yml").write_text(json.dumps(inventory), encoding="utf-8")
        (self.directory / "calls").write_text("", encoding="utf-8")
        (self.directory / "variables.json").write_text(json.dumps({"ansible_become": False, **variables}), encoding="utf-8")
        command = [
            shutil.which("ansible-playbook", path=os.path.dirname(sys.executable)) or "ansible-playbook",
            *("-i", "inventory.yml", "trustedvm.libvirt." + playbook, "-e", "@variables.json"),
            *arguments,
        ]
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory / "home"),
            "LANG": "C.UTF-8",
            "ANSIBLE_COLLECTIONS_PATH": str(self.directory / "collections"),
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
            "TRUSTEDVM_STATE_DIRECTORY": str(self.directory / "state"),
            "STAGE": str(self.directory),
        }
        process = subprocess.run(command, cwd=self.directory, env=environment, capture_output=True, text=True, timeout=300, check=False)
        run = Run(process, [json.loads(line) for line in (self.directory / "calls").read_text(encoding="utf-8").splitlines()])
        assert (run.code == 0) == ok, run.output
        return run

    def provision(self, *names, host="hv1", ok=True, arguments=(), **more):
        vms = [name if isinstance(name, dict) else {"name": name, "memory": 128} for name in names]
        return self.play("provision", *arguments, ok=ok, trustedvm_hosts=host, vm_provision_vms=vms, **more)

    # -- what is there

    def host(self, name):
        """The names of the VMs on a host with their states, and how many secrets it has."""
        path = self.directory / ("host-%s.json" % name)
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"vms": {}, "secrets": {}}
        return {vm["name"]: vm["state"] for vm in found["vms"].values()}, len(found["secrets"])

    def back(self, name):
        """A host that was away answers again."""
        self.change(name, lambda host: {"away": False})

    def change(self, name, change):
        """What somebody did on a host; ``change`` gets it and returns what is new."""
        path = self.directory / ("host-%s.json" % name)
        host = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**host, **change(host)}), encoding="utf-8")

    def sql(self, statement):
        with sqlite3.connect(self.directory / "state" / "registry.sqlite") as database:
            return database.execute(statement).fetchall()

    @property
    def records(self):
        """By name: host and state."""
        return {name: (host, state) for name, host, state in self.sql("SELECT name, host, state FROM vms")}

    @property
    def keys(self):
        """How many keys there are."""
        return self.sql("SELECT count(*) FROM resource_keys")[0][0]
