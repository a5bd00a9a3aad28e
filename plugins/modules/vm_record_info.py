#!/usr/bin/python
# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: vm_record_info
short_description: Show which host owns a VM, and what is recorded of it
version_added: 0.1.0
description:
  - Reads the records of VMs in the registry. It says what should be; the hosts are not contacted.
author:
  - trustedvm.libvirt contributors (!UNKNOWN)
extends_documentation_fragment:
  - trustedvm.libvirt.attributes
  - trustedvm.libvirt.attributes.info_module
  - trustedvm.libvirt.attributes.controller
  - trustedvm.libvirt.controller
options:
  vms:
    description: The VMs, by name or UUID. A name that several VMs have shows all of them. Without it, all.
    type: list
    elements: str
  host:
    description: Only VMs of this host.
    type: str
  vm_state:
    description: Only VMs in this state.
    type: str
  required:
    description: Each of O(vms) must be exactly one VM of the registry; else it is an error (V(vm_record_missing), V(vm_name_ambiguous)).
    type: bool
    default: false
seealso:
  - module: trustedvm.libvirt.vm_record
"""

EXAMPLES = r"""
- name: Which VMs should run on a host?
  trustedvm.libvirt.vm_record_info:
    host: kvm1
    vm_state: running
  register: owned
"""

RETURN = r"""
records:
  description: The records that were found, in the order of O(vms), or by name.
  returned: success
  type: list
  elements: dict
  contains:
    uuid:
      description: The libvirt domain UUID of the VM.
      returned: always
      type: str
    name:
      description: The name of the VM.
      returned: always
      type: str
    host:
      description: The host that owns the VM.
      returned: always
      type: str
    vm_state:
      description: What the VM is meant to be.
      returned: always
      type: str
      sample: running
    generation:
      description: How often host or state were written, from 1.
      returned: always
      type: int
    key_provider:
      description: The key provider that the VM is bound to. None if there is none.
      returned: always
      type: str
    bound:
      description: Whether the VM is bound to a key provider or has keys. Then its vTPM is never treated as unencrypted.
      returned: always
      type: bool
    key_versions:
      description: The versions of the VM's keys, in ascending order.
      returned: always
      type: list
      elements: int
    vtpm:
      description: What is recorded of the vTPM, with the UUID and usage of its libvirt secret. None if there is none.
      returned: always
      type: dict
      sample:
        secret_uuid: dba2415a-34b3-545c-a64b-ad84203be44b
        usage_type: vtpm
        usage: trustedvm:vtpm:0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11
        model: tpm-crb
        version: "2.0"
        encrypted: true
        state_exists: true
    nvram:
      description: What is recorded of the NVRAM volume. None if there is none.
      returned: always
      type: dict
      sample:
        storage: directory
        path: /var/lib/libvirt/images/nvram/web1.fd
        size: 540672
        format: raw
missing:
  description: Those of O(vms) that have no record.
  returned: success
  type: list
  elements: str
error_code:
  description: The name of the error.
  returned: failure
  type: str
  sample: registry_unavailable
"""
