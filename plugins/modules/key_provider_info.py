#!/usr/bin/python
# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: key_provider_info
short_description: Show the key providers and whether they work
version_added: 0.1.0
description:
  - Reads the registered key providers, who uses them, and whether this controller can use them. Creates nothing.
author:
  - trustedvm.libvirt contributors (!UNKNOWN)
extends_documentation_fragment:
  - trustedvm.libvirt.attributes
  - trustedvm.libvirt.attributes.info_module
  - trustedvm.libvirt.attributes.controller
  - trustedvm.libvirt.controller
options:
  names:
    description: The providers to show. Without it, all.
    type: list
    elements: str
requirements:
  - cryptography 42 or newer on the controller, for the health of native providers
seealso:
  - module: trustedvm.libvirt.key_provider
"""

EXAMPLES = r"""
- name: Which key providers are there, and does this controller reach them?
  trustedvm.libvirt.key_provider_info:
  register: key_providers
"""

RETURN = r"""
providers:
  description: The key providers that were found.
  returned: success
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
      returned: always
      type: str
      sample: native
    settings:
      description: What is registered of it, apart from name and type.
      returned: always
      type: dict
      sample: {}
    key_count:
      description: How many resource keys are wrapped with it.
      returned: always
      type: int
    vm_count:
      description: How many VMs are bound to it.
      returned: always
      type: int
    health:
      description: Whether this controller can use it. C(ok), and if not, C(error_code) and C(msg).
      returned: always
      type: dict
      sample: {ok: true}
    kek_id:
      description: The identity of its KEK.
      returned: when the provider works
      type: str
    kek_version:
      description: The KEK version that wraps new keys.
      returned: when the provider works
      type: int
    kek_versions:
      description: All KEK versions that can unwrap.
      returned: when the provider works
      type: list
      elements: int
    key_ring:
      description: The key ring's file.
      returned: when the provider works, for type V(native)
      type: str
    sealed:
      description: Whether the key ring is sealed with a passphrase.
      returned: when the provider works, for type V(native)
      type: bool
missing:
  description: Those of O(names) that are not registered.
  returned: success
  type: list
  elements: str
error_code:
  description: The name of the error.
  returned: failure
  type: str
  sample: registry_unavailable
"""
