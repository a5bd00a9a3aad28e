# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: other collections must not use it.

from __future__ import annotations


class ModuleDocFragment:
    """The attributes of the modules; a module adds ``support`` where the fragment does not."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
  diff_mode:
    description: Returns details on what has changed (or would change in C(check_mode)), when in diff mode.
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
      - This assumes that what the module manages was not changed in between by someone else.
"""

    # Of every module that brings something into a wanted state.
    STATE_MODULE = r"""
options: {}
attributes:
  check_mode:
    support: full
    details: The prediction is what the run then does, entry by entry.
  diff_mode:
    support: full
    details: Key material and passphrases are never part of a diff.
  idempotent:
    support: full
"""

    # Of every module that only reads.
    INFO_MODULE = r"""
options: {}
attributes:
  check_mode:
    support: full
    details: This module does not modify state.
  diff_mode:
    support: N/A
    details: This module does not modify state.
  idempotent:
    support: full
    details: This module does not modify state.
"""

    # Of the modules that run on a hypervisor.
    HOST = r"""
options: {}
attributes:
  platform:
    description: Target OS or families that can be operated against.
    support: full
    platforms: linux
    details: Needs libvirt 9.0 or newer with the QEMU driver.
  action_group:
    description: Use C(group/trustedvm.libvirt.libvirt) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - trustedvm.libvirt.libvirt
"""

    # Of the modules that run on the controller and need no connection to a host.
    CONTROLLER = r"""
options: {}
attributes:
  platform:
    description: Target OS or families that can be operated against.
    support: full
    platforms: posix
    details: Runs on the controller; the host of the task is not contacted.
  action:
    description: Indicates that this has a corresponding action plugin so that parts of it run on the controller.
    support: full
  action_group:
    description: Use C(group/trustedvm.libvirt.controller) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - trustedvm.libvirt.controller
  async:
    description: Supports being used with the C(async) keyword.
    support: none
  connection:
    description: Uses the target's configured connection information to execute code on it.
    support: none
"""

    # Of host-side modules whose arguments can carry a key. To be named before HOST, whose action group it replaces.
    KEY_CARRIER = r"""
options:
  registry_url:
    description:
      - Where O(resource_key) is looked up, as in M(trustedvm.libvirt.resource_key). Used on the controller, not sent to the host.
    type: str
  state_directory:
    description:
      - Where the default registry and key rings are, as in M(trustedvm.libvirt.resource_key). Used on the controller, not sent to the host.
    type: path
attributes:
  action_group:
    description: Use C(group/trustedvm.libvirt.libvirt) or C(group/trustedvm.libvirt.controller) in C(module_defaults) to set defaults for this module.
    support: full
    details: The second one is for O(registry_url) and O(state_directory), and holds the modules that work on the controller's records too.
    membership:
      - trustedvm.libvirt.libvirt
      - trustedvm.libvirt.controller
  action:
    description: Indicates that this has a corresponding action plugin so that parts of it run on the controller.
    support: full
    details: The action resolves O(resource_key) on the controller and hands the key to the module over standard input only.
  async:
    description: Supports being used with the C(async) keyword.
    support: partial
    details: A call that carries a key is refused, because it would be written to a file on the host.
notes:
  - >-
    A call that carries a key, in O(value) or O(resource_key), is pipelined whatever the configuration says. Where that cannot be had, with
    C(async), the become plugin su or a connection plugin without pipelining, it fails with the error code V(key_needs_pipelining).
  - >-
    Whether a key can be read is decided on the controller before anything is sent. See M(trustedvm.libvirt.resource_key) for the error codes;
    further V(value_and_resource_key) if both are given, and V(key_not_delivered) if a release of ansible-core went around it.
"""
