# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a play says when it wants a key: which resource's, which version, what for."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Optional

from .._core.errors import ControllerError
from .._registry.records import VTPM

RESOURCE_TYPES = (VTPM,)

# Purposes for which a key may come into being. All others only read: a migration that
# finds no key must fail before anything moves (requirements M2, M7).
CREATING_PURPOSES = ("provision", "start", "clone", "rekey")
READING_PURPOSES = ("migrate", "restore", "failover", "backup", "verify", "stop", "destroy")
PURPOSES = CREATING_PURPOSES + READING_PURPOSES

REQUIRED_PARTS = ("resource_type", "vm", "purpose")
PARTS = REQUIRED_PARTS + ("key_version",)


@dataclass(frozen=True)
class KeyRequest:
    """A complete request; ``vm`` is a UUID or a name, ``key_version`` None is the newest."""

    resource_type: str
    vm: str
    purpose: str
    key_version: Optional[int] = None

    @property
    def may_create(self) -> bool:
        return self.purpose in CREATING_PURPOSES

    def __str__(self) -> str:
        version = "" if self.key_version is None else " version %d" % self.key_version
        return "key%s of %s %s" % (version, self.resource_type, self.vm)

    def subject(self) -> dict[str, Any]:
        return {"resource_type": self.resource_type, "vm": self.vm}


def parse_request(parts: Any) -> KeyRequest:
    """Every call for a key says what it is for (requirement M6).

    Raises:
        ControllerError: ``resource_key_part_missing`` or ``resource_key_part_invalid``, naming the part.
    """
    if not isinstance(parts, Mapping):
        raise _invalid("resource_key", type(parts).__name__, "a dictionary of %s" % ", ".join(PARTS))
    missing = [name for name in REQUIRED_PARTS if parts.get(name) in (None, "")]
    if missing:
        raise ControllerError(
            "resource_key_part_missing",
            "resource_key lacks %s" % " and ".join(missing),
            found=", ".join(sorted(str(name) for name in parts)) or "nothing",
            wanted=", ".join(REQUIRED_PARTS),
            hint="Add %s" % " and ".join(missing),
            details={"missing_parts": missing},
        )
    unknown = sorted(str(name) for name in parts if name not in PARTS)
    if unknown:
        raise _invalid("resource_key", ", ".join(unknown), ", ".join(PARTS))
    return KeyRequest(
        _choice("resource_type", parts["resource_type"], RESOURCE_TYPES),
        str(parts["vm"]),
        _choice("purpose", parts["purpose"], PURPOSES),
        _version(parts.get("key_version")),
    )


def _choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    if str(value) not in choices:
        raise _invalid(name, str(value), ", ".join(choices))
    return str(value)


def _version(value: Any) -> Optional[int]:
    if value is None or value == "":
        return None
    try:
        version = int(value)
    except (TypeError, ValueError):
        version = 0
    if version < 1:
        raise _invalid("key_version", str(value), "a whole number from 1")
    return version


def _invalid(name: str, found: str, wanted: str) -> ControllerError:
    return ControllerError(
        "resource_key_part_invalid", "The part %s of resource_key is not valid" % name, found=found, wanted=wanted
    )
