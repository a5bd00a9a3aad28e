# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.trustedvm.libvirt.plugins.filter.libvirt_conf import FilterModule, libvirt_conf, render

COMMENTED = """\
# Master configuration file
#listen_tls = 0

#
#tls_port = "16514"
"""

LIST = """\
cgroup_device_acl = [
    "/dev/null", # first ]
    "/dev/full"
]
user = "root"  # the lab's
"""


@pytest.mark.parametrize(("value", "text"), [
    (True, "1"), (False, "0"), (49152, "49152"), ("16514", '"16514"'), ('a"b', "'a\"b'"), ([], "[]"), (["CN=a", "CN=b"], '["CN=a", "CN=b"]'),
])
def test_render(value, text):
    assert render("x", value) == text


@pytest.mark.parametrize("value", [1.5, {}, "a\nb", "a'b\"", [1], [["x"]], None])
def test_render_refuses_what_the_notation_cannot_express(value):
    with pytest.raises(ValueError, match="x: "):
        render("x", value)


@pytest.mark.parametrize(("text", "settings", "expected"), [
    pytest.param("", {"listen_tls": True}, "listen_tls = 1\n", id="empty file"),
    pytest.param(COMMENTED, {"listen_tls": 1}, COMMENTED + "listen_tls = 1\n", id="a comment is no setting"),
    pytest.param("a = 1\nb = 2", {"a": 3}, "a = 3\nb = 2\n", id="in place, no newline at the end"),
    pytest.param("a=1\nb = 2\na = 4\n", {"a": 3}, "a = 3\nb = 2\n", id="a second one goes"),
    pytest.param(LIST, {"cgroup_device_acl": ["/dev/null"]}, 'cgroup_device_acl = ["/dev/null"]\nuser = "root"  # the lab\'s\n', id="list over lines"),
    pytest.param(LIST, {"user": "root"}, LIST, id="same value, comment stays"),
    pytest.param(LIST, {"user": None, "group": None}, LIST, id="null is not managed"),
    pytest.param('x = """a = 1\nb"""\n', {"a": 2}, 'x = """a = 1\nb"""\na = 2\n', id="inside a long string"),
    pytest.param('user = "a#b"\n', {"user": "a"}, 'user = "a"\n', id="hash in a string"),
    pytest.param("user_x = 1\n", {"user": "a"}, 'user_x = 1\nuser = "a"\n', id="prefix of another name"),
])
def test_set_values(text, settings, expected):
    once = libvirt_conf(text, settings)
    assert once == expected
    assert libvirt_conf(once, settings) == once


@pytest.mark.parametrize(("text", "settings"), [(None, {}), ("", "x"), ("", {"a b": 1}), ("", {"a": 1.5})])
def test_bad_input_is_a_filter_error(text, settings):
    with pytest.raises(AnsibleFilterError, match="libvirt_conf"):
        libvirt_conf(text, settings)


def test_filter_is_there_by_name():
    assert FilterModule().filters()["libvirt_conf"]("", {"a": 1}) == "a = 1\n"
