# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A key on its way to a host, with real ansible-playbook runs on this machine: it arrives, and nothing else has it."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("cryptography")

from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._core.key_material import KeyMaterial
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._key_providers.loader import open_provider
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._key_providers.native import NativeProvider
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._records.key_reader import context_of, read_keys
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._records.key_request import KeyRequest
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._registry.engine import open_registry
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._registry.records import KeyIdentity, KeyProviderRecord, ResourceKeyRecord

VM = "0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11"
OTHER = "7b6a5d0e-92c1-4a53-8f1e-3a44f0f6c922"
REQUEST = {"resource_type": "vtpm", "vm": VM, "purpose": "migrate"}

# Stands for a host-side module: says what arrived, as digests, and what of it can be seen from outside.
PROBE = """#!/usr/bin/python
from __future__ import annotations
import base64, hashlib, os, sys
from ansible.module_utils.basic import AnsibleModule

def digest(value):
    return hashlib.sha256(base64.b64decode(base64.b64decode(value))).hexdigest() if value else None

def main():
    item = dict(name=dict(type="str"), value=dict(type="str", no_log=True), resource_key=dict(type="dict", no_log=False))
    spec = dict(secrets=dict(type="list", elements="dict", options=item), die=dict(type="bool", default=False), **item)
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    params = module.params
    if params["die"]:
        sys.stderr.write("dying with %s" % params["value"])
        sys.stdout.write("no JSON but " + base64.b64decode(params["value"]).decode())
        sys.exit(3)
    with open("/proc/self/cmdline", "rb") as cmdline, open("/proc/self/environ", "rb") as environ:
        outside = cmdline.read() + environ.read()
    seen = bool(params["value"]) and params["value"].encode() in outside
    digests = [digest(secret["value"]) for secret in params["secrets"] or []]
    module.exit_json(changed=False, digest=digest(params["value"]), digests=digests, seen=seen, resource_key=params["resource_key"])

main()
"""

ACTION = """
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._actions.key_injection import KeyCarryingAction

class ActionModule(KeyCarryingAction):
    ITEMS = "secrets"
"""


# As if Ansible did not ask the action for the payload.
OWN_WAY = """
    def _configure_module(self, *args, **kwargs):
        from ansible.plugins.action import ActionBase

        return ActionBase._configure_module(self, *args, **kwargs)
"""

# As if Ansible made a file of the module all the same: with the payload's bytes, or from a file on the controller.
WITH_FILES = """
    def _is_pipelining_enabled(self, *args, **kwargs):
        return False
"""

FROM_A_FILE = WITH_FILES + """
    def _transfer_data(self, *args, **kwargs):
        from ansible.plugins.action import ActionBase

        return ActionBase._transfer_data(self, *args, **kwargs)
"""

# Sees what every callback plugin sees: results, and the task's arguments.
KEEPER = '''
import json, os
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: keeper
type: aggregate
short_description: keeps results
description: keeps results
"""

class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "keeper"

    def keep(self, result, ignore_errors=False):
        seen = {"result": result._result, "fields": result._task_fields}
        with open(os.environ["KEEPER"], "a", encoding="utf-8") as file:
            file.write("RESULT %s %s\\n" % (result._task.get_name().split()[-1], json.dumps(seen, default=str)))

    v2_runner_on_ok = v2_runner_on_failed = v2_runner_on_unreachable = keep
'''


class Run:
    def __init__(self, process, directory):
        self.output = process.stdout + process.stderr
        self.code = process.returncode
        self.directory = directory

    @property
    def results(self):
        """By task name, what the task returned."""
        found = {}
        for name, text in re.findall(r"^RESULT (\S+) (.*)$", (self.directory / "results").read_text(encoding="utf-8"), re.MULTILINE):
            found[name] = json.loads(text)["result"]
        return found

    def leaks(self, keys):
        """Places that hold a key: the output, and every file that the run could write."""
        spellings = [spelling.encode() for key in keys for spelling in key.spellings()] + [key.reveal() for key in keys]
        places = {"output": self.output.encode()}
        for path in self.directory.rglob("*"):
            if path.is_file():
                places[str(path)] = path.read_bytes()
        return [place for place, content in places.items() if any(spelling in content for spelling in spellings)]


class Playground:
    """A controller with a registry and a key, and a directory that holds all that Ansible writes."""

    def __init__(self, directory):
        self.directory = directory
        self.state = directory / "state"
        self.keys = []
        for name in ("library", "action_plugins", "callback_plugins", "home", "tmp"):
            (directory / name).mkdir()
        (directory / "callback_plugins" / "keeper.py").write_text(KEEPER, encoding="utf-8")
        (directory / "library" / "probe.py").write_text(PROBE, encoding="utf-8")
        (directory / "action_plugins" / "probe.py").write_text(ACTION, encoding="utf-8")
        self._make_keys()

    def _make_keys(self):
        provider = NativeProvider("native", str(self.state / "key-rings" / "native.json"), None)
        provider.create()
        with open_registry(self.url, create=True) as registry, registry.write() as session:
            session.key_providers.put(KeyProviderRecord("native", "native"))
            for vm in (VM, OTHER):
                identity, dek = KeyIdentity("vtpm", vm, 1), KeyMaterial(os.urandom(32))
                wrapped = provider.wrap(dek, context_of(identity, "native"))
                session.resource_keys.add_if_absent(
                    ResourceKeyRecord(identity, "native", wrapped.kek_id, wrapped.kek_version, wrapped.algorithm, wrapped.wrapped, dek.fingerprint())
                )
                self.keys.append(dek)

    @property
    def url(self):
        return "sqlite:///%s" % (self.state / "registry.sqlite")

    def run(self, *tasks, arguments=(), environment=None, play=None):
        """Each task is the name of a result and a task; all run, whatever fails."""
        steps = []
        for name, task in tasks:
            steps.append({"ignore_errors": True, **task, "name": name})
        (self.directory / "results").unlink(missing_ok=True)
        book = [{"hosts": "all", "gather_facts": False, "tasks": steps, **(play or {})}]
        (self.directory / "play.yml").write_text(json.dumps(book), encoding="utf-8")
        command = [
            shutil.which("ansible-playbook", path=os.path.dirname(sys.executable)) or "ansible-playbook",
            "-i",
            "localhost,",
            "-c",
            "local",
            "-vvvv",
            *arguments,
            "play.yml",
        ]
        full = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory / "home"),
            "LANG": "C.UTF-8",
            "TMPDIR": str(self.directory / "tmp"),
            "ANSIBLE_COLLECTIONS_PATH": os.pathsep.join([str(root) for root in collection_roots()]),
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
            "ANSIBLE_REMOTE_TEMP": str(self.directory / "tmp" / "remote"),
            "ANSIBLE_ASYNC_DIR": str(self.directory / "tmp" / "async"),
            "ANSIBLE_NOCOLOR": "1",
            # ansible-core 2.21 leaves the arguments out of results unless asked.
            "ANSIBLE_INJECT_INVOCATION": "true",
            "ANSIBLE_CALLBACKS_ENABLED": "keeper",
            "KEEPER": str(self.directory / "results"),
            "TRUSTEDVM_STATE_DIRECTORY": str(self.state),
            **(environment or {}),
        }
        process = subprocess.run(command, cwd=self.directory, env=full, capture_output=True, text=True, timeout=300, check=False)
        return Run(process, self.directory)


def collection_roots():
    import ansible_collections.trustedvm.libvirt.plugins.plugin_utils._core.errors as somewhere

    return [pathlib.Path(somewhere.__file__).absolute().parents[6]]


@pytest.fixture
def playground(tmp_path):
    return Playground(tmp_path)


def digest(key):
    return hashlib.sha256(key.reveal()).hexdigest()


def probe(**arguments):
    return {"probe": arguments}


@pytest.mark.parametrize(
    "environment",
    [
        {"ANSIBLE_PIPELINING": "true"},
        {"ANSIBLE_PIPELINING": "false"},
        {
            "ANSIBLE_PIPELINING": "false",
            "ANSIBLE_KEEP_REMOTE_FILES": "1",
            "ANSIBLE_DEBUG": "1",
            "ANSIBLE_LOG_PATH": "log",
            "ANSIBLE_DISPLAY_ARGS_TO_STDOUT": "1",
        },
    ],
    ids=["pipelining", "no pipelining", "everything that shows or keeps"],
)
def test_the_key_arrives_and_is_nowhere_else(playground, environment):
    run = playground.run(
        ("one", probe(name="a", resource_key=REQUEST)),
        (
            "many",
            probe(
                resource_key={"resource_type": "vtpm", "purpose": "migrate"},
                secrets=[{"name": "a", "resource_key": {"vm": VM}}, {"name": "b"}, {"name": "c", "resource_key": {"vm": OTHER}}][::2],
            ),
        ),
        ("retried", {**probe(name="a", resource_key=REQUEST), "until": "false", "retries": 1, "delay": 0}),
        ("failed_task", {"ansible.builtin.debug": {"var": "ansible_failed_task"}}),
        environment=environment,
    )
    results = run.results
    assert results["one"]["digest"] == digest(playground.keys[0]) and results["one"]["resource_key"] is None
    assert results["one"]["seen"] is False
    assert results["many"]["digests"] == [digest(key) for key in playground.keys]
    assert "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER" in run.output
    assert run.leaks(playground.keys) == []


def test_the_search_for_leaks_finds_one(playground):
    """A value that the play writes itself is in its own file."""
    run = playground.run(("one", probe(name="a", value=playground.keys[0].secret_value())))
    assert run.results["one"]["digest"] == digest(playground.keys[0])
    assert any(place.endswith("play.yml") for place in run.leaks(playground.keys))


def test_a_value_of_the_plays_own_goes_over_standard_input_too(playground):
    """The host-side modules stand alone: `value` without registry. It is in no file on the host either, and not in
    the arguments that callback plugins and `ansible_failed_task` get."""
    given = {"name": "a", "value": "{{ lookup('env', 'GIVEN') }}"}
    shown = {"name": "shown", "ansible.builtin.debug": {"var": "ansible_failed_task"}}
    run = playground.run(
        ("one", probe(**given)),
        ("many", probe(secrets="{{ variable }}")),
        ("variable", {"ansible.builtin.assert": {"that": "variable[0].value | b64decode | b64decode | length > 0"}}),
        ("retried", {**probe(**given), "until": "false", "retries": 2, "delay": 0}),
        ("async", {"block": [{**probe(**given), "name": "async", "async": 10, "poll": 1}], "rescue": [shown], "ignore_errors": False}),
        environment={"GIVEN": playground.keys[0].secret_value(), "ANSIBLE_KEEP_REMOTE_FILES": "1", "ANSIBLE_DEBUG": "1"},
        play={"vars": {"variable": [{"name": "b"}, given][::-1]}},
    )
    arrived = digest(playground.keys[0])
    assert run.results["one"]["digest"] == run.results["retried"]["digest"] == arrived
    assert run.results["many"]["digests"] == [arrived, None] and not run.results["variable"].get("failed")
    assert run.results["async"]["error_code"] == "key_needs_pipelining"
    assert run.results["shown"]["ansible_failed_task"]["args"]["value"] == "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"
    assert run.leaks(playground.keys) == []


def test_a_module_that_dies_with_the_key_on_its_lips(playground):
    run = playground.run(("dies", probe(name="a", die=True, resource_key=REQUEST)))
    assert "dying with ********" in run.results["dies"]["module_stderr"]
    assert run.leaks(playground.keys) == []


def test_where_a_file_would_be_needed_the_call_is_refused(playground):
    hows = {
        "async": {"async": 20, "poll": 1},
        "su": {"become": True, "become_method": "ansible.builtin.su"},
        "terminal": {"vars": {"ansible_connection": "ssh", "ansible_ssh_extra_args": "-tt"}},
        "RequestTTY": {"vars": {"ansible_connection": "ssh", "ansible_ssh_common_args": "-o RequestTTY=force"}},
    }
    tasks = [(name, {**probe(name="a", resource_key=REQUEST), **how}) for name, how in hows.items()]
    run = playground.run(*tasks, environment={"ANSIBLE_KEEP_REMOTE_FILES": "1"})
    for name, found in {"async": "async", "su": "the become plugin su", "terminal": "terminal", "RequestTTY": "terminal"}.items():
        assert run.results[name]["error_code"] == "key_needs_pipelining"
        assert found in run.results[name]["msg"]
    assert list(playground.directory.rglob("AnsiballZ_probe*")) == []


@pytest.mark.parametrize("own_way", [WITH_FILES, FROM_A_FILE], ids=["data", "file"])
def test_a_core_that_makes_a_file_of_the_module_does_not_get_it_to_the_host(playground, own_way):
    """Should an ansible-core not ask, or not heed the answer: nothing is written while a key is aboard."""
    (playground.directory / "action_plugins" / "probe.py").write_text(ACTION + own_way, encoding="utf-8")
    run = playground.run(
        ("key", probe(name="a", resource_key=REQUEST)),
        ("value", probe(name="a", value="{{ lookup('env', 'GIVEN') }}")),
        ("none", probe(name="a")),
        environment={"ANSIBLE_KEEP_REMOTE_FILES": "1", "GIVEN": playground.keys[1].secret_value()},
    )
    for name in ("key", "value"):
        assert run.results[name]["error_code"] == "key_needs_pipelining", run.results[name]
    assert run.results["none"]["digest"] is None and "error_code" not in run.results["none"]
    assert run.leaks(playground.keys) == []
    # The one of the call without a key, which shows that the others would have been here.
    assert len(list(playground.directory.rglob("AnsiballZ_probe*"))) == 1


CARRIERS = {
    "libvirt_secret": {"usage": "trustedvm:vtpm:" + VM},
    "vtpm": {"vm": VM},
    "vtpm_info": {"vm": VM},
    "vm_migrate": {"vm": VM, "destination_host": "hv2"},
}


def elsewhere(playground):
    """The registry is not where the environment says."""
    return {"TRUSTEDVM_STATE_DIRECTORY": str(playground.directory / "another"), "TRUSTEDVM_REGISTRY_URL": "sqlite:///%s/another.sqlite" % playground.directory}


def test_the_task_says_where_its_keys_are_and_the_host_is_not_told(playground):
    """The probe's argument spec has neither option: it would fail if it got them."""
    away = playground.run(("away", probe(name="a", resource_key=REQUEST)), environment=elsewhere(playground))
    assert away.results["away"]["error_code"] == "resource_key_missing"
    places = {"state_directory": str(playground.state), "registry_url": playground.url}
    ring = probe(name="a", resource_key=REQUEST, state_directory=places["state_directory"])
    run = playground.run(
        ("both", probe(name="a", resource_key=REQUEST, **places)),
        ("templated", {**probe(name="a", resource_key=REQUEST, **{name: "{{ %s }}" % name for name in places}), "vars": places}),
        ("in_a_list", probe(secrets=[{"name": "a", "resource_key": REQUEST}], **places)),
        ("no_key", probe(name="a", **places)),
        ("wins", {**ring, "vars": {"trustedvm_state_directory": "/nowhere"}}),
        environment={"TRUSTEDVM_STATE_DIRECTORY": elsewhere(playground)["TRUSTEDVM_STATE_DIRECTORY"]},
    )
    for name in ("both", "templated", "wins"):
        assert run.results[name]["digest"] == digest(playground.keys[0]), name
    assert run.results["in_a_list"]["digests"] == [digest(playground.keys[0])]
    assert run.results["no_key"]["digest"] is None and not run.results["no_key"].get("failed")


def test_one_line_of_module_defaults_is_for_all_that_use_the_registry(playground):
    """Each module that reads keys finds the registry that the others use: what is wrong with its ring is said."""
    os.chmod(playground.state / "key-rings" / "native.json", 0o644)
    tasks = [(name, {"trustedvm.libvirt." + name: {**options, "resource_key": REQUEST}}) for name, options in CARRIERS.items()]
    tasks.append(("resource_key", {"trustedvm.libvirt.resource_key": {**REQUEST, "purpose": "rekey", "key_version": 2, "provider": "native"}}))
    tasks.append(("key_provider", {"trustedvm.libvirt.key_provider": {"name": "native"}}))
    defaults = {"group/trustedvm.libvirt.controller": {"registry_url": playground.url, "state_directory": str(playground.state)}}
    run = playground.run(*tasks, environment=elsewhere(playground), play={"module_defaults": defaults})
    codes = {name: result.get("error_code", result.get("msg")) for name, result in run.results.items()}
    assert codes == dict.fromkeys(codes, "key_ring_insecure") and len(codes) == len(CARRIERS) + 2


@pytest.mark.parametrize("of", ["an argument", "module_defaults"])
def test_the_password_of_a_registry_is_in_no_result(playground, of):
    """Nor in the arguments that callback plugins and ansible_failed_task show. The port answers nobody."""
    url = {"registry_url": "{{ lookup('env', 'URL') }}"}
    own = url if of == "an argument" else {}
    tasks = [
        ("info", {"trustedvm.libvirt.vm_record_info": own}),
        ("record", {"trustedvm.libvirt.vm_record": {"name": "web1", **own}}),
        ("invalid", {"trustedvm.libvirt.vm_record": {"name": "web1", "nonsense": True, **own}}),
        ("vtpm", {"trustedvm.libvirt.vtpm": {"vm": VM, "resource_key": REQUEST, **own}}),
        ("retried", {"trustedvm.libvirt.vm_record_info": own, "until": "false", "retries": 2, "delay": 0}),
    ]
    play = {"module_defaults": {"group/trustedvm.libvirt.controller": url}} if of == "module_defaults" else {}
    rescue = [{"name": "shown", "ansible.builtin.debug": {"var": "ansible_failed_task.args"}}]
    tasks = [(name, {"block": [{**task, "name": name}], "rescue": rescue, "ignore_errors": False}) for name, task in tasks]
    tasks.append(("looped", {"trustedvm.libvirt.vm_record_info": own, "loop": [1, 2]}))
    run = playground.run(
        *tasks,
        environment={
            "URL": "postgresql://operator:open%20sesame@127.0.0.1:1/trustedvm?sslpassword=hunter2",
            "ANSIBLE_DEBUG": "1",
            "ANSIBLE_LOG_PATH": "log",
            "ANSIBLE_DISPLAY_ARGS_TO_STDOUT": "1",
        },
        play=play,
    )
    codes = {name: result.get("error_code") for name, result in run.results.items() if name not in ("shown", "looped")}
    assert codes == {**dict.fromkeys(codes, "registry_unavailable"), "invalid": "invalid_options"} and len(codes) == 5
    assert [entry["error_code"] for entry in run.results["looped"]["results"]] == ["registry_unavailable"] * 2
    assert run.results["shown"]["ansible_failed_task.args"]["registry_url"] == "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"
    written = [path.read_text(encoding="utf-8", errors="replace") for path in playground.directory.rglob("*") if path.is_file()]
    for secret in ("open%20sesame", "open sesame", "hunter2"):
        assert not [text for text in (run.output, *written) if secret in text]


def test_a_call_without_a_key_is_as_ever(playground):
    run = playground.run(
        ("plain", probe(name="a")),
        ("async", {**probe(name="a", secrets=[{"name": "b"}]), "async": 20, "poll": 1}),
        environment={"ANSIBLE_PIPELINING": "false", "ANSIBLE_KEEP_REMOTE_FILES": "1"},
    )
    assert (run.results["plain"]["digest"], run.results["async"]["digests"]) == (None, [None])
    assert len(list(playground.directory.rglob("AnsiballZ_probe*"))) == 2


def test_m2_nothing_is_sent_when_one_key_is_missing(playground):
    """And each that is missing is named; reading made none."""
    third = "11111111-92c1-4a53-8f1e-3a44f0f6c922"
    secrets = [
        {"name": "a", "resource_key": REQUEST},
        {"name": "b", "resource_key": {**REQUEST, "vm": third}},
        {"name": "c", "resource_key": {**REQUEST, "vm": "web7"}},
    ]
    run = playground.run(
        ("missing", probe(secrets=secrets)),
        ("missing_in_check", {**probe(secrets=secrets), "check_mode": True}),
        environment={"ANSIBLE_KEEP_REMOTE_FILES": "1", "ANSIBLE_PIPELINING": "false"},
    )
    for name in ("missing", "missing_in_check"):
        result = run.results[name]
        assert [(entry["name"], entry["error_code"]) for entry in result["results"]] == [("b", "resource_key_missing"), ("c", "vm_unknown")]
        assert result["error_code"] == "resource_key_missing" and "digests" not in result
    with open_registry(playground.url, create=False) as registry:
        (error,) = read_keys(
            registry,
            [KeyRequest("vtpm", third, "start")],
            lambda record: open_provider(record.name, record.type, record.settings, record.kek_id, str(playground.state), None),
        )
    assert error.code == "resource_key_missing"


def test_check_mode_before_the_first_run_predicts(playground):
    """A key that an earlier task of the play would have made: something stands for it, and not twice the same."""
    new = {**REQUEST, "vm": "11111111-92c1-4a53-8f1e-3a44f0f6c922", "purpose": "provision"}
    run = playground.run(("one", probe(resource_key=new)), ("two", probe(resource_key=new)), arguments=["--check"])
    digests = [run.results[name]["digest"] for name in ("one", "two")]
    assert all(digests) and len({*digests, *map(digest, playground.keys)}) == 4
    assert "error_code" in playground.run(("real", probe(resource_key=new))).results["real"]


@pytest.mark.parametrize(
    "damage,code",
    [
        (lambda playground: os.chmod(playground.state / "key-rings" / "native.json", 0o644), "key_ring_insecure"),
        (lambda playground: os.truncate(playground.state / "key-rings" / "native.json", 9), "key_ring_damaged"),
        (lambda playground: os.unlink(playground.state / "key-rings" / "native.json"), "key_ring_missing"),
        (lambda playground: os.truncate(playground.state / "registry.sqlite", 9), "registry_damaged"),
    ],
)
def test_what_keeps_a_key_from_being_read_is_said(playground, damage, code):
    damage(playground)
    for path in playground.state.glob("registry.sqlite-*"):
        path.unlink()
    run = playground.run(("fails", probe(name="a", resource_key=REQUEST)))
    assert run.results["fails"]["error_code"] == code
    assert "Traceback" not in run.output


def test_a_core_that_builds_payloads_in_another_way_is_noticed(playground):
    """If Ansible no longer asked the action for the payload, the key would not arrive: that must not pass for success."""
    (playground.directory / "action_plugins" / "probe.py").write_text(
        ACTION + OWN_WAY,
        encoding="utf-8",
    )
    run = playground.run(("fails", probe(name="a", resource_key=REQUEST)))
    assert run.results["fails"]["error_code"] == "key_not_delivered"
