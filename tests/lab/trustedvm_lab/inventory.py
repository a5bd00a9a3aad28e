# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How Ansible and ssh reach the hosts."""

from __future__ import annotations

import shlex
from typing import Any

import yaml

from .records import HostRecord
from .settings import Settings

GROUP = "hypervisors"


def ssh_options(settings: Settings) -> dict[str, str]:
    return {
        "UserKnownHostsFile": str(settings.known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "IdentitiesOnly": "yes",
        # A host that loses its power or its cable sends nothing more, not even a reset.
        "ConnectTimeout": "5",
        "ServerAliveInterval": "5",
        "ServerAliveCountMax": "3",
    }


def inventory(settings: Settings, records: dict[str, HostRecord]) -> dict[str, Any]:
    hosts = {
        name: {"ansible_host": record.address, "trustedvm_lab_release": record.release} for name, record in records.items()
    }
    common = " ".join(shlex.quote(f"-o{key}={value}") for key, value in ssh_options(settings).items())
    variables = {
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(settings.key),
        "ansible_ssh_common_args": common,
        # In the lab's directory, so that 'kill' and 'down' can end the shared connections of a host.
        # Ansible formats this value itself, so ssh's own percent signs are doubled.
        "ansible_control_path": f"{settings.control_sockets}/%%h-%%r",
        "ansible_ssh_pipelining": True,
        "ansible_python_interpreter": "/usr/bin/python3",
        # /dev/kvm may be there and hang the guests.
        "trustedvm_virt_type": "qemu",
        "trustedvm_lab_shared_directory": "/srv/shared",
        "trustedvm_lab_local_directory": "/srv/local",
    }
    return {"all": {"children": {GROUP: {"hosts": hosts, "vars": variables}}}}


def inventory_yaml(settings: Settings, records: dict[str, HostRecord]) -> str:
    return str(yaml.safe_dump(inventory(settings, records), sort_keys=False, width=1000))


def ssh_config(settings: Settings, records: dict[str, HostRecord]) -> str:
    """For 'ssh -F FILE NAME'."""
    lines = []
    for name, record in records.items():
        options = {"HostName": record.address, "User": "root", "IdentityFile": str(settings.key), **ssh_options(settings)}
        lines += [f"Host {name}", *(f"  {key} {value}" for key, value in options.items()), ""]
    return "\n".join(lines)
