# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the tests of actions run where."""

from __future__ import annotations


def pytest_collection_modifyitems(config, items):
    """Tests of key injection run ansible-playbook as a user does. `ansible-test units` has its own ansible in a
    closed environment, where a playbook does not come up; pytest (`make test-unit`) runs them. They are taken out
    and not skipped: nothing is missing here."""
    if config.pluginmanager.hasplugin("ansible_forked"):
        with_playbooks = [item for item in items if item.path.name == "test_key_injection.py"]
        config.hook.pytest_deselected(items=with_playbooks)
        items[:] = [item for item in items if item not in with_playbooks]
