#!/usr/bin/env python
# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads what the witness guest printed on its serial console.

One fact a line, after the firmware's own output and possibly several boots in one file::

    witness/1 boot BOOT_ID             a boot begins; the kernel's random boot id
    witness/1 tpm present|absent
    witness/1 nv-marker HEX new|kept   16 random bytes, written to the TPM at the first boot
    witness/1 nv-boots N               boots of this TPM, an NV counter
    witness/1 ek SHA256 HANDLE         of the EK's public key (DER SubjectPublicKeyInfo), or: ek absent
    witness/1 efi present|absent
    witness/1 efi-marker HEX new|kept  16 random bytes, written as a UEFI variable at the first boot
    witness/1 efi-boots N              boots with this variable store
    witness/1 secure-boot 0|1|absent
    witness/1 error WHAT               something of the above did not work
    witness/1 ready
    witness/1 tick N UPTIME            about once a second, seconds since boot; goes on over a live migration
    witness/1 stop power-button        a clean shutdown, asked for by the host

As a command it prints the last boot as JSON: ``reader.py FILE [--wait ready|stop|tick:N] [--timeout SECONDS]``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

PREFIX = "witness/1 "
# Every field of a line with the form it must have. A line that was cut short, or into which another
# writer's bytes fell, does not match and is passed over: the next tick is a second away.
FORMS = {
    "boot": re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
    "tpm": re.compile(r"present|absent"),
    "nv-marker": re.compile(r"[0-9a-f]{32} (?:new|kept)"),
    "nv-boots": re.compile(r"\d+"),
    "ek": re.compile(r"[0-9a-f]{64} 0x[0-9a-f]{8}|absent"),
    "efi": re.compile(r"present|absent"),
    "efi-marker": re.compile(r"[0-9a-f]{32} (?:new|kept)"),
    "efi-boots": re.compile(r"\d+"),
    "secure-boot": re.compile(r"[01]|absent"),
    "error": re.compile(r"[a-z-]+"),
    "ready": re.compile(r""),
    "tick": re.compile(r"\d+ \d+\.\d\d"),
    "stop": re.compile(r"[a-z-]+"),
}


@dataclasses.dataclass(frozen=True)
class Tick:
    """``number`` counts from 1 without a gap within a boot; ``uptime`` is the guest's clock in seconds."""

    number: int
    uptime: float


@dataclasses.dataclass
class Boot:
    """One boot of the guest. ``None`` is a fact that it has not (yet) told, or that is absent."""

    boot_id: str
    tpm: bool | None = None
    nv_marker: str | None = None
    nv_marker_new: bool | None = None
    nv_boots: int | None = None
    ek: str | None = None
    ek_handle: str | None = None
    efi: bool | None = None
    efi_marker: str | None = None
    efi_marker_new: bool | None = None
    efi_boots: int | None = None
    secure_boot: bool | None = None
    ready: bool = False
    stopped: str | None = None
    errors: list[str] = dataclasses.field(default_factory=list)
    ticks: list[Tick] = dataclasses.field(default_factory=list)

    @property
    def tick(self) -> int:
        """The number of the newest tick, 0 before the first."""
        return self.ticks[-1].number if self.ticks else 0

    @property
    def identity(self) -> tuple[str | None, str | None, str | None]:
        """What must be the same after any migration: NV marker, UEFI marker, EK."""
        return self.nv_marker, self.efi_marker, self.ek

    def tell(self, word: str, value: str) -> None:
        """Takes in one line that has the right form."""
        fields = value.split()
        if word in ("tpm", "efi"):
            setattr(self, word, value == "present")
        elif word in ("nv-marker", "efi-marker"):
            name = word.replace("-", "_")
            setattr(self, name, fields[0])
            setattr(self, name + "_new", fields[1] == "new")
        elif word in ("nv-boots", "efi-boots"):
            setattr(self, word.replace("-", "_"), int(value))
        elif word == "ek" and value != "absent":
            self.ek, self.ek_handle = fields
        elif word == "secure-boot" and value != "absent":
            self.secure_boot = value == "1"
        elif word == "error":
            self.errors.append(value)
        elif word == "ready":
            self.ready = True
        elif word == "tick":
            self.ticks.append(Tick(int(fields[0]), float(fields[1])))
        elif word == "stop":
            self.stopped = value

    def as_dict(self) -> dict[str, object]:
        """For JSON: all facts, of the ticks only how far they got."""
        facts = {key: value for key, value in vars(self).items() if key != "ticks"}
        return {**facts, "ticks": len(self.ticks), "tick": self.tick, "uptime": self.ticks[-1].uptime if self.ticks else None}


@dataclasses.dataclass(frozen=True)
class Witness:
    """Everything that one console file tells, boot by boot."""

    boots: tuple[Boot, ...]

    @property
    def last(self) -> Boot | None:
        return self.boots[-1] if self.boots else None

    @property
    def ready(self) -> bool:
        """The newest boot has told all facts."""
        return self.last is not None and self.last.ready


def read_console(output: bytes | str) -> Witness:
    """Reads a console's output, complete or still growing.

    An output that begins in the middle of a boot, such as that of the host a guest was migrated to
    when each host has a file of its own, gives a boot whose id is empty.
    """
    text = output.decode("ascii", "replace") if isinstance(output, bytes) else output
    boots: list[Boot] = []
    # The last piece has no end of line: it may be the half of a number.
    for line in re.split(r"\r*\n", text)[:-1]:
        found, told = line.rpartition(PREFIX)[1:]
        word, value = told.strip().partition(" ")[::2]
        if not found or word not in FORMS or not FORMS[word].fullmatch(value):
            continue
        if word == "boot":
            boots.append(Boot(value))
            continue
        if not boots:
            boots.append(Boot(""))
        boots[-1].tell(word, value)
    return Witness(tuple(boots))


def read_file(path: str | Path) -> Witness:
    """Reads a console file; one that is not there (yet) has told nothing."""
    try:
        return read_console(Path(path).read_bytes())
    except FileNotFoundError:
        return Witness(())


def wait(path: str | Path, done: Callable[[Boot], bool], timeout: float, interval: float = 0.25) -> Boot:
    """Waits until ``done`` holds for the newest boot; ``timeout`` in seconds, then TimeoutError."""
    deadline = time.monotonic() + timeout
    while True:
        last = read_file(path).last
        if last is not None and done(last):
            return last
        if time.monotonic() >= deadline:
            told = "said nothing" if last is None else "said: %s" % json.dumps(last.as_dict())
            raise TimeoutError("%s: after %g s the guest had %s" % (path, timeout, told))
        time.sleep(interval)


def condition(text: str) -> Callable[[Boot], bool]:
    """The condition that ``--wait`` names."""
    if text == "ready":
        return lambda boot: boot.ready
    if text == "stop":
        return lambda boot: boot.stopped is not None
    if re.fullmatch(r"tick:\d+", text):
        number = int(text[5:])
        return lambda boot: boot.tick >= number
    raise argparse.ArgumentTypeError("%r is none of ready, stop, tick:N" % text)


def main() -> int:
    parser = argparse.ArgumentParser(description="Print the witness guest's last boot as JSON.")
    parser.add_argument("file", type=Path, help="the console's output")
    parser.add_argument("--wait", type=condition, metavar="ready|stop|tick:N", help="wait until the guest has said that")
    parser.add_argument("--timeout", type=float, default=120, help="seconds to wait at most (default: %(default)s)")
    args = parser.parse_args()
    try:
        last = wait(args.file, args.wait, args.timeout) if args.wait else read_file(args.file).last
    except TimeoutError as error:
        print("error: %s" % error, file=sys.stderr)
        return 1
    if last is None:
        print("error: %s: no boot of the witness guest in it" % args.file, file=sys.stderr)
        return 1
    print(json.dumps(last.as_dict()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
