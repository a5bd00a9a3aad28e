# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Undefining with the right flags: what is kept and what goes is always said, never a side effect."""

from typing import Any, Optional

from .._core.deps import libvirt
from .._core.errors import TrustedVMError
from .._tpm.device import TpmSpec, read_tpm
from .description import nvram_of

# VIR_DOMAIN_UNDEFINE_TPM and _KEEP_TPM exist since this release.
TPM_FLAGS_SINCE = 8009000


def undefine_flags(
    library_version: int,
    tpm: Optional[TpmSpec],
    has_local_nvram: bool,
    keep_nvram: bool,
    keep_tpm: bool,
) -> int:
    """The flags for ``undefineFlags``.

    Without NVRAM flag libvirt refuses a domain that has an NVRAM file; without TPM flag it deletes
    the state unless ``persistent_state='yes'`` (seen on 9.0.0 and 12.8.0).

    Args:
        library_version: ``virConnect.getLibVersion()``.

    Raises:
        TrustedVMError: ``libvirt_too_old``: this libvirt would delete a TPM state that is to stay.
    """
    flags = (
        libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
        | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    )
    if has_local_nvram:
        flags |= libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM if keep_nvram else libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
    if tpm is None:
        return flags
    if library_version >= TPM_FLAGS_SINCE:
        return flags | (libvirt.VIR_DOMAIN_UNDEFINE_KEEP_TPM if keep_tpm else libvirt.VIR_DOMAIN_UNDEFINE_TPM)
    if keep_tpm and not tpm.persistent_state:
        raise TrustedVMError(
            "libvirt_too_old",
            "This libvirt deletes the TPM state with the definition, and it is to be kept",
            found="libvirt %s" % version_text(library_version),
            wanted="libvirt 8.9.0 or newer, or persistent_state='yes' in the VM's <tpm>",
        )
    return flags


def undefine(connection: Any, domain: Any, tree: Any, keep_nvram: bool, keep_tpm: bool) -> None:
    """Remove the definition of a VM that is off.

    A running one must be stopped first: libvirt forgets KEEP_TPM when the VM stops later.
    """
    nvram = nvram_of(tree)
    # libvirt asks for a flag wherever it finds the volume by a path, and to remove is to unlink that path: of a
    # block device, the node in /dev. A network volume needs no flag and is never deleted.
    local = nvram is not None and nvram.kind != "network"
    ours = nvram is None or nvram.path is not None
    flags = undefine_flags(
        connection.getLibVersion(),
        read_tpm(tree),
        local or _may_get_nvram(tree),
        keep_nvram or not ours,
        keep_tpm,
    )
    _undefine_with(domain, flags)


def _may_get_nvram(tree: Any) -> bool:
    # libvirt 9.0 names the NVRAM of a firmware='efi' domain only when it starts, and the flag
    # is harmless where there is none.
    return bool(tree.find("os").get("firmware") == "efi")


def _undefine_with(domain: Any, flags: int) -> None:
    try:
        domain.undefineFlags(flags)
    except libvirt.libvirtError as error:
        # A hypervisor without checkpoints (the test driver) does not know their flag either.
        if error.get_error_code() != libvirt.VIR_ERR_INVALID_ARG:
            raise
        domain.undefineFlags(flags & ~libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA)


def version_text(number: int) -> str:
    return "%d.%d.%d" % (number // 1000000, number // 1000 % 1000, number % 1000)
