# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The flags of an undefine, by what is to be kept and by what the libvirt at hand knows."""
from __future__ import annotations

import pytest

libvirt = pytest.importorskip("libvirt")

from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.errors import TrustedVMError
from ansible_collections.trustedvm.libvirt.plugins.module_utils._domain.undefine import undefine_flags
from ansible_collections.trustedvm.libvirt.plugins.module_utils._tpm.device import TpmSpec

NVRAM = libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
KEEP_NVRAM = libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM
TPM = libvirt.VIR_DOMAIN_UNDEFINE_TPM
KEEP_TPM = libvirt.VIR_DOMAIN_UNDEFINE_KEEP_TPM
ALL = NVRAM | KEEP_NVRAM | TPM | KEEP_TPM

PERSISTENT = TpmSpec(None)
FLEETING = TpmSpec(None, persistent_state=False)


@pytest.mark.parametrize(
    "version, tpm, nvram, keep_nvram, keep_tpm, expected",
    [
        (9000000, None, False, True, True, 0),
        (9000000, None, True, True, True, KEEP_NVRAM),
        (9000000, None, True, False, True, NVRAM),
        (9000000, PERSISTENT, True, True, True, KEEP_NVRAM | KEEP_TPM),
        (9000000, PERSISTENT, True, False, False, NVRAM | TPM),
        (9000000, FLEETING, False, True, True, KEEP_TPM),
        (8009000, FLEETING, False, True, False, TPM),
        (8008000, PERSISTENT, True, True, True, KEEP_NVRAM),
        (8008000, FLEETING, False, True, False, 0),
    ],
)
def test_flags(version, tpm, nvram, keep_nvram, keep_tpm, expected):
    assert undefine_flags(version, tpm, nvram, keep_nvram, keep_tpm) & ALL == expected


def test_managed_save_and_snapshots_never_stop_a_removal():
    flags = undefine_flags(9000000, None, False, True, True)
    assert flags & libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE and flags & libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA


def test_libvirt_that_would_delete_a_state_that_stays_is_refused():
    with pytest.raises(TrustedVMError) as caught:
        undefine_flags(8008000, FLEETING, False, True, True)
    assert caught.value.code == "libvirt_too_old" and "8.8.0" in str(caught.value)
