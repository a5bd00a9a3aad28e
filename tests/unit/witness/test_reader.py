# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The reader of the witness guest, on what real guests printed."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from ansible_collections.trustedvm.libvirt.tests.witness import reader

RECORDED = Path(__file__).parent / "recorded"
FIRST = RECORDED / "first-boot.log"
TWO = RECORDED / "two-boots.log"
NV_MARKER = "3ed096529c8291c03aa6c7653b88a2f1"


def test_first_boot():
    witness = reader.read_file(FIRST)
    boot = witness.last
    assert witness.ready and len(witness.boots) == 1
    assert boot.boot_id == "7f9f29e0-3172-4c41-97a0-50f3c44af961"
    assert (boot.tpm, boot.nv_marker, boot.nv_marker_new, boot.nv_boots) == (True, NV_MARKER, True, 1)
    assert boot.ek.startswith("5f03d13324") and boot.ek_handle == "0x81010001"
    assert (boot.efi, boot.efi_marker_new, boot.efi_boots, boot.secure_boot) == (True, True, 1, True)
    assert [tick.number for tick in boot.ticks] == [1, 2, 3, 4] and boot.ticks[0].uptime == 19.37
    assert boot.stopped == "power-button" and boot.errors == []


def test_second_boot_finds_what_the_first_left():
    first, second = reader.read_file(TWO).boots
    assert first.identity == second.identity and None not in first.identity
    assert (first.nv_marker_new, second.nv_marker_new) == (True, False)
    assert (first.efi_marker_new, second.efi_marker_new) == (True, False)
    assert (second.nv_boots, second.efi_boots) == (2, 2)
    assert first.boot_id != second.boot_id


def test_every_prefix_of_the_output_is_read_without_a_wrong_fact():
    """The file grows while it is read: what is cut off is not yet told, never told wrongly."""
    # A serial console ends its lines with \r\n; the recording is kept with plain ends, as all text of the project.
    output = FIRST.read_bytes().replace(b"\n", b"\r\n")
    whole = vars(reader.read_console(output).last)
    for length in range(len(output)):
        last = reader.read_console(output[:length]).last
        for name, value in vars(last).items() if last else ():
            if isinstance(value, list):
                assert value == whole[name][: len(value)]
            else:
                assert value in (None, False) or value == whole[name]


def test_output_that_begins_in_the_middle_of_a_boot():
    """Each host has a console file of its own: the destination's begins somewhere in a line."""
    output = b"7 17.35\r\nwitness/1 tick 18 18.36\r\nwitness/1 tick 19 19.37\r\n"
    boot = reader.read_console(output).last
    assert boot.boot_id == "" and boot.tick == 19 and len(boot.ticks) == 2


@pytest.mark.parametrize(
    "line",
    [
        "witness/1 tick 18",
        "witness/1 tick 1 1.5",
        "witness/1 nv-marker 3ed096529c8291c0 kept",
        "witness/1 secure-boot 6",
        "witness/2 tick 18 18.36",
        "witness/1 nonsense",
        "witness/1 tiwitness/1 ti",
        "witness/1 ready or not",
    ],
)
def test_a_line_of_another_form_tells_nothing(line):
    assert reader.read_console(line + "\n").boots == ()


def test_a_line_into_which_another_fell_tells_the_other():
    assert reader.read_console("witness/1 tiwitness/1 tick 3 5.00\n").last.tick == 3


def test_absent_parts_are_not_unknown_ones():
    output = "witness/1 boot 7f9f29e0-3172-4c41-97a0-50f3c44af961\nwitness/1 tpm absent\nwitness/1 efi absent\nwitness/1 secure-boot absent\nwitness/1 ready\n"
    boot = reader.read_console(output).last
    assert (boot.tpm, boot.efi, boot.nv_marker, boot.ek, boot.secure_boot) == (False, False, None, None, None)


def test_a_tpm_that_does_not_work_is_told():
    assert reader.read_console("witness/1 error nv-define\n").last.errors == ["nv-define"]


def test_no_file_has_told_nothing(tmp_path):
    witness = reader.read_file(tmp_path / "none")
    assert witness.last is None and not witness.ready


def test_wait_sees_a_file_that_grows(tmp_path):
    console = tmp_path / "console"

    def write():
        time.sleep(0.2)
        console.write_bytes(FIRST.read_bytes().replace(b"\n", b"\r\n"))

    writer = threading.Thread(target=write)
    writer.start()
    boot = reader.wait(console, lambda boot: boot.tick >= 3, timeout=10, interval=0.01)
    writer.join()
    assert boot.tick == 4


def test_wait_says_what_was_there_when_the_time_was_over():
    with pytest.raises(TimeoutError, match=r"after 0 s the guest had said: .*%s" % NV_MARKER):
        reader.wait(FIRST, lambda boot: boot.tick >= 100, timeout=0)


def command(*arguments):
    return subprocess.run([sys.executable, reader.__file__, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_command_prints_the_last_boot():
    done = command(FIRST, "--wait", "tick:2")
    facts = json.loads(done.stdout)
    assert done.returncode == 0 and facts["nv_marker"] == NV_MARKER and facts["tick"] == 4 and facts["uptime"] == 22.51


def test_command_says_what_is_wrong_in_one_line(tmp_path):
    console = tmp_path / "console"
    for arguments in ([console], [console, "--wait", "ready", "--timeout", "0"]):
        done = command(*arguments)
        assert done.returncode == 1 and done.stdout == ""
        assert done.stderr.startswith("error: %s: " % console) and done.stderr.count("\n") == 1
