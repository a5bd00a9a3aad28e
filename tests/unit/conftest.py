# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real libvirt for every test that wants one: a session daemon of the test run's own.

It has the QEMU and the secret driver on one connection, starts VMs with an encrypted vTPM, and keeps
everything below one directory. libvirt's embedded secret driver would need no daemon, but crashes on
undefine (libvirt 9.0: it calls the daemon's inhibit callback, which is not there).
"""
from __future__ import annotations

import json
import shutil

import pytest
from ansible_collections.trustedvm.libvirt.tests.unit.session_libvirtd import (
    LibvirtDaemon,
    RealStates,
    SharedDirectory,
    libvirtd_path,
)

_SHARED = pytest.StashKey()


def pytest_configure(config):
    config.stash[_SHARED] = SharedDirectory()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    # Not in pytest_unconfigure: a worker of xdist is ended as soon as it has said that it is finished.
    session.config.stash[_SHARED].remove()


@pytest.fixture(scope="session")
def _libvirt_daemon(request):
    pytest.importorskip("libvirt")
    if libvirtd_path() is None:
        pytest.skip("libvirtd is not installed")
    daemon = LibvirtDaemon(request.config.stash[_SHARED])
    daemon.connect()
    yield daemon
    daemon.close()


@pytest.fixture
def libvirt_daemon(_libvirt_daemon, monkeypatch):
    """A real libvirt without domains and secrets; ``monkeypatch`` makes its directories this process's."""
    for name, directory in _libvirt_daemon.directories.items():
        monkeypatch.setenv(name, directory)
    _libvirt_daemon.clean()
    yield _libvirt_daemon
    _libvirt_daemon.clean()


@pytest.fixture(scope="session")
def real_states(request):
    """Real TPM states, made once a session by swtpm_setup."""
    if shutil.which("swtpm_setup") is None:
        pytest.skip("swtpm_setup is not installed")
    return RealStates(request.config.stash[_SHARED])


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
