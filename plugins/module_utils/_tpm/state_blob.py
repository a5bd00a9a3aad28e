# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""swtpm's state blob: encrypted or not, and does a key open it.

Format: swtpm 0.1 to 0.10, swtpm_nvstore.c: a 10-byte big-endian header (version, least version,
header size, flags, total length), then tag-length-value fields. Key derivation: swtpm key.c. All of
it needs the standard library only; nothing is decrypted here.
"""

import hashlib
import hmac
import struct
from dataclasses import dataclass
from typing import Optional

from .._core.errors import TrustedVMError

_HEADER = struct.Struct(">BBHHI")
_FIELD = struct.Struct(">HI")
_BLOB_VERSION = 2

TAG_PLAIN = 1
TAG_CIPHERTEXT = 2
TAG_MAC = 3
TAG_IV = 6

FLAG_ENCRYPTED = 0x01
FLAG_KEY_256_BIT = 0x08

_MAC_BYTES = hashlib.sha256().digest_size
# swtpm key.c, key_derive_pbkdf2: fixed salt, so the secret itself must be random.
_KDF_SALT = b"swtpm"
_KDF_ITERATIONS = 1000


@dataclass(frozen=True)
class StateBlob:
    """A parsed state: either ``plain`` or ``ciphertext`` with its ``mac`` and ``iv``."""

    flags: int
    plain: Optional[bytes] = None
    ciphertext: bytes = b""
    mac: bytes = b""
    iv: bytes = b""

    @property
    def encrypted(self) -> bool:
        return self.plain is None

    @property
    def key_bytes(self) -> int:
        return 32 if self.flags & FLAG_KEY_256_BIT else 16

    def opens_with(self, passphrase: bytes) -> bool:
        """Whether swtpm, given this passphrase (the libvirt secret's value), would accept the state.

        A plain state opens with no passphrase at all.
        """
        if not self.encrypted:
            return False
        key = derive_key(passphrase, self.key_bytes)
        expected = hmac.new(key, self.ciphertext + self.iv, hashlib.sha256).digest()
        return hmac.compare_digest(expected, self.mac)


def derive_key(passphrase: bytes, key_bytes: int = 32) -> bytes:
    """The AES and MAC key that swtpm derives from a passphrase."""
    return hashlib.pbkdf2_hmac("sha512", passphrase, _KDF_SALT, _KDF_ITERATIONS, key_bytes)


def parse(data: bytes) -> StateBlob:
    """Read a state blob.

    Raises:
        TrustedVMError: ``tpm_state_damaged``, saying what is wrong and where.
    """
    flags = _parse_header(data)
    fields = _parse_fields(data)
    if not flags & FLAG_ENCRYPTED:
        if not fields.get(TAG_PLAIN):
            raise damaged("the header says unencrypted, but there is no plain data in it")
        return StateBlob(flags, plain=fields[TAG_PLAIN])
    for tag, name in ((TAG_CIPHERTEXT, "ciphertext"), (TAG_MAC, "message authentication code")):
        if not fields.get(tag):
            raise damaged("the header says encrypted, but there is no %s in it" % name)
    if len(fields[TAG_MAC]) != _MAC_BYTES:
        raise damaged(
            "its message authentication code has %d bytes instead of %d" % (len(fields[TAG_MAC]), _MAC_BYTES)
        )
    if len(fields[TAG_CIPHERTEXT]) % 16:
        raise damaged("its ciphertext is not a whole number of AES blocks")
    # A state written before swtpm 0.1 knew initialisation vectors has none; the MAC then leaves it out.
    return StateBlob(flags, None, fields[TAG_CIPHERTEXT], fields[TAG_MAC], fields.get(TAG_IV, b""))


def _parse_header(data: bytes) -> int:
    if len(data) < _HEADER.size:
        raise damaged("it has %d bytes, fewer than the header's %d" % (len(data), _HEADER.size))
    version, least_version, header_size, flags, total = _HEADER.unpack_from(data)
    if version != _BLOB_VERSION or header_size != _HEADER.size:
        raise damaged("it does not begin with the header of a swtpm state (version 2)")
    if least_version > _BLOB_VERSION:
        raise damaged("it wants a reader of format version %d, and version 2 is the newest known" % least_version)
    if total != len(data):
        what = "truncated" if total > len(data) else "longer than its header says"
        raise damaged("it is %s: %d bytes instead of %d" % (what, len(data), total))
    return int(flags)


def _parse_fields(data: bytes) -> dict[int, bytes]:
    fields: dict[int, bytes] = {}
    offset = _HEADER.size
    while offset < len(data):
        if offset + _FIELD.size > len(data):
            raise damaged("a field's header is cut off at byte %d" % offset)
        tag, length = _FIELD.unpack_from(data, offset)
        offset += _FIELD.size
        if offset + length > len(data):
            raise damaged("field %d at byte %d goes past the end" % (tag, offset))
        # swtpm takes the first field of a tag (tlv.c, tlv_data_find_tag).
        fields.setdefault(tag, data[offset : offset + length])
        offset += length
    return fields


def damaged(what: str) -> TrustedVMError:
    return TrustedVMError(
        "tpm_state_damaged",
        "The TPM state cannot be read",
        found=what,
        wanted="a complete swtpm state",
        hint="Restore it from a copy (a state bundle, a set-aside copy); state=reset makes a new, empty TPM",
    )
