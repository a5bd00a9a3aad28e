#!/usr/bin/python
# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: libvirt_secret
short_description: Manage libvirt secrets and prove that they open the TPM state of a VM
version_added: 0.1.0
description:
  - Defines, changes and removes libvirt secrets, one or many in a call.
  - After a definition the secret is looked up again. UUID, usage and, where libvirt or its store shows it, the value
    must be as asked.
  - With O(verify_vm) the value is tried on the TPM state of that VM before anything is written.
  - A failure undoes what the call did to that secret. A secret that the call made is removed again.
author:
  - trustedvm.libvirt contributors (!UNKNOWN)
extends_documentation_fragment:
  - trustedvm.libvirt.attributes
  - trustedvm.libvirt.attributes.state_module
  - trustedvm.libvirt.attributes.key_carrier
  - trustedvm.libvirt.attributes.host
  - trustedvm.libvirt.libvirt
options:
  secrets:
    description:
      - The secrets to manage, instead of one at the top level.
      - An option that an entry does not set has the top level's value.
    type: list
    elements: dict
    suboptions:
      uuid:
        description:
          - The UUID of the secret.
          - Without it, the secret with this O(usage) is meant, and a new one gets a random UUID, which check mode cannot foretell.
        type: str
      usage:
        description:
          - What the secret is for. The name, target or volume path, depending on O(usage_type).
          - The collection's roles use V(trustedvm:vtpm:UUID-OF-THE-VM).
        type: str
      usage_type:
        description:
          - The kind of the usage. libvirt allows one secret for each pair of kind and usage, and never another usage for the same secret.
          - V(none) is a secret that is for nothing in particular. It has no O(usage).
        type: str
        choices: [none, volume, ceph, iscsi, tls, vtpm]
      description:
        description:
          - A text for people. Without it, what is there stays.
        type: str
      private:
        description:
          - Whether libvirt keeps the value from its clients. libvirt never makes a private secret readable again.
        type: bool
      ephemeral:
        description:
          - Whether the secret is kept in memory only, so that it is gone when libvirtd (or virtsecretd) restarts.
        type: bool
      value:
        description:
          - The value in base64, as C(virsh secret-set-value --base64) takes it. Between 1 and 65536 bytes when decoded.
          - Without it, the stored value is left alone.
          - For a vTPM the decoded bytes are the passphrase from which swtpm derives its key.
        type: str
      resource_key:
        description:
          - Which key of the registry is the value, instead of O(value). Resolved on the controller. A dictionary with
            C(resource_type), C(vm), C(purpose) and, unless the newest is meant, C(key_version).
        type: dict
      verify_vm:
        description:
          - A VM, by name or UUID. If it has TPM state on this host, the value must open it, otherwise nothing is changed.
          - A VM that is not defined on this host must be given by its UUID. Its state is looked for in libvirt's own place.
          - Without O(value), the stored value is tried, where it can be read.
        type: str
      in_use:
        description:
          - What O(state=absent) does with a secret that a domain of this host, defined or running, names.
          - V(refuse) is an error, V(keep) leaves the secret, V(remove) removes it. A running VM goes on without its secret. The next start needs it.
        type: str
        choices: [refuse, keep, remove]
      released_by:
        description:
          - Only in check mode. UUIDs of VMs that an earlier task of the play removes, so that they do not count as users of the secret.
        type: list
        elements: str
      state:
        description:
          - Whether the secret shall exist.
        type: str
        choices: [present, absent]
  uuid:
    description:
      - The UUID of the secret.
      - Without it, the secret with this O(usage) is meant, and a new one gets a random UUID, which check mode cannot foretell.
    type: str
  usage:
    description:
      - What the secret is for. The name, target or volume path, depending on O(usage_type).
      - The collection's roles use V(trustedvm:vtpm:UUID-OF-THE-VM).
    type: str
  usage_type:
    description:
      - The kind of the usage. libvirt allows one secret for each pair of kind and usage, and never another usage for the same secret.
      - V(none) is a secret that is for nothing in particular. It has no O(usage).
    type: str
    choices: [none, volume, ceph, iscsi, tls, vtpm]
    default: vtpm
  description:
    description:
      - A text for people. Without it, what is there stays.
    type: str
  private:
    description:
      - Whether libvirt keeps the value from its clients. libvirt never makes a private secret readable again.
    type: bool
    default: true
  ephemeral:
    description:
      - Whether the secret is kept in memory only, so that it is gone when libvirtd (or virtsecretd) restarts.
    type: bool
    default: false
  value:
    description:
      - The value in base64, as C(virsh secret-set-value --base64) takes it. Between 1 and 65536 bytes when decoded.
      - Without it, the stored value is left alone.
      - For a vTPM the decoded bytes are the passphrase from which swtpm derives its key.
    type: str
  resource_key:
    description:
      - Which key of the registry is the value, instead of O(value). Resolved on the controller. A dictionary with
        C(resource_type), C(vm), C(purpose) and, unless the newest is meant, C(key_version).
    type: dict
  verify_vm:
    description:
      - A VM, by name or UUID. If it has TPM state on this host, the value must open it, otherwise nothing is changed.
      - A VM that is not defined on this host must be given by its UUID. Its state is looked for in libvirt's own place.
      - Without O(value), the stored value is tried, where it can be read.
    type: str
  in_use:
    description:
      - What O(state=absent) does with a secret that a domain of this host, defined or running, names.
      - V(refuse) is an error, V(keep) leaves the secret, V(remove) removes it. A running VM goes on without its secret. The next start needs it.
    type: str
    choices: [refuse, keep, remove]
    default: refuse
  released_by:
    description:
      - Only in check mode. UUIDs of VMs that an earlier task of the play removes, so that they do not count as users of the secret.
    type: list
    elements: str
  state:
    description:
      - Whether the secret shall exist.
    type: str
    choices: [present, absent]
    default: present
notes:
  - The value is compared exactly where it can be known. That is a secret with O(private=false), and a private persistent one
    whose value libvirt keeps in plain base64 in its own store on this host (libvirt up to 12.0, or a value set before an upgrade).
  - Where it cannot be known (private and ephemeral, or a store that libvirt encrypts) the value is written again at each run. That
    makes no difference if it is the same, so it is not reported as a change. RV(results[].value_status) says V(rewritten).
seealso:
  - module: trustedvm.libvirt.libvirt_secret_info
  - module: trustedvm.libvirt.vtpm
"""

EXAMPLES = r"""
- name: The secret of a VM's vTPM, with the key from the registry, proven on the VM's TPM state
  trustedvm.libvirt.libvirt_secret:
    uuid: 6f0c8a3e-2b1d-5c55-9d0f-0a1b2c3d4e5f
    usage: trustedvm:vtpm:0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11
    resource_key:
      resource_type: vtpm
      vm: 0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11
      purpose: start
    verify_vm: 0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11

- name: Two secrets without registry, in one call
  trustedvm.libvirt.libvirt_secret:
    ephemeral: true
    secrets:
      - usage: vtpm-web1
        value: "{{ web1_passphrase | b64encode }}"
      - usage: vtpm-web2
        value: "{{ web2_passphrase | b64encode }}"

- name: Remove a secret unless some VM still needs it
  trustedvm.libvirt.libvirt_secret:
    uuid: 6f0c8a3e-2b1d-5c55-9d0f-0a1b2c3d4e5f
    in_use: keep
    state: absent
"""

RETURN = r"""
results:
  description: One entry for each secret, in the order of the task. Never a value, nor a digest of one.
  returned: always
  type: list
  elements: dict
  contains:
    uuid:
      description: The UUID of the secret. None in check mode where libvirt would choose it.
      returned: always
      type: str
    usage_type:
      description: The kind of the usage.
      returned: always
      type: str
    usage:
      description: What the secret is for.
      returned: when there is one
      type: str
    private:
      description: Whether libvirt keeps the value from its clients.
      returned: O(state=present) and success
      type: bool
    ephemeral:
      description: Whether the secret is kept in memory only.
      returned: O(state=present) and success
      type: bool
    value_status:
      description:
        - What was done, or would be done, with the value.
        - V(unchanged), it was compared and is the same. V(set), there was none. V(replaced), there was another one.
          V(rewritten), it cannot be read, so it was written again. V(not_given), there is no value in the task.
      returned: O(state=present) and success
      type: str
      sample: unchanged
    tpm_state:
      description:
        - What the proof on O(verify_vm) found.
        - V(opened), the value opens the VM's TPM state. V(none), the VM has no TPM state on this host. V(not_checked),
          no proof was asked for, no value is known, or the hypervisor is another machine.
      returned: O(state=present) and success
      type: str
      sample: opened
    used_by:
      description: The names of the domains on this host that name the secret.
      returned: O(state=absent), also when it was refused because of them
      type: list
      elements: str
    changed:
      description: Whether this secret was changed, or would be.
      returned: always
      type: bool
    outcome:
      description: V(created), V(updated), V(removed), V(kept), V(unchanged) or V(failed).
      returned: always
      type: str
      sample: created
    steps:
      description: What was done, or would be done.
      returned: success
      type: list
      elements: str
      sample: [define secret, set value]
    failed:
      description: Whether this secret failed. Only there if so.
      returned: failure
      type: bool
    error_code:
      description:
        - The name of the error.
        - Of this module, V(identity_missing), V(uuid_invalid), V(usage_missing), V(usage_not_expected), V(usage_invalid),
          V(description_invalid), V(key_not_resolved), V(value_not_base64), V(value_empty), V(value_too_long), V(secret_usage_taken),
          V(secret_usage_differs),
          V(secret_private_stays), V(secret_not_as_asked), V(secret_in_use), V(duplicate_item).
        - Of the proof, V(key_does_not_open_tpm_state), V(tpm_state_not_encrypted), V(tpm_state_damaged), V(tpm_state_unreadable),
          V(tpm_state_busy), V(vm_not_found).
      returned: failure
      type: str
      sample: secret_usage_taken
    msg:
      description: What went wrong, on which host, what was found and wanted, and what to do.
      returned: failure
      type: str
error_code:
  description: The C(error_code) of the first entry that failed.
  returned: failure
  type: str
  sample: secret_usage_taken
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.ansible_glue import (
    CONNECTION_OPTIONS,
    KEY_CARRIER_OPTIONS,
    ItemSpec,
    run_converger,
)
from ansible_collections.trustedvm.libvirt.plugins.module_utils._secret.definition import USAGE_TYPES
from ansible_collections.trustedvm.libvirt.plugins.module_utils._secret.planner import SecretPlanner

SPEC = ItemSpec(
    list_name="secrets",
    identity=("uuid", "usage"),
    options={
        "uuid": {"type": "str"},
        "usage": {"type": "str"},
        "usage_type": {"type": "str", "choices": list(USAGE_TYPES), "default": "vtpm"},
        "description": {"type": "str"},
        "private": {"type": "bool", "default": True},
        "ephemeral": {"type": "bool", "default": False},
        "value": {"type": "str", "no_log": True},
        "resource_key": {"type": "dict", "no_log": False},
        "verify_vm": {"type": "str"},
        "in_use": {"type": "str", "choices": ["refuse", "keep", "remove"], "default": "refuse"},
        "released_by": {"type": "list", "elements": "str"},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    },
    extra={**CONNECTION_OPTIONS, **KEY_CARRIER_OPTIONS},
)


def main():
    module = AnsibleModule(**SPEC.module_arguments())
    run_converger(module, SPEC, lambda connection: SecretPlanner(connection, module.check_mode).plan)


if __name__ == "__main__":
    main()
