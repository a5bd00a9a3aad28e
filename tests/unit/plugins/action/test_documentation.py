# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of a module whose work is done by its action says what the action takes."""

from __future__ import annotations

import importlib
import pathlib
import re

import pytest
import yaml

pytest.importorskip("sqlalchemy")

MODULES = ("key_provider", "resource_key", "vm_operation", "vm_record")
INFO_MODULES = tuple(name + "_info" for name in MODULES)
PACKAGE = "ansible_collections.trustedvm.libvirt.plugins"
PLUGINS = pathlib.Path(importlib.import_module(PACKAGE + ".action.key_provider").__file__).resolve().parents[1]


def documented(name):
    module = importlib.import_module("%s.modules.%s" % (PACKAGE, name))
    options = yaml.safe_load(module.DOCUMENTATION)["options"]
    fragment = importlib.import_module(PACKAGE + ".doc_fragments.controller").ModuleDocFragment.DOCUMENTATION
    return {**yaml.safe_load(fragment)["options"], **options}


def taken(name):
    action = importlib.import_module("%s.action.%s" % (PACKAGE, name)).ActionModule
    if name in INFO_MODULES:
        return action.OPTIONS
    return action.SPEC.validation()["argument_spec"]


def shape(options, below):
    """What documentation and argument spec must agree on."""
    return {
        name: {
            "type": spec.get("type", "str"),
            "elements": spec.get("elements"),
            "choices": sorted(spec.get("choices") or []),
            "default": spec.get("default"),
            "below": shape(spec.get(below) or {}, below),
        }
        for name, spec in options.items()
    }


@pytest.mark.parametrize("name", MODULES + INFO_MODULES)
def test_documentation_and_argument_spec_agree(name):
    assert shape(documented(name), "suboptions") == shape(taken(name), "options")


def test_every_error_code_is_documented():
    """Codes are what scripts rely on: one that the code can raise stands in some module's documentation."""
    raised = set()
    for room in ("_core", "_registry", "_key_providers", "_records", "_actions"):
        for path in (PLUGINS / "plugin_utils" / room).rglob("*.py"):
            raised |= set(re.findall(r'ControllerError\(\s*"([a-z_]+)"', path.read_text(encoding="utf-8")))
    text = "".join((PLUGINS / "modules" / (module + ".py")).read_text(encoding="utf-8") for module in MODULES + INFO_MODULES)
    # Of calls that carry a key to a host; the host-side modules' fragment names them.
    on_the_way = {"key_needs_pipelining", "key_not_delivered", "value_and_resource_key"}
    assert {code for code in raised - on_the_way if "V(%s)" % code not in text} == set()
