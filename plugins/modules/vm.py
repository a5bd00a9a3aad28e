#!/usr/bin/python
# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: vm
short_description: Manage VMs with a vTPM and UEFI variables on a libvirt host
version_added: 0.1.0
description:
  - Defines, changes, starts, stops and removes VMs, one or many in a call.
  - A VM is never started without the TPM state or the NVRAM volume that it had. libvirt would replace them with empty ones without a word.
  - An option that is not set leaves that part of an existing VM alone.
  - A call that fails for a VM undoes what it did to that VM.
author:
  - trustedvm.libvirt contributors (!UNKNOWN)
extends_documentation_fragment:
  - trustedvm.libvirt.attributes
  - trustedvm.libvirt.attributes.state_module
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
      name:
        description:
          - The name of the VM. This or O(uuid) is needed, also with O(xml).
        type: str
      uuid:
        description:
          - The UUID of the VM, its identity on every host.
          - A new VM gets a random one without this option, which check mode cannot foretell. Give it if other tasks need it.
        type: str
      state:
        description:
          - V(defined), libvirt knows the VM, and its power state is left alone.
          - V(running), it is defined and runs. Before a start its NVRAM volume, TPM state, secrets and disks are checked. A paused VM is
            resumed.
          - V(stopped), it is defined and off. The guest is asked first, and after O(stop_timeout) the VM is stopped hard.
          - V(absent), libvirt does not know it. Its disks, NVRAM volume and TPM state stay unless the O(remove_disks), O(remove_nvram) and
            O(remove_tpm_state) say otherwise.
        type: str
        choices: [defined, running, stopped, absent]
      xml:
        description:
          - The whole definition as the user's own domain XML, instead of the options that describe a VM.
          - It is completed with the name, the UUID, the vTPM, the loader and the NVRAM path where it leaves them open. A vTPM that the VM
            has is never dropped.
          - A C(<tpm>) in it gets a persistent state. Without a secret it takes that of the VM's vTPM, and where there is none it needs
            C(allow_unencrypted) in O(tpm).
        type: str
      memory:
        description:
          - The memory in MiB. Needed to make a new VM.
        type: int
      vcpus:
        description:
          - The number of virtual CPUs.
          - Of a new VM, without this option, 1.
        type: int
      virt_type:
        description:
          - The accelerator. V(qemu) is emulation. V(auto) takes V(kvm) for a new VM where libvirt offers it.
          - An existing C(/dev/kvm) does not prove that guests run on it, so nothing is chosen unless told.
          - Of a new VM, without this option, V(kvm).
        type: str
        choices: [kvm, qemu, auto]
      architecture:
        description:
          - The architecture, such as V(x86_64) or V(aarch64).
          - Of a new VM, without this option, the host's.
        type: str
      machine:
        description:
          - The machine type. The alias V(q35) is fulfilled by any C(pc-q35-*).
          - Of a new VM, without this option, V(q35), or V(virt) on aarch64.
        type: str
      cpu_mode:
        description:
          - The CPU that the guest sees.
          - Of a new VM, without this option, V(host-model) with KVM and V(maximum) with emulation.
        type: str
        choices: [host-model, host-passthrough, maximum, custom]
      cpu_model:
        description:
          - The CPU model of O(cpu_mode=custom).
        type: str
      firmware:
        description:
          - V(uefi) is chosen from the firmware descriptors of the host. A vTPM and Secure Boot need it.
          - Of a new VM, without this option, V(uefi).
        type: str
        choices: [uefi, bios]
      secure_boot:
        description:
          - Whether the VM has firmware that enforces Secure Boot.
          - An existing VM is changed only if this is set.
          - Of a new VM, without this option, off.
        type: bool
      enrolled_keys:
        description:
          - Whether the NVRAM template of the chosen firmware holds Microsoft's keys. Without keys nothing is enforced.
          - Without this option, with O(secure_boot=true), it does, unless O(nvram) names a template.
        type: bool
      loader:
        description:
          - A UEFI image of one's own, instead of a choice from the descriptors. Read only flash, raw.
        type: path
      nvram:
        description:
          - Where the VM's UEFI variables are and what they start from. By default C(nvram/UUID/UUID.fd) in the directory of the root disk.
          - A VM has a managed NVRAM volume if and only if it has a vTPM or Secure Boot.
        type: dict
        suboptions:
          path:
            description:
              - The file itself.
            type: path
          directory:
            description:
              - The directory in which C(UUID/UUID.fd) is made.
            type: path
          template:
            description:
              - The variable store that a new volume is copied from, instead of the firmware's. Raw, and of the same size.
            type: path
      tpm:
        description:
          - The vTPM. Always with a persistent state, so that libvirt never deletes it as a side effect. An option that is not set leaves
            what the VM has.
        type: dict
        suboptions:
          secret_uuid:
            description:
              - The UUID of the libvirt secret that encrypts the state.
            type: str
          model:
            description:
              - The device.
              - Of a new VM, without this option, V(tpm-crb).
            type: str
            choices: [tpm-crb, tpm-tis]
          version:
            description:
              - The version. It never changes on a VM that has a vTPM.
              - Of a new VM, without this option, V(2.0).
            type: str
            choices: ['1.2', '2.0']
          allow_unencrypted:
            description:
              - Whether a vTPM without a secret is allowed.
            type: bool
            default: false
      disks:
        description:
          - The disks of the VM, all of them. Others are detached from the definition, never deleted. CD drives that the list does not name
            stay.
          - On a running VM this holds from the next start on.
        type: list
        elements: dict
        suboptions:
          path:
            description:
              - The image file or block device.
            type: path
          pool:
            description:
              - The storage pool of a volume, instead of O(disks[].path).
            type: str
          volume:
            description:
              - The volume in O(disks[].pool).
            type: str
          target:
            description:
              - The device name, which tells the VM's disks apart. Without it the next free one of the bus, C(vda), C(vdb) and so on.
            type: str
          device:
            description:
              - What the guest sees.
            type: str
            choices: [disk, cdrom]
            default: disk
          bus:
            description:
              - The bus. Without it V(virtio), and V(sata) for a CD drive.
            type: str
            choices: [virtio, scsi, sata, usb, ide]
          format:
            description:
              - The image format. Without it V(qcow2), and V(raw) for block devices and CD drives.
            type: str
            choices: [qcow2, raw]
          size:
            description:
              - The size of a disk that is made if it is missing, such as V(10G). An existing disk is not resized.
            type: str
          image:
            description:
              - An image on the host that a missing disk starts as a full copy of. With O(disks[].size) the copy is resized.
            type: path
          readonly:
            description:
              - Whether the guest can only read it. A CD drive always is.
            type: bool
            default: false
          cache:
            description:
              - The cache mode. V(none) is what a migration with shared storage asks for.
            type: str
            choices: [none, writeback, writethrough, directsync, unsafe]
      networks:
        description:
          - The network interfaces of the VM, all of them, in order. An empty list is no network.
          - An interface without a MAC address keeps the one that it has.
        type: list
        elements: dict
        suboptions:
          network:
            description:
              - A libvirt network.
            type: str
          bridge:
            description:
              - A bridge of the host, instead of O(networks[].network).
            type: str
          model:
            description:
              - The device.
            type: str
            default: virtio
          mac:
            description:
              - The MAC address.
            type: str
      console:
        description:
          - Writes the first serial port to a file on the host.
        type: dict
        suboptions:
          path:
            description:
              - The file. On a migration it has to be possible on the destination, too.
            type: path
            required: true
          append:
            description:
              - Whether a start appends to the file.
            type: bool
            default: true
      graphics:
        description:
          - A display. V(vnc) listens on the host's loopback address.
          - Of a new VM, without this option, V(none).
        type: str
        choices: [none, vnc]
      autostart:
        description:
          - Whether libvirt starts the VM at boot. Such a start is not guarded by this module.
        type: bool
      devices_xml:
        description:
          - More devices as XML, each added unless a device of the VM already contains it.
        type: list
        elements: str
      expect_state:
        description:
          - V(true), the VM is known to have run before. A missing TPM state or NVRAM volume is then an error at start, even if the
            definition on this host does not say so.
          - Without it, or with V(false), the marks in the definition decide alone.
        type: bool
      prepared_by_play:
        description:
          - Only in check mode. A missing secret, disk, TPM state or NVRAM volume is no error, because an earlier task of the play would
            have made it.
        type: bool
      stop_timeout:
        description:
          - Seconds that the guest gets to shut down. V(0) stops it hard at once. A paused guest cannot react and is stopped hard.
        type: int
      force_stop:
        description:
          - Whether a guest that did not shut down in time is stopped hard.
        type: bool
      start_migrated:
        description:
          - Whether to start what a migration left behind. The VM runs elsewhere then, and two of it would destroy its disks and its TPM.
        type: bool
      remove_disks:
        description:
          - With O(state=absent), delete the disks, too. Never block devices, CDs, read-only and shareable disks.
        type: bool
      remove_nvram:
        description:
          - With O(state=absent), delete the NVRAM volume and the copies of earlier resets, too.
        type: bool
      remove_tpm_state:
        description:
          - With O(state=absent), delete the TPM state and its copies, too. What the guest sealed with it is lost.
        type: bool
      force:
        description:
          - With O(state=absent), stop a running VM, drop a managed save image, and remove the files of a VM that was migrated away.
        type: bool
  name:
    description:
      - The name of the VM. This or O(uuid) is needed, also with O(xml).
    type: str
  uuid:
    description:
      - The UUID of the VM, its identity on every host.
      - A new VM gets a random one without this option, which check mode cannot foretell. Give it if other tasks need it.
    type: str
  state:
    description:
      - V(defined), libvirt knows the VM, and its power state is left alone.
      - V(running), it is defined and runs. Before a start its NVRAM volume, TPM state, secrets and disks are checked. A paused VM is
        resumed.
      - V(stopped), it is defined and off. The guest is asked first, and after O(stop_timeout) the VM is stopped hard.
      - V(absent), libvirt does not know it. Its disks, NVRAM volume and TPM state stay unless the O(remove_disks), O(remove_nvram) and
        O(remove_tpm_state) say otherwise.
    type: str
    choices: [defined, running, stopped, absent]
    default: defined
  xml:
    description:
      - The whole definition as the user's own domain XML, instead of the options that describe a VM.
      - It is completed with the name, the UUID, the vTPM, the loader and the NVRAM path where it leaves them open. A vTPM that the VM has
        is never dropped.
      - A C(<tpm>) in it gets a persistent state. Without a secret it takes that of the VM's vTPM, and where there is none it needs
        C(allow_unencrypted) in O(tpm).
    type: str
  memory:
    description:
      - The memory in MiB. Needed to make a new VM.
    type: int
  vcpus:
    description:
      - The number of virtual CPUs.
      - Of a new VM, without this option, 1.
    type: int
  virt_type:
    description:
      - The accelerator. V(qemu) is emulation. V(auto) takes V(kvm) for a new VM where libvirt offers it.
      - An existing C(/dev/kvm) does not prove that guests run on it, so nothing is chosen unless told.
      - Of a new VM, without this option, V(kvm).
    type: str
    choices: [kvm, qemu, auto]
  architecture:
    description:
      - The architecture, such as V(x86_64) or V(aarch64).
      - Of a new VM, without this option, the host's.
    type: str
  machine:
    description:
      - The machine type. The alias V(q35) is fulfilled by any C(pc-q35-*).
      - Of a new VM, without this option, V(q35), or V(virt) on aarch64.
    type: str
  cpu_mode:
    description:
      - The CPU that the guest sees.
      - Of a new VM, without this option, V(host-model) with KVM and V(maximum) with emulation.
    type: str
    choices: [host-model, host-passthrough, maximum, custom]
  cpu_model:
    description:
      - The CPU model of O(cpu_mode=custom).
    type: str
  firmware:
    description:
      - V(uefi) is chosen from the firmware descriptors of the host. A vTPM and Secure Boot need it.
      - Of a new VM, without this option, V(uefi).
    type: str
    choices: [uefi, bios]
  secure_boot:
    description:
      - Whether the VM has firmware that enforces Secure Boot.
      - An existing VM is changed only if this is set.
      - Of a new VM, without this option, off.
    type: bool
  enrolled_keys:
    description:
      - Whether the NVRAM template of the chosen firmware holds Microsoft's keys. Without keys nothing is enforced.
      - Without this option, with O(secure_boot=true), it does, unless O(nvram) names a template.
    type: bool
  loader:
    description:
      - A UEFI image of one's own, instead of a choice from the descriptors. Read only flash, raw.
    type: path
  nvram:
    description:
      - Where the VM's UEFI variables are and what they start from. By default C(nvram/UUID/UUID.fd) in the directory of the root disk.
      - A VM has a managed NVRAM volume if and only if it has a vTPM or Secure Boot.
    type: dict
    suboptions:
      path:
        description:
          - The file itself.
        type: path
      directory:
        description:
          - The directory in which C(UUID/UUID.fd) is made.
        type: path
      template:
        description:
          - The variable store that a new volume is copied from, instead of the firmware's. Raw, and of the same size.
        type: path
  tpm:
    description:
      - The vTPM. Always with a persistent state, so that libvirt never deletes it as a side effect. An option that is not set leaves what
        the VM has.
    type: dict
    suboptions:
      secret_uuid:
        description:
          - The UUID of the libvirt secret that encrypts the state.
        type: str
      model:
        description:
          - The device.
          - Of a new VM, without this option, V(tpm-crb).
        type: str
        choices: [tpm-crb, tpm-tis]
      version:
        description:
          - The version. It never changes on a VM that has a vTPM.
          - Of a new VM, without this option, V(2.0).
        type: str
        choices: ['1.2', '2.0']
      allow_unencrypted:
        description:
          - Whether a vTPM without a secret is allowed.
        type: bool
        default: false
  disks:
    description:
      - The disks of the VM, all of them. Others are detached from the definition, never deleted. CD drives that the list does not name
        stay.
      - On a running VM this holds from the next start on.
    type: list
    elements: dict
    suboptions:
      path:
        description:
          - The image file or block device.
        type: path
      pool:
        description:
          - The storage pool of a volume, instead of O(disks[].path).
        type: str
      volume:
        description:
          - The volume in O(disks[].pool).
        type: str
      target:
        description:
          - The device name, which tells the VM's disks apart. Without it the next free one of the bus, C(vda), C(vdb) and so on.
        type: str
      device:
        description:
          - What the guest sees.
        type: str
        choices: [disk, cdrom]
        default: disk
      bus:
        description:
          - The bus. Without it V(virtio), and V(sata) for a CD drive.
        type: str
        choices: [virtio, scsi, sata, usb, ide]
      format:
        description:
          - The image format. Without it V(qcow2), and V(raw) for block devices and CD drives.
        type: str
        choices: [qcow2, raw]
      size:
        description:
          - The size of a disk that is made if it is missing, such as V(10G). An existing disk is not resized.
        type: str
      image:
        description:
          - An image on the host that a missing disk starts as a full copy of. With O(disks[].size) the copy is resized.
        type: path
      readonly:
        description:
          - Whether the guest can only read it. A CD drive always is.
        type: bool
        default: false
      cache:
        description:
          - The cache mode. V(none) is what a migration with shared storage asks for.
        type: str
        choices: [none, writeback, writethrough, directsync, unsafe]
  networks:
    description:
      - The network interfaces of the VM, all of them, in order. An empty list is no network.
      - An interface without a MAC address keeps the one that it has.
    type: list
    elements: dict
    suboptions:
      network:
        description:
          - A libvirt network.
        type: str
      bridge:
        description:
          - A bridge of the host, instead of O(networks[].network).
        type: str
      model:
        description:
          - The device.
        type: str
        default: virtio
      mac:
        description:
          - The MAC address.
        type: str
  console:
    description:
      - Writes the first serial port to a file on the host.
    type: dict
    suboptions:
      path:
        description:
          - The file. On a migration it has to be possible on the destination, too.
        type: path
        required: true
      append:
        description:
          - Whether a start appends to the file.
        type: bool
        default: true
  graphics:
    description:
      - A display. V(vnc) listens on the host's loopback address.
      - Of a new VM, without this option, V(none).
    type: str
    choices: [none, vnc]
  autostart:
    description:
      - Whether libvirt starts the VM at boot. Such a start is not guarded by this module.
    type: bool
  devices_xml:
    description:
      - More devices as XML, each added unless a device of the VM already contains it.
    type: list
    elements: str
  expect_state:
    description:
      - V(true), the VM is known to have run before. A missing TPM state or NVRAM volume is then an error at start, even if the definition
        on this host does not say so.
      - Without it, or with V(false), the marks in the definition decide alone.
    type: bool
  prepared_by_play:
    description:
      - Only in check mode. A missing secret, disk, TPM state or NVRAM volume is no error, because an earlier task of the play would have
        made it.
    type: bool
    default: false
  stop_timeout:
    description:
      - Seconds that the guest gets to shut down. V(0) stops it hard at once. A paused guest cannot react and is stopped hard.
    type: int
    default: 120
  force_stop:
    description:
      - Whether a guest that did not shut down in time is stopped hard.
    type: bool
    default: true
  start_migrated:
    description:
      - Whether to start what a migration left behind. The VM runs elsewhere then, and two of it would destroy its disks and its TPM.
    type: bool
    default: false
  remove_disks:
    description:
      - With O(state=absent), delete the disks, too. Never block devices, CDs, read-only and shareable disks.
    type: bool
    default: false
  remove_nvram:
    description:
      - With O(state=absent), delete the NVRAM volume and the copies of earlier resets, too.
    type: bool
    default: false
  remove_tpm_state:
    description:
      - With O(state=absent), delete the TPM state and its copies, too. What the guest sealed with it is lost.
    type: bool
    default: false
  force:
    description:
      - With O(state=absent), stop a running VM, drop a managed save image, and remove the files of a VM that was migrated away.
    type: bool
    default: false
notes:
  - A changed definition of a running VM holds from its next start on. RV(results[].restart_required) says so.
  - In the definition's C(<metadata>) the module marks that the VM has run with a TPM state and an NVRAM volume. The marks go along with a migration.
seealso:
  - module: trustedvm.libvirt.vm_info
  - module: trustedvm.libvirt.vm_migrate
  - module: trustedvm.libvirt.vtpm
  - module: trustedvm.libvirt.nvram_volume
  - module: trustedvm.libvirt.libvirt_secret
"""

EXAMPLES = r"""
- name: A VM with an encrypted vTPM runs
  trustedvm.libvirt.vm:
    name: web1
    uuid: 0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11
    memory: 4096
    vcpus: 2
    tpm:
      secret_uuid: 6f0c8a3e-2b1d-5c55-9d0f-0a1b2c3d4e5f
    disks:
      - path: /srv/images/web1.qcow2
        image: /srv/images/debian-12.qcow2
        size: 20G
    networks:
      - bridge: br0
    state: running

- name: Two VMs stop, side by side
  trustedvm.libvirt.vm:
    state: stopped
    stop_timeout: 60
    vms:
      - name: web1
      - name: web2

- name: A VM by its own XML, completed with Secure Boot firmware and NVRAM
  trustedvm.libvirt.vm:
    name: db1
    xml: "{{ lookup('ansible.builtin.template', 'db1.xml.j2') }}"
    secure_boot: true
    state: defined

- name: A VM and all that belongs to it goes
  trustedvm.libvirt.vm:
    name: web2
    state: absent
    remove_disks: true
    remove_nvram: true
    remove_tpm_state: true
"""

RETURN = r"""
results:
  description: One entry for each VM, in the order of the task.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The name of the VM.
      returned: when known
      type: str
    uuid:
      description: The UUID of the VM.
      returned: when known
      type: str
    state:
      description: Its power state after the call, as V(running), V(stopped), V(paused), V(crashed), V(suspended) or V(absent).
      returned: success
      type: str
    started:
      description: Whether this call started it.
      returned: success, except O(state=absent)
      type: bool
    restart_required:
      description: Whether the VM runs with another definition than it has now.
      returned: success, except O(state=absent)
      type: bool
    nvram:
      description: The NVRAM volume with its C(path), whether it is C(needed), and the C(action), V(create), V(rebuild), V(use) or V(none).
      returned: success, except O(state=absent)
      type: dict
    tpm:
      description: The vTPM with its C(model), C(version), C(secret_uuid), and whether it is C(encrypted). None without one.
      returned: success, except O(state=absent)
      type: dict
    tpm_state_exists:
      description: Whether the vTPM's state is there after the call. None without a vTPM.
      returned: success, except O(state=absent)
      type: bool
    firmware:
      description: The C(loader) and whether it is for C(secure_boot). None where libvirt chooses.
      returned: success, except O(state=absent)
      type: dict
    disks:
      description: The disks, each with C(target), C(path) or C(pool) and C(volume), C(format), and whether it was C(created).
      returned: success, except O(state=absent)
      type: list
      elements: dict
    kept:
      description: What stays on the host.
      returned: O(state=absent) and success
      type: list
      elements: str
    changed:
      description: Whether this VM was changed, or would be.
      returned: always
      type: bool
    outcome:
      description: V(created), V(updated), V(started), V(resumed), V(woken), V(stopped), V(removed), V(unchanged) or V(failed).
      returned: always
      type: str
      sample: created
    steps:
      description: What was done, or would be done.
      returned: success
      type: list
      elements: str
      sample: [define VM, start VM]
    failed:
      description: Whether this VM failed. Only there if so.
      returned: failure
      type: bool
    error_code:
      description:
        - The name of the error.
        - Of the item, V(vm_not_found), V(vm_name_taken), V(vm_uuid_taken), V(vm_ambiguous), V(duplicate_item), V(vm_options_invalid),
          V(xml_invalid), V(tpm_needs_uefi), V(tpm_unencrypted), V(tpm_version_differs), V(vtpm_backend_differs), V(firmware_not_found).
        - Of the storage, V(nvram_missing), V(nvram_wrong_size), V(nvram_wrong_format), V(nvram_unreadable), V(nvram_not_a_file), V(nvram_in_use),
          V(nvram_elsewhere), V(nvram_exists), V(nvram_storage_unsuitable), V(nvram_template_missing), V(disk_missing), V(disk_wrong_format),
          V(disk_in_use), V(disk_create_failed), V(qemu_img_missing), V(storage_pool_not_found).
        - Of a start, V(secret_missing), V(tpm_state_missing), V(key_does_not_open_tpm_state), V(tpm_state_encrypted), V(tpm_state_not_encrypted),
          V(tpm_state_damaged), V(tpm_start_failed), V(vm_start_failed), V(vm_migrated_away), V(vm_crashed), V(vm_busy).
        - Of a stop or removal, V(stop_timeout), V(vm_running), V(managed_save_exists), V(tpm_state_would_be_lost), V(tpm_state_in_use).
        - Of any item, V(libvirt_error), V(host_file_error), V(internal_error).
      returned: failure
      type: str
      sample: tpm_state_missing
    msg:
      description: What went wrong, on which host, what was found and wanted, and what to do.
      returned: failure
      type: str
error_code:
  description: The C(error_code) of the first VM that failed.
  returned: failure
  type: str
  sample: tpm_state_missing
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.ansible_glue import (
    CONNECTION_OPTIONS,
    ItemSpec,
    run_converger,
)
from ansible_collections.trustedvm.libvirt.plugins.module_utils._domain.options import VM_OPTIONS
from ansible_collections.trustedvm.libvirt.plugins.module_utils._domain.planner import VmPlanner

SPEC = ItemSpec(list_name="vms", identity=("name", "uuid"), options=VM_OPTIONS, extra=CONNECTION_OPTIONS)


def main():
    module = AnsibleModule(**SPEC.module_arguments())
    items = SPEC.items(module.params)
    run_converger(module, SPEC, lambda connection: VmPlanner(connection, items, module.check_mode))


if __name__ == "__main__":
    main()
