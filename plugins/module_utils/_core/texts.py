# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""What the user wrote, before it goes into XML."""

import re
from typing import Any

from .deps import etree
from .errors import TrustedVMError

# XML 1.0, production 2 "Char": no control characters but tab and line ends, no surrogates.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def fits_xml(text: str) -> bool:
    """Whether XML can hold the text at all; lxml raises ValueError for one that does not."""
    return _NOT_XML.search(text) is None


def parse_xml(text: str, what: str) -> Any:
    """The user's XML as an element, without comments and blank text.

    An encoding that its declaration names does not count: what reaches us is text already.

    Args:
        what: how messages name it, as "The VM's xml".

    Raises:
        TrustedVMError: ``xml_invalid``.
    """
    parser = etree.XMLParser(
        encoding="utf-8", remove_comments=True, remove_pis=True, remove_blank_text=True, resolve_entities=False, no_network=True
    )
    try:
        return etree.fromstring(text.encode(), parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise TrustedVMError("xml_invalid", "%s is not well-formed: %s" % (what, error)) from error
