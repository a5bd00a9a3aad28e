# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A passphrase over a key ring: scrypt makes one key that seals the KEKs and one that authenticates the file."""
from __future__ import annotations

import base64
import hashlib
import hmac
import os
from dataclasses import dataclass, field
from typing import Any, Mapping

from .._core.dependencies import Dependency

CRYPTOGRAPHY = Dependency("cryptography.hazmat.primitives.ciphers.aead", "cryptography>=42", "The native key provider")

# OWASP's equivalent of N=2^17, p=1, in a quarter of the memory: every fork of Ansible that needs a key derives
# for itself, 32 MiB each.
SCRYPT = {"n": 1 << 15, "r": 8, "p": 3}
# What is read from a file is bounded: a changed file must not take the machine's memory.
SCRYPT_LARGEST = {"n": 1 << 20, "r": 16, "p": 16}

NONCE_SIZE = 12


@dataclass(frozen=True)
class Seal:
    """The keys that a passphrase gives for one salt."""

    parameters: Mapping[str, Any]
    _sealing: bytes = field(repr=False)
    _authentication: bytes = field(repr=False)

    def seal(self, value: bytes, label: bytes) -> bytes:
        nonce = os.urandom(NONCE_SIZE)
        return nonce + CRYPTOGRAPHY.load().AESGCM(self._sealing).encrypt(nonce, value, label)

    def unseal(self, sealed: bytes, label: bytes) -> bytes:
        """Raises:
        cryptography.exceptions.InvalidTag: changed, or sealed under another passphrase.
        """
        return bytes(CRYPTOGRAPHY.load().AESGCM(self._sealing).decrypt(sealed[:NONCE_SIZE], sealed[NONCE_SIZE:], label))

    def tag(self, content: bytes) -> str:
        return hmac.new(self._authentication, content, hashlib.sha256).hexdigest()

    def accepts(self, content: bytes, tag: str) -> bool:
        return hmac.compare_digest(self.tag(content), tag)


def new_seal(passphrase: str) -> Seal:
    salt = base64.b64encode(os.urandom(16)).decode("ascii")
    return derive_seal(passphrase, {"method": "scrypt", "salt": salt, **SCRYPT})


def derive_seal(passphrase: str, parameters: Mapping[str, Any]) -> Seal:
    """Raises:
    ValueError: parameters that no key ring of ours has.
    """
    numbers: dict[str, int] = {}
    for name, largest in SCRYPT_LARGEST.items():
        value = parameters.get(name)
        if not isinstance(value, int) or not 0 < value <= largest:
            raise ValueError("scrypt parameter %s is out of range" % name)
        numbers[name] = value
    salt = base64.b64decode(str(parameters.get("salt")), validate=True)
    # OpenSSL refuses to use more than maxmem; scrypt takes 128 * n * r bytes and some.
    memory = 256 * numbers["n"] * numbers["r"] + (1 << 20)
    derived = hashlib.scrypt(
        passphrase.encode("utf-8"), salt=salt, n=numbers["n"], r=numbers["r"], p=numbers["p"], maxmem=memory, dklen=64
    )
    return Seal(dict(parameters), derived[:32], derived[32:])
