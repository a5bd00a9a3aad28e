# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""libvirt's sockets under systemd, with a systemctl that knows systemd's rules: there is no systemd where these tests run."""
from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[3]
# Under ansible-test the checkout is where ansible finds collections; else build/collections has links to it.
BELOW = len(ROOT.parents) > 2 and ROOT.parents[1].name == "ansible_collections"
COLLECTIONS = ROOT.parents[2] if BELOW else ROOT / "build" / "collections"
pytestmark = pytest.mark.skipif(shutil.which("ansible-playbook") is None, reason="needs ansible-playbook")

SYSTEMCTL = """#!%s
import json, sys
store = %r
verb, unit = [word for word in sys.argv[1:] if not word.startswith("-")][:2]
units = json.load(open(store))
state = units[unit]
if verb == "show":
    print("\\n".join("%%s=%%s" %% pair for pair in state.items()))
elif verb == "is-enabled":
    print(state["UnitFileState"])
    sys.exit(state["UnitFileState"] != "enabled")
elif verb == "start" and unit.endswith("tls.socket") and units["libvirtd.service"]["ActiveState"] == "active":
    sys.exit("Socket service libvirtd.service already active, refusing.")
else:
    if verb == "start" and unit == "libvirtd.service":
        # It takes over whatever socket is open, and keeps it.
        units["tcp still open"] = units["libvirtd-tcp.socket"]["ActiveState"] == "active"
    change = {
        "start": {"ActiveState": "active"}, "stop": {"ActiveState": "inactive"},
        "enable": {"UnitFileState": "enabled"}, "mask": {"LoadState": "masked", "UnitFileState": "masked"},
    }
    state.update(change[verb])
    json.dump(units, open(store, "w"))
"""
PLAY = """
- hosts: localhost
  connection: local
  gather_facts: true
  module_defaults: {ansible.builtin.setup: {gather_subset: ["!all", "!min", distribution]}}
  tasks:
    - ansible.builtin.include_role: {name: trustedvm.libvirt.hypervisor, tasks_from: sockets}
    - ansible.builtin.include_role: {name: trustedvm.libvirt.hypervisor, tasks_from: systemd}
"""


def unit(active, **more):
    return {"LoadState": "loaded", "ActiveState": "active" if active else "inactive", "UnitFileState": "disabled", **more}


class Host:
    def __init__(self, directory):
        self.directory = directory
        self.store = directory / "units.json"
        self.units(tls=False, tcp=True)
        systemctl = directory / "bin" / "systemctl"
        systemctl.parent.mkdir()
        systemctl.write_text(SYSTEMCTL % (sys.executable, str(self.store)))
        systemctl.chmod(0o755)
        (directory / "play.yml").write_text(PLAY)

    def units(self, tls, tcp, port=16514):
        self.store.write_text(
            json.dumps(
                {
                    "libvirtd-tls.socket": unit(tls, Listen="[::]:%d (Stream)" % port),
                    "libvirtd-tcp.socket": unit(tcp, Listen="[::]:16509 (Stream)"),
                    "libvirtd.service": unit(True),
                    "tcp still open": tcp,
                }
            )
        )

    def run(self, *options):
        environment = {
            **os.environ,
            "PATH": "%s:%s" % (self.directory / "bin", os.environ["PATH"]),
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_STDOUT_CALLBACK": "default",
            "ANSIBLE_HOME": str(self.directory / "home"),
        }
        facts = ["-e", json.dumps({"ansible_python_interpreter": sys.executable})]
        command = ["ansible-playbook", "-i", "localhost,", str(self.directory / "play.yml"), *facts, *options]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)

    def found(self):
        return json.loads(self.store.read_text())


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


@pytest.mark.parametrize("tls", [True, False])
def test_plain_tcp_is_closed_for_good_and_libvirt_lets_go_of_it(host, tls):
    host.units(tls=tls, tcp=True)
    done = host.run()
    assert done.returncode == 0, done.stdout + done.stderr
    found = host.found()
    assert (found["libvirtd-tcp.socket"]["ActiveState"], found["libvirtd-tcp.socket"]["LoadState"]) == ("inactive", "masked")
    assert (found["libvirtd-tls.socket"]["ActiveState"], found["libvirtd-tls.socket"]["UnitFileState"]) == ("active", "enabled")
    assert found["libvirtd.service"]["ActiveState"] == "active" and found["tcp still open"] is False
    again = host.run()
    assert again.returncode == 0 and "changed=0" in again.stdout, again.stdout


def test_port_that_the_socket_unit_does_not_have_is_refused_before_anything(host):
    before = host.found()
    done = host.run("-e", "hypervisor_tls_port=16515")
    assert done.returncode != 0 and "hypervisor_tls_port is 16515" in done.stdout and "[::]:16514" in done.stdout, done.stdout + done.stderr
    assert host.found() == before
    host.units(tls=True, tcp=False, port=16515)
    assert host.run("-e", "hypervisor_tls_port=16515").returncode == 0
