# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A libvirtd of the test run's own, and real TPM states; both are made once for each test process.

ansible-test runs every test in a fork that ends without its session fixtures being taken down. So
what is to be shared lies in a directory that is named before the first fork, is filled by the fork
that needs it first, and is removed by the process that named it.
"""
from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time

QEMU_CONF = """\
security_driver = "none"
cgroup_controllers = [ ]
namespaces = [ ]
stdio_handler = "file"
"""


class SharedDirectory:
    """A directory that this process and its forks share."""

    def __init__(self):
        # Not below pytest's own directory, where nobody may not go. A socket's path has at most 107 bytes.
        self.path = tempfile.mkdtemp(prefix="trustedvm-")
        os.chmod(self.path, 0o755)
        self._owner = os.getpid()

    @contextlib.contextmanager
    def locked(self):
        with open(os.path.join(self.path, "lock"), "wb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def remove(self):
        if os.getpid() != self._owner:
            return
        LibvirtDaemon(self).stop()
        shutil.rmtree(self.path, ignore_errors=True)


class LibvirtDaemon:
    """A libvirtd in session mode. Attributes not found here are those of an open connection to it."""

    def __init__(self, shared):
        self._shared = shared
        self.root = os.path.join(shared.path, "v")
        self.directories = {
            name: os.path.join(self.root, directory)
            for name, directory in (
                ("HOME", "home"),
                ("XDG_CONFIG_HOME", "config"),
                ("XDG_CACHE_HOME", "cache"),
                ("XDG_DATA_HOME", "data"),
                ("XDG_STATE_HOME", "state"),
                ("XDG_RUNTIME_DIR", "run"),
            )
        }
        self.socket = os.path.join(self.root, "run", "libvirt", "libvirt-sock")
        self.uri = "qemu+unix:///session?socket=%s" % self.socket
        self.connection = None

    def __getattr__(self, name):
        return getattr(self.connection, name)

    def path(self, *parts):
        """A path below libvirt's directory: ``qemu/swtpm``, ``secrets``."""
        return os.path.join(self.directories["XDG_CONFIG_HOME"], "libvirt", *parts)

    @property
    def _pid_file(self):
        return os.path.join(self._shared.path, "libvirtd.pid")

    def connect(self):
        """Open a connection; start the daemon first where there is none (any more)."""
        import libvirt

        libvirt.registerErrorHandler(lambda context, error: None, None)
        with self._shared.locked():
            try:
                self.connection = libvirt.open(self.uri)
            except libvirt.libvirtError:
                self.connection = self._open_when_up(self._start())

    def close(self):
        self.connection.close()
        self.connection = None

    def _start(self):
        for directory in (*self.directories.values(), self.path("qemu", "swtpm")):
            os.makedirs(directory, exist_ok=True)
        with open(self.path("qemu.conf"), "w", encoding="utf-8") as stream:
            stream.write(QEMU_CONF)
        # libvirtd has a session mode for ordinary users only.
        user = {}
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", "nobody:", self.root], check=True)
            user = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}
        with open(os.path.join(self._shared.path, "libvirtd.log"), "ab") as log:
            # Should the test run be killed, the daemon ends by itself.
            process = subprocess.Popen(
                [libvirtd_path(), "--timeout", "60"],
                env={"PATH": os.environ["PATH"], **self.directories},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **user,
            )
        with open(self._pid_file, "w", encoding="ascii") as stream:
            stream.write(str(process.pid))
        return process

    def _open_when_up(self, process):
        import libvirt

        deadline = time.monotonic() + 60
        while True:
            # The socket is there a moment before the daemon listens on it.
            try:
                return libvirt.open(self.uri)
            except libvirt.libvirtError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise
            time.sleep(0.02)

    def stop(self):
        """End the daemon, whichever fork started it."""
        try:
            with open(self._pid_file, encoding="ascii") as stream:
                pid = int(stream.read())
            os.kill(pid, signal.SIGTERM)
        except (FileNotFoundError, ProcessLookupError):
            return
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and not _ended(pid):
            time.sleep(0.02)

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


def _ended(pid):
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        # Started by a fork: not our child.
        return not os.path.exists("/proc/%d/exe" % pid)


def libvirtd_path():
    """The daemon's binary, or None."""
    return shutil.which("libvirtd", path=os.environ["PATH"] + ":/usr/sbin")


class RealStates:
    """State blobs that swtpm itself made: encrypted under ``passphrase``, plain, and a linear file."""

    def __init__(self, shared):
        directory = os.path.join(shared.path, "states")
        with shared.locked():
            if not os.path.isdir(directory):
                _make_states(directory)
        self.passphrase = _read(os.path.join(directory, "passphrase"))
        self.encrypted = _read(os.path.join(directory, "encrypted", "tpm2-00.permall"))
        self.plain = _read(os.path.join(directory, "plain", "tpm2-00.permall"))
        self.linear = _read(os.path.join(directory, "linear"))

    def put(self, directory, vm_uuid, data):
        """Make ``data`` the state of a VM below libvirt's directory for TPM state; returns the file's path."""
        place = os.path.join(directory, vm_uuid, "tpm2")
        os.makedirs(place, exist_ok=True)
        path = os.path.join(place, "tpm2-00.permall")
        with open(path, "wb") as stream:
            stream.write(data)
        return path


def _make_states(directory):
    unfinished = directory + ".new"
    for name in ("encrypted", "plain"):
        os.makedirs(os.path.join(unfinished, name))
    passphrase = os.path.join(unfinished, "passphrase")
    with open(passphrase, "wb") as stream:
        stream.write(base64.b64encode(os.urandom(32)))
    encryption = ["--pwdfile", passphrase, "--cipher", "aes-256-cbc"]
    for place, arguments in (
        (os.path.join(unfinished, "encrypted"), encryption),
        (os.path.join(unfinished, "plain"), []),
        ("file://" + os.path.join(unfinished, "linear"), encryption),
    ):
        subprocess.run(["swtpm_setup", "--tpm2", "--tpm-state", place, *arguments], check=True, capture_output=True)
    os.rename(unfinished, directory)


def _read(path):
    with open(path, "rb") as stream:
        return stream.read()
