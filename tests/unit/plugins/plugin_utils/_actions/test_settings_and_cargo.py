# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where settings come from, and how secrets leave and enter a module's arguments."""

from __future__ import annotations

import base64
import copy
import json
import pickle

import pytest

pytest.importorskip("sqlalchemy")

from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._actions.cargo import load, scrub, unload
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._actions.hidden import MARK, HiddenText, hide_values, take
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._actions.settings import resolve_settings
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._core.key_material import KeyMaterial
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._records.key_request import KeyRequest

REQUEST = {"resource_type": "vtpm", "vm": "web1", "purpose": "start"}
PARSED = KeyRequest("vtpm", "web1", "start")


def resolve(options=None, variables=None, environment=None):
    return resolve_settings(options or {}, variables or {}, lambda value: value.replace("{{ x }}", "templated"), environment or {})


def test_the_order_is_option_variable_environment_default():
    options = {"state_directory": "/option", "registry_url": "sqlite:////option"}
    variables = {"trustedvm_state_directory": "/{{ x }}", "trustedvm_registry_url": "sqlite:////{{ x }}", "trustedvm_key_ring_passphrase": "{{ x }}"}
    environment = {
        "TRUSTEDVM_STATE_DIRECTORY": "/environment",
        "TRUSTEDVM_REGISTRY_URL": "sqlite:////environment",
        "TRUSTEDVM_KEY_RING_PASSPHRASE": "environment",
    }
    for given, name in (
        ((options, variables, environment), "option"),
        (({}, variables, environment), "templated"),
        (({}, {}, environment), "environment"),
    ):
        settings = resolve(*given)
        assert (settings.state_directory, settings.registry_url) == ("/" + name, "sqlite:////" + name)
        assert settings.passphrase == ("templated" if given[1] else "environment")


def test_defaults_follow_the_xdg_specification(monkeypatch):
    monkeypatch.setenv("HOME", "/home/operator")
    assert resolve().state_directory == "/home/operator/.local/state/trustedvm"
    assert resolve().registry_url == "sqlite:////home/operator/.local/state/trustedvm/registry.sqlite"
    assert resolve(environment={"XDG_STATE_HOME": "/srv/state"}).state_directory == "/srv/state/trustedvm"
    assert resolve(environment={"XDG_STATE_HOME": "relative"}).state_directory == "/home/operator/.local/state/trustedvm"
    assert resolve({"state_directory": "~/here"}).registry_url == "sqlite:////home/operator/here/registry.sqlite"
    assert resolve({"registry_url": None}, {"trustedvm_registry_url": ""}).passphrase is None


def test_settings_do_not_show_what_is_secret():
    settings = resolve({"registry_url": "postgresql://u:s3cret@h/d"}, {"trustedvm_key_ring_passphrase": "correct horse"})
    assert "s3cret" not in repr(settings) and "correct horse" not in repr(settings)


def test_the_home_directory_is_named_only_where_nobody_chose_another_place(monkeypatch, tmp_path):
    home = tmp_path / "home"
    (home / ".local").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    assert resolve().home == str(home)
    assert resolve(environment={"XDG_STATE_HOME": str(home / "state")}).home == str(home)
    assert resolve(environment={"XDG_STATE_HOME": "/srv/state"}).home is None
    for chosen in (
        resolve({"state_directory": str(home / "here")}),
        resolve(variables={"trustedvm_state_directory": str(home / "here")}),
        resolve(environment={"TRUSTEDVM_STATE_DIRECTORY": str(home / "here")}),
    ):
        assert chosen.home is None
    # A volume that is linked into the home directory stays when the rest goes.
    (tmp_path / "volume").mkdir()
    (home / ".local" / "state").symlink_to(tmp_path / "volume")
    assert resolve().home is None


def test_a_secret_argument_is_read_once_and_again_by_its_action_only():
    """Again, because Ansible retries a task with the arguments that it has."""
    arguments = {"registry_url": "postgresql://u:s3cret@h/d", "name": "web1", "none": None}
    for _attempt in range(2):
        assert take(arguments, "registry_url") == "postgresql://u:s3cret@h/d"
        assert arguments == {"registry_url": MARK, "name": "web1", "none": None}
    assert take(arguments, "none") is None and take(arguments, "missing") is None
    for text in (repr(arguments), str(arguments), json.dumps(arguments), "%(registry_url)s" % arguments):
        assert "s3cret" not in text
    for copied in (pickle.loads(pickle.dumps(arguments)), copy.deepcopy(arguments)):
        assert copied["registry_url"] == MARK and not isinstance(copied["registry_url"], HiddenText)


def test_hidden_values_arrive_and_the_variable_that_they_came_from_stays():
    variable = [{"name": "a", "value": "dg=="}, {"name": "b"}, {"name": "c", "value": ""}, "nonsense"]
    arguments = {"value": "dw==", "secrets": variable}
    for _attempt in range(2):
        hide_values(arguments, "secrets")
        assert (arguments["value"], arguments["secrets"][0]["value"], arguments["secrets"][1:]) == (MARK, MARK, variable[1:])
        assert variable[0]["value"] == "dg=="
    _public, slots = unload({"secrets": arguments["secrets"]}, "secrets")
    assert [(slot.index, slot.value) for slot in slots] == [(0, "dg=="), (2, "")]
    assert not [slot for slot in slots if isinstance(slot.value, HiddenText)]
    assert unload({"value": arguments["value"]}, "secrets")[1][0].value == "dw=="


def test_a_single_item_loses_its_request_and_gets_a_value():
    public, (slot,) = unload({"name": "a", "resource_key": REQUEST}, "secrets")
    assert public == {"name": "a"} and (slot.index, slot.request, slot.value) == (None, PARSED, None)
    assert load(public, "secrets", {None: "dg=="}) == {"name": "a", "value": "dg=="}
    assert public == {"name": "a"}


def test_items_of_a_list_keep_their_places():
    arguments = {
        "private": True,
        "resource_key": {"resource_type": "vtpm", "purpose": "start"},
        "secrets": [
            {"name": "a", "resource_key": {"vm": "web1"}},
            {"name": "b", "value": "dg=="},
            {"name": "c", "resource_key": {**REQUEST, "purpose": "migrate"}},
        ],
    }
    public, slots = unload(arguments, "secrets")
    assert public == {"private": True, "secrets": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}
    assert [slot.request for slot in slots] == [PARSED, None, KeyRequest("vtpm", "web1", "migrate")]
    assert [slot.value for slot in slots] == [None, "dg==", None]
    loaded = load(public, "secrets", {0: "one", 1: "two", 2: "three"})
    assert [item["value"] for item in loaded["secrets"]] == ["one", "two", "three"]
    assert arguments["secrets"][0] == {"name": "a", "resource_key": {"vm": "web1"}}


def test_without_secrets_nothing_is_carried():
    for arguments in (
        {"name": "a"},
        {"secrets": [{"name": "a"}, {"name": "b", "value": None}]},
        {"secrets": None},
        {"secrets": "nonsense"},
        {"secrets": ["x"]},
    ):
        public, slots = unload(arguments, "secrets")
        assert slots == [] and load(public, "secrets", {}).get("secrets") == (public.get("secrets"))


@pytest.mark.parametrize(
    "arguments,code",
    [
        ({"value": "dg==", "resource_key": REQUEST}, "value_and_resource_key"),
        ({"secrets": [{"value": "dg==", "resource_key": REQUEST}]}, "value_and_resource_key"),
        ({"resource_key": {}}, "resource_key_part_missing"),
        ({"resource_key": "web1"}, "resource_key_part_invalid"),
        ({"secrets": [{"name": "a"}], "resource_key": {"resource_type": "vtpm", "purpose": "start"}}, "resource_key_part_missing"),
    ],
)
def test_m6_what_cannot_be_a_request_is_a_problem_of_its_slot(arguments, code):
    _public, (slot,) = unload(arguments, "secrets")
    assert slot.problem.code == code and slot.request is None


def test_slots_do_not_show_values():
    _public, (slot,) = unload({"value": "c2VjcmV0"}, "secrets")
    assert "c2VjcmV0" not in repr(slot)


def test_a_result_with_the_key_in_any_spelling_is_scrubbed():
    key = KeyMaterial(bytes(range(32)))
    spellings = [key.secret_value(), base64.b64encode(bytes(range(32))).decode(), bytes(range(32)).hex()]
    result = {"msg": "it is " + spellings[0], "lines": [spellings[1], {"deep": spellings[2] + "!"}], "changed": True, "rc": 3, "none": None}
    clean = scrub(result, [key])
    assert clean == {"msg": "it is ********", "lines": ["********", {"deep": "********!"}], "changed": True, "rc": 3, "none": None}
    assert scrub(result, []) is result
