# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real libvirt for every test that wants one: a session daemon of the test run's own.

It has the QEMU and the secret driver on one connection, starts VMs with an encrypted vTPM, and keeps
everything below one directory. libvirt's embedded secret driver would need no daemon, but crashes on
undefine (libvirt 9.0: it calls the daemon's inhibit callback, which is not there).
"""
from __future__ import annotations

import base64
import json
import os
import pwd
import shutil
import subprocess
import tempfile
import time

import pytest

QEMU_CONF = """\
security_driver = "none"
cgroup_controllers = [ ]
namespaces = [ ]
stdio_handler = "file"
"""


class LibvirtDaemon:
    """A libvirtd in session mode. Attributes not found here are those of an open connection to it."""

    def __init__(self, root):
        self.root = root
        self.directories = {
            name: os.path.join(root, directory)
            for name, directory in (
                ("HOME", "home"),
                ("XDG_CONFIG_HOME", "config"),
                ("XDG_CACHE_HOME", "cache"),
                ("XDG_DATA_HOME", "data"),
                ("XDG_STATE_HOME", "state"),
                ("XDG_RUNTIME_DIR", "run"),
            )
        }
        self.socket = os.path.join(root, "run", "libvirt", "libvirt-sock")
        self.uri = "qemu+unix:///session?socket=%s" % self.socket
        self.connection = None
        self._process = None

    def __getattr__(self, name):
        return getattr(self.connection, name)

    def path(self, *parts):
        """A path below libvirt's directory: ``qemu/swtpm``, ``secrets``."""
        return os.path.join(self.directories["XDG_CONFIG_HOME"], "libvirt", *parts)

    def start(self):
        import libvirt

        for directory in (*self.directories.values(), self.path("qemu", "swtpm")):
            os.makedirs(directory)
        with open(self.path("qemu.conf"), "w", encoding="utf-8") as stream:
            stream.write(QEMU_CONF)
        # libvirtd has a session mode for ordinary users only.
        user = {}
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", "nobody:", self.root], check=True)
            user = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}
        with open(os.path.join(self.root, "libvirtd.log"), "wb") as log:
            self._process = subprocess.Popen(
                [_libvirtd(), "--timeout", "600"],
                env={"PATH": os.environ["PATH"], **self.directories},
                stdout=log,
                stderr=log,
                **user,
            )
        deadline = time.monotonic() + 20
        while not os.path.exists(self.socket):
            assert self._process.poll() is None and time.monotonic() < deadline, "libvirtd does not start: see %s" % log.name
            time.sleep(0.02)
        libvirt.registerErrorHandler(lambda context, error: None, None)
        self.connection = libvirt.open(self.uri)

    def stop(self):
        if self.connection is not None:
            self.clean()
            self.connection.close()
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)

    def clean(self):
        """Nothing of one test is there for the next."""
        import libvirt

        flags = libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_TPM
        for domain in self.connection.listAllDomains():
            persistent = domain.isPersistent()
            if domain.isActive():
                domain.destroy()
            if persistent:
                domain.undefineFlags(flags)
        for secret in self.connection.listAllSecrets():
            secret.undefine()
        for entry in os.listdir(self.path("qemu", "swtpm")):
            shutil.rmtree(self.path("qemu", "swtpm", entry))


def _libvirtd():
    path = shutil.which("libvirtd", path=os.environ["PATH"] + ":/usr/sbin")
    if path is None:
        pytest.skip("libvirtd is not installed")
    return path


@pytest.fixture(scope="session")
def _libvirt_daemon():
    pytest.importorskip("libvirt")
    # Not below pytest's own directory: nobody may not go there. A socket's path is at most 107 bytes long.
    root = tempfile.mkdtemp(prefix="trustedvm-")
    daemon = LibvirtDaemon(root)
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.stop()
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def libvirt_daemon(_libvirt_daemon, monkeypatch):
    """A real libvirt without domains and secrets; ``monkeypatch`` makes its directories this process's."""
    for name, directory in _libvirt_daemon.directories.items():
        monkeypatch.setenv(name, directory)
    _libvirt_daemon.clean()
    yield _libvirt_daemon
    _libvirt_daemon.clean()


class RealStates:
    """State blobs that swtpm itself made: encrypted under ``passphrase``, plain, and a linear file."""

    def __init__(self, directory):
        self.passphrase = base64.b64encode(os.urandom(32))
        self.encrypted = self._make(directory, "encrypted", encrypt=True)
        self.plain = self._make(directory, "plain", encrypt=False)
        self.linear = self._make(directory, "linear", encrypt=True, linear=True)

    def _make(self, directory, name, encrypt, linear=False):
        place = os.path.join(directory, name)
        if not linear:
            os.mkdir(place)
        key = os.path.join(directory, "passphrase")
        with open(key, "wb") as stream:
            stream.write(self.passphrase)
        arguments = ["swtpm_setup", "--tpm2", "--tpm-state", "file://" + place if linear else place]
        arguments += ["--pwdfile", key, "--cipher", "aes-256-cbc"] if encrypt else []
        subprocess.run(arguments, check=True, capture_output=True)
        with open(place if linear else os.path.join(place, "tpm2-00.permall"), "rb") as stream:
            return stream.read()

    def put(self, directory, vm_uuid, data):
        """Make ``data`` the state of a VM below libvirt's directory for TPM state; returns the file's path."""
        place = os.path.join(directory, vm_uuid, "tpm2")
        os.makedirs(place, exist_ok=True)
        path = os.path.join(place, "tpm2-00.permall")
        with open(path, "wb") as stream:
            stream.write(data)
        return path


@pytest.fixture(scope="session")
def real_states(tmp_path_factory):
    """Real TPM states, made once a session by swtpm_setup."""
    if shutil.which("swtpm_setup") is None:
        pytest.skip("swtpm_setup is not installed")
    return RealStates(str(tmp_path_factory.mktemp("swtpm")))


@pytest.fixture
def run_module(capsys):
    """Run a module's ``main()`` in this process: returns what it prints, as Ansible would read it."""
    from ansible.module_utils.testing import patch_module_args

    def run(main, check=False, diff=False, **arguments):
        arguments.update(_ansible_check_mode=check, _ansible_diff=diff)
        with patch_module_args(arguments), pytest.raises(SystemExit) as ended:
            main()
        answer = json.loads(capsys.readouterr().out)
        assert bool(ended.value.code) == bool(answer.get("failed"))
        return answer

    return run
