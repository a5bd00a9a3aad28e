# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One item at the top level, or a list whose entries take what they do not say from there."""
from __future__ import annotations

import pytest

from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.ansible_glue import CONNECTION_OPTIONS, ItemSpec

SPEC = ItemSpec(
    list_name="vms",
    identity=("vm",),
    options={"vm": {"type": "str"}, "size": {"type": "int", "default": 1}, "on": {"type": "bool", "default": True}},
    extra=CONNECTION_OPTIONS,
)


@pytest.mark.parametrize(
    "top, entries, items",
    [
        ({"vm": "a"}, None, [{"vm": "a", "size": 1, "on": True}]),
        ({"size": 5}, [{"vm": "a"}, {"vm": "b", "size": 7}], [{"vm": "a", "size": 5, "on": True}, {"vm": "b", "size": 7, "on": True}]),
        ({}, [{"vm": "a", "on": False, "size": 0}], [{"vm": "a", "size": 0, "on": False}]),
        ({}, [], []),
    ],
)
def test_items(top, entries, items):
    assert SPEC.items({"vm": None, "size": 1, "on": True, "vms": entries, "uri": "x", **top}) == items


def test_entries_have_no_defaults_of_their_own():
    spec = SPEC.argument_spec()
    assert spec["size"]["default"] == 1
    assert "default" not in spec["vms"]["options"]["size"]
    assert spec["uri"]["default"] == "qemu:///system"


def test_identity_excludes_the_list():
    arguments = SPEC.module_arguments()
    assert arguments["mutually_exclusive"] == [("vm", "vms")]
    assert arguments["required_one_of"] == [("vm", "vms")]
    assert arguments["supports_check_mode"] is True
