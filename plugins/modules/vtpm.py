#!/usr/bin/python
# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: vtpm
short_description: Manage the virtual TPM of libvirt VMs and its state
version_added: 0.1.0
description:
  - Gives a defined VM a vTPM with an swtpm backend, removes it, or resets it, one or many VMs in a call.
  - The TPM state on the host is checked against the device and the key before anything is changed. libvirt's own error is the
    same for a wrong key, a missing key, an unencrypted state and a damaged one.
  - The device always gets C(persistent_state='yes'), because libvirt otherwise deletes the TPM state as a side effect of an
    undefine or of a failed start.
  - Only the definition of a VM that is shut off is changed.
author:
  - trustedvm.libvirt contributors (!UNKNOWN)
extends_documentation_fragment:
  - trustedvm.libvirt.attributes
  - trustedvm.libvirt.attributes.state_module
  - trustedvm.libvirt.attributes.key_carrier
  - trustedvm.libvirt.attributes.host
  - trustedvm.libvirt.libvirt
options:
  vms:
    description:
      - The VMs to manage, instead of one at the top level.
      - An option that an entry does not set has the top level's value.
    type: list
    elements: dict
    suboptions:
      vm:
        description:
          - The VM, by name or UUID.
          - With O(state=absent) the UUID may be of a VM that is not defined on this host. The state that it left is removed.
        type: str
        required: true
      state:
        description:
          - V(present), the VM has a vTPM as described, and its state fits.
          - V(absent), the VM has no vTPM and there is no TPM state of it.
          - V(reset), the device stays, its state is put aside, and the next start makes a new, empty TPM.
        type: str
        choices: [present, absent, reset]
      model:
        description:
          - The model of the device. Without it, a VM keeps the one that it has, and a new device is V(tpm-crb).
        type: str
        choices: [tpm-crb, tpm-tis, tpm-spapr]
      encrypted:
        description:
          - Whether the TPM state is encrypted under the value of a libvirt secret.
        type: bool
      secret_uuid:
        description:
          - The UUID of the libvirt secret. Without it, a VM keeps the one that it has.
        type: str
      value:
        description:
          - The value of the secret in base64, to be tried on the TPM state.
          - Without it, libvirt's own copy of the secret is tried, where it can be read on this host.
        type: str
      resource_key:
        description:
          - Which key of the registry is the value, instead of O(value). Resolved on the controller. A dictionary with
            C(resource_type), C(vm), C(purpose) and, unless the newest is meant, C(key_version).
        type: dict
      require_state:
        description:
          - Whether there must be TPM state, because the VM has run before. libvirt makes a new, empty TPM without a word
            where the state is missing. A state that is missing because of a reset is no error, until the VM has been started.
        type: bool
      remove_state:
        description:
          - Allows O(state=absent) to delete TPM state, and with it what the guest has sealed (BitLocker, LUKS).
        type: bool
      moved:
        description:
          - Says to O(state=absent) that the VM lives on another host now, so that the TPM state here is a left copy that may go.
          - Refused if the VM, which must be given by its UUID, is defined on this host, or if an swtpm is using the state.
        type: bool
      accept_data_loss:
        description:
          - Allows O(state=reset) to replace TPM state, so that what the guest has sealed (BitLocker, LUKS) no longer opens.
        type: bool
      reset_id:
        description:
          - A name for a reset, such as a date or a ticket. A VM is reset once for each name.
        type: str
  vm:
    description:
      - The VM, by name or UUID.
      - With O(state=absent) the UUID may be of a VM that is not defined on this host. The state that it left is removed.
    type: str
  state:
    description:
      - V(present), the VM has a vTPM as described, and its state fits.
      - V(absent), the VM has no vTPM and there is no TPM state of it.
      - V(reset), the device stays, its state is put aside, and the next start makes a new, empty TPM.
    type: str
    choices: [present, absent, reset]
    default: present
  model:
    description:
      - The model of the device. Without it, a VM keeps the one that it has, and a new device is V(tpm-crb).
    type: str
    choices: [tpm-crb, tpm-tis, tpm-spapr]
  encrypted:
    description:
      - Whether the TPM state is encrypted under the value of a libvirt secret.
    type: bool
    default: true
  secret_uuid:
    description:
      - The UUID of the libvirt secret. Without it, a VM keeps the one that it has.
    type: str
  value:
    description:
      - The value of the secret in base64, to be tried on the TPM state.
      - Without it, libvirt's own copy of the secret is tried, where it can be read on this host.
    type: str
  resource_key:
    description:
      - Which key of the registry is the value, instead of O(value). Resolved on the controller. A dictionary with
        C(resource_type), C(vm), C(purpose) and, unless the newest is meant, C(key_version).
    type: dict
  require_state:
    description:
      - Whether there must be TPM state, because the VM has run before. libvirt makes a new, empty TPM without a word
        where the state is missing. A state that is missing because of a reset is no error, until the VM has been started.
    type: bool
    default: false
  remove_state:
    description:
      - Allows O(state=absent) to delete TPM state, and with it what the guest has sealed (BitLocker, LUKS).
    type: bool
    default: false
  moved:
    description:
      - Says to O(state=absent) that the VM lives on another host now, so that the TPM state here is a left copy that may go.
      - Refused if the VM, which must be given by its UUID, is defined on this host, or if an swtpm is using the state.
    type: bool
    default: false
  accept_data_loss:
    description:
      - Allows O(state=reset) to replace TPM state, so that what the guest has sealed (BitLocker, LUKS) no longer opens.
    type: bool
    default: false
  reset_id:
    description:
      - A name for a reset, such as a date or a ticket. A VM is reset once for each name.
    type: str
notes:
  - A reset is noted in the VM's definition, moves with it, and says to the next start that the old state is not to be missed, also where the
    state was lost before. A mark that the VM has run with a state takes O(accept_data_loss) or O(remove_state) even where no state is to be
    seen, because its storage may only not be mounted.
  - Without O(reset_id) a reset is pending until the VM has been started. After that start another run would reset the VM again.
  - With O(reset_id) a later run with the same O(reset_id) changes nothing, however often the VM was started. Use it in playbooks that are
    run again.
  - The state that a reset replaces is renamed next to its place (C(UUID.trustedvm-reset-TIME)). O(state=present) deletes that copy
    when the new state is there and is proven to open with the key.
seealso:
  - module: trustedvm.libvirt.vtpm_info
  - module: trustedvm.libvirt.libvirt_secret
"""

EXAMPLES = r"""
- name: An encrypted vTPM, with the key tried on the state if there is some
  trustedvm.libvirt.vtpm:
    vm: web1
    secret_uuid: 6f0c8a3e-2b1d-5c55-9d0f-0a1b2c3d4e5f
    resource_key:
      resource_type: vtpm
      vm: 0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11
      purpose: start

- name: VMs that ran before must still have their TPM state
  trustedvm.libvirt.vtpm:
    require_state: true
    vms:
      - vm: web1
      - vm: web2

- name: A new, empty TPM, once
  trustedvm.libvirt.vtpm:
    vm: web1
    state: reset
    accept_data_loss: true
    reset_id: incident-4711

- name: No vTPM, and nothing of it left
  trustedvm.libvirt.vtpm:
    vm: web1
    state: absent
    remove_state: true

- name: Remove what a VM left on this host when it moved to another one
  trustedvm.libvirt.vtpm:
    vm: 0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11
    state: absent
    moved: true
"""

RETURN = r"""
results:
  description: One entry for each VM, in the order of the task.
  returned: always
  type: list
  elements: dict
  contains:
    vm:
      description: The name of the VM. For a VM that is not defined here, what the task said.
      returned: always
      type: str
    uuid:
      description: The UUID of the VM.
      returned: when the VM was found
      type: str
    device:
      description: The vTPM as it is after the call, or would be. None where there is none.
      returned: success
      type: dict
      sample:
        model: tpm-crb
        backend: emulator
        version: "2.0"
        persistent_state: true
        encrypted: true
        secret_uuid: 6f0c8a3e-2b1d-5c55-9d0f-0a1b2c3d4e5f
    tpm_state:
      description:
        - What is known of the TPM state after the call.
        - V(none), there is none, the next start makes a new one. V(opened), it is encrypted and the key opens it. V(plain), it is
          unencrypted, as wanted. V(not_checked), it is encrypted, as wanted, and the key is not known here, or the
          hypervisor is another machine.
      returned: success
      type: str
      sample: opened
    reset_id:
      description: The last reset that was noted.
      returned: O(state=reset) and success
      type: str
    changed:
      description: Whether something of this VM was changed, or would be.
      returned: always
      type: bool
    outcome:
      description: V(created), V(updated), V(removed), V(reset), V(unchanged) or V(failed).
      returned: always
      type: str
      sample: created
    steps:
      description: What was done, or would be done.
      returned: success
      type: list
      elements: str
      sample: [define vTPM device]
    failed:
      description: Whether this VM failed. Only there if so.
      returned: failure
      type: bool
    error_code:
      description:
        - The name of the error.
        - Of the task, V(identity_missing), V(uuid_invalid), V(secret_uuid_missing), V(secret_uuid_not_expected), V(key_not_resolved),
          V(value_not_base64), V(value_empty), V(value_too_long), V(moved_not_expected), V(reset_id_invalid), V(duplicate_item).
        - Of the VM, V(vm_not_found), V(vm_running), V(managed_save_present), V(vm_defined_here), V(vtpm_not_found),
          V(vtpm_backend_differs), V(tpm_version_differs), V(vtpm_unsupported).
        - Of the state, V(key_does_not_open_tpm_state), V(tpm_state_encrypted), V(tpm_state_not_encrypted), V(tpm_state_damaged),
          V(tpm_state_missing), V(tpm_state_unreadable), V(tpm_state_busy), V(tpm_state_in_use), V(tpm_state_not_local),
          V(tpm_state_would_be_lost), V(data_loss_not_accepted).
        - Of any item, V(libvirt_error), V(host_file_error), V(internal_error).
      returned: failure
      type: str
      sample: key_does_not_open_tpm_state
    msg:
      description: What went wrong, on which host, what was found and wanted, and what to do.
      returned: failure
      type: str
error_code:
  description: The C(error_code) of the first entry that failed.
  returned: failure
  type: str
  sample: vm_running
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.ansible_glue import (
    CONNECTION_OPTIONS,
    KEY_CARRIER_OPTIONS,
    ItemSpec,
    run_converger,
)
from ansible_collections.trustedvm.libvirt.plugins.module_utils._vtpm.planner import VtpmPlanner

SPEC = ItemSpec(
    list_name="vms",
    identity=("vm",),
    options={
        "vm": {"type": "str"},
        "state": {"type": "str", "choices": ["present", "absent", "reset"], "default": "present"},
        "model": {"type": "str", "choices": ["tpm-crb", "tpm-tis", "tpm-spapr"]},
        "encrypted": {"type": "bool", "default": True},
        "secret_uuid": {"type": "str", "no_log": False},
        "value": {"type": "str", "no_log": True},
        "resource_key": {"type": "dict", "no_log": False},
        "require_state": {"type": "bool", "default": False},
        "remove_state": {"type": "bool", "default": False},
        "moved": {"type": "bool", "default": False},
        "accept_data_loss": {"type": "bool", "default": False},
        "reset_id": {"type": "str"},
    },
    extra={**CONNECTION_OPTIONS, **KEY_CARRIER_OPTIONS},
)


def main():
    module = AnsibleModule(**SPEC.module_arguments())
    run_converger(module, SPEC, lambda connection: VtpmPlanner(connection).plan)


if __name__ == "__main__":
    main()
