# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""What an item of the module ``libvirt_secret`` asks for, checked before libvirt is asked anything."""

from dataclasses import dataclass, field
from typing import Any, Mapping, Optional, Tuple

from .._core.domains import as_uuid
from .._core.errors import TrustedVMError
from .._core.texts import fits_xml
from .definition import NO_USAGE
from .value import given_value


@dataclass(frozen=True)
class WantedSecret:
    """The options of one item; ``None`` is "not said".

    Attributes:
        released_by: UUIDs of domains that an earlier task of the play removes.
    """

    uuid: Optional[str]
    usage_type: str
    usage: Optional[str]
    description: Optional[str]
    private: bool
    ephemeral: bool
    verify_vm: Optional[str]
    in_use: str
    state: str
    released_by: Tuple[str, ...] = ()
    value: Optional[bytes] = field(default=None, repr=False)


def wanted_secret(item: Mapping[str, Any]) -> WantedSecret:
    """Check an item's options.

    Raises:
        TrustedVMError: ``identity_missing``, ``uuid_invalid``, ``usage_not_expected``, ``usage_invalid``,
            ``description_invalid`` and those of :func:`.value.given_value`.
    """
    uuid = checked_uuid(item.get("uuid"))
    usage = item.get("usage") or None
    usage_type = item["usage_type"]
    if usage_type == NO_USAGE and usage is not None:
        raise TrustedVMError(
            "usage_not_expected",
            "A secret with usage_type none has no usage",
            found="usage '%s'" % usage,
            hint="Leave usage out, or name the usage type",
        )
    if uuid is None and usage is None:
        raise TrustedVMError(
            "identity_missing",
            "The item does not say which secret is meant",
            wanted="uuid, or usage with usage_type",
            hint="Give uuid, usage or both",
        )
    for option in ("usage", "description"):
        if not fits_xml(item.get(option) or ""):
            raise TrustedVMError(
                "%s_invalid" % option,
                "The option %s holds a control character, which a libvirt secret cannot have" % option,
            )
    return WantedSecret(
        uuid=uuid,
        usage_type=usage_type,
        usage=usage,
        description=item.get("description"),
        private=item["private"],
        ephemeral=item["ephemeral"],
        verify_vm=item.get("verify_vm") or None,
        in_use=item["in_use"],
        state=item["state"],
        released_by=tuple(uuid for uuid in map(checked_uuid, item.get("released_by") or ()) if uuid),
        value=given_value(item) if item["state"] == "present" else None,
    )


def checked_uuid(text: Optional[str]) -> Optional[str]:
    """A UUID option in its canonical form.

    Raises:
        TrustedVMError: ``uuid_invalid``.
    """
    if not text:
        return None
    uuid = as_uuid(text)
    if uuid is None:
        raise TrustedVMError(
            "uuid_invalid",
            "'%s' is not a UUID" % text,
            wanted="a UUID such as 6f0c8a3e-2b1d-5c55-9d0f-0a1b2c3d4e5f",
        )
    return uuid
