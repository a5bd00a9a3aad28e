# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    """Options of every module that talks to libvirt on the host that it runs on."""

    DOCUMENTATION = r"""
options:
  uri:
    description:
      - The libvirt connection, as seen from the host that the module runs on.
    type: str
    default: qemu:///system
requirements:
  - libvirt 9.0 or newer on the host
  - python3-libvirt and python3-lxml for the Python that Ansible uses on the host
"""
