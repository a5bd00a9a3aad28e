# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets in the arguments of a task.

Ansible hides what ``no_log`` names in the results of modules, and not in the arguments of the task: those go to
callback plugins with each result, and into ``ansible_failed_task``. So an action takes them out at once.
"""
from __future__ import annotations

from typing import Any, Mapping, MutableMapping, Optional

# What Ansible puts in the place of hidden values.
MARK = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"


class HiddenText(str):
    """Reads as the mark, also for whoever it is sent to; only ``reveal()`` gets at the text.

    It stays in the arguments because Ansible runs an action again on the same arguments when it retries a task.
    """

    _hidden: str

    def __new__(cls, hidden: str) -> HiddenText:
        text = super().__new__(cls, MARK)
        text._hidden = hidden
        return text

    def reveal(self) -> str:
        return self._hidden

    def __reduce__(self) -> Any:
        return str, (MARK,)


def take(arguments: MutableMapping[str, Any], name: str) -> Optional[str]:
    """A secret argument as it is; from then on nobody else reads it in the arguments."""
    if arguments.get(name) in (None, ""):
        return None
    arguments[name] = hidden(arguments[name])
    return str(arguments[name].reveal())


def hide_values(arguments: MutableMapping[str, Any], list_name: str) -> None:
    """Hide ``value`` at the top level and in each item. Containers are replaced: they may be those of a variable."""
    take(arguments, "value")
    if isinstance(arguments.get(list_name), (list, tuple)):
        arguments[list_name] = [_without_value(item) for item in arguments[list_name]]


def hidden(value: Any) -> HiddenText:
    return value if isinstance(value, HiddenText) else HiddenText(str(value))


def reveal(value: Any) -> Any:
    return value.reveal() if isinstance(value, HiddenText) else value


def _without_value(item: Any) -> Any:
    if not isinstance(item, Mapping) or item.get("value") in (None, ""):
        return item
    return {**item, "value": hidden(item["value"])}
