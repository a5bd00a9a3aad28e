# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedded key provider: a key ring file on the controller, AES-256-GCM."""
from __future__ import annotations

import os
from typing import Any, Callable, Mapping, Optional

from .._core.directories import make_private_directory
from .._core.errors import ControllerError
from .._core.key_material import DEK_SIZE, KeyMaterial
from .base import (
    Description,
    KeyContext,
    KeyProvider,
    WrappedKey,
    kek_unknown,
    wrapped_key_rejected,
    wrapped_key_truncated,
)
from .key_ring import KeyRing, kek_id_at, key_ring_missing, key_ring_other, new_key_ring, read_key_ring
from .private_file import is_there, read_private, remove_private, replace_private, writer_lock
from .sealing import CRYPTOGRAPHY, NONCE_SIZE

ALGORITHM = "AES-256-GCM"
TAG_SIZE = 16
WRAPPED_SIZE = NONCE_SIZE + DEK_SIZE + TAG_SIZE


class NativeProvider(KeyProvider):
    """Reads its ring at the first use and keeps it for the life of the object: one task."""

    DEPENDENCIES = (CRYPTOGRAPHY,)

    def __init__(self, name: str, path: str, passphrase: Optional[str], kek_id: Optional[str] = None) -> None:
        super().__init__(name, kek_id)
        self.path = path
        self._passphrase = passphrase
        self._ring: Optional[KeyRing] = None

    def __repr__(self) -> str:
        return "<native key provider %s, %s>" % (self.name, self.path)

    def wrap(self, dek: KeyMaterial, context: KeyContext) -> WrappedKey:
        ring = self._opened()
        nonce = os.urandom(NONCE_SIZE)
        associated = context.associated_data(ring.kek_id, ring.newest)
        sealed = self._cipher(ring.keks[ring.newest]).encrypt(nonce, dek.reveal(), associated)
        return WrappedKey(ring.kek_id, ring.newest, ALGORITHM, nonce + sealed)

    def unwrap(self, wrapped: WrappedKey, context: KeyContext) -> KeyMaterial:
        ring = self._opened()
        if wrapped.kek_id != ring.kek_id or wrapped.kek_version not in ring.keks or wrapped.algorithm != ALGORITHM:
            versions = ", ".join(str(version) for version in sorted(ring.keks))
            raise kek_unknown(self.name, wrapped, "KEK %s versions %s for %s" % (ring.kek_id, versions, ALGORITHM))
        if len(wrapped.wrapped) != WRAPPED_SIZE:
            raise wrapped_key_truncated(context, len(wrapped.wrapped), WRAPPED_SIZE)
        from cryptography.exceptions import InvalidTag

        associated = context.associated_data(wrapped.kek_id, wrapped.kek_version)
        nonce, sealed = wrapped.wrapped[:NONCE_SIZE], wrapped.wrapped[NONCE_SIZE:]
        try:
            return KeyMaterial(self._cipher(ring.keks[wrapped.kek_version]).decrypt(nonce, sealed, associated))
        except InvalidTag:
            raise wrapped_key_rejected(context, wrapped) from None

    def rotate(self) -> Description:
        return self._rewrite(KeyRing.with_new_kek)

    def unsealed(self) -> bool:
        """Whether there is a passphrase that the ring is not sealed with yet."""
        return bool(self._passphrase) and self._opened().seal is None

    def seal(self) -> Description:
        """Seal the ring with the passphrase; a ring that is sealed stays as it is."""
        passphrase = self._passphrase
        return self._rewrite(lambda ring: ring if ring.seal or not passphrase else ring.sealed_with(passphrase))

    def describe(self) -> Description:
        ring = self._opened()
        details = {"key_ring": self.path, "sealed": ring.seal is not None}
        return Description(ring.kek_id, ring.newest, sorted(ring.keks), details)

    def exists(self) -> bool:
        """Whether there is a ring, of whatever kind.

        Raises:
            ControllerError: ``file_unreadable``: it cannot be said.
        """
        return is_there(self.path, "The key ring")

    def create(self) -> Description:
        """Make the ring; one that is there is taken as it is.

        Raises:
            ControllerError: ``key_ring_unwritable``, and what reading a ring raises.
        """
        try:
            make_private_directory(os.path.dirname(self.path))
            with writer_lock(self.path):
                if not self.exists():
                    replace_private(self.path, new_key_ring(self._passphrase).encode(), only_new=True)
        except OSError as error:
            raise _unwritable(self.path, error) from None
        return self.describe()

    def destroy(self) -> None:
        """Remove the ring: what is wrapped with its KEKs cannot be opened any more.

        Raises:
            ControllerError: ``key_ring_other``, ``key_ring_unwritable``.
        """
        self.refuse_removal()
        try:
            with writer_lock(self.path):
                remove_private(self.path)
        except FileNotFoundError:
            return  # not even its directory is there
        except OSError as error:
            raise _unwritable(self.path, error) from None

    def refuse_removal(self) -> None:
        """Raises:
        ControllerError: ``key_ring_other``: a ring that belongs to somebody else's keys.
        """
        found = kek_id_at(self.path)
        if found is not None:
            self._refuse_other(found)

    def _refuse_other(self, found: str) -> None:
        if self.kek_id not in (None, found):
            raise key_ring_other(self.name, self.path, found, str(self.kek_id))

    def _rewrite(self, change: Callable[[KeyRing], KeyRing]) -> Description:
        try:
            with writer_lock(self.path):
                self._ring = None  # another writer may have been first
                ring = change(self._opened())
                replace_private(self.path, ring.encode())
                self._ring = ring
        except OSError as error:
            raise _unwritable(self.path, error) from None
        return self.describe()

    def _opened(self) -> KeyRing:
        if self._ring is None:
            self._ring = read_key_ring(self.path, self._passphrase)
        if self._ring is None:
            raise key_ring_missing(self.path, self.name, self.kek_id)
        self._refuse_other(self._ring.kek_id)
        return self._ring

    @staticmethod
    def _cipher(kek: KeyMaterial) -> Any:
        return CRYPTOGRAPHY.load().AESGCM(kek.reveal())


def open_native(
    name: str, settings: Mapping[str, Any], kek_id: Optional[str], state_directory: str, passphrase: Optional[str]
) -> NativeProvider:
    """A native provider from what the registry keeps of it; does not look at the ring yet.

    Args:
        settings: ``key_ring`` and ``passphrase_file``, both optional.
        passphrase: what the play or the environment gives; a passphrase file is read only without it.
    """
    default = os.path.join(state_directory, "key-rings", name + ".json")
    path = os.path.abspath(os.path.expanduser(settings.get("key_ring") or default))
    if not passphrase and settings.get("passphrase_file"):
        passphrase = _read_passphrase(os.path.expanduser(settings["passphrase_file"]))
    return NativeProvider(name, path, passphrase, kek_id)


def _read_passphrase(path: str) -> str:
    content = read_private(path, "The passphrase file", "passphrase_file_insecure")
    if not content or not content.strip():
        raise ControllerError(
            "key_ring_passphrase_missing",
            "The passphrase file %s is %s" % (path, "not there" if content is None else "empty"),
            hint="Restore the file, or set TRUSTEDVM_KEY_RING_PASSPHRASE",
        )
    try:
        return content.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ControllerError(
            "key_ring_passphrase_wrong", "The passphrase file %s is not UTF-8 text" % path, hint="Write it as text"
        ) from None


def _unwritable(path: str, error: OSError) -> ControllerError:
    return ControllerError(
        "key_ring_unwritable",
        "The key ring %s cannot be written" % path,
        found=error.strerror or str(error),
        hint="Look at the permissions and the free space of its directory",
    )
