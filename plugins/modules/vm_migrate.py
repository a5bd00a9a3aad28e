#!/usr/bin/python
# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: vm_migrate
short_description: Migrate VMs to another host, running or off
version_added: 0.1.0
description:
  - Moves running VMs live from the host that the module runs on to another one, peer to peer (the data goes from host to host)
    and over TLS. TPM state and NVRAM travel with the VM.
  - Looks at both hosts first, over libvirt. What would make the migration fail, or would lose the TPM state, is an error before anything moves.
    In check mode that is all that happens.
  - Makes the directory of the VM's NVRAM file on the destination, if it is missing; libvirt makes the file.
  - An encrypted vTPM needs its libvirt secret on the destination, with the same UUID and value. This module checks that it is there and
    does not copy it; the role P(trustedvm.libvirt.vm_migrate#role) defines it there from the VM's key.
  - Afterwards asks both hosts whether the VM runs where it should. After a failure says where the VM runs and what is left on the destination.
  - A VM that is off is moved with O(mode=cold). libvirt's own offline migration is never used, because it moves the definition only and can
    delete the TPM state. A cold migration that fails removes from the destination what it made there, and touches nothing on the source before
    the destination is proven. One that was killed is finished by the next run. Only files are copied; NVRAM on a block device or on the network
    has to be reached from both hosts.
extends_documentation_fragment:
  - trustedvm.libvirt.libvirt
  - trustedvm.libvirt.attributes
  - trustedvm.libvirt.attributes.state_module
  - trustedvm.libvirt.attributes.key_carrier
  - trustedvm.libvirt.attributes.host
options:
  vm:
    description:
      - Name or UUID of the VM. Excludes O(migrations).
    type: str
  destination_host:
    description:
      - Name or address of the destination, as the source reaches it.
      - Makes the URI V(qemu+tls://HOST/system), with O(pkipath) if that is given.
    type: str
  destination_uri:
    description:
      - libvirt URI of the destination, as the source's libvirt daemon opens it. Wins over O(destination_host).
    type: str
  pkipath:
    description:
      - Directory on the source with C(cacert.pem), C(clientcert.pem) and C(clientkey.pem) for the connection to the destination.
      - Without it libvirt looks at its usual places below C(/etc/pki).
    type: str
  mode:
    description:
      - V(live) moves a running VM while it runs.
      - V(cold) moves a VM that is off. Its NVRAM and TPM state are copied over libvirt and read back, their digests are compared, the key
        that was given is tried on the copy, and the VM is defined on the destination; only then the source's definition goes.
        Disks are not copied, they must be on storage that both hosts have. What both hosts share is neither copied nor deleted.
      - V(auto) is V(live) for a VM that runs and V(cold) for one that is off.
    type: str
    choices: [live, cold, auto]
    default: live
  tls:
    description:
      - Encrypt the VM's data on its way. Needs certificates for QEMU on both hosts (C(migrate_tls_x509_cert_dir) in C(qemu.conf)).
    type: bool
    default: true
  tls_hostname:
    description:
      - Name in the destination's QEMU certificate, if it is not the name to which the data goes.
    type: str
  undefine_source:
    description:
      - Take the VM's definition off the source.
      - If it stays there it can be started a second time, with old TPM state and NVRAM, while it runs on the destination.
    type: bool
    default: true
  persist_destination:
    description:
      - Define the VM on the destination, so that it survives its shutdown. A VM that is off cannot do without.
    type: bool
    default: true
  unsafe:
    description:
      - Migrate even if libvirt does not know the storage of the disks to be shared or coherent.
      - In a cold migration that a disk on the destination which cannot be proven to be the same is the VM's, because it was copied there, say.
      - Right for a directory that both hosts really share and that libvirt does not recognise as such. Never makes libvirt copy a disk.
    type: bool
    default: false
  clean_source:
    description:
      - Once the VM is on the destination, remove from the source its NVRAM file, its TPM state and the secrets that no other VM there uses.
      - What both hosts share stays, and so does what cannot be told from shared. What could not be removed is in RV(results[].source_leftovers)
        and does not make the migration a failure. Copies that a reset of the VM set aside stay as well.
      - If the VM is off there, NVRAM and TPM state are removed only where the destination has equal ones.
      - A later run with this option finishes what an earlier one did not get to.
    type: bool
    default: false
  migrate_uri:
    description:
      - Address for the VM's data, such as V(tcp://10.0.0.2), if it is not the one that the destination names.
    type: str
  bandwidth:
    description:
      - Most MiB per second; V(0) is no limit.
    type: int
    default: 0
  auto_converge:
    description:
      - Slow the VM's CPUs down if its memory changes faster than it can be sent.
    type: bool
    default: false
  timeout:
    description:
      - Seconds after which the migration is aborted; the VM then stays on the source. V(0) is no limit.
      - In a cold migration for each step on the destination; V(0) is two minutes.
    type: int
    default: 0
  connect_timeout:
    description:
      - Seconds to wait for the destination's libvirt.
    type: int
    default: 10
  value:
    description:
      - The value of the TPM's secret in base64. It is tried on the VM's TPM state, and if it does not open it nothing is moved.
      - It is not sent to the destination.
    type: str
  resource_key:
    description:
      - Which key of the registry is the value, instead of O(value). Resolved on the controller. A dictionary with
        C(resource_type), C(vm), C(purpose) and, unless the newest is meant, C(key_version).
    type: dict
  provided_secrets:
    description:
      - UUIDs of secrets that the play defines on the destination before it migrates.
      - In check mode they count as present there. A real run checks them like any other.
    type: list
    elements: str
    default: []
  tpm_state_sharing:
    description:
      - Whether both hosts see the same directory for TPM state. A live migration that fails deletes the state at the destination;
        where that is the running VM's own state and libvirt does not know it, the TPM is lost.
      - V(detect) looks, with a marker file seen from both ends, and refuses a shared directory. A cold migration does not refuse it,
        but leaves it as it is.
      - V(local) means that each host has its own; nothing is looked at.
      - V(shared) means that libvirt on both hosts recognises the file system as shared, and that swtpm is 0.8 or newer.
    type: str
    choices: [detect, local, shared]
    default: detect
  run:
    description:
      - Which run of M(trustedvm.libvirt.vm_operation) holds the VMs. Its leases are renewed on the controller while they move.
    type: str
  lease:
    description:
      - For how many seconds each renewal of O(run) holds the VMs.
    type: int
    default: 300
  migrations:
    description:
      - Several migrations, one after the other. An option that an item does not set takes the value from the top level.
    type: list
    elements: dict
    suboptions:
      vm:
        description: Name or UUID of the VM.
        type: str
        required: true
      destination_host:
        description: As O(destination_host).
        type: str
      destination_uri:
        description: As O(destination_uri).
        type: str
      pkipath:
        description: As O(pkipath).
        type: str
      mode:
        description: As O(mode).
        type: str
        choices: [live, cold, auto]
      tls:
        description: As O(tls).
        type: bool
      tls_hostname:
        description: As O(tls_hostname).
        type: str
      undefine_source:
        description: As O(undefine_source).
        type: bool
      persist_destination:
        description: As O(persist_destination).
        type: bool
      unsafe:
        description: As O(unsafe).
        type: bool
      clean_source:
        description: As O(clean_source).
        type: bool
      migrate_uri:
        description: As O(migrate_uri).
        type: str
      bandwidth:
        description: As O(bandwidth).
        type: int
      auto_converge:
        description: As O(auto_converge).
        type: bool
      timeout:
        description: As O(timeout).
        type: int
      connect_timeout:
        description: As O(connect_timeout).
        type: int
      value:
        description: As O(value).
        type: str
      resource_key:
        description: As O(resource_key).
        type: dict
      provided_secrets:
        description: As O(provided_secrets).
        type: list
        elements: str
      tpm_state_sharing:
        description: As O(tpm_state_sharing).
        type: str
        choices: [detect, local, shared]
author:
  - trustedvm.libvirt contributors (@trustedvm)
seealso:
  - module: trustedvm.libvirt.libvirt_secret
  - module: trustedvm.libvirt.vm
"""

EXAMPLES = r"""
- name: Move one VM
  trustedvm.libvirt.vm_migrate:
    vm: web1
    destination_host: hv2.example.org

- name: Move a VM that is off, try its key on what has arrived, and leave nothing on the source
  trustedvm.libvirt.vm_migrate:
    vm: web1
    destination_host: hv2.example.org
    mode: cold
    clean_source: true
    resource_key:
      resource_type: vtpm
      vm: 0b0e1f5e-6c1c-4f5c-8a8e-6e2b7e0f6e11
      purpose: migrate
  become: true

- name: See whether two VMs could be moved, without moving them
  trustedvm.libvirt.vm_migrate:
    destination_host: hv2.example.org
    migrations:
      - vm: web1
      - vm: web2
  check_mode: true

- name: Disks on a directory that both hosts mount, at most 200 MiB/s, give up after ten minutes
  trustedvm.libvirt.vm_migrate:
    vm: db1
    destination_uri: qemu+tls://hv2.example.org/system?pkipath=/etc/pki/trustedvm
    unsafe: true
    bandwidth: 200
    timeout: 600
"""

RETURN = r"""
results:
  description: One entry for each migration, in the order given. What is not known when an item fails is null.
  returned: always
  type: list
  elements: dict
  contains:
    vm:
      description: The VM as it was asked for.
      type: str
      returned: always
    uuid:
      description: UUID of the VM.
      type: str
      returned: always
    name:
      description: Name of the VM.
      type: str
      returned: always
    changed:
      description: Whether the VM was moved, or would be in check mode.
      type: bool
      returned: always
    outcome:
      description:
        - V(migrated), V(cleaned), V(already_there) or V(failed).
        - V(cleaned) is a VM that an earlier run moved, and that this one undefined on the source or removed the files of.
      type: str
      returned: always
    steps:
      description: What was done.
      type: list
      elements: str
      returned: when the item did not fail
    mode:
      description: V(live) or V(cold), also where V(auto) was asked for.
      type: str
      returned: always
    defined_on:
      description: Where the VM is defined after a cold migration that failed. V(source), V(destination), V(both) or V(unknown).
      type: str
      returned: when a cold migration was started and failed
    running_on:
      description: V(source), V(destination), V(both), V(neither) or V(unknown). In check mode where it runs now.
      type: str
      returned: always
    source_host:
      description: Host name that libvirt on the source reports.
      type: str
      returned: always
    destination_host:
      description: Host name that libvirt on the destination reports.
      type: str
      returned: always
    destination_uri:
      description: URI of the destination.
      type: str
      returned: always
    key_opens:
      description: V(true) if the key given with O(value) or O(resource_key) opens the TPM state; null if it was not tried.
      type: bool
      returned: always
    secrets:
      description: The libvirt secrets that the VM's TPM needs, without values. Usage and flags are null if the source has lost the secret.
      type: list
      elements: dict
      returned: always
      sample:
        - uuid: 7a44b0a5-7a5d-5e0c-9c6a-0d8d54b6cc1f
          usage_type: vtpm
          usage: trustedvm:vtpm:0b0e1f5e-6c1c-4f5c-8a8e-6e2b7e0f6e11
          private: true
          ephemeral: false
          on_source: true
          on_destination: true
    nvram:
      description:
        - The VM's NVRAM file; null if it has none.
        - RV(results[].nvram.shared) is true only if it was proven to be one file at both ends, and null if it could not be decided.
      type: dict
      returned: always
      contains:
        path:
          description: The file.
          type: str
          returned: always
          sample: /var/lib/libvirt/qemu/nvram/web1_VARS.fd
        template:
          description: What it was made from; null if libvirt does not tell.
          type: str
          returned: always
          sample: /usr/share/OVMF/OVMF_VARS_4M.fd
        shared:
          description: Whether both hosts see the same file.
          type: bool
          returned: always
          sample: false
        existed_on_destination:
          description: Whether the destination had a file of this path; null if it could not be seen.
          type: bool
          returned: always
          sample: false
    tpm_state:
      description: The place of the VM's TPM state; null if it has none. Fields as in RV(results[].nvram), without a template.
      type: dict
      returned: always
      sample:
        path: /var/lib/libvirt/swtpm/0b0e1f5e-6c1c-4f5c-8a8e-6e2b7e0f6e11/tpm2
        shared: false
        existed_on_destination: false
    destination:
      description: The VM on the destination after the migration.
      type: dict
      returned: after a migration
      sample:
        state: running
        persistent: true
    timings:
      description:
        - How long it took, in seconds by the source's clock.
        - RV(results[].timings.downtime_ms) is in milliseconds, as measured by QEMU; null if libvirt did not tell.
      type: dict
      returned: after a migration
      contains:
        preflight_s:
          description: The look at both hosts.
          type: float
          returned: always
          sample: 0.061
        copy_s:
          description: Copying NVRAM and TPM state and reading them back.
          type: float
          returned: in a cold migration
          sample: 0.127
        define_s:
          description: Defining the VM on the destination and undefining it on the source.
          type: float
          returned: in a cold migration
          sample: 0.094
        setup_s:
          description: Until the first byte of memory moved, which is the start of QEMU and TPM on the destination.
          type: float
          returned: in a live migration
          sample: 1.702
        transfer_s:
          description: From then to the end.
          type: float
          returned: in a live migration
          sample: 0.841
        total_s:
          description: The whole without the look at both hosts.
          type: float
          returned: always
          sample: 2.543
        downtime_ms:
          description: How long the VM stood still.
          type: int
          returned: in a live migration
          sample: 110
    bytes:
      description:
        - libvirt's statistics of the finished job.
        - In a cold migration how much of C(nvram) and C(tpm_state) this run copied; V(0) for what was there or is shared.
      type: dict
      returned: after a migration
      sample:
        memory_total: 172376064
        memory_processed: 51570588
        memory_remaining: 0
        disk_total: 0
        disk_processed: 0
    digests:
      description: SHA-256 of what is equal at both ends. Null for what is shared or not there.
      type: dict
      returned: after a cold migration
      contains:
        nvram:
          description: Of the NVRAM file.
          type: str
          returned: always
        tpm_state:
          description: Of the file with the TPM's permanent state.
          type: str
          returned: always
    iterations:
      description: How many times QEMU went over the VM's memory.
      type: int
      returned: after a live migration
      sample: 3
    source_leftovers:
      description:
        - Files of the VM that libvirt left on the source and that the destination does not use.
        - With O(clean_source) only what could not be removed, each with its C(reason).
      type: list
      elements: dict
      returned: when the item did not fail, outside check mode
      sample:
        - kind: nvram
          path: /var/lib/libvirt/qemu/nvram/web1_VARS.fd
    source_removed:
      description: What O(clean_source) removed from the source. Kinds as in RV(results[].source_leftovers).
      type: list
      elements: dict
      returned: after cleaning
      sample:
        - kind: secret
          path: 7a44b0a5-7a5d-5e0c-9c6a-0d8d54b6cc1f
    leftovers:
      description: What a failed migration left on the destination. C(kind) is V(nvram), V(tpm_state) or V(domain), in a cold migration V(file),
        V(directory) or V(domain).
      type: list
      elements: dict
      returned: when a migration was started and failed
      sample:
        - kind: nvram
          path: /var/lib/libvirt/qemu/nvram/web1_VARS.fd
    obstacles:
      description:
        - Everything that speaks against the migration, if that is more than one thing; RV(results[].error_code) and RV(results[].msg) are those
          of the first.
        - Of the VM, C(migration_in_progress), C(block_job_active), C(snapshots_exist), C(host_device_not_migratable).
        - Of key and TPM, C(key_does_not_open_tpm_state), C(destination_secret_missing), C(destination_secret_mismatch),
          C(destination_secret_wrong), C(destination_secret_usage_taken), C(destination_secret_unsupported), C(destination_tpm_unsupported),
          C(tpm_state_shared_unrecognised), C(tpm_state_sharing_unknown).
        - Of disks, C(disk_not_on_destination), C(disk_not_shared), C(disk_sharing_unknown), C(storage_not_shared), C(destination_pool_inactive).
        - Of the destination, C(destination_machine_unsupported), C(destination_firmware_missing), C(destination_cpu_incompatible),
          C(destination_vcpu_limit), C(destination_memory_short), C(destination_libvirt_too_old), C(destination_network_missing),
          C(destination_network_inactive), C(destination_bridge_missing), C(destination_interface_missing),
          C(destination_host_device_missing), C(destination_log_directory_missing).
        - C(preflight_incomplete) is a question that libvirt did not answer. What can only not be told, such as a bridge where libvirt has no
          interface driver, is no obstacle.
        - Memory is short if a VM that runs holds more than what is free or in caches there, or if a VM has more than the host.
      type: list
      elements: dict
      returned: when the look at both hosts found several reasons
      contains:
        error_code:
          description: Stable name of the reason.
          type: str
          returned: always
          sample: destination_bridge_missing
        msg:
          description: What was found, what was wanted, what to do, in one text.
          type: str
          returned: always
        found:
          description: What is there.
          type: str
          returned: always
          sample: no such network interface
        wanted:
          description: What should be there; null if that goes without saying.
          type: str
          returned: always
          sample: bridge 'br0', as on hv1
        hint:
          description: What to do next.
          type: str
          returned: always
    error_code:
      description: Stable name of the failure.
      type: str
      returned: when the item failed
      sample: destination_secret_missing
    msg:
      description: What was found, what was wanted, what to do.
      type: str
      returned: when the item failed
    libvirt_error:
      description: libvirt's error number.
      type: int
      returned: when libvirt reported the failure
error_code:
  description: That of the first item that failed.
  returned: on failure
  type: str
"""

from typing import Any, Callable

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._core.ansible_glue import CONNECTION_OPTIONS, KEY_CARRIER_OPTIONS, ItemSpec, run_converger
from ..module_utils._core.change import Change
from ..module_utils._core.runner import Item
from ..module_utils._migration.destination import Destinations
from ..module_utils._migration.planner import MigrationPlanner

SPEC = ItemSpec(
    list_name="migrations",
    identity=("vm",),
    options={
        "vm": {"type": "str"},
        "destination_host": {"type": "str"},
        "destination_uri": {"type": "str"},
        "pkipath": {"type": "str"},
        "mode": {"type": "str", "choices": ["live", "cold", "auto"], "default": "live"},
        "tls": {"type": "bool", "default": True},
        "tls_hostname": {"type": "str"},
        "undefine_source": {"type": "bool", "default": True},
        "persist_destination": {"type": "bool", "default": True},
        "unsafe": {"type": "bool", "default": False},
        "clean_source": {"type": "bool", "default": False},
        "migrate_uri": {"type": "str"},
        "bandwidth": {"type": "int", "default": 0},
        "auto_converge": {"type": "bool", "default": False},
        "timeout": {"type": "int", "default": 0},
        "connect_timeout": {"type": "int", "default": 10},
        "value": {"type": "str", "no_log": True},
        "resource_key": {"type": "dict", "no_log": False},
        # UUIDs, not values.
        "provided_secrets": {"type": "list", "elements": "str", "default": [], "no_log": False},
        "tpm_state_sharing": {"type": "str", "choices": ["detect", "local", "shared"], "default": "detect"},
    },
    # What the action on the controller reads is nothing to the module.
    extra={**CONNECTION_OPTIONS, **KEY_CARRIER_OPTIONS, "run": {"type": "str"}, "lease": {"type": "int", "default": 300}},
)


def main() -> None:
    """Read the options, plan and run each migration, report."""
    module = AnsibleModule(**SPEC.module_arguments())
    destinations = Destinations()

    def make_plan(connection: Any) -> Callable[[Item], Change]:
        return MigrationPlanner(connection, destinations, module.check_mode).plan

    try:
        run_converger(module, SPEC, make_plan)
    finally:
        destinations.close()


if __name__ == "__main__":
    main()
