# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Settings in libvirt's configuration files, set without touching the rest of the file."""

from __future__ import annotations

DOCUMENTATION = r"""
name: libvirt_conf
short_description: Sets values in the text of a libvirt configuration file
version_added: 0.1.0
author:
  - trustedvm.libvirt contributors (@trustedvm)
description:
  - Takes the text of a file such as C(/etc/libvirt/qemu.conf) or C(/etc/libvirt/libvirtd.conf) and returns it with the given settings.
  - Comments, order and all other settings stay. A setting that is already there is changed in its place, a new one goes to the end.
    A second active line of the same setting is removed, as libvirt would only heed the first.
options:
  _input:
    description: The text of the configuration file.
    type: string
    required: true
  settings:
    description:
      - Names and values. Booleans and integers become numbers, lists become lists of strings.
      - A setting whose value is C(null) is left as it is in the file.
    type: dict
    required: true
positional: settings
"""

EXAMPLES = r"""
---
- name: The file as it should be
  ansible.builtin.set_fact:
    wanted: "{{ current | trustedvm.libvirt.libvirt_conf({'listen_tls': true, 'tls_port': '16514'}) }}"
"""

RETURN = r"""
_value:
  description: The text with the settings.
  type: string
"""

import re
import typing as t

from ansible.errors import AnsibleFilterError

_ASSIGNMENT = re.compile(r"[ \t]*(?P<name>[A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*")
# The grammar of libvirt's src/util/virconf.c: strings have no escapes; three double quotes embrace lines.
_STRING = re.compile(r'"""(?:.|\n)*?"""|"[^"\n]*"|\'[^\'\n]*\'')
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def render(name: str, value: t.Any) -> str:
    """One value in libvirt's notation. Raises ValueError for what the notation cannot express."""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        quote = "'" if '"' in value else '"'
        if quote in value or "\n" in value:
            raise ValueError(f"{name}: libvirt's configuration files cannot hold this string")
        return f"{quote}{value}{quote}"
    if isinstance(value, (list, tuple)):
        if not all(isinstance(item, str) for item in value):
            raise ValueError(f"{name}: a list must hold strings only")
        return "[" + ", ".join(render(name, item) for item in value) + "]"
    raise ValueError(f"{name}: no value of type {type(value).__name__} in libvirt's configuration files")


def _value_end(text: str, start: int) -> int:
    """Position behind a value: a list may go on over lines, with comments between."""
    position, in_list = start, text[start:start + 1] == "["
    while position < len(text):
        string = _STRING.match(text, position)
        if string:
            position = string.end()
        elif text[position] == "#":
            position = _line_end(text, position)
        elif text[position] == "]" and in_list:
            return position + 1
        elif text[position] == "\n" and not in_list:
            return position
        else:
            position += 1
    return position


def _line_end(text: str, position: int) -> int:
    end = text.find("\n", position)
    return len(text) if end < 0 else end


def set_values(text: str, settings: t.Mapping[str, t.Any]) -> str:
    """The text with the settings; see the description of the filter. Raises ValueError."""
    for name in settings:
        if not _NAME.match(name):
            raise ValueError(f"'{name}' is no name of a setting")
    pending = {name: f"{name} = {render(name, value)}" for name, value in settings.items() if value is not None}
    managed, lines, position = frozenset(pending), [], 0
    while position < len(text):
        assignment = _ASSIGNMENT.match(text, position)
        end = _line_end(text, _value_end(text, assignment.end()) if assignment else position)
        name = assignment.group("name") if assignment else ""
        if name not in managed:
            lines.append(text[position:end])
        elif name in pending:
            lines.append(_keep_or_replace(text[position:end], pending.pop(name)))
        position = end + 1
    return "".join(f"{line}\n" for line in lines + list(pending.values()))


def _keep_or_replace(found: str, wanted: str) -> str:
    """A line that says the same in other words (spaces, a comment behind) stays."""
    same = re.fullmatch(r"\s*(\w+)\s*=\s*((?:" + _STRING.pattern + r"|[^#\"'\n])*?)\s*(#.*)?", found)
    return found if same and f"{same.group(1)} = {same.group(2)}" == wanted else wanted


def libvirt_conf(text: t.Any, settings: t.Any) -> str:
    if not isinstance(text, str) or not isinstance(settings, t.Mapping):
        raise AnsibleFilterError("libvirt_conf takes the text of a file and a dictionary of settings")
    try:
        return set_values(text, settings)
    except ValueError as error:
        raise AnsibleFilterError(f"libvirt_conf: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., str]]:
        return {"libvirt_conf": libvirt_conf}
