#!/usr/bin/python
# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: resource_key
short_description: Get or create, and remove, the keys of vTPMs
version_added: 0.1.0
description:
  - O(state=present) gets the record of a key or, for purposes that allow it, creates one. Each vTPM has its own.
  - A key is 32 random bytes. It is kept wrapped by a key provider, bound to its resource and version, so that the record of one VM
    cannot stand in for that of another. Neither this module nor any result ever shows it.
  - When two controllers create the key of one VM at once, one key is made and both get it.
  - Modules that need the key on a host take it with their option O(trustedvm.libvirt.libvirt_secret#module:resource_key).
author:
  - trustedvm.libvirt contributors (!UNKNOWN)
extends_documentation_fragment:
  - trustedvm.libvirt.attributes
  - trustedvm.libvirt.attributes.state_module
  - trustedvm.libvirt.attributes.controller
  - trustedvm.libvirt.controller
options:
  keys:
    description:
      - The keys to manage, instead of one at the top level.
      - An option that an entry does not set has the top level's value.
    type: list
    elements: dict
    suboptions:
      resource_type:
        description: What the key is of.
        type: str
        choices: [vtpm]
      vm:
        description: The VM, by UUID, or by a name that the registry knows.
        type: str
      purpose:
        description:
          - What the key is wanted for. Required.
          - Only V(provision), V(start), V(clone) and V(rekey) may create a key. For all others a missing key is an error.
        type: str
        choices: [provision, start, clone, rekey, migrate, restore, failover, backup, verify, stop, destroy]
      key_version:
        description:
          - The version of the key, from 1.
          - Without it, the newest with O(keys[].state=present), and all with O(keys[].state=absent).
        type: int
      provider:
        description:
          - The key provider that wraps a new key. Without it, the one that the VM's record is bound to.
          - If the VM has a record, it must be bound to this provider.
        type: str
      state:
        description:
          - V(present) gets or creates the key.
          - V(absent) removes its record. What was encrypted with the key cannot be opened any more. No key is no error.
        type: str
        choices: [present, absent]
      operation:
        description: The identity of the run that creates the key, kept with it.
        type: str
      only_created_by:
        description: With O(keys[].state=absent), remove only what this O(keys[].operation) created, so that a run that failed removes its own.
        type: str
      prepared_by_play:
        description: In check mode, do not fail because an earlier task of the play has not really made the key provider.
        type: bool
  resource_type:
    description: What the key is of.
    type: str
    choices: [vtpm]
    default: vtpm
  vm:
    description: The VM, by UUID, or by a name that the registry knows.
    type: str
  purpose:
    description:
      - What the key is wanted for. Required, here or in each entry.
      - Only V(provision), V(start), V(clone) and V(rekey) may create a key. For all others a missing key is an error.
    type: str
    choices: [provision, start, clone, rekey, migrate, restore, failover, backup, verify, stop, destroy]
  key_version:
    description:
      - The version of the key, from 1.
      - Without it, the newest with O(state=present), and all with O(state=absent).
    type: int
  provider:
    description:
      - The key provider that wraps a new key. Without it, the one that the VM's record is bound to.
      - If the VM has a record, it must be bound to this provider.
    type: str
  state:
    description:
      - V(present) gets or creates the key.
      - V(absent) removes its record. What was encrypted with the key cannot be opened any more. No key is no error.
    type: str
    choices: [present, absent]
    default: present
  operation:
    description: The identity of the run that creates the key, kept with it.
    type: str
  only_created_by:
    description: With O(state=absent), remove only what this O(operation) created, so that a run that failed removes its own.
    type: str
  prepared_by_play:
    description: In check mode, do not fail because an earlier task of the play has not really made the key provider.
    type: bool
    default: false
requirements:
  - cryptography 42 or newer on the controller, for keys of native providers
seealso:
  - module: trustedvm.libvirt.resource_key_info
  - module: trustedvm.libvirt.key_provider
"""

EXAMPLES = r"""
- name: The key of a new VM
  trustedvm.libvirt.resource_key:
    vm: 0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11
    purpose: provision
    operation: "{{ operation_id }}"

- name: Remove the keys that this run made, after a failure
  trustedvm.libvirt.resource_key:
    purpose: provision
    only_created_by: "{{ operation_id }}"
    state: absent
    keys:
      - vm: 0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11
      - vm: 7b6a5d0e-92c1-4a53-8f1e-3a44f0f6c922
"""

RETURN = r"""
results:
  description: One entry for each key, in the order of the task. Never a key.
  returned: always
  type: list
  elements: dict
  contains:
    resource_type:
      description: What the key is of.
      returned: always
      type: str
      sample: vtpm
    vm:
      description: The UUID of the VM. As in the task if it could not be found.
      returned: always
      type: str
    key_version:
      description: The version of the key.
      returned: O(state=present) and success
      type: int
    provider:
      description: The key provider that wraps the key.
      returned: O(state=present) and success
      type: str
    kek_id:
      description: The KEK that wraps the key.
      returned: O(state=present) and success
      type: str
    kek_version:
      description: The version of that KEK.
      returned: O(state=present) and success
      type: int
    algorithm:
      description: How it is wrapped.
      returned: O(state=present) and success, outside check mode if it is new
      type: str
      sample: AES-256-GCM
    fingerprint:
      description: Tells keys apart. The key cannot be computed from it.
      returned: as RV(results[].algorithm)
      type: str
    created_by:
      description: The O(operation) that created the key.
      returned: O(state=present) and success
      type: str
    created_at:
      description: When it was created, in UTC.
      returned: as RV(results[].algorithm)
      type: str
    created:
      description: Whether this task created the key, or would.
      returned: O(state=present) and success
      type: bool
    removed_versions:
      description: The versions that were removed, or would be.
      returned: O(state=absent) and success
      type: list
      elements: int
    secret_uuid:
      description: The UUID of the libvirt secret that holds the key on hosts.
      returned: success
      type: str
    usage_type:
      description: The kind of that secret's usage.
      returned: success
      type: str
      sample: vtpm
    usage:
      description: That secret's usage.
      returned: success
      type: str
      sample: trustedvm:vtpm:0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11
    changed:
      description: Whether the registry was changed, or would be.
      returned: always
      type: bool
    outcome:
      description:
        - V(created), V(removed), V(unchanged), V(failed).
        - V(kept) with O(only_created_by), there are keys, but of others.
      returned: always
      type: str
      sample: created
    failed:
      description: Whether this key failed. Only there if so.
      returned: failure
      type: bool
    error_code:
      description:
        - The name of the error.
        - Of this module, V(resource_key_missing), V(resource_key_part_missing), V(resource_key_part_invalid), V(key_provider_missing),
          V(key_provider_unknown), V(key_provider_mismatch), V(vm_unknown), V(vm_name_ambiguous).
        - Where a key is opened, V(kek_unknown), V(wrapped_key_truncated), V(wrapped_key_rejected), V(resource_key_mismatch).
        - Of the key provider and of the registry, see M(trustedvm.libvirt.key_provider).
      returned: failure
      type: str
      sample: resource_key_missing
    msg:
      description: What went wrong, what was found and wanted, and what to do.
      returned: failure
      type: str
error_code:
  description: The C(error_code) of the first entry that failed, or of the task.
  returned: failure
  type: str
  sample: resource_key_missing
"""
