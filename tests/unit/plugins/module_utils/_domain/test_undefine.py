# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The flags of an undefine, by what is to be kept and by what the libvirt at hand knows."""
from __future__ import annotations

import os

import pytest

libvirt = pytest.importorskip("libvirt")

from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.domains import definition
from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.errors import TrustedVMError
from ansible_collections.trustedvm.libvirt.plugins.module_utils._domain.undefine import undefine, undefine_flags
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


@pytest.mark.parametrize("kind, source, stays", [("file", "file", False), ("block", "dev", True)])
def test_node_of_a_block_device_is_never_unlinked(host, kind, source, stays):
    """libvirt asks for a flag for it as for a file, and to remove it would be to unlink its path."""
    volume = os.path.join(host.root, "vars")
    with open(volume, "wb") as stream:
        stream.write(bytes(1024))
    domain = host.daemon.defineXML(
        "<domain type='qemu'><name>web1</name><memory unit='MiB'>48</memory><os><type arch='x86_64' machine='q35'>hvm</type>"
        "<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>"
        "<nvram type='%s'><source %s='%s'/></nvram></os><features><acpi/></features></domain>" % (kind, source, volume)
    )
    undefine(host.daemon, domain, definition(domain), keep_nvram=False, keep_tpm=True)
    assert host.daemon.listAllDomains() == [] and os.path.exists(volume) is stays
