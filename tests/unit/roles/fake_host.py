# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands for the action plugins of the modules that work on a hypervisor.

A host is a JSON file: its secrets and its VMs. The registry, the key ring and the roles are the real ones. What
goes wrong is a list of mishaps in ``script.json``; each says for which module it is and what happens:

- ``fail``: names of VMs whose items fail and are left as they are ("*" is all), with ``fields`` in their results;
- ``lost``: all is done, but the module dies ("result") or the host goes away ("host") before it says so;
- ``away``: "before" or "after" its work, which it tells, the host goes away for good;
- ``sql``: what another controller does to the registry meanwhile.
"""

from __future__ import annotations

import fcntl
import json
import os
import pathlib
import sqlite3

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

STAGE = pathlib.Path(os.environ["STAGE"])
UP = {"running": "running", "stopped": "stopped", "defined": "stopped"}


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        self.module = self._task.action.rsplit(".", 1)[-1]
        self.check = self._task.check_mode
        self.where = self._task.delegate_to or task_vars["inventory_hostname"]
        with open(STAGE / "lock", "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return self.answer()

    def answer(self):
        host = load(self.where)
        mishap = {} if self.check else self.mishap()
        self.log()
        if host.get("away") or mishap.get("away") == "before":
            save(self.where, {**host, "away": True})
            raise AnsibleConnectionFailure("%s does not answer" % self.where)
        self.fail = mishap.get("fail", [])
        self.fields = mishap.get("fields", {})
        result = getattr(self, self.module)(host, dict(self._task.args))
        if not self.check:
            save(self.where, {**host, "away": mishap.get("away") == "after"})
        if mishap.get("sql"):
            with sqlite3.connect(STAGE / "state" / "registry.sqlite") as database:
                database.execute(mishap["sql"])
        if mishap.get("lost") == "result":
            return {"failed": True, "msg": "Module result deserialization failed", "module_stdout": "", "rc": 137}
        if mishap.get("lost") == "host":
            save(self.where, {**host, "away": True})
            raise AnsibleConnectionFailure("%s does not answer" % self.where)
        return result

    def mishap(self):
        script = json.loads((STAGE / "script.json").read_text(encoding="utf-8"))
        for entry in script:
            if entry["module"] == self.module and entry.get("host", self.where) == self.where:
                script.remove(entry)
                (STAGE / "script.json").write_text(json.dumps(script), encoding="utf-8")
                return entry
        return {}

    def log(self):
        with open(STAGE / "calls", "a", encoding="utf-8") as calls:
            entry = {"module": self.module, "host": self.where, "check": self.check, "task": self._task.get_name(), "args": dict(self._task.args)}
            calls.write(json.dumps(entry) + "\n")

    def results(self, entries):
        failures = [entry for entry in entries if entry.get("failed")]
        answer = {"results": entries, "changed": any(entry.get("changed") for entry in entries)}
        return {**answer, "failed": True, "msg": failures[0]["msg"], "error_code": failures[0]["error_code"]} if failures else answer

    def failure(self, who, **subject):
        said = {"failed": True, "changed": False, "outcome": "failed", "error_code": "made_to_fail", "msg": "%s: made to fail" % who}
        return {**subject, **said, **self.fields}

    # -- modules

    def vm_info(self, host, args):
        return {"vms": [{"uuid": uuid, **vm} for uuid, vm in host["vms"].items() if uuid in args["vms"]]}

    def libvirt_secret_info(self, host, args):
        return {"secrets": [{"uuid": uuid, **secret} for uuid, secret in host["secrets"].items()]}

    def libvirt_secret(self, host, args):
        return self.results([self.secret(host["secrets"], item) for item in args["secrets"]])

    def secret(self, secrets, item):
        uuid, there = item["uuid"], item["uuid"] in secrets
        said = {"uuid": uuid, "usage": item.get("usage")}
        if "*" in self.fail:
            return self.failure(uuid, **said)
        if item.get("state") == "absent":
            secrets.pop(uuid, None)
            return {**said, "changed": there, "outcome": "removed" if there else "unchanged"}
        secrets[uuid] = {"usage": item["usage"], "usage_type": "vtpm", "private": True, "ephemeral": item["ephemeral"], "has_value": True}
        return {**said, "changed": not there, "outcome": "unchanged" if there else "created"}

    def vm(self, host, args):
        return self.results([self.machine(host["vms"], {**{name: args[name] for name in args if name != "vms"}, **item}) for item in args["vms"]])

    def machine(self, vms, item):
        uuid, before = item["uuid"], vms.get(item["uuid"])
        said = {"uuid": uuid, "name": item["name"]}
        if "memmory" in item:
            raise AnsibleActionFail("Unsupported parameters for (vm) module: memmory")
        if item["name"] in self.fail:
            return self.failure(item["name"], **said)
        if item["state"] == "absent":
            vms.pop(uuid, None)
            return {**said, "changed": before is not None, "outcome": "removed", "state": "absent"}
        after = {"name": item["name"], "state": UP[item["state"]], "tpm": item.get("tpm") or (before or {}).get("tpm")}
        vms[uuid] = after
        running = after["state"] == "running"
        return {**said, **after, "changed": before != after, "outcome": "updated", "tpm_state_exists": running, "nvram": None}

    def vm_migrate(self, host, args):
        there = load(args["destination_host"])
        entries = [self.migration(host, there, item) for item in args["migrations"]]
        if not self.check:
            save(args["destination_host"], there)
        return self.results(entries)

    def migration(self, host, there, item):
        vm = host["vms"][item["vm"]]
        secrets = [
            {"uuid": uuid, "usage": host["secrets"].get(uuid, {}).get("usage"), "ephemeral": None, "on_destination": uuid in there["secrets"]}
            for uuid in item["provided_secrets"]
        ]
        said = {"vm": item["vm"], "uuid": item["vm"], "name": vm["name"], "secrets": secrets}
        if vm["name"] in self.fail and self.fields.get("running_on") != "destination":
            return self.failure(vm["name"], **said, running_on="source", leftovers=[])
        if not self.check:
            there["vms"][item["vm"]] = host["vms"].pop(item["vm"])
        if vm["name"] in self.fail:
            return self.failure(vm["name"], **said)
        measured = {"timings": {"total_s": 2.5, "downtime_ms": None}, "bytes": {"memory_processed": None}}
        return {**said, "changed": True, "outcome": "migrated", "running_on": "destination", **({} if self.check else measured)}

    def nvram_volume(self, host, args):
        return self.results([{"changed": True, "outcome": "removed"} for item in args["volumes"]])

    def vtpm(self, host, args):
        return self.results([{"changed": True, "outcome": "removed"} for item in args["vms"]])


def load(name):
    path = STAGE / ("host-%s.json" % name)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"vms": {}, "secrets": {}}


def save(name, host):
    (STAGE / ("host-%s.json" % name)).write_text(json.dumps(host), encoding="utf-8")
