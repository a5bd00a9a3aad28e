# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the tests of roles run where."""

from __future__ import annotations

import pytest

from ansible_collections.trustedvm.libvirt.tests.unit.roles.stage import Stage


def pytest_collection_modifyitems(config, items):
    """They run ansible-playbook, which does not come up in the closed environment of `ansible-test units`; pytest
    (`make test-unit`) runs them. They are taken out and not skipped: nothing is missing here."""
    if config.pluginmanager.hasplugin("ansible_forked"):
        with_playbooks = [item for item in items if {"stage", "web1"} & set(getattr(item, "fixturenames", ()))]
        config.hook.pytest_deselected(items=with_playbooks)
        items[:] = [item for item in items if item not in with_playbooks]


@pytest.fixture
def stage(tmp_path):
    """Nothing is made yet."""
    return Stage(tmp_path)


@pytest.fixture(scope="session")
def _provisioned(tmp_path_factory):
    stage = Stage(tmp_path_factory.mktemp("provisioned"))
    stage.provision("web1")
    return stage


@pytest.fixture
def web1(_provisioned, tmp_path):
    """web1 runs on hv1, with record, key and secret."""
    return _provisioned.copy(tmp_path)
