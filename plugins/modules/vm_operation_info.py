#!/usr/bin/python
# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: vm_operation_info
short_description: Show which runs hold VMs, and which were left unfinished
version_added: 0.1.0
description:
  - Reads the journal of operations in the registry. The hosts are not contacted.
author:
  - trustedvm.libvirt contributors (!UNKNOWN)
extends_documentation_fragment:
  - trustedvm.libvirt.attributes
  - trustedvm.libvirt.attributes.info_module
  - trustedvm.libvirt.attributes.controller
  - trustedvm.libvirt.controller
options:
  vms:
    description: Only operations on these VMs, by name or UUID.
    type: list
    elements: str
  open_only:
    description: Only operations that have not ended. The journal keeps ended ones for 90 days.
    type: bool
    default: true
  unfinished_only:
    description: Only open operations whose run is dead, because its lease ran out or its process on this controller has ended.
    type: bool
    default: false
seealso:
  - module: trustedvm.libvirt.vm_operation
"""

EXAMPLES = r"""
- name: Which runs did not come to an end?
  trustedvm.libvirt.vm_operation_info:
    unfinished_only: true
  register: left
"""

RETURN = r"""
operations:
  description: The operations, the oldest first.
  returned: success
  type: list
  elements: dict
  sample:
    - id: 5f0a0a55-3a55-4a40-8b8e-27c1b1e7c1a0
      kind: migrate
      vm: 0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11
      name: web1
      run: migrate-20261121T0918-4f2a
      holder: alice@controller (process 4711)
      phase: moving
      facts: {source: kvm1, destination: kvm2}
      outcome_of_operation: null
      message: null
      started_at: "2026-11-21T09:18:02Z"
      lease_until: "2026-11-21T09:23:02Z"
      ended_at: null
      open: true
      unfinished: false
error_code:
  description: The name of the error.
  returned: failure
  type: str
  sample: registry_unavailable
"""
