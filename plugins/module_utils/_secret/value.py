# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Values of secrets: what was given, what libvirt holds. Nothing here is ever put into a result."""

import base64
import binascii
import hmac
import os
from dataclasses import dataclass, field
from typing import Any, Mapping, Optional

from .._core.deps import libvirt
from .._core.errors import TrustedVMError
from .._core.host_paths import HostPaths
from .definition import SecretDefinition

# virSecretSetValue's limit on the wire; a longer one is an RPC error (VIR_SECRET_VALUE_MAX).
LONGEST_VALUE = 65536


def given_value(item: Mapping[str, Any]) -> Optional[bytes]:
    """The bytes of the option ``value``; None where it is not given.

    Raises:
        TrustedVMError: ``key_not_resolved``, ``value_not_base64``, ``value_empty``, ``value_too_long``.
    """
    if item.get("resource_key") is not None:
        raise TrustedVMError(
            "key_not_resolved",
            "The option resource_key reached the host without being resolved on the controller",
            hint="Call the module by its full name trustedvm.libvirt.…, so that its action plugin runs, or give value",
        )
    text = item.get("value")
    return None if text is None else decode_value(text)


def decode_value(text: str) -> bytes:
    """Bytes from base64 as ``virsh secret-set-value --base64`` takes it; errors never show the text."""
    try:
        value = base64.b64decode(text.strip().encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError, ValueError):
        raise TrustedVMError(
            "value_not_base64",
            "The option value is not base64",
            found="%d characters that do not decode" % len(text),
            wanted="standard base64 with padding, on one line",
            hint="Encode the bytes with the filter b64encode",
        ) from None
    if not value:
        raise TrustedVMError(
            "value_empty",
            "The option value is empty",
            wanted="at least one byte",
            hint="Leave value out to leave the stored value alone",
        )
    if len(value) > LONGEST_VALUE:
        raise TrustedVMError(
            "value_too_long",
            "The option value is longer than libvirt takes",
            found="%d bytes" % len(value),
            wanted="at most %d bytes" % LONGEST_VALUE,
        )
    return value


@dataclass(frozen=True)
class StoredValue:
    """What a secret holds.

    Attributes:
        known: False where libvirt has a value, or not, and does not let us see it.
        data: the value; None where it has none or is not known. Not part of the repr.
    """

    known: bool
    data: Optional[bytes] = field(default=None, repr=False)

    def equals(self, value: bytes) -> bool:
        """Exact comparison in constant time."""
        return self.known and self.data is not None and hmac.compare_digest(self.data, value)


UNKNOWN = StoredValue(known=False)
NO_VALUE = StoredValue(known=True)


def stored_value(secret: Any, definition: SecretDefinition, paths: Optional[HostPaths]) -> StoredValue:
    """The value that libvirt holds, where it can be known without asking for what it keeps private.

    libvirt gives the value of a private secret to nobody. A persistent one is in its own store,
    readable by root: in plain base64 up to libvirt 12.0 and, with 12.1 and newer, for secrets
    whose value was set before the upgrade.
    """
    if not definition.private:
        return _public_value(secret)
    if definition.ephemeral or paths is None or definition.uuid is None:
        return UNKNOWN
    return _store_file(paths.secrets, definition.uuid)


def _public_value(secret: Any) -> StoredValue:
    try:
        return StoredValue(True, secret.value())
    except libvirt.libvirtError as error:
        code = error.get_error_code()
        if code == libvirt.VIR_ERR_NO_SECRET:
            return NO_VALUE
        # A read-only connection, or one whose user may not read values.
        if code in (libvirt.VIR_ERR_OPERATION_DENIED, libvirt.VIR_ERR_ACCESS_DENIED):
            return UNKNOWN
        raise


def _store_file(directory: str, uuid: str) -> StoredValue:
    base = os.path.join(directory, uuid)
    try:
        # The secret's own file proves that this is the store of the libvirt that we talk to.
        if not os.path.exists(base + ".xml") or os.path.exists(base + ".aes256cbc"):
            return UNKNOWN
        with open(base + ".base64", "rb") as stream:
            return StoredValue(True, base64.b64decode(stream.read(), validate=True))
    except FileNotFoundError:
        # The directory is readable, else its .xml would not have been seen.
        return NO_VALUE
    except (OSError, binascii.Error):
        return UNKNOWN
