# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""What has to be right before a VM is started; each check changes nothing and says what to do."""

import os
from typing import Any, Callable, Optional

from .._core.deps import libvirt
from .._core.errors import TrustedVMError
from .._core.host_paths import HostPaths
from .._secret.uses import secrets_used_by
from .._tpm.device import EMULATOR, TpmSpec
from .._tpm.key_check import check_state
from .._tpm.state_dir import EMPTY, PRESENT, TpmState, locate
from .description import disks_of, loader_of
from .disks import DiskStore, disk_missing, require_format
from .metadata import Marks


def tpm_state_of(paths: Optional[HostPaths], uuid: str, spec: Optional[TpmSpec]) -> Optional[TpmState]:
    """The state of a domain's emulated TPM; None without one, or on a machine that is not this one."""
    if paths is None or spec is None or spec.backend != EMULATOR:
        return None
    return TpmState(locate(paths, uuid, spec))


def require_tpm_state(
    state: Optional[TpmState],
    spec: Optional[TpmSpec],
    marks: Marks,
    expected: bool,
    held: Callable[[str], Optional[bytes]],
) -> None:
    """libvirt makes a new TPM without a word where the state is missing.

    Args:
        expected: the VM is known to have run, wherever. A reset since then excuses it, but never the mark,
            which a reset takes away and a start sets.
        held: tells the value of the secret with this UUID, None where it is not known. Asked because
            libvirt says of a wrong key only what it also says of a damaged state.

    Raises:
        TrustedVMError: ``tpm_state_missing``, ``tpm_state_damaged``, and those of ``check_state``.
    """
    if state is None or spec is None:
        return
    if state.status() == PRESENT:
        passphrase = None if spec.secret_uuid is None else held(spec.secret_uuid)
        check_state(state, spec.secret_uuid is not None, passphrase)
        return
    if marks.tpm_state or (expected and not marks.tpm_reset):
        raise TrustedVMError(
            "tpm_state_missing",
            "The VM's TPM state is gone, and the VM ran with one; libvirt would start it with a new, empty TPM",
            found="no state at %s" % state.location.state_file,
            hint="See whether its storage is mounted, restore the state from a backup or a former host, or give it up "
            "with vtpm state=reset and accept_data_loss=true",
        )
    if state.status() == EMPTY and not state.has_only_leftovers():
        raise TrustedVMError(
            "tpm_state_damaged",
            "There are files in the place of the VM's TPM state, and none of them is a TPM state",
            found="%s at %s" % (", ".join(state.names()), state.location.path),
            wanted="a complete swtpm state, or nothing",
            hint="Restore the state from a backup, or give it up with vtpm state=reset and accept_data_loss=true",
        )


def require_secrets(connection: Any, tree: Any) -> None:
    """Each secret that the domain names by UUID is defined, and has a value where that can be told.

    Raises:
        TrustedVMError: ``secret_missing``.
    """
    for uuid in sorted(secrets_used_by(tree).uuids):
        found = _secret_problem(connection, uuid)
        if found is not None:
            raise TrustedVMError(
                "secret_missing",
                "The VM needs libvirt secret %s" % uuid,
                found=found,
                wanted="the secret, defined on this host, with its value",
                hint="Define it with its value (trustedvm.libvirt.libvirt_secret) before the start",
                details={"secret_uuid": uuid},
            )


def _secret_problem(connection: Any, uuid: str) -> Optional[str]:
    try:
        secret = connection.secretLookupByUUIDString(uuid)
        secret.value()
    except libvirt.libvirtError as error:
        code = error.get_error_code()
        if code == libvirt.VIR_ERR_NO_SECRET:
            return "the secret has no value" if "does not have a value" in str(error) else "no such secret"
        # A private secret never shows its value, not even whether it has one (INVALID_SECRET);
        # an embedded or foreign connection may have no secrets at all (NO_SUPPORT).
        if code in (libvirt.VIR_ERR_INVALID_SECRET, libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_OPERATION_DENIED):
            return None
        raise
    return None


def require_disks(store: DiskStore, tree: Any, made: set[str]) -> None:
    """Each disk is there, or will be made first (``made``: targets), in the format that is defined.

    Raises:
        TrustedVMError: ``disk_missing``, ``disk_wrong_format``.
    """
    for disk in disks_of(tree):
        if disk.target in made or (disk.device != "disk" and disk.path is None):
            continue
        if store.exists(disk) is False:
            raise disk_missing(disk.label)
        require_format(disk)


def require_loader(tree: Any) -> None:
    """The firmware image that the definition names is on the host.

    Raises:
        TrustedVMError: ``firmware_not_found``.
    """
    loader = loader_of(tree)
    if loader is not None and not os.path.exists(loader):
        raise TrustedVMError(
            "firmware_not_found",
            "The VM's firmware %s is not on this host" % loader,
            hint="Install the package that it belongs to, or set loader or secure_boot to choose another",
        )
