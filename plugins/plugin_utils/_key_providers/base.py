# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every key provider can do. The KEK stays in the provider; a DEK comes in or goes out, wrapped on one side."""
from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Mapping, Optional, Sequence

from .._core.dependencies import Dependency
from .._core.errors import ControllerError
from .._core.key_material import KeyMaterial


@dataclass(frozen=True)
class KeyContext:
    """What a wrapped DEK is bound to, so that one record cannot stand in for another."""

    resource_type: str
    resource_uuid: str
    key_version: int
    provider: str

    def __str__(self) -> str:
        return "key version %d of %s %s" % (self.key_version, self.resource_type, self.resource_uuid)

    def associated_data(self, kek_id: str, kek_version: int) -> bytes:
        """One byte string per context: JSON with sorted names and no spaces has one spelling for each value."""
        fields = {
            "kek_id": kek_id,
            "kek_version": kek_version,
            "key_version": self.key_version,
            "provider": self.provider,
            "resource_type": self.resource_type,
            "resource_uuid": self.resource_uuid,
        }
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return b"trustedvm.libvirt resource key 1\n" + text.encode("ascii")


@dataclass(frozen=True)
class WrappedKey:
    """A DEK under a KEK, as the registry keeps it."""

    kek_id: str
    kek_version: int
    algorithm: str
    wrapped: bytes = field(repr=False)


@dataclass(frozen=True)
class Description:
    """What may be shown of a key provider."""

    kek_id: str
    kek_version: int
    kek_versions: Sequence[int]
    details: Mapping[str, Any] = field(default_factory=dict)


class KeyProvider(ABC):
    """One key provider, opened with its settings. Errors are ControllerErrors that never hold key material."""

    # Client libraries, asked for when the provider is opened and not before (requirement M8).
    DEPENDENCIES: Sequence[Dependency] = ()

    def __init__(self, name: str, kek_id: Optional[str] = None) -> None:
        """Args:
        kek_id: the one that the registry has for this name; None as long as it has none. Key material with
            another one must not be used.
        """
        self.name = name
        self.kek_id = kek_id

    @abstractmethod
    def wrap(self, dek: KeyMaterial, context: KeyContext) -> WrappedKey:
        """The DEK under the provider's newest KEK version, bound to its context."""

    @abstractmethod
    def unwrap(self, wrapped: WrappedKey, context: KeyContext) -> KeyMaterial:
        """The DEK of exactly this context.

        Raises:
            ControllerError: ``kek_unknown``, ``wrapped_key_truncated``, ``wrapped_key_rejected`` and the
                provider's own.
        """

    @abstractmethod
    def rotate(self) -> Description:
        """A new KEK version for what is wrapped from now on; the older ones go on opening."""

    @abstractmethod
    def describe(self) -> Description:
        """What the provider is; fails when it cannot be used."""

    def health(self) -> Optional[ControllerError]:
        """What keeps the provider from working; None if it works. Creates nothing."""
        try:
            self.describe()
        except ControllerError as error:
            return error
        return None


def kek_unknown(provider: str, wrapped: WrappedKey, known: str) -> ControllerError:
    return ControllerError(
        "kek_unknown",
        "The key provider %s does not have the KEK that a key is wrapped with" % provider,
        found=known,
        wanted="KEK %s version %d" % (wrapped.kek_id, wrapped.kek_version),
        hint="Use the controller or the backup that has this KEK",
    )


def wrapped_key_truncated(context: KeyContext, length: int, wanted: int) -> ControllerError:
    return ControllerError(
        "wrapped_key_truncated",
        "The registry's record of %s is damaged" % context,
        found="%d bytes" % length,
        wanted="%d bytes" % wanted,
        hint="Restore the record from a backup of the registry",
    )


def wrapped_key_rejected(context: KeyContext, wrapped: WrappedKey) -> ControllerError:
    return ControllerError(
        "wrapped_key_rejected",
        "The registry's record of %s does not open with KEK %s version %d" % (context, wrapped.kek_id, wrapped.kek_version),
        found="bytes that were wrapped for another resource or key version, under another key, or changed since",
        wanted="the key that was wrapped for this resource",
        hint="Restore the record from a backup of the registry; do not let the VM start with another key",
    )
