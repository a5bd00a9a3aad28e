# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    """Options and behaviour of every module that works on the controller's records and keys."""

    DOCUMENTATION = r"""
options:
  registry_url:
    description:
      - The registry, as an SQLAlchemy URL for SQLite (V(sqlite:////absolute/path)) or PostgreSQL (V(postgresql://user@host/database)).
      - Without it, the variable C(trustedvm_registry_url), then the environment variable E(TRUSTEDVM_REGISTRY_URL), then a file
        C(registry.sqlite) in the O(state_directory).
      - A password is better kept out of it, in C(~/.pgpass) for example. Messages and the arguments in results never show one. Callback
        plugins that print a task before it runs show what stands in the play, so a URL with a password belongs into the variable or the
        environment and not into the play.
    type: str
  state_directory:
    description:
      - Where the default registry and key rings are, on the controller. Made with mode 0700.
      - Without it, the variable C(trustedvm_state_directory), then the environment variable E(TRUSTEDVM_STATE_DIRECTORY), then
        C(trustedvm) below E(XDG_STATE_HOME), which is C(~/.local/state) unless set.
    type: path
requirements:
  - ansible-core 2.19 or newer
  - SQLAlchemy 2.0 or newer on the controller
  - psycopg 3.1 or newer on the controller, for a registry in PostgreSQL
notes:
  - Runs on the controller. The host of the task is not contacted and may be down, so a task with a list and C(run_once) does for many hosts.
  - A registry that is not there yet is made by the first task that changes it. Reading and check mode see it as empty. One that cannot be
    looked at (permissions, a mount that is not there) is an error.
  - Passphrases of key rings come from the variable C(trustedvm_key_ring_passphrase) (from a vault), the environment variable
    E(TRUSTEDVM_KEY_RING_PASSPHRASE), or a file that the key provider names.
"""
