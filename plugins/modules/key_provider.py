#!/usr/bin/python
# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: key_provider
short_description: Manage the key providers that wrap the keys of vTPMs
version_added: 0.1.0
description:
  - Registers key providers, makes or adopts their key material, and removes them.
  - A key provider holds the key encryption keys (KEK). The data encryption key (DEK) of each vTPM is kept in the registry only
    wrapped with one of them.
  - The provider V(native) keeps its KEKs in a key ring, a file on the controller of mode 0600, optionally sealed with a passphrase.
    Whoever loses the key ring loses the TPM states, so keep a copy of it apart from the registry.
  - The registry remembers which key ring the name of a provider stands for. Controllers that share a registry need copies of one key
    ring. One with another key ring, or without one, is refused before it wraps or opens a key (V(key_ring_other), V(key_ring_missing)).
author:
  - trustedvm.libvirt contributors (!UNKNOWN)
extends_documentation_fragment:
  - trustedvm.libvirt.attributes
  - trustedvm.libvirt.attributes.state_module
  - trustedvm.libvirt.attributes.controller
  - trustedvm.libvirt.controller
options:
  providers:
    description:
      - The key providers to manage, instead of one at the top level.
      - An option that an entry does not set has the top level's value.
    type: list
    elements: dict
    suboptions:
      name:
        description: The name that VM records and keys refer to.
        type: str
      type:
        description: What keeps the KEKs. It cannot be changed later.
        type: str
        choices: [native]
      state:
        description:
          - V(present) registers the provider and makes its key ring if it never had one. A key ring that is there is adopted,
            unless the provider has another one. One without a seal is sealed when there is a passphrase.
          - V(absent) removes it. Refused while resource keys or VMs refer to it.
        type: str
        choices: [present, absent]
      native:
        description: Settings of O(providers[].type=native). Without any, or with all of them null, the registered ones stay.
        type: dict
        suboptions:
          key_ring:
            description: The key ring's file, on the controller. Without it, C(key-rings/NAME.json) in the state directory.
            type: path
          passphrase_file:
            description: A file of mode 0600 on the controller with the passphrase, read only where none is given otherwise.
            type: path
      remove_key_ring:
        description: With O(providers[].state=absent), whether the key ring goes as well.
        type: bool
  name:
    description: The name that VM records and keys refer to.
    type: str
  type:
    description: What keeps the KEKs. It cannot be changed later.
    type: str
    choices: [native]
    default: native
  state:
    description:
      - V(present) registers the provider and makes its key ring if it never had one. A key ring that is there is adopted,
        unless the provider has another one. One without a seal is sealed when there is a passphrase.
      - V(absent) removes it. Refused while resource keys or VMs refer to it.
    type: str
    choices: [present, absent]
    default: present
  native:
    description: Settings of O(type=native). Without any, or with all of them null, the registered ones stay.
    type: dict
    suboptions:
      key_ring:
        description: The key ring's file, on the controller. Without it, C(key-rings/NAME.json) in the state directory.
        type: path
      passphrase_file:
        description: A file of mode 0600 on the controller with the passphrase, read only where none is given otherwise.
        type: path
  remove_key_ring:
    description: With O(state=absent), whether the key ring goes as well.
    type: bool
    default: false
notes:
  - A new key ring at its default place below the home directory, for a registry that is not a file of the controller, gets a warning. In an
    execution environment (AWX) the home directory is gone when the job ends, and the key ring with it. Give O(native.key_ring) or
    O(state_directory) a place that stays.
requirements:
  - cryptography 42 or newer on the controller, for O(type=native)
seealso:
  - module: trustedvm.libvirt.key_provider_info
  - module: trustedvm.libvirt.resource_key
"""

EXAMPLES = r"""
- name: A key provider with its key ring in the state directory
  trustedvm.libvirt.key_provider:
    name: native

- name: A key provider whose key ring is sealed with a passphrase from a file
  trustedvm.libvirt.key_provider:
    name: production
    native:
      key_ring: /srv/trustedvm/production.json
      passphrase_file: /srv/trustedvm/production.passphrase

- name: Remove a key provider that nobody uses, with its key ring
  trustedvm.libvirt.key_provider:
    name: trial
    state: absent
    remove_key_ring: true
"""

RETURN = r"""
results:
  description: One entry for each key provider, in the order of the task.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The name of the provider.
      returned: always
      type: str
      sample: native
    type:
      description: What keeps its KEKs.
      returned: success
      type: str
      sample: native
    settings:
      description: What is registered of it, apart from name and type.
      returned: success
      type: dict
      sample: {}
    kek_id:
      description: The identity of its KEK.
      returned: O(state=present) and success, outside check mode if it is new
      type: str
    kek_version:
      description: The KEK version that wraps new keys.
      returned: as RV(results[].kek_id)
      type: int
    kek_versions:
      description: All KEK versions that can unwrap.
      returned: as RV(results[].kek_id)
      type: list
      elements: int
    key_ring:
      description: The key ring's file.
      returned: O(state=present) and success
      type: str
    sealed:
      description: Whether the key ring is sealed with a passphrase.
      returned: as RV(results[].kek_id)
      type: bool
    key_ring_removed:
      description: Whether the key ring was removed, or would be.
      returned: O(state=absent) and success
      type: bool
    changed:
      description: Whether this provider was changed, or would be.
      returned: always
      type: bool
    outcome:
      description: V(created), V(updated), V(removed), V(unchanged) or V(failed).
      returned: always
      type: str
      sample: created
    failed:
      description: Whether this provider failed. Only there if so.
      returned: failure
      type: bool
    error_code:
      description:
        - The name of the error.
        - Of this module, V(key_provider_in_use), V(key_provider_type_fixed), V(key_provider_type_unknown), V(missing_dependency),
          V(key_ring_missing), V(key_ring_other), V(key_ring_insecure), V(key_ring_damaged), V(key_ring_newer), V(key_ring_passphrase_missing),
          V(key_ring_passphrase_wrong), V(passphrase_file_insecure), V(key_ring_unwritable), V(key_ring_busy), V(file_unreadable).
        - Of the registry, V(registry_unavailable), V(registry_damaged), V(registry_conflict), V(registry_schema_newer),
          V(registry_schema_older), V(registry_url_invalid).
        - Of the options, V(invalid_options), V(duplicate_item).
      returned: failure
      type: str
      sample: key_ring_damaged
    msg:
      description: What went wrong, what was found and wanted, and what to do.
      returned: failure
      type: str
error_code:
  description: The C(error_code) of the first entry that failed, or of the task.
  returned: failure
  type: str
  sample: key_provider_in_use
"""
