# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""A VM's definition for the libvirt of another release."""

from typing import Any

from .._core.deps import etree, libvirt
from .._core.domains import definition_text

# What newer releases write although it is the default, and older ones do not know: loader and NVRAM
# format (9.2), templateFormat (10.10). Without them the definition means the same.
_SPOKEN_DEFAULTS = (
    ("os/loader", "format", "raw"),
    ("os/nvram", "format", "raw"),
    ("os/nvram", "templateFormat", "raw"),
)


def definition_for(destination: Any, source: Any, domain: Any) -> str:
    """The persistent definition of a domain of ``source`` as ``destination`` takes it.

    With MIGRATABLE libvirt leaves out what it chose itself and an older one might choose otherwise.
    """
    flags = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE | libvirt.VIR_DOMAIN_XML_MIGRATABLE
    text: str = domain.XMLDesc(flags)
    if destination.getLibVersion() >= source.getLibVersion():
        return text
    tree = etree.fromstring(text.encode())
    for path, name, default in _SPOKEN_DEFAULTS:
        element = tree.find(path)
        if element is not None and element.get(name) == default:
            del element.attrib[name]
    return definition_text(tree)
