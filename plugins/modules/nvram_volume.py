#!/usr/bin/python
# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: nvram_volume
short_description: Manage the UEFI variable store of VMs
version_added: 0.1.0
description:
  - Makes, resets and removes NVRAM volumes, one or many in a call.
  - A volume is a raw file, as large as the template of the VM's firmware, which is chosen from QEMU's firmware descriptors on the host.
  - An existing volume is never written over, except by V(reset), and where nothing was ever written to it.
author:
  - trustedvm.libvirt contributors (!UNKNOWN)
extends_documentation_fragment:
  - trustedvm.libvirt.attributes
  - trustedvm.libvirt.attributes.state_module
  - trustedvm.libvirt.attributes.host
  - trustedvm.libvirt.libvirt
options:
  volumes:
    description:
      - The volumes to manage, instead of one at the top level.
      - An option that an entry does not set has the top level's value.
    type: list
    elements: dict
    suboptions:
      vm:
        description:
          - The VM, by name or UUID. A VM that is not defined on this host (yet) must be given by its UUID.
        type: str
      path:
        description:
          - The file. Without it, the one in the VM's definition, else C(UUID/UUID.fd) in O(directory), else C(nvram/UUID/UUID.fd) in the
            directory of the root disk, and for a VM without disks in libvirt's own NVRAM directory.
        type: path
      directory:
        description:
          - The directory in which C(UUID/UUID.fd) is made, instead of the one of the root disk.
        type: path
      root_disk:
        description:
          - The root disk of a VM that is not defined yet. The volume goes beside it.
        type: path
      template:
        description:
          - The variable store that the volume is copied from. Raw.
          - Without it, the one in the VM's definition, or that of the firmware that the options below choose.
        type: path
      secure_boot:
        description:
          - Of a VM that is not defined yet, whether its firmware is for Secure Boot.
        type: bool
      enrolled_keys:
        description:
          - Of a VM that is not defined yet, whether the template holds Microsoft's keys. Without it, with O(secure_boot=true), it does.
        type: bool
      architecture:
        description:
          - Of a VM that is not defined yet, its architecture. Without it the host's.
        type: str
      machine:
        description:
          - Of a VM that is not defined yet, its machine type.
        type: str
      state:
        description:
          - V(present), there is a volume, and a start may have it. It is raw, as large as its template and not the volume of another VM.
            One that is not so is rebuilt if nothing was ever written to it, and refused otherwise.
          - V(absent), there is none. The VM has to be off.
          - V(reset), it equals its template. The VM has to be off. What was there is kept in a copy beside it.
        type: str
        choices: [present, absent, reset]
      accept_data_loss:
        description:
          - Whether variables that a guest or a firmware wrote may go, with V(reset) and V(absent). With V(present), whether a volume that
            the VM is known to have had and that is gone may be made anew.
        type: bool
      reset_id:
        description:
          - A name for a reset, such as a date or a ticket. With O(state=reset) the volume is reset once for each name, however often the VM was
            started since. It is noted in the definition of the VM, which has to be defined on this host.
        type: str
      moved:
        description:
          - With O(state=absent), the VM lives on another host now, and this is what it left. Needs no consent, and is refused while a VM of
            this host names the volume.
        type: bool
      drop_copies:
        description:
          - With O(state=present), remove the copies that resets kept. Refused until the VM has booted with the new volume.
        type: bool
      expect_state:
        description:
          - V(true), the VM is known to have run before, so that a missing volume is an error. Without it, or with V(false), the mark in the
            definition decides alone.
        type: bool
  vm:
    description:
      - The VM, by name or UUID. A VM that is not defined on this host (yet) must be given by its UUID.
    type: str
  path:
    description:
      - The file. Without it, the one in the VM's definition, else C(UUID/UUID.fd) in O(directory), else C(nvram/UUID/UUID.fd) in the
        directory of the root disk, and for a VM without disks in libvirt's own NVRAM directory.
    type: path
  directory:
    description:
      - The directory in which C(UUID/UUID.fd) is made, instead of the one of the root disk.
    type: path
  root_disk:
    description:
      - The root disk of a VM that is not defined yet. The volume goes beside it.
    type: path
  template:
    description:
      - The variable store that the volume is copied from. Raw.
      - Without it, the one in the VM's definition, or that of the firmware that the options below choose.
    type: path
  secure_boot:
    description:
      - Of a VM that is not defined yet, whether its firmware is for Secure Boot.
    type: bool
    default: false
  enrolled_keys:
    description:
      - Of a VM that is not defined yet, whether the template holds Microsoft's keys. Without it, with O(secure_boot=true), it does.
    type: bool
  architecture:
    description:
      - Of a VM that is not defined yet, its architecture. Without it the host's.
    type: str
  machine:
    description:
      - Of a VM that is not defined yet, its machine type.
    type: str
    default: q35
  state:
    description:
      - V(present), there is a volume, and a start may have it. It is raw, as large as its template and not the volume of another VM. One
        that is not so is rebuilt if nothing was ever written to it, and refused otherwise.
      - V(absent), there is none. The VM has to be off.
      - V(reset), it equals its template. The VM has to be off. What was there is kept in a copy beside it.
    type: str
    choices: [present, absent, reset]
    default: present
  accept_data_loss:
    description:
      - Whether variables that a guest or a firmware wrote may go, with V(reset) and V(absent). With V(present), whether a volume that the
        VM is known to have had and that is gone may be made anew.
    type: bool
    default: false
  reset_id:
    description:
      - A name for a reset, such as a date or a ticket. With O(state=reset) the volume is reset once for each name, however often the VM was
        started since. It is noted in the definition of the VM, which has to be defined on this host.
    type: str
  moved:
    description:
      - With O(state=absent), the VM lives on another host now, and this is what it left. Needs no consent, and is refused while a VM of
        this host names the volume.
    type: bool
    default: false
  drop_copies:
    description:
      - With O(state=present), remove the copies that resets kept. Refused until the VM has booted with the new volume.
    type: bool
    default: false
  expect_state:
    description:
      - V(true), the VM is known to have run before, so that a missing volume is an error. Without it, or with V(false), the mark in the
        definition decides alone.
    type: bool
notes:
  - A VM needs a volume if and only if it has a vTPM or Secure Boot. For another VM nothing is made unless O(path) or O(directory) says where.
  - Without O(reset_id) another run after the next start would reset the volume again. Use it in playbooks that are run again.
  - A volume without a template is 1 MiB of zeros, which the firmware formats.
seealso:
  - module: trustedvm.libvirt.nvram_volume_info
  - module: trustedvm.libvirt.vm
"""

EXAMPLES = r"""
- name: The volumes of two VMs, beside their root disks
  trustedvm.libvirt.nvram_volume:
    volumes:
      - vm: web1
      - vm: web2

- name: The volume of a VM that is defined later
  trustedvm.libvirt.nvram_volume:
    vm: 0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11
    root_disk: /srv/images/web1.qcow2
    secure_boot: true

- name: Back to factory settings, with a copy of what was there
  trustedvm.libvirt.nvram_volume:
    vm: web1
    state: reset
    accept_data_loss: true
    reset_id: incident-4711

- name: What a migration left on the source
  trustedvm.libvirt.nvram_volume:
    path: /srv/images/nvram/0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11/0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11.fd
    state: absent
    moved: true
"""

RETURN = r"""
results:
  description: One entry for each volume, in the order of the task.
  returned: always
  type: list
  elements: dict
  contains:
    vm:
      description: The name of the VM. None where it is not defined on this host.
      returned: when known
      type: str
    uuid:
      description: The UUID of the VM.
      returned: when known
      type: str
    path:
      description: The file.
      returned: when known
      type: str
    exists:
      description: Whether the volume is there after the call.
      returned: success
      type: bool
    size:
      description: Its size in bytes.
      returned: success
      type: int
    format:
      description: Its format.
      returned: success
      type: str
      sample: raw
    ready:
      description: Whether a start may have it. None with O(state=absent).
      returned: success
      type: bool
    needed:
      description: Whether the VM has a vTPM or Secure Boot. None with O(state=absent).
      returned: success
      type: bool
    template:
      description: What it started from.
      returned: success
      type: str
    copies:
      description: What earlier resets kept.
      returned: success
      type: list
      elements: str
    reset_id:
      description: The last reset that was noted.
      returned: O(state=reset) and success
      type: str
    strays:
      description: Other volumes in the VM's own directory. They are left alone.
      returned: success
      type: list
      elements: str
    changed:
      description: Whether this volume was changed, or would be.
      returned: always
      type: bool
    outcome:
      description: V(created), V(rebuilt), V(reset), V(removed), V(updated) where only copies were dropped, V(unchanged) or V(failed).
      returned: always
      type: str
      sample: created
    steps:
      description: What was done, or would be done.
      returned: success
      type: list
      elements: str
    failed:
      description: Whether this volume failed. Only there if so.
      returned: failure
      type: bool
    error_code:
      description:
        - The name of the error, V(vm_not_found), V(vm_ambiguous), V(vm_running), V(vm_options_invalid), V(reset_id_invalid), V(duplicate_item),
          V(nvram_would_be_lost),
          V(nvram_missing), V(nvram_wrong_size), V(nvram_wrong_format), V(nvram_unreadable), V(nvram_not_a_file), V(nvram_in_use), V(nvram_elsewhere),
          V(nvram_exists), V(nvram_not_managed), V(nvram_not_proven), V(nvram_storage_unsuitable), V(nvram_template_missing), V(firmware_not_found),
          V(storage_pool_not_found), V(libvirt_error), V(host_file_error), V(internal_error).
      returned: failure
      type: str
      sample: nvram_would_be_lost
    msg:
      description: What went wrong, on which host, what was found and wanted, and what to do.
      returned: failure
      type: str
error_code:
  description: The C(error_code) of the first volume that failed.
  returned: failure
  type: str
  sample: nvram_would_be_lost
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.ansible_glue import (
    CONNECTION_OPTIONS,
    ItemSpec,
    run_converger,
)
from ansible_collections.trustedvm.libvirt.plugins.module_utils._nvram.planner import NvramPlanner

SPEC = ItemSpec(
    list_name="volumes",
    identity=("vm", "path"),
    options={
        "vm": {"type": "str"},
        "path": {"type": "path"},
        "directory": {"type": "path"},
        "root_disk": {"type": "path"},
        "template": {"type": "path"},
        "secure_boot": {"type": "bool", "default": False},
        "enrolled_keys": {"type": "bool", "no_log": False},
        "architecture": {"type": "str"},
        "machine": {"type": "str", "default": "q35"},
        "state": {"type": "str", "choices": ["present", "absent", "reset"], "default": "present"},
        "accept_data_loss": {"type": "bool", "default": False},
        "reset_id": {"type": "str"},
        "moved": {"type": "bool", "default": False},
        "drop_copies": {"type": "bool", "default": False},
        "expect_state": {"type": "bool"},
    },
    extra=CONNECTION_OPTIONS,
)


def main():
    module = AnsibleModule(**SPEC.module_arguments())
    run_converger(module, SPEC, NvramPlanner)


if __name__ == "__main__":
    main()
