# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the registry and the key rings are: task option, then variable, then environment, then default."""
from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Callable, Mapping, Optional

STATE_DIRECTORY_VARIABLE = "trustedvm_state_directory"
STATE_DIRECTORY_ENVIRONMENT = "TRUSTEDVM_STATE_DIRECTORY"
REGISTRY_VARIABLE = "trustedvm_registry_url"
REGISTRY_ENVIRONMENT = "TRUSTEDVM_REGISTRY_URL"
PASSPHRASE_VARIABLE = "trustedvm_key_ring_passphrase"
PASSPHRASE_ENVIRONMENT = "TRUSTEDVM_KEY_RING_PASSPHRASE"

Template = Callable[[Any], Any]


@dataclass(frozen=True)
class Settings:
    """What an action needs to know of its controller; the secret ones are not in its text form."""

    registry_url: str = field(repr=False)
    state_directory: str
    passphrase: Optional[str] = field(repr=False, default=None)
    # The home directory, if the state directory is below it because nobody chose another place.
    home: Optional[str] = None


def resolve_settings(
    options: Mapping[str, Any],
    variables: Mapping[str, Any],
    template: Template,
    environment: Optional[Mapping[str, str]] = None,
) -> Settings:
    """Args:
    options: the task's own, as validated.
    variables: the task's variables, not yet templated.
    template: templates one value.
    """
    environment = os.environ if environment is None else environment

    def find(option: Optional[str], variable: str, name: str) -> Optional[str]:
        if option is not None and options.get(option):
            return str(options[option])
        if variables.get(variable):
            value = template(variables[variable])
            if value:
                return str(value)
        return environment.get(name) or None

    chosen = find("state_directory", STATE_DIRECTORY_VARIABLE, STATE_DIRECTORY_ENVIRONMENT)
    directory = os.path.abspath(os.path.expanduser(chosen or _default_directory(environment)))
    return Settings(
        find("registry_url", REGISTRY_VARIABLE, REGISTRY_ENVIRONMENT) or default_registry_url(directory),
        directory,
        # No option: what a play passes as an option ends up in what callbacks show.
        find(None, PASSPHRASE_VARIABLE, PASSPHRASE_ENVIRONMENT),
        None if chosen else _home_of(directory),
    )


def default_registry_url(state_directory: str) -> str:
    return "sqlite:///" + os.path.join(state_directory, "registry.sqlite")


def _home_of(directory: str) -> Optional[str]:
    home = os.path.realpath(os.path.expanduser("~"))
    return home if os.path.commonpath([home, os.path.realpath(directory)]) == home else None


def _default_directory(environment: Mapping[str, str]) -> str:
    """The XDG base directory specification's place for state."""
    base = environment.get("XDG_STATE_HOME") or ""
    if not os.path.isabs(base):
        base = os.path.join("~", ".local", "state")
    return os.path.join(base, "trustedvm")
