# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""The value of a secret that this host holds already, to be tried on what it is the key of."""

from typing import Any, Optional

from .._core.deps import libvirt
from .._core.host_paths import HostPaths
from .index import read_definition
from .value import stored_value


def held_value(connection: Any, secret_uuid: str, paths: Optional[HostPaths]) -> Optional[bytes]:
    """The value, or None where there is no such secret, it has none, or it cannot be known.

    Args:
        paths: libvirt's own directories, in which root finds the value of a persistent private secret.
    """
    try:
        secret = connection.secretLookupByUUIDString(secret_uuid)
        definition = read_definition(secret)
    except libvirt.libvirtError as error:
        if error.get_error_code() in (libvirt.VIR_ERR_NO_SECRET, libvirt.VIR_ERR_NO_SUPPORT):
            return None
        raise
    return stored_value(secret, definition, paths).data
