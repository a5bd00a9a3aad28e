# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Is the TPM state what the device and the key say? libvirt's own error is the same for all cases.

A wrong key, an encrypted state without a key, a plain state with one and a damaged state all end as
"tpm-emulator: TPM result for CMD_INIT: 0x101" at the start (libvirt 9.0 to 12.8).
"""

import hashlib
from dataclasses import dataclass
from typing import Optional

from .._core.errors import TrustedVMError
from .state_blob import StateBlob, parse
from .state_dir import TpmState

# What check_state found.
NONE = "none"
OPENED = "opened"
PLAIN = "plain"
NOT_CHECKED = "not_checked"

_RE_READS = 5


@dataclass(frozen=True)
class StateReport:
    """A state as ``vtpm_info`` tells it."""

    encrypted: bool
    size: int
    sha256: str
    opens: Optional[bool]


def inspect(state: TpmState, passphrase: Optional[bytes] = None) -> Optional[StateReport]:
    """What the state is; None where there is none. ``opens`` is None without a passphrase.

    Raises:
        TrustedVMError: ``tpm_state_damaged``, ``tpm_state_unreadable``, ``tpm_state_busy``.
    """
    data = state.read()
    if data is None:
        return None
    blob = parse(data)
    return StateReport(
        encrypted=blob.encrypted,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        opens=None if passphrase is None else blob.opens_with(passphrase),
    )


def check_state(state: TpmState, encrypted: bool, passphrase: Optional[bytes]) -> str:
    """Compare the state with what the device says of it.

    Args:
        encrypted: whether the device names a secret.
        passphrase: the secret's value, None where it is not known.

    Returns:
        ``none``: no state. ``opened``: encrypted, and the passphrase opens it. ``plain``: not
        encrypted, as wanted. ``not_checked``: encrypted, as wanted, and no passphrase to try.

    Raises:
        TrustedVMError: ``key_does_not_open_tpm_state``, ``tpm_state_encrypted``,
            ``tpm_state_not_encrypted``, ``tpm_state_damaged``, ``tpm_state_unreadable``,
            ``tpm_state_busy``.
    """
    data = state.read()
    for _try in range(_RE_READS):
        try:
            return _check(state, data, encrypted, passphrase)
        except TrustedVMError:
            # A running VM may have written between two parts of a linear store.
            newer = state.read()
            if newer == data:
                raise
            data = newer
    return _check(state, data, encrypted, passphrase)


def _check(state: TpmState, data: Optional[bytes], encrypted: bool, passphrase: Optional[bytes]) -> str:
    if data is None:
        return NONE
    try:
        blob = parse(data)
    except TrustedVMError as error:
        error.message = "The TPM state at %s cannot be read" % state.location.state_file
        raise
    _refuse_other_kind(state, blob, encrypted)
    if not encrypted:
        return PLAIN
    if passphrase is None:
        return NOT_CHECKED
    if not blob.opens_with(passphrase):
        raise TrustedVMError(
            "key_does_not_open_tpm_state",
            "The key does not open the TPM state at %s" % state.location.state_file,
            found="a state under another key (its message authentication code does not match)",
            wanted="a state that the given key opens",
            hint="Give the key version that the state was written under; with another key the VM does not start",
        )
    return OPENED


def _refuse_other_kind(state: TpmState, blob: StateBlob, encrypted: bool) -> None:
    if blob.encrypted and not encrypted:
        raise TrustedVMError(
            "tpm_state_encrypted",
            "The TPM state at %s is encrypted, but the device is to have no secret" % state.location.state_file,
            found="an encrypted state",
            wanted="an unencrypted state",
            hint="Name the secret that the state was made with (secret_uuid)",
        )
    if encrypted and not blob.encrypted:
        raise TrustedVMError(
            "tpm_state_not_encrypted",
            "The TPM state at %s is not encrypted, but the device is to have a secret" % state.location.state_file,
            found="an unencrypted state",
            wanted="a state encrypted under the secret's value",
            hint="Define the device with encrypted=false, or re-encrypt the state first; "
            "with a secret the VM would not start",
        )
