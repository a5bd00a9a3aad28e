#!/usr/bin/python
# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: vm_operation
short_description: Hold VMs for a run, and journal how far it is
version_added: 0.1.0
description:
  - A run that changes where a VM is holds the VM with a lease in the registry, so that two runs, of one controller or of several, never work
    on one VM.
  - The operation says what has been begun. After a crash the role P(trustedvm.libvirt.reconcile#role) reads it, looks at the hosts,
    and finishes or undoes.
  - The roles do this by themselves. Write it in a play of your own only around work that must not meet theirs.
author:
  - trustedvm.libvirt contributors (!UNKNOWN)
extends_documentation_fragment:
  - trustedvm.libvirt.attributes
  - trustedvm.libvirt.attributes.state_module
  - trustedvm.libvirt.attributes.controller
  - trustedvm.libvirt.controller
attributes:
  idempotent:
    support: partial
    details: V(renewed), V(taken_over) and V(released) change the lease each time.
options:
  operations:
    description:
      - The operations, instead of one at the top level.
      - An option that an entry does not set has the top level's value.
    type: list
    elements: dict
    suboptions:
      vm:
        description:
          - Name or UUID of the VM.
        type: str
      run:
        description:
          - A name for the run that no other run has. Only the run that opened or took over an operation may write to it.
        type: str
      kind:
        description:
          - What the run does.
        type: str
        choices: [migrate]
      state:
        description:
          - V(open) takes the VM for this run. Refused while another run has it, or has left it unfinished.
          - V(renewed) holds it for O(operations[].lease) more seconds, and notes O(operations[].phase) and O(operations[].facts).
          - V(taken_over) goes on with an operation whose run is dead. Refused while that run may live.
          - V(released) leaves the operation open for whoever comes next, at once.
          - V(closed) ends it with an O(operations[].outcome).
        type: str
        choices: [open, renewed, taken_over, released, closed]
      phase:
        description:
          - How far the run is, in a word.
        type: str
      facts:
        description:
          - What finishing or undoing would need to know. Added to what is noted already. Nothing secret.
        type: dict
      lease:
        description:
          - Seconds for which the run holds the VM unless it renews the lease.
        type: int
      expect:
        description:
          - With O(operations[].state=open), what the VM's record must still be.
        type: dict
        suboptions:
          host:
            description: The host that must own the VM.
            type: str
          generation:
            description: The generation that the record must have.
            type: int
      outcome:
        description:
          - With O(operations[].state=closed), how it ended. The default is V(done).
        type: str
        choices: [done, failed, undone]
      message:
        description:
          - With O(operations[].state=closed) and O(operations[].state=released), what is to be said of it.
        type: str
  vm:
    description:
      - Name or UUID of the VM.
    type: str
  run:
    description:
      - A name for the run that no other run has. Only the run that opened or took over an operation may write to it.
    type: str
  kind:
    description:
      - What the run does.
    type: str
    choices: [migrate]
    default: migrate
  state:
    description:
      - V(open) takes the VM for this run. Refused while another run has it, or has left it unfinished.
      - V(renewed) holds it for O(lease) more seconds, and notes O(phase) and O(facts).
      - V(taken_over) goes on with an operation whose run is dead. Refused while that run may live.
      - V(released) leaves the operation open for whoever comes next, at once.
      - V(closed) ends it with an O(outcome).
    type: str
    choices: [open, renewed, taken_over, released, closed]
    default: open
  phase:
    description:
      - How far the run is, in a word.
    type: str
  facts:
    description:
      - What finishing or undoing would need to know. Added to what is noted already. Nothing secret.
    type: dict
  lease:
    description:
      - Seconds for which the run holds the VM unless it renews the lease.
    type: int
    default: 300
  expect:
    description:
      - With O(state=open), what the VM's record must still be.
    type: dict
    suboptions:
      host:
        description: The host that must own the VM.
        type: str
      generation:
        description: The generation that the record must have.
        type: int
  outcome:
    description:
      - With O(state=closed), how it ended. The default is V(done).
    type: str
    choices: [done, failed, undone]
  message:
    description:
      - With O(state=closed) and O(state=released), what is to be said of it.
    type: str
seealso:
  - module: trustedvm.libvirt.vm_operation_info
"""

EXAMPLES = r"""
- name: Nobody else works on web1 now
  trustedvm.libvirt.vm_operation:
    vm: web1
    run: "{{ my_run }}"

- name: It is done
  trustedvm.libvirt.vm_operation:
    vm: web1
    run: "{{ my_run }}"
    state: closed
"""

RETURN = r"""
results:
  description: One entry for each operation, in the order of the task.
  returned: always
  type: list
  elements: dict
  contains:
    vm:
      description: The VM as it was asked for.
      returned: always
      type: str
    operation:
      description: The operation as it is in the journal now.
      returned: success, unless there is none
      type: dict
      sample:
        id: 5f0a0a55-3a55-4a40-8b8e-27c1b1e7c1a0
        kind: migrate
        vm: 0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11
        name: web1
        run: migrate-20261121T0918-4f2a
        holder: alice@controller (process 4711)
        phase: moving
        facts: {source: kvm1, destination: kvm2}
        outcome_of_operation: null
        message: null
    changed:
      description: Whether the journal was changed, or would be.
      returned: always
      type: bool
    outcome:
      description: V(opened), V(renewed), V(taken_over), V(released), V(closed), V(not_open), V(unchanged) or V(failed).
      returned: always
      type: str
      sample: opened
    failed:
      description: Whether this entry failed. Only there if so.
      returned: failure
      type: bool
    run:
      description: The run that has the VM.
      returned: when the error code is V(vm_in_use) or V(operation_unfinished)
      type: str
    error_code:
      description:
        - The name of the error.
        - Of this module, V(vm_in_use), V(operation_unfinished), V(lease_lost), V(vm_record_conflict), V(vm_unknown), V(vm_name_ambiguous),
          V(duplicate_item).
        - Of the registry and of the options, see M(trustedvm.libvirt.key_provider).
      returned: failure
      type: str
      sample: vm_in_use
    msg:
      description: What went wrong, what was found and wanted, and what to do.
      returned: failure
      type: str
error_code:
  description: The C(error_code) of the first entry that failed, or of the task.
  returned: failure
  type: str
  sample: vm_in_use
"""
