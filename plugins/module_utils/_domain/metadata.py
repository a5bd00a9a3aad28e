# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Marks in a domain's ``<metadata>``: that the VM has run with a TPM state and an NVRAM volume.

libvirt makes a new TPM, or copies a new NVRAM, where the old one is missing at start. The mark
travels with the definition, also to another host, so that such a start can be refused anywhere.
"""

from dataclasses import dataclass
from typing import Any, Optional

from .._core.deps import etree, libvirt

NAMESPACE = "https://github.com/trustedvm/trustedvm.libvirt/domain/1"
PREFIX = "trustedvm"
_ROOT = "{%s}vm" % NAMESPACE
_TPM = "{%s}tpm" % NAMESPACE
_NVRAM = "{%s}nvram" % NAMESPACE
_DEFINITION = "{%s}definition" % NAMESPACE


@dataclass(frozen=True)
class Marks:
    """What is known of a VM's past.

    Attributes:
        tpm_state: a TPM state was made for it.
        tpm_reset: its TPM state was given up, and it has not been started since. Excludes tpm_state.
        nvram: it has run with an NVRAM volume.
        nvram_reset: the ``reset_id`` of that volume's last reset.
        source_digest: SHA-256 of the user's own XML that the definition was made from.
        rewritten: libvirt put that XML into other words, so it cannot be compared with the definition.
    """

    tpm_state: bool = False
    nvram: bool = False
    source_digest: Optional[str] = None
    rewritten: bool = False
    tpm_reset: bool = False
    nvram_reset: Optional[str] = None

    def as_result(self) -> dict[str, bool]:
        return {"tpm_state": self.tpm_state, "nvram": self.nvram}


def read_marks(tree: Any) -> Marks:
    """The marks in a parsed ``<domain>``."""
    root = tree.find("metadata/%s" % _ROOT)
    if root is None:
        return Marks()
    tpm, nvram, source = root.find(_TPM), root.find(_NVRAM), root.find(_DEFINITION)
    return Marks(
        tpm_state=tpm is not None and tpm.get("state") == "made",
        nvram=nvram is not None and nvram.get("state") == "used",
        source_digest=None if source is None else source.get("sha256"),
        rewritten=source is not None and source.get("rewritten") == "yes",
        tpm_reset=tpm is not None and tpm.get("state") == "reset",
        nvram_reset=None if nvram is None else nvram.get("reset"),
    )


def write_marks(tree: Any, marks: Marks) -> None:
    """Put the marks into a parsed ``<domain>`` that is about to be defined, in place."""
    metadata = tree.find("metadata")
    if metadata is not None:
        for old in metadata.findall(_ROOT):
            metadata.remove(old)
    if marks == Marks():
        return
    if metadata is None:
        metadata = etree.Element("metadata")
        tree.insert(_metadata_position(tree), metadata)
    metadata.append(_element(marks))


def set_marks(
    domain: Any,
    tree: Any,
    tpm_state: Optional[bool] = None,
    nvram: Optional[bool] = None,
    rewritten: Optional[bool] = None,
    nvram_reset: Optional[str] = None,
) -> bool:
    """Change marks of a defined domain, running or not; None leaves one as it is.

    Returns:
        Whether anything had to be written.
    """
    found = read_marks(tree)
    wanted = Marks(
        tpm_state=found.tpm_state if tpm_state is None else tpm_state,
        nvram=found.nvram if nvram is None else nvram,
        source_digest=found.source_digest,
        rewritten=found.rewritten if rewritten is None else rewritten,
        tpm_reset=found.tpm_reset if tpm_state is None else False,
        nvram_reset=nvram_reset or found.nvram_reset,
    )
    if wanted == found:
        return False
    text = None if wanted == Marks() else _text_without_namespace(_element(wanted))
    flags = libvirt.VIR_DOMAIN_AFFECT_CURRENT
    if domain.isPersistent():
        flags = libvirt.VIR_DOMAIN_AFFECT_CONFIG
        if domain.isActive():
            flags |= libvirt.VIR_DOMAIN_AFFECT_LIVE
    domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, text, PREFIX, NAMESPACE, flags)
    return True


def _text_without_namespace(element: Any) -> str:
    """libvirt puts the namespace in itself and refuses XML that has it (virXMLInjectNamespace)."""
    for part in element.iter():
        part.tag = etree.QName(part).localname
    etree.cleanup_namespaces(element)
    return str(etree.tostring(element, encoding="unicode"))


def _element(marks: Marks) -> Any:
    root = etree.Element(_ROOT, nsmap={PREFIX: NAMESPACE})
    if marks.tpm_state or marks.tpm_reset:
        etree.SubElement(root, _TPM, state="made" if marks.tpm_state else "reset")
    if marks.nvram or marks.nvram_reset:
        nvram = etree.SubElement(root, _NVRAM)
        if marks.nvram:
            nvram.set("state", "used")
        if marks.nvram_reset:
            nvram.set("reset", marks.nvram_reset)
    if marks.source_digest:
        source = etree.SubElement(root, _DEFINITION, sha256=marks.source_digest)
        if marks.rewritten:
            source.set("rewritten", "yes")
    return root


def _metadata_position(tree: Any) -> int:
    for index, child in enumerate(tree):
        if child.tag in ("name", "uuid", "genid", "title", "description"):
            continue
        return index
    return len(tree)
