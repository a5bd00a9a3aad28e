# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Objects of a libvirt that may not be there; any other answer of libvirt is an error."""

from typing import Any, Callable, Optional

from .._core.deps import libvirt
from .._core.domains import as_uuid


def find_domain(connection: Any, vm: str) -> Optional[Any]:
    """The ``virDomain`` with this name, else with this UUID."""
    uuid = as_uuid(vm)
    missing = libvirt.VIR_ERR_NO_DOMAIN
    return _or_none(connection.lookupByName, vm, missing) or (
        _or_none(connection.lookupByUUIDString, uuid, missing) if uuid else None
    )


def find_domain_by_uuid(connection: Any, uuid: str) -> Optional[Any]:
    """The ``virDomain`` with this UUID, whatever it is called."""
    return _or_none(connection.lookupByUUIDString, uuid, libvirt.VIR_ERR_NO_DOMAIN)


def find_secret(connection: Any, uuid: str) -> Optional[Any]:
    """The ``virSecret`` with this UUID."""
    return _or_none(connection.secretLookupByUUIDString, uuid, libvirt.VIR_ERR_NO_SECRET)


def find_secret_by_usage(connection: Any, usage_type: int, usage: str) -> Optional[Any]:
    """The ``virSecret`` for this usage."""
    return _or_none(lambda name: connection.secretLookupByUsage(usage_type, name), usage, libvirt.VIR_ERR_NO_SECRET)


def find_volume(pool: Any, name: str) -> Optional[Any]:
    """The ``virStorageVol`` of this name, as the pool was last refreshed."""
    return _or_none(pool.storageVolLookupByName, name, libvirt.VIR_ERR_NO_STORAGE_VOL)


def _or_none(find: Callable[[str], Any], text: str, missing: int) -> Optional[Any]:
    try:
        return find(text)
    except libvirt.libvirtError as error:
        if error.get_error_code() == missing:
            return None
        raise
