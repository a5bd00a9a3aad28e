#!/usr/bin/python
# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: vm_record
short_description: Manage which host owns a VM, and what is recorded of it
version_added: 0.1.0
description:
  - Makes, changes and removes the records of VMs in the registry. It says what should be; the hosts are not contacted.
  - Every change of the owning host or of the state is one conditional statement, so that of two controllers that change the
    same record at once one succeeds and the other is told what it found.
  - A host has one VM of a name, also when two controllers give the name at once.
  - The generation of a record counts the changes of its host and state. Whoever knows host and generation knows whether the VM was
    moved, stopped or started since.
author:
  - trustedvm.libvirt contributors (!UNKNOWN)
extends_documentation_fragment:
  - trustedvm.libvirt.attributes
  - trustedvm.libvirt.attributes.state_module
  - trustedvm.libvirt.attributes.controller
  - trustedvm.libvirt.controller
options:
  records:
    description:
      - The records to manage, instead of one at the top level.
      - An option that an entry does not set has the top level's value.
    type: list
    elements: dict
    suboptions:
      uuid:
        description:
          - The libvirt domain UUID of the VM. It identifies the record.
          - A new record without it gets a random one, which check mode cannot foretell.
        type: str
      name:
        description: The name of the VM. Without O(records[].uuid), it identifies the record.
        type: str
      state:
        description:
          - V(present) makes the record, or changes what is given of it. What is left out stays.
          - V(absent) removes the record with what it says of vTPM and NVRAM.
        type: str
        choices: [present, absent]
      host:
        description:
          - The host that owns the VM. Required for a new record.
          - An existing record is moved only with O(records[].expect).
        type: str
      vm_state:
        description: What the VM is meant to be. A new record without it is V(provisioning).
        type: str
        choices: [provisioning, stopped, running]
      key_provider:
        description:
          - The key provider that the VM is bound to. The empty string unbinds it.
          - Refused while the VM has keys under another one.
        type: str
      expect:
        description:
          - What the record must be before the change, compared and written in one statement.
          - A record that is already as wanted is left alone, whatever is expected.
        type: dict
        suboptions:
          host:
            description: The host that must own the VM.
            type: str
          generation:
            description: The generation that the record must have.
            type: int
      vtpm:
        description: What is recorded of the VM's vTPM.
        type: dict
        suboptions:
          state:
            description: V(absent) forgets the vTPM. V(present) is the default.
            type: str
            choices: [present, absent]
          secret_uuid:
            description: The UUID of its libvirt secret. The default is derived from the VM's UUID and equal on every host.
            type: str
          model:
            description: The device's model. V(tpm-crb) for a new one.
            type: str
            choices: [tpm-crb, tpm-tis]
          version:
            description: The TPM's version. V(2.0) for a new one.
            type: str
            choices: ["2.0"]
          encrypted:
            description:
              - Whether its state is encrypted. True for a new one.
              - False is refused for a VM that is bound to a key provider or has keys.
            type: bool
          state_exists:
            description: Whether TPM state was made. A VM that had it must not be started without it.
            type: bool
      nvram:
        description: What is recorded of the VM's NVRAM volume.
        type: dict
        suboptions:
          state:
            description: V(absent) forgets the volume. V(present) is the default.
            type: str
            choices: [present, absent]
          storage:
            description: What holds it. V(directory) for a new one.
            type: str
          path:
            description: Where it is on the host. Required for a new one.
            type: path
          size:
            description: Its size in bytes.
            type: int
          format:
            description: Its format. V(raw) for a new one.
            type: str
            choices: [raw]
      remove_keys:
        description:
          - With O(records[].state=absent), whether the VM's keys go as well. What they encrypt cannot be opened any more.
          - Without it, a record is not removed while the VM has keys.
        type: bool
      prepared_by_play:
        description: In check mode, do not fail because an earlier task of the play has not really made the key provider.
        type: bool
  uuid:
    description:
      - The libvirt domain UUID of the VM. It identifies the record.
      - A new record without it gets a random one, which check mode cannot foretell.
    type: str
  name:
    description: The name of the VM. Without O(uuid), it identifies the record.
    type: str
  state:
    description:
      - V(present) makes the record, or changes what is given of it. What is left out stays.
      - V(absent) removes the record with what it says of vTPM and NVRAM.
    type: str
    choices: [present, absent]
    default: present
  host:
    description:
      - The host that owns the VM. Required for a new record.
      - An existing record is moved only with O(expect).
    type: str
  vm_state:
    description: What the VM is meant to be. A new record without it is V(provisioning).
    type: str
    choices: [provisioning, stopped, running]
  key_provider:
    description:
      - The key provider that the VM is bound to. The empty string unbinds it.
      - Refused while the VM has keys under another one.
    type: str
  expect:
    description:
      - What the record must be before the change, compared and written in one statement.
      - A record that is already as wanted is left alone, whatever is expected.
    type: dict
    suboptions:
      host:
        description: The host that must own the VM.
        type: str
      generation:
        description: The generation that the record must have.
        type: int
  vtpm:
    description: What is recorded of the VM's vTPM.
    type: dict
    suboptions:
      state:
        description: V(absent) forgets the vTPM. V(present) is the default.
        type: str
        choices: [present, absent]
      secret_uuid:
        description: The UUID of its libvirt secret. The default is derived from the VM's UUID and equal on every host.
        type: str
      model:
        description: The device's model. V(tpm-crb) for a new one.
        type: str
        choices: [tpm-crb, tpm-tis]
      version:
        description: The TPM's version. V(2.0) for a new one.
        type: str
        choices: ["2.0"]
      encrypted:
        description:
          - Whether its state is encrypted. True for a new one.
          - False is refused for a VM that is bound to a key provider or has keys.
        type: bool
      state_exists:
        description: Whether TPM state was made. A VM that had it must not be started without it.
        type: bool
  nvram:
    description: What is recorded of the VM's NVRAM volume.
    type: dict
    suboptions:
      state:
        description: V(absent) forgets the volume. V(present) is the default.
        type: str
        choices: [present, absent]
      storage:
        description: What holds it. V(directory) for a new one.
        type: str
      path:
        description: Where it is on the host. Required for a new one.
        type: path
      size:
        description: Its size in bytes.
        type: int
      format:
        description: Its format. V(raw) for a new one.
        type: str
        choices: [raw]
  remove_keys:
    description:
      - With O(state=absent), whether the VM's keys go as well. What they encrypt cannot be opened any more.
      - Without it, a record is not removed while the VM has keys.
    type: bool
    default: false
  prepared_by_play:
    description: In check mode, do not fail because an earlier task of the play has not really made the key provider.
    type: bool
    default: false
seealso:
  - module: trustedvm.libvirt.vm_record_info
"""

EXAMPLES = r"""
- name: The record of a VM that is to be provisioned
  trustedvm.libvirt.vm_record:
    uuid: 0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11
    name: web1
    host: kvm1
    key_provider: native
    vtpm:
      model: tpm-crb
    nvram:
      path: /var/lib/libvirt/images/nvram/0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11/0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11.fd

- name: It was migrated
  trustedvm.libvirt.vm_record:
    uuid: 0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11
    host: kvm2
    expect:
      host: kvm1
      generation: "{{ record.generation }}"

- name: These VMs run now
  trustedvm.libvirt.vm_record:
    vm_state: running
    records:
      - name: web1
      - name: web2
"""

RETURN = r"""
results:
  description: One entry for each record, in the order of the task.
  returned: always
  type: list
  elements: dict
  contains:
    uuid:
      description: The libvirt domain UUID of the VM.
      returned: when known
      type: str
    name:
      description: The name of the VM.
      returned: when known
      type: str
    host:
      description: The host that owns the VM.
      returned: success, if there is a record
      type: str
    vm_state:
      description: What the VM is meant to be.
      returned: success, if there is a record
      type: str
      sample: running
    generation:
      description: How often host or state were written, from 1.
      returned: success, if there is a record
      type: int
    key_provider:
      description: The key provider that the VM is bound to. None if there is none.
      returned: success, if there is a record
      type: str
    bound:
      description: Whether the VM is bound to a key provider or has keys. Then its vTPM is never treated as unencrypted.
      returned: success, if there is a record
      type: bool
    key_versions:
      description: The versions of the VM's keys, in ascending order.
      returned: success, if there is a record
      type: list
      elements: int
    vtpm:
      description: What is recorded of the vTPM, with the UUID and usage of its libvirt secret. None if there is none.
      returned: success, if there is a record
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
      returned: success, if there is a record
      type: dict
      sample:
        storage: directory
        path: /var/lib/libvirt/images/nvram/web1.fd
        size: 540672
        format: raw
    previous:
      description: Host, state and generation before the change. None for a new record.
      returned: O(state=present) and success
      type: dict
      sample: {host: kvm1, vm_state: running, generation: 3}
    removed_keys:
      description: The versions of the keys that were removed with the record, or would be.
      returned: when a record is removed
      type: list
      elements: int
    changed:
      description: Whether the record was changed, or would be.
      returned: always
      type: bool
    outcome:
      description: V(created), V(updated), V(moved), V(removed), V(unchanged) or V(failed).
      returned: always
      type: str
      sample: moved
    failed:
      description: Whether this record failed. Only there if so.
      returned: failure
      type: bool
    found_host:
      description: The host that the record names.
      returned: when the error code is V(vm_record_conflict)
      type: str
    found_generation:
      description: The generation that the record has.
      returned: when the error code is V(vm_record_conflict)
      type: int
    error_code:
      description:
        - The name of the error.
        - Of this module, V(vm_record_conflict), V(expect_missing), V(vm_record_incomplete), V(vm_name_taken), V(vm_name_ambiguous),
          V(uuid_invalid), V(secret_uuid_taken), V(vm_has_resource_keys), V(unencrypted_vtpm_refused), V(key_provider_unknown).
        - Of the registry and of the options, see M(trustedvm.libvirt.key_provider).
      returned: failure
      type: str
      sample: vm_record_conflict
    msg:
      description: What went wrong, what was found and wanted, and what to do.
      returned: failure
      type: str
error_code:
  description: The C(error_code) of the first entry that failed, or of the task.
  returned: failure
  type: str
  sample: vm_record_conflict
"""
