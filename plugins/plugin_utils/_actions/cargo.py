# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes what is secret out of a module's arguments and puts it back: plain functions on dictionaries.

Between the two, everything that looks at the arguments (Ansible's debug output prints them) sees none of it.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Optional, Sequence

from .._core.errors import ControllerError
from .._core.key_material import KeyMaterial
from .._records.key_request import KeyRequest, parse_request
from .hidden import reveal

SECRET_OPTIONS = ("resource_key", "value")


@dataclass(frozen=True)
class Slot:
    """One place for a value in the arguments: the top level, or an item of the list."""

    index: Optional[int]
    value: Any = None
    request: Optional[KeyRequest] = None
    problem: Optional[ControllerError] = None

    def __repr__(self) -> str:
        return "<slot %s>" % ("of the task" if self.index is None else self.index)


def unload(arguments: Mapping[str, Any], list_name: str) -> tuple[dict[str, Any], list[Slot]]:
    """The arguments without values and key requests, and what has to be put back.

    A ``resource_key`` at the top level beside a list gives the parts that an item's own leaves out.
    """
    public = {name: value for name, value in arguments.items() if name not in SECRET_OPTIONS}
    top_request = arguments.get("resource_key")
    items = arguments.get(list_name)
    if not isinstance(items, Sequence) or isinstance(items, (str, bytes)):
        return public, _slots(None, arguments.get("value"), top_request)
    slots = _slots(None, arguments.get("value"), None)
    public[list_name] = []
    for index, item in enumerate(items):
        if not isinstance(item, Mapping):
            public[list_name].append(item)
            continue
        public[list_name].append({name: value for name, value in item.items() if name not in SECRET_OPTIONS})
        request = _merged(top_request, item.get("resource_key"), item.get("value"))
        slots += _slots(index, item.get("value"), request)
    return public, slots


def load(public: Mapping[str, Any], list_name: str, values: Mapping[Optional[int], Any]) -> dict[str, Any]:
    """A copy of the arguments with each value in its place."""
    arguments = dict(public)
    if isinstance(arguments.get(list_name), list):
        arguments[list_name] = [
            {**item, "value": values[index]} if index in values else item
            for index, item in enumerate(arguments[list_name])
        ]
    if None in values:
        arguments["value"] = values[None]
    return arguments


def scrub(result: Any, keys: Sequence[KeyMaterial]) -> Any:
    """The result with every spelling of the keys replaced.

    A module has no reason to return a key; but a Python that dies on the host may print anything.
    """
    spellings = {text for key in keys for text in key.spellings()}
    return _scrubbed(result, sorted(spellings, key=len, reverse=True)) if spellings else result


def _scrubbed(value: Any, spellings: Sequence[str]) -> Any:
    if isinstance(value, dict):
        return {name: _scrubbed(entry, spellings) for name, entry in value.items()}
    if isinstance(value, list):
        return [_scrubbed(entry, spellings) for entry in value]
    if isinstance(value, str) and any(text in value for text in spellings):
        for text in spellings:
            value = value.replace(text, "********")
    return value


def _merged(top: Any, own: Any, value: Any) -> Any:
    """What an item leaves out is the top level's; its own value stands for a whole request."""
    if own is None and value is not None:
        return None
    if isinstance(top, Mapping) and isinstance(own, Mapping):
        return {**top, **own}
    return top if own is None else own


def _slots(index: Optional[int], value: Any, request: Any) -> list[Slot]:
    if request is None:
        return [] if value is None else [Slot(index, value=reveal(value))]
    if value is not None:
        problem = ControllerError(
            "value_and_resource_key",
            "Both value and resource_key are given",
            wanted="one of them",
            hint="Leave value out to take the key from the registry",
        )
        return [Slot(index, problem=problem)]
    try:
        return [Slot(index, request=parse_request(request))]
    except ControllerError as error:
        return [Slot(index, problem=error)]
