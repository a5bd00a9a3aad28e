# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A TPM state that was given up is not asked for at a later start."""
from __future__ import annotations

import pytest

libvirt = pytest.importorskip("libvirt")

from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.domains import definition
from ansible_collections.trustedvm.libvirt.plugins.module_utils._domain.metadata import read_marks, set_marks
from ansible_collections.trustedvm.libvirt.plugins.modules import vtpm

VM = "0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11"
DOMAIN = """<domain type='qemu'><name>web1</name><uuid>%s</uuid><memory unit='MiB'>48</memory>
<os><type arch='x86_64' machine='q35'>hvm</type></os><devices>
<tpm model='tpm-crb'><backend type='emulator' version='2.0' persistent_state='yes'/></tpm></devices></domain>"""


def test_removal_of_device_and_state_takes_the_mark_back(libvirt_daemon, run_module):
    domain = libvirt_daemon.defineXML(DOMAIN % VM)
    set_marks(domain, definition(domain), tpm_state=True, nvram=True)
    answer = run_module(vtpm.main, uri=libvirt_daemon.uri, vm="web1", state="absent", remove_state=True)
    assert answer["changed"]
    marks = read_marks(definition(libvirt_daemon.lookupByName("web1")))
    assert not marks.tpm_state and marks.nvram
