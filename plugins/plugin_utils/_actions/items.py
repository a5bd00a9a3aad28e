# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Argument specs of actions that take one item or a list of them."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Sequence

CONTROLLER_OPTIONS: Mapping[str, Any] = {
    # May hold a password; callbacks that print arguments must not.
    "registry_url": {"type": "str", "no_log": True},
    "state_directory": {"type": "path"},
}

Spec = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class ItemSpec:
    """An action that takes one item at the top level or a list of them.

    Attributes:
        list_name: the list option (``records``).
        identity: options that say which record is meant; at the top level they exclude the list.
        options: the item's options with their defaults. At the top level they are the defaults for
            each item of the list; in the list an unset one takes the top level's value.
        required: options that every item must end up with.
    """

    list_name: str
    identity: Sequence[str]
    options: Spec
    required: Sequence[str] = field(default_factory=tuple)

    def validation(self) -> dict[str, Any]:
        """Keyword arguments for Ansible's argument spec validation."""
        suboptions = {name: _without_default(spec) for name, spec in self.options.items()}
        items = {"type": "list", "elements": "dict", "options": suboptions}
        return {
            "argument_spec": {**self.options, **CONTROLLER_OPTIONS, self.list_name: items},
            "mutually_exclusive": [(name, self.list_name) for name in self.identity],
            "required_one_of": [(*self.identity, self.list_name)],
        }

    def items(self, params: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The items with the top level's defaults filled in."""
        top = {name: params.get(name) for name in self.options}
        if params.get(self.list_name) is None:
            return [top]
        return [
            {name: top[name] if item.get(name) is None else item[name] for name in self.options}
            for item in params[self.list_name]
        ]


def _without_default(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in spec.items() if key != "default"}
