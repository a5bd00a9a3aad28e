# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from . import inventory, network, trees
from .errors import LabError
from .lab import LIBVIRT_SOCKET, Lab
from .records import init_pid
from .settings import settings_from

ENVIRONMENT = """\
environment:
  TRUSTEDVM_CACHE        caches and the default lab (/var/cache/trustedvm)
  TRUSTEDVM_LAB_DIR      state of this lab ($TRUSTEDVM_CACHE/lab); another directory is another lab,
                         with a bridge and a network of its own, beside the first one
  TRUSTEDVM_LAB_NETWORK  network of this lab, if the derived one (10.99.N.0/24) is taken
"""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="lab", description="Several hypervisors on one machine.", epilog=ENVIRONMENT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text)

    def names(command: argparse.ArgumentParser, nargs: str) -> None:
        command.add_argument("names", nargs=nargs, metavar="NAME")

    up = add("up", "make and boot hosts; those that run stay as they are")
    names(up, "+")
    up.add_argument("--release", choices=trees.RELEASES, default=trees.DEFAULT_RELEASE)
    names(add("down", "remove hosts and all that is theirs; without a name, the whole lab"), "*")
    status = add("status", "list the hosts and how they are")
    status.add_argument("--json", action="store_true")
    add("inventory", "print an inventory for ansible-playbook -i")
    add("ssh-config", "print a configuration for ssh -F")
    run = add("exec", "run a command inside a host, also when its network is cut: lab exec NAME -- COMMAND")
    run.add_argument("names", nargs=1, metavar="NAME")
    run.add_argument("arguments", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    names(add("cut", "unplug the network"), "+")
    names(add("heal", "plug the network in again"), "+")
    names(add("kill", "power loss: all processes of the host die, its disks stay"), "+")
    names(add("revive", "boot killed hosts again"), "+")
    prepare = add("prepare", "make the trees that other releases need; for this machine's own release, check the packages")
    prepare.add_argument("--release", choices=trees.RELEASES, action="append")
    return top


def status_of(lab: Lab) -> list[dict[str, Any]]:
    rows = []
    for name, record in lab.records().items():
        pid = init_pid(record)
        power = "off" if pid is None else "on"
        cable = "in" if network.cable_plugged(lab.settings, record.index) else "out"
        libvirt = pid is not None and Path(f"/proc/{pid}/root", LIBVIRT_SOCKET).exists()
        rows.append({
            "name": name, "release": record.release, "address": record.address, "power": power, "cable": cable,
            "libvirt": libvirt, "pid": pid, "directory": record.directory,
        })
    return rows


def print_status(lab: Lab, as_json: bool) -> None:
    rows = status_of(lab)
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    print(f"lab {lab.settings.state}, bridge {lab.settings.bridge}, network {lab.settings.network}")
    for row in rows:
        state = "off" if row["power"] == "off" else "running" if row["cable"] == "in" else "cut off"
        print(f"  {row['name']:<12} {row['release']:<10} {row['address']:<15} {state:<8} {row['pid'] or '':>7}"
              f"  {'libvirt' if row['libvirt'] else '-'}")


def run_in_host(lab: Lab, name: str, arguments: list[str]) -> int:
    command = arguments[1:] if arguments[:1] == ["--"] else arguments
    if not command:
        raise LabError("exec needs a command: lab exec NAME -- COMMAND")
    # A child rather than exec: with --pid, nsenter forks, and ends as the command did.
    return subprocess.run(lab.command(name, command), check=False).returncode


def dispatch(lab: Lab, arguments: argparse.Namespace) -> int:
    command, names = arguments.command, getattr(arguments, "names", [])
    started = time.monotonic()
    if command == "up":
        booted = lab.up(names, arguments.release)
        say(f"booted {', '.join(booted)} in {time.monotonic() - started:.1f} s" if booted else "nothing to do")
    elif command == "down":
        gone = lab.down(names)
        say(f"removed {', '.join(gone)}" if gone else "nothing to remove")
    elif command == "status":
        print_status(lab, arguments.json)
    elif command == "inventory":
        print(inventory.inventory_yaml(lab.settings, lab.records()), end="")
    elif command == "ssh-config":
        print(inventory.ssh_config(lab.settings, lab.records()), end="")
    elif command == "exec":
        return run_in_host(lab, names[0], arguments.arguments)
    elif command in ("cut", "heal"):
        lab.set_cable(names, command == "heal")
    elif command == "kill":
        lab.kill(names)
    elif command == "revive":
        lab.revive(names)
    elif command == "prepare":
        trees.prepare(lab.settings, arguments.release or list(trees.RELEASES), say)
    return 0


def say(message: str) -> None:
    print(f"lab: {message}", file=sys.stderr, flush=True)


def main(argv: list[str]) -> int:
    arguments = parser().parse_args(argv)
    try:
        if os.geteuid():
            raise LabError("must be run by root: it makes namespaces and a bridge")
        return dispatch(Lab(settings_from()), arguments)
    except LabError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
