# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab's hosts, and what the role `hypervisor` makes of them. The tests build on each other, in this order."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import tempfile
import time
from typing import Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.lab


class OwnLab:
    """A lab beside any other, as these tests cut and kill."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.state = directory / "lab"
        self.inventory = directory / "inventory.yml"
        self.environment = {**os.environ, "TRUSTEDVM_LAB_DIR": str(self.state), "TRUSTEDVM_STATE_DIRECTORY": str(directory / "state")}

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(ROOT / "tests/lab/lab"), *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)

    def on(self, host: str, script: str) -> subprocess.CompletedProcess[str]:
        return self("exec", host, "--", "sh", "-c", script)

    def status(self) -> dict[str, dict[str, object]]:
        return {row["name"]: row for row in json.loads(self("status", "--json").stdout)}

    def role(self, *options: str) -> tuple[list[str], str]:
        """Run the role; returns its sorted 'changed' lines and the whole output."""
        self.inventory.write_text(self("inventory").stdout)
        command = ["ansible-playbook", "-i", str(self.inventory), str(ROOT / "playbooks/hypervisor.yml"), *options]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stdout + done.stderr
        return sorted(line for line in done.stdout.splitlines() if line.startswith("changed:")), done.stdout + done.stderr


@pytest.fixture(scope="module")
def own() -> Iterator[OwnLab]:
    with tempfile.TemporaryDirectory(prefix="tvlab-") as directory:
        lab = OwnLab(pathlib.Path(directory))
        try:
            yield lab
        finally:
            lab("down")


def test_up_is_quick_and_a_second_one_does_nothing(own: OwnLab) -> None:
    started = time.monotonic()
    first = own("up", "one", "two")
    assert first.returncode == 0, first.stderr
    assert time.monotonic() - started < 10
    inits = {name: row["pid"] for name, row in own.status().items()}
    assert "nothing to do" in own("up", "one", "two").stderr
    assert {name: row["pid"] for name, row in own.status().items()} == inits
    assert own.on("one", "hostname; exit 7").stdout == "one\n"
    assert own.on("one", "exit 7").returncode == 7


def test_bad_use_is_one_clear_line(own: OwnLab) -> None:
    cases = {("kill", "three"): "no host 'three'", ("exec", "one"): "needs a command", ("up", "a.b"): "no host name"}
    for arguments, word in cases.items():
        done = own(*arguments)
        assert done.returncode == 1 and word in done.stderr and "Traceback" not in done.stderr


def test_check_mode_predicts_the_first_run_of_the_role_and_a_second_run_changes_nothing(own: OwnLab) -> None:
    predicted, _output = own.role("--check", "--diff")
    assert own.on("one", "test -e /etc/pki/qemu").returncode != 0
    changed, output = own.role("--diff", "-vvv")
    strip = re.compile(r" => \{.*|changed: ")
    assert sorted({strip.sub("", line) for line in changed}) == sorted({strip.sub("", line) for line in predicted})
    assert "PRIVATE KEY" not in output
    assert own.role()[0] == []


def test_libvirt_is_reached_over_tls_only_and_not_with_qemus_certificate(own: OwnLab) -> None:
    assert own.on("one", "virsh -c qemu+tls://two/system uri").returncode == 0
    assert "Connection refused" in own.on("one", "virsh -c qemu+tcp://two/system uri").stderr
    qemu = """d=$(mktemp -d); cat /etc/pki/qemu/ca-cert.pem /etc/pki/CA/cacert.pem > $d/cacert.pem
    cp /etc/pki/qemu/client-cert.pem $d/clientcert.pem; cp /etc/pki/qemu/client-key.pem $d/clientkey.pem
    virsh -c "qemu+tls://two/system?pkipath=$d" uri"""
    assert own.on("one", qemu).returncode != 0
    assert "Failed to verify peer's certificate" in own.on("two", "cat /var/log/libvirt/libvirtd.log").stdout
    assert own.on("one", "stat -c %a%U%G /etc/pki/libvirt/private/serverkey.pem /etc/pki/qemu/server-key.pem").stdout.split() == [
        "600rootroot", "640rootlibvirt-qemu",
    ]


def test_certificates_near_their_end_are_renewed_with_the_same_key(own: OwnLab) -> None:
    look = "sha256sum /etc/pki/libvirt/private/serverkey.pem /etc/pki/libvirt/servercert.pem"
    key, certificate = own.on("one", look).stdout.splitlines()
    changed, _output = own.role("-e", "hypervisor_pki_renew_days=900")
    assert any("servercert.pem" in line for line in changed)
    renewed_key, renewed_certificate = own.on("one", look).stdout.splitlines()
    assert renewed_key == key and renewed_certificate != certificate
    assert own.on("one", "virsh -c qemu+tls://two/system uri").returncode == 0


def test_power_loss_ends_all_processes_and_keeps_the_disks(own: OwnLab) -> None:
    own.on("two", "echo kept > /var/lib/kept; echo lost > /run/lost; echo local > /srv/local/l; setsid sleep 9999 > /dev/null 2>&1 &")
    assert own("kill", "two").returncode == 0
    assert own.status()["two"]["power"] == "off"
    assert "is off" in own.on("two", "true").stderr
    assert own.on("one", "virsh -c qemu+tls://two/system uri").returncode != 0
    assert own("revive", "two").returncode == 0
    assert own.on("two", "cat /var/lib/kept /srv/local/l; cat /run/lost; pgrep sleep").stdout == "kept\nlocal\n"
    assert own.on("one", "virsh -c qemu+tls://two/system uri").returncode == 0


def test_a_cut_host_runs_on_without_network(own: OwnLab) -> None:
    probe = "timeout 8 virsh -c qemu+tls://two/system uri"
    own("cut", "two")
    assert own.on("one", probe).returncode != 0
    assert own.on("two", "virsh uri").returncode == 0
    own("heal", "two")
    assert own.on("one", "for i in 1 2 3; do %s && exit 0; done; exit 1" % probe).returncode == 0


def test_shared_and_local_directories(own: OwnLab) -> None:
    own.on("one", "echo x > /srv/shared/x; echo y > /srv/local/y")
    assert own.on("two", "cat /srv/shared/x; test -e /srv/local/y || echo none").stdout == "x\nnone\n"


def test_down_leaves_nothing(own: OwnLab) -> None:
    pids = [row["pid"] for row in own.status().values()]
    bridge = next(name for name in os.listdir("/sys/class/net") if alias(name) == str(own.state))
    assert own("down").returncode == 0
    assert not own.state.exists()
    assert not [pid for pid in pids if pathlib.Path(f"/proc/{pid}/exe").exists()]
    assert str(own.state) not in pathlib.Path("/proc/self/mountinfo").read_text()
    # The bridge, and the ports, which are named after it.
    assert not [name for name in os.listdir("/sys/class/net") if re.fullmatch(bridge + r"(p\d+)?", name)]
    assert "nothing to remove" in own("down").stderr


def alias(name: str) -> str:
    try:
        return pathlib.Path("/sys/class/net", name, "ifalias").read_text().strip()
    except OSError:
        return ""
