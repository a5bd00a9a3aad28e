# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The key ring of the native provider: KEK versions in one JSON file.

``digest`` (SHA-256) finds damage. With a passphrase the KEKs are sealed and ``tag`` (HMAC) finds a
file that somebody changed, or a wrong passphrase.
"""
from __future__ import annotations

import base64
import hashlib
import json
import os
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Mapping, Optional

from .._core.errors import ControllerError
from .._core.key_material import KeyMaterial
from .private_file import read_private
from .sealing import Seal, derive_seal, new_seal

FORMAT = "trustedvm.libvirt key ring"
FORMAT_VERSION = 1
KEK_SIZE = 32


@dataclass(frozen=True)
class KeyRing:
    """The KEKs of one ring in memory; ``keks`` is by version, the highest is the one that wraps."""

    kek_id: str
    keks: Mapping[int, KeyMaterial]
    created_at: Mapping[int, str]
    seal: Optional[Seal] = field(default=None, repr=False)

    @property
    def newest(self) -> int:
        return max(self.keks)

    def with_new_kek(self) -> KeyRing:
        version = self.newest + 1
        keks = {**self.keks, version: KeyMaterial(os.urandom(KEK_SIZE))}
        return KeyRing(self.kek_id, keks, {**self.created_at, version: _now()}, self.seal)

    def sealed_with(self, passphrase: str) -> KeyRing:
        return KeyRing(self.kek_id, self.keks, self.created_at, new_seal(passphrase))

    def encode(self) -> bytes:
        """The file's content."""
        entries = []
        for version, kek in sorted(self.keks.items()):
            value = kek.reveal()
            if self.seal is not None:
                value = self.seal.seal(value, _label(self.kek_id, version))
            key = base64.b64encode(value).decode("ascii")
            entries.append({"version": version, "created_at": self.created_at[version], "key": key})
        content = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "kek_id": self.kek_id,
            "sealing": {"method": "none"} if self.seal is None else dict(self.seal.parameters),
            "keks": entries,
        }
        if self.seal is not None:
            content["tag"] = self.seal.tag(_canonical(content))
        content["digest"] = hashlib.sha256(_canonical(content)).hexdigest()
        return json.dumps(content, indent=2).encode("ascii") + b"\n"


def new_key_ring(passphrase: Optional[str]) -> KeyRing:
    seal = new_seal(passphrase) if passphrase else None
    return KeyRing(str(uuid.uuid4()), {1: KeyMaterial(os.urandom(KEK_SIZE))}, {1: _now()}, seal)


def read_key_ring(path: str, passphrase: Optional[str]) -> Optional[KeyRing]:
    """The ring at ``path``, None where there is no file. Creates nothing.

    Raises:
        ControllerError: ``key_ring_insecure``, ``key_ring_damaged``, ``key_ring_newer``,
            ``key_ring_passphrase_missing``, ``key_ring_passphrase_wrong``, ``file_unreadable``.
    """
    content = read_private(path, "The key ring", "key_ring_insecure")
    if content is None:
        return None
    return _decode(_checked(content, path), path, passphrase)


def kek_id_at(path: str) -> Optional[str]:
    """Which ring the file is, without opening it; None where it is none that anybody could use."""
    try:
        content = read_private(path, "The key ring", "key_ring_insecure")
        return None if content is None else str(_checked(content, path)["kek_id"])
    except (ControllerError, KeyError):
        return None


def key_ring_missing(path: str, provider: str, kek_id: Optional[str]) -> ControllerError:
    return ControllerError(
        "key_ring_missing",
        "The key ring of the key provider %s is not there" % provider,
        found="no file %s" % path,
        wanted="the ring that the registry's keys are wrapped with" if kek_id is None else "the ring with KEK %s" % kek_id,
        hint="Copy it from the controller that made it, or restore it from a backup; without it no key can be opened",
    )


def key_ring_other(provider: str, place: str, found: str, wanted: str) -> ControllerError:
    """Two controllers, or two files: with both rings in use, each could open only half of the keys."""
    return ControllerError(
        "key_ring_other",
        "The key ring here is not the one of the key provider %s in the registry" % provider,
        found="KEK %s in %s" % (found, place),
        wanted="KEK %s" % wanted,
        hint="Copy the ring of the controller that made it to this place; keep this one if another registry uses it",
    )


def _checked(content: bytes, path: str) -> dict[str, Any]:
    """The fields, if the digest says that they are what was written."""
    try:
        fields = json.loads(content)
        digest = fields.pop("digest")
        whole = hashlib.sha256(_canonical(fields)).hexdigest() == digest
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _damaged(path, "no JSON of a key ring") from None
    if not whole:
        raise _damaged(path, "content that does not match its digest")
    if fields.get("format") != FORMAT:
        raise _damaged(path, "another kind of file")
    if fields.get("format_version") != FORMAT_VERSION:
        raise ControllerError(
            "key_ring_newer",
            "The key ring %s was written by another release of the collection" % path,
            found="format version %s" % fields.get("format_version"),
            wanted="format version %d" % FORMAT_VERSION,
            hint="Update trustedvm.libvirt on this controller",
        )
    return dict(fields)


def _decode(fields: Mapping[str, Any], path: str, passphrase: Optional[str]) -> KeyRing:
    try:
        seal = _open_seal(fields, path, passphrase)
        kek_id = str(fields["kek_id"])
        keks, created = {}, {}
        for entry in fields["keks"]:
            version = int(entry["version"])
            keks[version] = _kek(entry["key"], kek_id, version, seal)
            created[version] = str(entry["created_at"])
        if not keks:
            raise ValueError("no KEK")
    except (ValueError, KeyError, TypeError):
        # Not chained and not quoted: the bytes at hand are key material.
        raise _damaged(path, "fields that no key ring has") from None
    return KeyRing(kek_id, keks, created, seal)


def _kek(text: str, kek_id: str, version: int, seal: Optional[Seal]) -> KeyMaterial:
    value = base64.b64decode(text, validate=True)
    if seal is not None:
        value = seal.unseal(value, _label(kek_id, version))
    if len(value) != KEK_SIZE:
        raise ValueError("a KEK of another size")
    return KeyMaterial(value)


def _open_seal(fields: Mapping[str, Any], path: str, passphrase: Optional[str]) -> Optional[Seal]:
    sealing = fields["sealing"]
    if sealing == {"method": "none"}:
        return None
    if not passphrase:
        raise ControllerError(
            "key_ring_passphrase_missing",
            "The key ring %s is sealed with a passphrase, and none was given" % path,
            hint="Set the variable trustedvm_key_ring_passphrase (from a vault), TRUSTEDVM_KEY_RING_PASSPHRASE or the"
            " provider's native.passphrase_file",
        )
    seal = derive_seal(passphrase, sealing)
    content = {name: value for name, value in fields.items() if name != "tag"}
    if not seal.accepts(_canonical(content), str(fields["tag"])):
        raise ControllerError(
            "key_ring_passphrase_wrong",
            "The key ring %s does not open with the passphrase that was given" % path,
            found="another passphrase than the one it was sealed with, or a ring that somebody changed",
            hint="Look at trustedvm_key_ring_passphrase, TRUSTEDVM_KEY_RING_PASSPHRASE and native.passphrase_file",
        )
    return seal


def _damaged(path: str, found: str) -> ControllerError:
    return ControllerError(
        "key_ring_damaged",
        "The key ring %s is damaged" % path,
        found=found,
        wanted="a key ring as this collection writes it",
        hint="Restore it from a backup; nothing was changed",
    )


def _label(kek_id: str, version: int) -> bytes:
    """Binds a sealed KEK to its place in the ring."""
    return ("kek %s %d" % (kek_id, version)).encode("utf-8")


def _canonical(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
