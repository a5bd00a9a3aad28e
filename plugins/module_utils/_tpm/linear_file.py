# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""swtpm's "linear" store: all states of a TPM in one file (``<source type='file'>``, libvirt 10.10).

Format: swtpm 0.7 to 0.10, swtpm_nvstore_linear.h: little-endian header with 15 sections; the
permanent state is the first.
"""

import struct
from typing import Optional

from .state_blob import damaged

_HEADER = struct.Struct("<QBBH")
_SECTION = struct.Struct("<III")
_MAGIC = 0x737774706D6C696E
_VERSION = 1


def permanent_state(data: bytes) -> Optional[bytes]:
    """The permanent state blob in a linear file; None where the file is new and holds none.

    Raises:
        TrustedVMError: ``tpm_state_damaged``.
    """
    if not data:
        return None
    if len(data) < _HEADER.size + _SECTION.size:
        raise damaged("the state file has %d bytes, fewer than its header" % len(data))
    magic, version, _padding, _header_size = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise damaged("the state file is not one that swtpm wrote")
    if version != _VERSION:
        raise damaged("the state file has format version %d, and 1 is the one known" % version)
    offset, length, _section_length = _SECTION.unpack_from(data, _HEADER.size)
    if offset == 0 or length == 0:
        return None
    if offset + length > len(data):
        raise damaged("the state file ends before byte %d of the permanent state" % (offset + length))
    return data[offset : offset + length]
