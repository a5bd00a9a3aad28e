# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a provider's record to an open provider; a type whose library is missing fails alone (requirement M8)."""
from __future__ import annotations

from types import MappingProxyType
from typing import Any, Callable, Mapping, Optional

from .._core.errors import ControllerError
from .base import KeyProvider
from .native import NativeProvider, open_native

# Name, settings, KEK id, state directory, passphrase.
Opener = Callable[[str, Mapping[str, Any], Optional[str], str, Optional[str]], KeyProvider]

TYPES: Mapping[str, tuple[type[KeyProvider], Opener]] = MappingProxyType({"native": (NativeProvider, open_native)})


def open_provider(
    name: str,
    type_name: str,
    settings: Mapping[str, Any],
    kek_id: Optional[str],
    state_directory: str,
    passphrase: Optional[str],
    types: Mapping[str, tuple[type[KeyProvider], Opener]] = TYPES,
) -> KeyProvider:
    """Args:
    kek_id: the one that the registry has for this provider, see ``KeyProvider``.

    Raises:
        ControllerError: ``key_provider_type_unknown``, ``missing_dependency``.
    """
    if type_name not in types:
        raise ControllerError(
            "key_provider_type_unknown",
            "The key provider %s is of a type that this release does not know" % name,
            found=type_name,
            wanted=", ".join(sorted(types)),
            hint="Update trustedvm.libvirt on this controller",
        )
    provider_class, opener = types[type_name]
    for dependency in provider_class.DEPENDENCIES:
        dependency.load()
    return opener(name, settings, kek_id, state_directory, passphrase)
