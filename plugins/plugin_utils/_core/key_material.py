# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes that must not be printed."""
from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any, NoReturn

DEK_SIZE = 32


class KeyMaterial:
    """A DEK or a KEK in memory: its text forms hide it, and it cannot be pickled.

    Python may keep copies that nobody can reach, so ``wipe()`` shortens the life of a key and
    promises nothing more.
    """

    __slots__ = ("_bytes",)

    def __init__(self, value: bytes) -> None:
        self._bytes = bytearray(value)

    def reveal(self) -> bytes:
        return bytes(self._bytes)

    def wipe(self) -> None:
        for index in range(len(self._bytes)):
            self._bytes[index] = 0
        del self._bytes[:]

    def fingerprint(self) -> str:
        """Tells keys apart without saying anything about them: 32 random bytes cannot be guessed from a digest."""
        return "sha256:" + hashlib.sha256(b"trustedvm.libvirt key fingerprint\n" + self._bytes).hexdigest()

    def secret_value(self) -> str:
        """What a vTPM's libvirt secret is to hold, in the form of the option ``value``.

        The secret holds the base64 *text* of the key: swtpm takes the value as a passphrase, and text
        survives every tool that an operator may have to use. ``value`` is base64 of what is stored.
        """
        return base64.b64encode(base64.b64encode(self._bytes)).decode("ascii")

    def spellings(self) -> list[str]:
        """The texts that would give the key away."""
        text = base64.b64encode(self._bytes).decode("ascii")
        return [self.secret_value(), text, self._bytes.hex(), self._bytes.hex().upper()]

    def __len__(self) -> int:
        return len(self._bytes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyMaterial) and hmac.compare_digest(self._bytes, other._bytes)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "<key material, %d bytes>" % len(self._bytes)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("key material is not serialised")
