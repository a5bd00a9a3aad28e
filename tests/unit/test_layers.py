# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two sides never import each other, and each room imports only what docs/architecture.md allows."""
from __future__ import annotations

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PLUGINS = ROOT / "plugins"

HOST_SIDE = ("modules", "module_utils")
CONTROLLER_SIDE = ("action", "filter", "lookup", "inventory", "plugin_utils")

# Room → the rooms below `module_utils` that it may import (itself and _core always).
HOST_ROOMS = {
    "_core": set(),
    "_tpm": set(),
    "_secret": {"_tpm"},
    "_vtpm": {"_tpm", "_secret", "_domain"},
    "_nvram": {"_domain"},
    "_domain": {"_tpm", "_nvram", "_secret"},
    "_migration": {"_domain", "_tpm", "_nvram", "_secret"},
}


def imported_names(path: pathlib.Path) -> set[str]:
    """Absolute dotted names that a file imports; relative ones are resolved."""
    package = ("ansible_collections.trustedvm.libvirt." + ".".join(path.relative_to(ROOT).with_suffix("").parts)).split(".")
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: -node.level]) + "." if node.level else ""
            names.add(base + (node.module or ""))
    return names


def sources(*folders: str) -> list[pathlib.Path]:
    return [path for folder in folders for path in sorted((PLUGINS / folder).rglob("*.py"))]


def identify(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", sources(*HOST_SIDE), ids=identify)
def test_host_side_does_not_import_controller_side(path: pathlib.Path) -> None:
    wrong = [
        name
        for name in imported_names(path)
        if any(".plugins.%s" % folder in name for folder in CONTROLLER_SIDE) or name.split(".")[0] == "sqlalchemy"
    ]
    assert not wrong


@pytest.mark.parametrize("path", sources(*CONTROLLER_SIDE), ids=identify)
def test_controller_side_does_not_import_host_side(path: pathlib.Path) -> None:
    wrong = [
        name
        for name in imported_names(path)
        if any(".plugins.%s" % folder in name for folder in HOST_SIDE) or name.split(".")[0] in ("libvirt", "lxml")
    ]
    assert not wrong


@pytest.mark.parametrize("path", sources("module_utils"), ids=identify)
def test_host_rooms_import_only_what_the_architecture_allows(path: pathlib.Path) -> None:
    parts = path.relative_to(PLUGINS / "module_utils").parts
    if len(parts) == 1:
        return
    room = parts[0]
    allowed = HOST_ROOMS[room] | {"_core", room}
    rooms = {name.split(".plugins.module_utils.")[1].split(".")[0] for name in imported_names(path) if ".plugins.module_utils._" in name}
    assert rooms <= allowed, "%s may import %s" % (room, sorted(allowed))


# Room → the rooms below `plugin_utils` that it may import (itself and _core always).
CONTROLLER_ROOMS = {
    "_core": set(),
    "_registry": set(),
    "_key_providers": set(),
    "_records": {"_registry", "_key_providers"},
    "_actions": {"_records", "_registry", "_key_providers"},
    "_plans": {"_registry"},
}


@pytest.mark.parametrize("path", sources("plugin_utils"), ids=identify)
def test_controller_rooms_import_only_what_the_architecture_allows(path: pathlib.Path) -> None:
    room = path.relative_to(PLUGINS / "plugin_utils").parts[0]
    allowed = CONTROLLER_ROOMS[room] | {"_core", room}
    rooms = {name.split(".plugins.plugin_utils.")[1].split(".")[0] for name in imported_names(path) if ".plugins.plugin_utils._" in name}
    assert rooms <= allowed, "%s may import %s" % (room, sorted(allowed))


@pytest.mark.parametrize("path", [path for path in sources("plugin_utils") if "_actions" not in path.parts], ids=identify)
def test_only_the_room_of_the_actions_knows_ansible(path: pathlib.Path) -> None:
    assert not [name for name in imported_names(path) if name.split(".")[0] == "ansible"]
