#!/usr/bin/python
# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: nvram_volume_info
short_description: Read the UEFI variable stores of a host's VMs
version_added: 0.1.0
description:
  - Tells of NVRAM volumes what they are, whose they are and whether a VM may be started with them.
  - Without O(vm), O(path), O(volumes) and O(directory), the volumes of all VMs of the host.
author:
  - trustedvm.libvirt contributors (!UNKNOWN)
extends_documentation_fragment:
  - trustedvm.libvirt.attributes
  - trustedvm.libvirt.attributes.info_module
  - trustedvm.libvirt.attributes.host
  - trustedvm.libvirt.libvirt
options:
  volumes:
    description:
      - The volumes to read.
    type: list
    elements: dict
    suboptions:
      vm:
        description:
          - The VM, by name or UUID.
        type: str
      path:
        description:
          - The file, instead of O(volumes[].vm).
        type: path
  vm:
    description:
      - The VM, by name or UUID.
    type: str
  path:
    description:
      - The file.
    type: path
  directory:
    description:
      - All volumes in this directory and in the VMs' directories in it.
    type: path
seealso:
  - module: trustedvm.libvirt.nvram_volume
"""

EXAMPLES = r"""
- name: Whose volumes are in this directory, and which are nobody's?
  trustedvm.libvirt.nvram_volume_info:
    directory: /srv/images/nvram
  register: nvram

- name: The volume of one VM
  trustedvm.libvirt.nvram_volume_info:
    vm: web1
"""

RETURN = r"""
volumes:
  description: One entry for each volume.
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: The file. None where the VM's NVRAM is no file.
      returned: always
      type: str
    exists:
      description: Whether it is there.
      returned: always
      type: bool
    type:
      description: V(file), V(block) or V(network).
      returned: always
      type: str
    size:
      description: Its size in bytes.
      returned: always
      type: int
    format:
      description: Its format by its content.
      returned: always
      type: str
    sha256:
      description: The digest of its content.
      returned: always
      type: str
    pristine:
      description: Whether nothing was ever written to it. It is blank, or equals a firmware template of the host.
      returned: always
      type: bool
    ready:
      description: Whether the VM may be started with it. None where no VM is known.
      returned: always
      type: bool
    needed:
      description: Whether the VM has a vTPM or Secure Boot. None where no VM is known.
      returned: always
      type: bool
    template:
      description: What the VM's volume starts from.
      returned: always
      type: str
    copies:
      description: What resets kept.
      returned: always
      type: list
      elements: str
    vm:
      description: The name of the VM that uses it.
      returned: always
      type: str
    uuid:
      description: The UUID of that VM.
      returned: always
      type: str
strays:
  description: Volumes in O(directory), or beside the volumes told of, that no VM of the host uses.
  returned: success
  type: list
  elements: str
error_code:
  description: The name of the error, as V(vm_not_found).
  returned: failure
  type: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.ansible_glue import (
    CONNECTION_OPTIONS,
    with_connection,
)
from ansible_collections.trustedvm.libvirt.plugins.module_utils._nvram.info import NvramInspector

ITEM = {"vm": {"type": "str"}, "path": {"type": "path"}}


def read(connection, params):
    inspector = NvramInspector(connection)
    items = params["volumes"]
    if items is None and (params["vm"] or params["path"]):
        items = [params]
    if items is not None:
        volumes = inspector.volumes(items)
    elif params["directory"]:
        volumes = inspector.below(params["directory"])
    else:
        volumes = inspector.of_all_vms()
    directories = [params["directory"]] if params["directory"] else []
    return {"volumes": volumes, "strays": inspector.strays(directories, volumes)}


def main():
    in_list = {
        "type": "list",
        "elements": "dict",
        "options": ITEM,
        "mutually_exclusive": [("vm", "path")],
        "required_one_of": [("vm", "path")],
    }
    module = AnsibleModule(
        argument_spec={**ITEM, "directory": {"type": "path"}, "volumes": in_list, **CONNECTION_OPTIONS},
        mutually_exclusive=[("vm", "path", "volumes", "directory")],
        supports_check_mode=True,
    )
    answer = with_connection(module, lambda connection: read(connection, module.params))
    module.exit_json(changed=False, **answer)


if __name__ == "__main__":
    main()
