#!/usr/bin/python
# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: vm_info
short_description: Read the VMs of a libvirt host
version_added: 0.1.0
description:
  - Tells of VMs their state, definition, vTPM, NVRAM volume and secrets.
  - Without O(name), O(uuid) and O(vms), of all VMs of the host.
author:
  - trustedvm.libvirt contributors (!UNKNOWN)
extends_documentation_fragment:
  - trustedvm.libvirt.attributes
  - trustedvm.libvirt.attributes.info_module
  - trustedvm.libvirt.attributes.host
  - trustedvm.libvirt.libvirt
options:
  vms:
    description:
      - The names or UUIDs of VMs.
    type: list
    elements: str
  name:
    description:
      - The name of a VM.
    type: str
  uuid:
    description:
      - The UUID of a VM.
    type: str
seealso:
  - module: trustedvm.libvirt.vm
"""

EXAMPLES = r"""
- name: All VMs of the host
  trustedvm.libvirt.vm_info:
  register: host_vms

- name: Two of them
  trustedvm.libvirt.vm_info:
    vms:
      - web1
      - 0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11
"""

RETURN = r"""
vms:
  description: One entry for each VM that is there, in the order asked for, else by name.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The name.
      returned: always
      type: str
    uuid:
      description: The UUID.
      returned: always
      type: str
    state:
      description: V(running), V(stopped), V(paused), V(crashed), V(suspended) or V(shutting_down).
      returned: always
      type: str
    reason:
      description: libvirt's number of the reason for the state.
      returned: always
      type: int
    virt_type:
      description: V(kvm) or V(qemu).
      returned: always
      type: str
    memory_mib:
      description: The memory in MiB.
      returned: always
      type: int
    vcpus:
      description: The number of virtual CPUs.
      returned: always
      type: int
    machine:
      description: The machine type.
      returned: always
      type: str
    architecture:
      description: The architecture.
      returned: always
      type: str
    cpu_mode:
      description: The mode of the CPU.
      returned: always
      type: str
    cpu_model:
      description: The model of the CPU.
      returned: always
      type: str
    firmware:
      description: V(uefi) or V(bios).
      returned: always
      type: str
    loader:
      description: The firmware image.
      returned: always
      type: str
    secure_boot:
      description: Whether the firmware is for Secure Boot.
      returned: always
      type: bool
    nvram:
      description: The NVRAM volume with its C(path), C(type), C(template), and whether it C(exists). None without one.
      returned: always
      type: dict
    tpm:
      description:
        - The vTPM with its C(model), C(version), C(secret_uuid), C(persistent_state), whether it is C(encrypted), and C(state_exists).
        - None without one.
      returned: always
      type: dict
    disks:
      description: The disks, each with C(target), C(device), C(kind), C(format), and C(path) or C(pool) and C(volume).
      returned: always
      type: list
      elements: dict
    networks:
      description: The network interfaces, each with C(type), C(source), C(mac) and C(model).
      returned: always
      type: list
      elements: dict
    console:
      description: The file that the serial port is written to.
      returned: always
      type: str
    graphics:
      description: The kinds of displays.
      returned: always
      type: list
      elements: str
    secrets:
      description: The UUIDs of the libvirt secrets that the VM needs.
      returned: always
      type: list
      elements: str
    marks:
      description: Whether the definition is marked as having run with a C(tpm_state) and with an C(nvram) volume.
      returned: always
      type: dict
    persistent:
      description: Whether the VM is defined, and not only running.
      returned: always
      type: bool
    autostart:
      description: Whether libvirt starts it at boot.
      returned: always
      type: bool
    managed_save:
      description: Whether its memory is saved on disk.
      returned: always
      type: bool
    migration_leftover:
      description: Whether it is what a migration left behind.
      returned: always
      type: bool
    migrating:
      description: Whether it is one end of a migration and waits for the other. Such a VM does not run here.
      returned: always
      type: bool
    job_active:
      description: Whether libvirt is busy with it, with a migration, save, dump or backup.
      returned: always
      type: bool
    restart_required:
      description: Whether it runs with another definition than it has now.
      returned: always
      type: bool
missing:
  description: The names and UUIDs asked for that the host has no VM of.
  returned: success
  type: list
  elements: str
error_code:
  description: The name of the error, as V(vm_ambiguous).
  returned: failure
  type: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.ansible_glue import (
    CONNECTION_OPTIONS,
    with_connection,
)
from ansible_collections.trustedvm.libvirt.plugins.module_utils._domain.info import VmInspector


def read(connection, params):
    one = params["name"] or params["uuid"]
    wanted = params["vms"] if params["vms"] is not None else [one] if one else None
    inspector = VmInspector(connection)
    if wanted is None:
        return {"vms": inspector.all(), "missing": []}
    found, missing = inspector.chosen(wanted)
    return {"vms": found, "missing": missing}


def main():
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str"},
            "uuid": {"type": "str"},
            "vms": {"type": "list", "elements": "str"},
            **CONNECTION_OPTIONS,
        },
        mutually_exclusive=[("name", "uuid", "vms")],
        supports_check_mode=True,
    )
    answer = with_connection(module, lambda connection: read(connection, module.params))
    module.exit_json(changed=False, **answer)


if __name__ == "__main__":
    main()
