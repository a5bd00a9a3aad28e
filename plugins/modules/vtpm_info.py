#!/usr/bin/python
# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: vtpm_info
short_description: Read the virtual TPMs of libvirt VMs and their state
version_added: 0.1.0
description:
  - Tells of each VM its vTPM device and its TPM state on the host, also of a running VM.
  - With a key it tells whether the key opens the state, without starting anything.
author:
  - trustedvm.libvirt contributors (!UNKNOWN)
extends_documentation_fragment:
  - trustedvm.libvirt.attributes
  - trustedvm.libvirt.attributes.info_module
  - trustedvm.libvirt.attributes.key_carrier
  - trustedvm.libvirt.attributes.host
  - trustedvm.libvirt.libvirt
options:
  vms:
    description:
      - The VMs to read. Without this and O(vm), all VMs of the host.
    type: list
    elements: dict
    suboptions:
      vm:
        description:
          - The VM, by name or UUID.
        type: str
        required: true
      value:
        description:
          - The value of the VM's secret in base64, to be tried on the TPM state.
        type: str
      resource_key:
        description:
          - Which key of the registry is the value, instead of O(vms[].value). Resolved on the controller.
        type: dict
  vm:
    description:
      - The VM, by name or UUID, instead of O(vms).
    type: str
  value:
    description:
      - The value of the VM's secret in base64, to be tried on the TPM state.
    type: str
  resource_key:
    description:
      - Which key of the registry is the value, instead of O(value). Resolved on the controller. A dictionary with
        C(resource_type), C(vm), C(purpose) and, unless the newest is meant, C(key_version).
    type: dict
seealso:
  - module: trustedvm.libvirt.vtpm
"""

EXAMPLES = r"""
- name: All vTPMs of the host
  trustedvm.libvirt.vtpm_info:
  register: found

- name: Does the registry's key open the state?
  trustedvm.libvirt.vtpm_info:
    vm: web1
    resource_key:
      resource_type: vtpm
      vm: 0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11
      purpose: migrate
  register: proof
  failed_when: not proof.vms[0].key_opens
"""

RETURN = r"""
vms:
  description: One entry for each VM.
  returned: always
  type: list
  elements: dict
  contains:
    vm:
      description: The name of the VM.
      returned: always
      type: str
    uuid:
      description: The UUID of the VM.
      returned: success
      type: str
    active:
      description: Whether the VM runs, or is paused.
      returned: success
      type: bool
    device:
      description: The vTPM in the VM's definition. None where there is none.
      returned: success
      type: dict
      sample:
        model: tpm-crb
        backend: emulator
        version: "2.0"
        persistent_state: true
        encrypted: true
        secret_uuid: 6f0c8a3e-2b1d-5c55-9d0f-0a1b2c3d4e5f
    reset_id:
      description: The last reset that was noted.
      returned: success
      type: str
    key_opens:
      description: Whether the key opens the state. None where there is no key, no state or no encryption.
      returned: success
      type: bool
    tpm_state:
      description: The state on this host. None where the hypervisor is another machine.
      returned: success
      type: dict
      contains:
        status:
          description: V(present), V(absent), V(empty) (the place is there, a state is not), V(damaged) or V(unreadable).
          returned: always
          type: str
        path:
          description: The directory, or file, of the state.
          returned: always
          type: str
        reset_pending:
          description: Whether the state is missing because of a reset, and the VM has not been started since.
          returned: always
          type: bool
        set_aside:
          description: Copies that were put aside and wait until the new state is proven.
          returned: always
          type: list
          elements: dict
        encrypted:
          description: Whether the state is encrypted.
          returned: RV(vms[].tpm_state.status=present)
          type: bool
        bytes:
          description: The size of the state.
          returned: RV(vms[].tpm_state.status=present)
          type: int
        sha256:
          description: The digest of the state as it is stored.
          returned: RV(vms[].tpm_state.status=present)
          type: str
        changed_at:
          description: When the state was last written, UTC.
          returned: RV(vms[].tpm_state.status=present)
          type: str
          sample: "2026-11-21T01:22:36Z"
        error_code:
          description: Why the state cannot be read.
          returned: RV(vms[].tpm_state.status=damaged) or RV(vms[].tpm_state.status=unreadable)
          type: str
        msg:
          description: Why the state cannot be read, and what to do.
          returned: RV(vms[].tpm_state.status=damaged) or RV(vms[].tpm_state.status=unreadable)
          type: str
    error_code:
      description: V(vm_not_found) or what is wrong with the option O(value).
      returned: failure
      type: str
    msg:
      description: What went wrong.
      returned: failure
      type: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.ansible_glue import (
    CONNECTION_OPTIONS,
    KEY_CARRIER_OPTIONS,
    run_info,
)
from ansible_collections.trustedvm.libvirt.plugins.module_utils._vtpm.info import read_all

ITEM = {
    "vm": {"type": "str"},
    "value": {"type": "str", "no_log": True},
    "resource_key": {"type": "dict", "no_log": False},
}


def main():
    in_list = {**ITEM, "vm": {"type": "str", "required": True}}
    module = AnsibleModule(
        argument_spec={
            **ITEM,
            "vms": {"type": "list", "elements": "dict", "options": in_list},
            **CONNECTION_OPTIONS,
            **KEY_CARRIER_OPTIONS,
        },
        mutually_exclusive=[("vm", "vms"), ("value", "vms"), ("resource_key", "vms")],
        required_by={"value": "vm", "resource_key": "vm"},
        supports_check_mode=True,
    )
    one = [{name: module.params[name] for name in ITEM}] if module.params["vm"] else None
    items = module.params["vms"] if module.params["vms"] is not None else one
    run_info(module, "vms", lambda connection: read_all(connection, items))


if __name__ == "__main__":
    main()
