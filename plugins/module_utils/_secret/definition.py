# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""A libvirt secret without its value: what its XML says."""

from dataclasses import dataclass
from typing import Any, Optional

from .._core.deps import etree, libvirt, require_lxml

NO_USAGE = "none"

# Usage type → the element that holds the usage (libvirt virsecretobj/secret_conf, 9.0 to 12.8).
USAGE_ELEMENTS = {"volume": "volume", "ceph": "name", "iscsi": "target", "tls": "name", "vtpm": "name"}
USAGE_TYPES = (NO_USAGE, *USAGE_ELEMENTS)


@dataclass(frozen=True)
class SecretDefinition:
    """Attributes as in libvirt; ``usage`` is None exactly for usage type ``none``."""

    uuid: Optional[str]
    usage_type: str = NO_USAGE
    usage: Optional[str] = None
    private: bool = False
    ephemeral: bool = False
    description: Optional[str] = None

    def describe_usage(self) -> str:
        """``vtpm 'trustedvm:vtpm:…'`` or ``none``, for messages."""
        return NO_USAGE if self.usage is None else "%s '%s'" % (self.usage_type, self.usage)

    def as_result(self) -> dict[str, Any]:
        """The definition in diffs and info results."""
        return {
            "uuid": self.uuid,
            "usage_type": self.usage_type,
            "usage": self.usage,
            "private": self.private,
            "ephemeral": self.ephemeral,
            "description": self.description,
        }


def parse_secret(text: str) -> SecretDefinition:
    """Read libvirt's ``<secret>`` XML."""
    require_lxml()
    root = etree.fromstring(text.encode())
    usage = root.find("usage")
    usage_type = NO_USAGE if usage is None else usage.get("type", NO_USAGE)
    element = USAGE_ELEMENTS.get(usage_type)
    return SecretDefinition(
        uuid=root.findtext("uuid"),
        usage_type=usage_type,
        usage=None if usage is None or element is None else usage.findtext(element),
        private=root.get("private") == "yes",
        ephemeral=root.get("ephemeral") == "yes",
        description=root.findtext("description"),
    )


def build_secret(definition: SecretDefinition) -> str:
    """The ``<secret>`` XML to define."""
    require_lxml()
    root = etree.Element(
        "secret", ephemeral=_yes_no(definition.ephemeral), private=_yes_no(definition.private)
    )
    if definition.uuid:
        etree.SubElement(root, "uuid").text = definition.uuid
    if definition.description:
        etree.SubElement(root, "description").text = definition.description
    if definition.usage is not None:
        usage = etree.SubElement(root, "usage", type=definition.usage_type)
        etree.SubElement(usage, USAGE_ELEMENTS[definition.usage_type]).text = definition.usage
    return str(etree.tostring(root, encoding="unicode"))


def _yes_no(flag: bool) -> str:
    return "yes" if flag else "no"


def usage_type_name(number: int) -> str:
    """libvirt's number of a usage type as its name; a number that we do not know as text."""
    for name in USAGE_TYPES:
        if usage_type_number(name) == number:
            return name
    return str(number)


def usage_type_number(name: str) -> int:
    """``VIR_SECRET_USAGE_TYPE_…`` of a usage type."""
    return int(getattr(libvirt, "VIR_SECRET_USAGE_TYPE_" + name.upper()))
