# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""An NVRAM volume: what is on the storage, whether a VM may be started with it, what to do about it.

Nothing here touches a storage; the backends do.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, Callable, Optional, Sequence

from .._core.errors import TrustedVMError

# Requirement N2: the size where no template tells one.
BLANK_SIZE = 1 << 20

# More than any firmware's variable store; larger files are not read to look for a pristine one.
READ_LIMIT = 16 << 20

# EFI_FIRMWARE_VOLUME_HEADER: 16 zero bytes, GUID, length, then this signature at byte 40
# (UEFI Platform Initialization specification, volume 3). Every edk2 variable store starts so.
FV_SIGNATURE_OFFSET = 40
FV_SIGNATURE = b"_FVH"
HEADER_SIZE = 64

_IMAGE_MAGICS = {
    b"QFI\xfb": "qcow2",
    b"QED\x00": "qed",
    b"KDMV": "vmdk",
    b"vhdx": "vhdx",
    b"cone": "vpc",
    b"<<< ": "vdi",
}


@dataclass(frozen=True)
class Template:
    """What a new volume starts with: a firmware's variable store, or nothing."""

    path: Optional[str]
    size: int
    read: Callable[[], bytes]

    @property
    def name(self) -> str:
        return self.path or "%d zero bytes" % self.size


BLANK = Template(None, BLANK_SIZE, lambda: bytes(BLANK_SIZE))


@dataclass(frozen=True)
class Facts:
    """A volume as a backend found it.

    Attributes:
        header: the first HEADER_SIZE bytes; None where it could not be read.
        problem: why it could not be read, or what it is instead of a volume.
    """

    exists: bool
    size: int = 0
    header: Optional[bytes] = b""
    problem: Optional[str] = None
    regular: bool = True

    @property
    def format(self) -> Optional[str]:
        """The image format by its magic; None for a volume that is not there or not readable."""
        if not self.exists or self.header is None:
            return None
        return _IMAGE_MAGICS.get(self.header[:4], "raw")


def problem_of(path: str, facts: Facts, template: Template) -> Optional[TrustedVMError]:
    """Why a volume that exists must not be handed to a start, or None where it is ready."""
    if not facts.regular:
        return TrustedVMError(
            "nvram_not_a_file",
            "NVRAM volume %s is not a regular file" % path,
            found=facts.problem,
            wanted="a raw file of %d bytes" % template.size,
            hint="Name another path, or move away what is there",
        )
    if facts.header is None:
        return TrustedVMError(
            "nvram_unreadable",
            "NVRAM volume %s cannot be read" % path,
            found=facts.problem,
            hint="See the file's owner and mode, and root squash if it is on NFS",
        )
    return _content_problem(path, facts, template)


def _content_problem(path: str, facts: Facts, template: Template) -> Optional[TrustedVMError]:
    if facts.format != "raw":
        return _wrong_format(path, "format %s" % facts.format, "format raw")
    if facts.size != template.size:
        return TrustedVMError(
            "nvram_wrong_size",
            "NVRAM volume %s does not fit the VM's firmware" % path,
            found="%d bytes" % facts.size,
            wanted="%d bytes, the size of %s" % (template.size, template.name),
            hint="Use the firmware that it was made for, restore the right volume, or reset it with "
            "nvram_volume state=reset and accept_data_loss=true",
        )
    if template.path is not None and not has_variable_store(facts.header or b""):
        return _wrong_format(path, "no UEFI variable store in it", "a UEFI variable store, as in %s" % template.name)
    return None


def _wrong_format(path: str, found: str, wanted: str) -> TrustedVMError:
    return TrustedVMError(
        "nvram_wrong_format",
        "NVRAM volume %s is not a raw UEFI variable store" % path,
        found=found,
        wanted=wanted,
        hint="Convert it (qemu-img convert -O raw), restore the right volume, or reset it with "
        "nvram_volume state=reset and accept_data_loss=true",
    )


def has_variable_store(header: bytes) -> bool:
    return header[FV_SIGNATURE_OFFSET : FV_SIGNATURE_OFFSET + len(FV_SIGNATURE)] == FV_SIGNATURE


def is_blank(content: bytes) -> bool:
    """Only zeros, or only ones as in erased flash, or nothing: no firmware ever wrote there."""
    return not content.strip(b"\x00") or not content.strip(b"\xff")


def never_used(content: bytes, templates: Sequence[bytes]) -> bool:
    """Whether no guest can lose anything: blank, or byte for byte a template of this host.

    A firmware writes at its first boot already (BootOrder, MTC: seen on OVMF 2022.11 to 2026.08).
    """
    return is_blank(content) or content in templates


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class Decision:
    """What has to be done so that the volume is ready: ``use``, ``create`` or ``rebuild``."""

    action: str
    path: str
    template: Template
    reason: Optional[str] = None

    @property
    def changes(self) -> bool:
        return self.action != "use"


def decide(
    path: str,
    facts: Facts,
    template: Template,
    was_used: bool,
    pristine: Callable[[], bool],
) -> Decision:
    """How to get a volume ready (requirement N4).

    Args:
        was_used: the VM is known to have run with a volume, so a new one would lose its variables.
        pristine: reads the volume and tells :func:`never_used`; called only if it is not ready.

    Raises:
        TrustedVMError: ``nvram_missing``, or the problem of a volume that is in use and not ready.
    """
    if not facts.exists:
        if was_used:
            raise missing(path)
        return Decision("create", path, template)
    problem = problem_of(path, facts, template)
    if problem is None:
        return Decision("use", path, template)
    if problem.code in ("nvram_not_a_file", "nvram_unreadable") or was_used or not pristine():
        raise problem
    return Decision("rebuild", path, template, reason=problem.found)


def missing(path: str) -> TrustedVMError:
    return TrustedVMError(
        "nvram_missing",
        "NVRAM volume %s is gone, and the VM ran with one; libvirt would start it with an empty one" % path,
        found="no file",
        hint="Restore the volume from a backup or a former host, or give its variables up with "
        "nvram_volume state=reset and accept_data_loss=true",
    )


def held_by_another(path: str, holder: str, hint: str = "Give each VM its own path") -> TrustedVMError:
    return TrustedVMError(
        "nvram_in_use",
        "NVRAM volume %s belongs to VM %s" % (path, holder),
        hint=hint,
    )


def as_result(path: str, facts: Facts, template: Optional[Template]) -> dict[str, Any]:
    """The volume in results: nothing in it is secret."""
    ready = facts.exists and template is not None and problem_of(path, facts, template) is None
    return {
        "path": path,
        "exists": facts.exists,
        "size": facts.size if facts.exists else None,
        "format": facts.format,
        "ready": ready if template is not None else None,
    }
