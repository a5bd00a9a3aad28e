#!/usr/bin/python
# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: libvirt_secret_info
short_description: List libvirt secrets and the VMs that use them
version_added: 0.1.0
description:
  - Lists the secrets of a host, never their values.
author:
  - trustedvm.libvirt contributors (!UNKNOWN)
extends_documentation_fragment:
  - trustedvm.libvirt.attributes
  - trustedvm.libvirt.attributes.info_module
  - trustedvm.libvirt.attributes.host
  - trustedvm.libvirt.libvirt
options:
  uuid:
    description:
      - Only the secret with this UUID.
    type: str
  usage:
    description:
      - Only secrets with this usage.
    type: str
  usage_type:
    description:
      - Only secrets with this kind of usage.
    type: str
    choices: [none, volume, ceph, iscsi, tls, vtpm]
seealso:
  - module: trustedvm.libvirt.libvirt_secret
"""

EXAMPLES = r"""
- name: Which vTPM secrets are on the host, and for which VMs
  trustedvm.libvirt.libvirt_secret_info:
    usage_type: vtpm
  register: found

- name: Secrets that nothing uses
  ansible.builtin.debug:
    msg: "{{ found.secrets | rejectattr('used_by') | map(attribute='uuid') }}"
"""

RETURN = r"""
secrets:
  description: The secrets that fit all filters, sorted by UUID.
  returned: success
  type: list
  elements: dict
  contains:
    uuid:
      description: The UUID.
      returned: always
      type: str
    usage_type:
      description: The kind of the usage, V(none) where there is none.
      returned: always
      type: str
      sample: vtpm
    usage:
      description: What the secret is for.
      returned: always
      type: str
    private:
      description: Whether libvirt keeps the value from its clients.
      returned: always
      type: bool
    ephemeral:
      description: Whether the secret is kept in memory only.
      returned: always
      type: bool
    description:
      description: The text for people.
      returned: always
      type: str
    has_value:
      description: Whether the secret has a value. None where libvirt does not show it (private and ephemeral, or an encrypted store).
      returned: always
      type: bool
    used_by:
      description: The names of the domains, defined or running, that name the secret.
      returned: always
      type: list
      elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.ansible_glue import (
    CONNECTION_OPTIONS,
    run_info,
)
from ansible_collections.trustedvm.libvirt.plugins.module_utils._secret.definition import USAGE_TYPES
from ansible_collections.trustedvm.libvirt.plugins.module_utils._secret.info import SecretReader


def main():
    module = AnsibleModule(
        argument_spec={
            "uuid": {"type": "str"},
            "usage": {"type": "str"},
            "usage_type": {"type": "str", "choices": list(USAGE_TYPES)},
            **CONNECTION_OPTIONS,
        },
        supports_check_mode=True,
    )
    filters = {name: module.params[name] for name in ("uuid", "usage", "usage_type")}
    # Not read-only: libvirt says whether a secret has a value only to a client that may read it.
    run_info(module, "secrets", lambda connection: SecretReader(connection).read(**filters), readonly=False)


if __name__ == "__main__":
    main()
