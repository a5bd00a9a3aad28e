# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Does a defined domain have what an XML asks for?

libvirt fills in defaults, addresses and aliases when it defines a domain, so the two texts never
equal each other. What is wanted has to be *contained* in what is there.
"""

import hashlib
from typing import Any

from .._core.deps import etree
from .description import kib

_MEMORY_TAGS = ("memory", "currentMemory", "maxMemory")

# Never read back (VIR_DOMAIN_XML_SECURE), or not part of the machine.
_UNCOMPARED_ATTRIBUTES = ("passwd",)
_UNCOMPARED_TAGS = ("metadata",)

# MAC addresses and UUIDs come back in lower case.
_CASELESS_ATTRIBUTES = ("address", "secret", "uuid")

# The alias is resolved at define: q35 becomes pc-q35-7.2.
_MACHINE_PREFIXES = {"q35": "pc-q35-", "pc": "pc-i440fx-", "virt": "virt-", "microvm": "microvm"}


def same_machine(found: str, wanted: str) -> bool:
    """Whether a canonical machine type is what was asked for, perhaps by its alias."""
    if found == wanted:
        return True
    prefix = _MACHINE_PREFIXES.get(wanted)
    return prefix is not None and found.startswith(prefix)


def contains(found: Any, wanted: Any) -> bool:
    """Whether each attribute, text and child of ``wanted`` is in ``found``, each child in its own one."""
    if found.tag != wanted.tag:
        return False
    if wanted.tag in _MEMORY_TAGS and (wanted.text or "").strip():
        return kib(found) == kib(wanted)
    if not _same_attributes(found, wanted):
        return False
    text = (wanted.text or "").strip()
    if text and text != (found.text or "").strip() and not _same_uuid(wanted, found, text):
        return False
    return _has_children(found, wanted)


def _same_attributes(found: Any, wanted: Any) -> bool:
    for name, value in wanted.attrib.items():
        actual = found.get(name)
        if name in _UNCOMPARED_ATTRIBUTES or actual == value:
            continue
        if actual is None:
            return False
        if name == "machine" and same_machine(actual, value):
            continue
        # Device addresses come back in another notation: 0x0 and 0x00.
        if _number(actual) is not None and _number(actual) == _number(value):
            continue
        if name not in _CASELESS_ATTRIBUTES or actual.lower() != value.lower():
            return False
    return True


def _number(text: str) -> Any:
    try:
        return int(text, 0)
    except ValueError:
        return None


def _same_uuid(wanted: Any, found: Any, text: str) -> bool:
    return wanted.tag == "uuid" and text.replace("-", "").lower() == (found.text or "").replace("-", "").strip().lower()


def _has_children(found: Any, wanted: Any) -> bool:
    left = list(found)
    for child in wanted:
        if not isinstance(child.tag, str) or child.tag in _UNCOMPARED_TAGS:
            continue
        match = next((candidate for candidate in left if contains(candidate, child)), None)
        if match is None:
            return False
        left.remove(match)
    return True


def digest_of(tree: Any) -> str:
    """SHA-256 of an XML in canonical form, without identity, metadata and blank text between elements."""
    parser = etree.XMLParser(remove_blank_text=True, remove_comments=True)
    copy = etree.fromstring(etree.tostring(tree), parser)
    for child in list(copy):
        if child.tag in ("name", "uuid", "metadata"):
            copy.remove(child)
    return hashlib.sha256(etree.tostring(copy, method="c14n")).hexdigest()
