# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Which reset a VM has had: a note in the domain's metadata, so that it moves with the VM."""

from dataclasses import replace
from typing import Any, Optional

from .._core.deps import etree
from .._domain.metadata import read_marks, write_marks

METADATA_URI = "urn:trustedvm.libvirt:vtpm"
_PREFIX = "trustedvm-vtpm"
_TAG = "{%s}reset" % METADATA_URI


def read_reset_note(domain: Any) -> Optional[str]:
    """The ``reset_id`` of the last reset in a parsed ``<domain>``, or None."""
    element = domain.find("metadata/%s" % _TAG)
    return None if element is None else element.get("id")


def note_reset(domain: Any, reset_id: Optional[str]) -> bool:
    """Put the note into a parsed ``<domain>``, in place; whether anything differs from before.

    The mark that the VM has a TPM state goes too, and another says that it is not to be missed: the
    next start is to make a new one.
    """
    marks = read_marks(domain)
    differs = not marks.tpm_reset
    if differs:
        write_marks(domain, replace(marks, tpm_state=False, tpm_reset=True))
    if reset_id is not None and read_reset_note(domain) != reset_id:
        _write(domain, reset_id)
        differs = True
    return differs


def _write(domain: Any, reset_id: str) -> None:
    metadata = domain.find("metadata")
    if metadata is None:
        metadata = etree.Element("metadata")
        # libvirt's schema interleaves a domain's children, so the place does not matter.
        domain.append(metadata)
    for old in metadata.findall(_TAG):
        metadata.remove(old)
    metadata.append(etree.Element(_TAG, id=reset_id, nsmap={_PREFIX: METADATA_URI}))
