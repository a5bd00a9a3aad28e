#!/usr/bin/python
# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: resource_key_info
short_description: Show the keys of vTPMs, without their values
version_added: 0.1.0
description:
  - Reads what the registry has of keys, and on request whether they can be opened on this controller. Never creates a key.
author:
  - trustedvm.libvirt contributors (!UNKNOWN)
extends_documentation_fragment:
  - trustedvm.libvirt.attributes
  - trustedvm.libvirt.attributes.info_module
  - trustedvm.libvirt.attributes.controller
  - trustedvm.libvirt.controller
options:
  vms:
    description: The VMs, by UUID, or by a name that the registry knows. Without it, all.
    type: list
    elements: str
  provider:
    description: Only keys of this key provider.
    type: str
  created_by:
    description: Only keys that this operation created.
    type: str
  verify:
    description: Whether to open each key, and forget it again.
    type: bool
    default: false
requirements:
  - cryptography 42 or newer on the controller, to verify keys of native providers
seealso:
  - module: trustedvm.libvirt.resource_key
"""

EXAMPLES = r"""
- name: Does this controller have the keys of the VMs that are to be moved?
  trustedvm.libvirt.resource_key_info:
    vms: [web1, web2]
    verify: true
  register: found
"""

RETURN = r"""
resource_keys:
  description: The keys that were found, the versions of one VM in ascending order.
  returned: success
  type: list
  elements: dict
  contains:
    resource_type:
      description: What the key is of.
      returned: always
      type: str
      sample: vtpm
    vm:
      description: The UUID of the VM.
      returned: always
      type: str
    key_version:
      description: The version of the key.
      returned: always
      type: int
    provider:
      description: The key provider that wraps the key.
      returned: always
      type: str
    kek_id:
      description: The KEK that wraps the key.
      returned: always
      type: str
    kek_version:
      description: The version of that KEK.
      returned: always
      type: int
    algorithm:
      description: How it is wrapped.
      returned: always
      type: str
      sample: AES-256-GCM
    fingerprint:
      description: Tells keys apart. The key cannot be computed from it.
      returned: always
      type: str
    created_by:
      description: The operation that created the key.
      returned: always
      type: str
    created_at:
      description: When it was created, in UTC.
      returned: always
      type: str
    secret_uuid:
      description: The UUID of the libvirt secret that holds the key on hosts.
      returned: always
      type: str
    usage_type:
      description: The kind of that secret's usage.
      returned: always
      type: str
      sample: vtpm
    usage:
      description: That secret's usage.
      returned: always
      type: str
    usable:
      description: Whether the key opens on this controller.
      returned: with O(verify)
      type: bool
    error_code:
      description: Why not.
      returned: with O(verify), if it does not open
      type: str
      sample: key_ring_missing
    msg:
      description: Why not, in words.
      returned: with O(verify), if it does not open
      type: str
missing:
  description: Those of O(vms) that have no key.
  returned: success
  type: list
  elements: str
error_code:
  description: The name of the error.
  returned: failure
  type: str
  sample: registry_unavailable
"""
