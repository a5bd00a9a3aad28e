# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two hypervisors of the lab, prepared by the role; the tests reach them as a user does.

    tests/tools/run pytest tests/lab_tests -m lab

TRUSTEDVM_LAB_DIR names the lab to use; its hosts stay as they were if they ran before.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pathlib
import subprocess
import uuid
from typing import Any, Iterator, Sequence

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAB = str(ROOT / "tests" / "lab" / "lab")
HOSTS = ("mig1", "mig2")


def pytest_configure(config: Any) -> None:
    config.addinivalue_line("markers", "lab: needs root and the lab's hypervisors (tests/lab)")


class Lab:
    """The two hosts, and Ansible on them."""

    def __init__(self, directory: pathlib.Path, environment: dict[str, str]) -> None:
        self.directory = directory
        self.environment = environment
        self.inventory = directory / "inventory.yml"

    def command(self, *arguments: str, check: bool = True) -> str:
        done = subprocess.run([LAB, *arguments], env=self.environment, capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise AssertionError("lab %s: %s%s" % (" ".join(arguments), done.stdout, done.stderr))
        return done.stdout

    def on(self, host: str, *arguments: str, check: bool = True) -> str:
        """Run a command inside a host."""
        return self.command("exec", host, "--", *arguments, check=check).strip()

    def script(self, host: str, text: str) -> str:
        return self.on(host, "sh", "-ec", text)

    def write(self, host: str, path: str, content: str) -> None:
        encoded = base64.b64encode(content.encode()).decode()
        self.script(host, "echo %s | base64 -d > %s" % (encoded, path))

    def play(self, plays: list[dict[str, Any]], *options: str) -> subprocess.CompletedProcess[str]:
        playbook = self.directory / "play.yml"
        playbook.write_text(yaml.safe_dump(plays))
        command = ["ansible-playbook", "-i", str(self.inventory), str(playbook), *options]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)

    def module(self, host: str, name: str, arguments: dict[str, Any], check: bool = False) -> dict[str, Any]:
        """The result of one module on one host, failed or not."""
        answer = self.directory / "answer.json"
        answer.unlink(missing_ok=True)
        save = {"content": "{{ answer | to_json }}", "dest": str(answer), "mode": "0600"}
        done = self.play(
            [
                {
                    "hosts": host,
                    "gather_facts": False,
                    "tasks": [
                        {name: arguments, "register": "answer", "ignore_errors": True, "check_mode": check, "diff": True},
                        {"ansible.builtin.copy": save, "delegate_to": "localhost"},
                    ],
                }
            ]
        )
        assert answer.exists(), done.stdout + done.stderr
        return dict(json.loads(answer.read_text()))

    def state(self, host: str, vm: str) -> str:
        """``running``, ``shut off``…, or ``absent``."""
        return self.on(host, "virsh", "domstate", vm, check=False) or "absent"


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two hosts that the role hypervisor has prepared."""
    with prepared_lab(tmp_path_factory.mktemp("lab"), dict.fromkeys(HOSTS, "bookworm")) as made:
        yield made


@contextlib.contextmanager
def prepared_lab(directory: pathlib.Path, releases: dict[str, str]) -> Iterator[Lab]:
    """Hosts, each of a release, that the role hypervisor has prepared."""
    if os.geteuid() != 0:
        pytest.fail("The lab needs root")
    environment = {**os.environ, "ANSIBLE_HOST_KEY_CHECKING": "true", "TRUSTEDVM_STATE_DIRECTORY": str(directory / "state")}
    environment.setdefault("TRUSTEDVM_LAB_DIR", str(directory / "hosts"))
    made = Lab(directory, environment)
    ran_before = [name for name in releases if name in made.command("status")]
    for release in sorted(set(releases.values())):
        made.command("up", *[name for name in releases if releases[name] == release], "--release", release)
    try:
        made.inventory.write_text(made.command("inventory"))
        roles = [{"hosts": ",".join(releases), "gather_facts": False, "roles": ["trustedvm.libvirt.hypervisor"]}]
        done = made.play(roles)
        assert done.returncode == 0, done.stdout + done.stderr
        yield made
    finally:
        strays = [name for name in releases if name not in ran_before]
        if strays:
            made.command("down", *strays, check=False)


class Vm:
    """A running VM with an encrypted vTPM on the first host; firmware only, nothing to boot."""

    def __init__(self, lab: Lab, hosts: Sequence[str] = HOSTS) -> None:
        self.lab = lab
        self.hosts = hosts
        self.uuid = str(uuid.uuid4())
        self.secret = str(uuid.uuid5(uuid.NAMESPACE_OID, self.uuid))
        self.name = "mig-" + self.uuid[:8]
        self.key = base64.b64encode(os.urandom(32)).decode()
        self.nvram = "/var/lib/libvirt/qemu/nvram/%s_VARS.fd" % self.name
        self.tpm = "/var/lib/libvirt/swtpm/%s" % self.uuid

    def define_secret(self, host: str, value: str | None = None, secret: str | None = None) -> None:
        xml = (
            "<secret ephemeral='no' private='yes'><uuid>%s</uuid><usage type='vtpm'>"
            "<name>trustedvm:vtpm:%s</name></usage></secret>"
        ) % (secret or self.secret, self.uuid)
        self.lab.write(host, "/run/secret.xml", xml)
        encoded = base64.b64encode((value or self.key).encode()).decode()
        self.lab.script(
            host,
            "virsh -q secret-define /run/secret.xml; echo %s | base64 -d > /run/value; "
            "virsh -q secret-set-value %s --file /run/value --plain; rm /run/value" % (encoded, secret or self.secret),
        )

    def start(self, disk: str | None = None, nvram: str | None = None) -> None:
        self.define_secret(self.hosts[0])
        self.lab.write(self.hosts[0], "/run/vm.xml", self.xml(disk, nvram))
        self.lab.script(self.hosts[0], "virsh -q define /run/vm.xml; virsh -q start %s" % self.name)

    def xml(self, disk: str | None, nvram: str | None) -> str:
        disk_xml = (
            "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='%s'/>"
            "<target dev='vda' bus='virtio'/></disk>" % disk
            if disk
            else ""
        )
        return """<domain type='qemu'><name>%s</name><uuid>%s</uuid><memory unit='MiB'>128</memory><vcpu>1</vcpu>
        <os firmware='efi'><type arch='x86_64' machine='q35'>hvm</type>%s</os>
        <features><acpi/><apic/><smm state='on'/></features><cpu mode='custom'><model>qemu64</model></cpu>
        <devices>%s<tpm model='tpm-crb'><backend type='emulator' version='2.0' persistent_state='yes'>
        <encryption secret='%s'/></backend></tpm><controller type='usb' model='none'/>
        <memballoon model='none'/></devices></domain>""" % (
            self.name,
            self.uuid,
            "<nvram>%s</nvram>" % nvram if nvram else "",
            disk_xml,
            self.secret,
        )

    def migrate(self, check: bool = False, source: str = HOSTS[0], destination: str = HOSTS[1], **options: Any) -> dict[str, Any]:
        arguments = {"vm": self.name, "destination_host": destination, **options}
        answer = self.lab.module(source, "trustedvm.libvirt.vm_migrate", arguments, check)
        assert "results" in answer, answer
        return {**answer, "item": (answer["results"] or [{}])[0]}

    def remove(self) -> None:
        for host in self.hosts:
            script = (
                "virsh -q destroy {0} 2>&1; virsh -q undefine {0} --nvram --tpm 2>&1; virsh -q secret-undefine {1} 2>&1; "
                "umount {2} 2>/dev/null; rm -rf {2} {3}; true"
            ).format(self.name, self.secret, self.tpm, self.nvram)
            self.lab.on(host, "sh", "-c", script, check=False)


@pytest.fixture
def vm(lab: Lab) -> Iterator[Vm]:
    """A VM that is not made yet; whatever a test makes of it goes afterwards."""
    made = Vm(lab)
    try:
        yield made
    finally:
        made.remove()
