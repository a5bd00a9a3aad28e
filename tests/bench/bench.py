# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The benchmark: ratios in one run, against raw libvirt calls and against an Ansible loop."""

from __future__ import annotations

import argparse
import pathlib
import shutil
import sys
import tempfile

import migration
import objects
import report
from cases import make_cases
from harness import ROOT, BenchError, Lab

sys.path.insert(0, str(ROOT))
from tests.tools.signals import Interrupted, raise_when_told_to_end

HOSTS = ("bench1", "bench2")
KINDS = ("secrets", "nvram_volumes", "domains", "migration")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=200, help="objects of each kind (200)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; the figures are medians (3)")
    parser.add_argument("--no-loop", action="store_true", help="leave out the Ansible loops, which take most of the time")
    parser.add_argument("--loop-items", type=int, help="loop over so many items only and scale the time (all)")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=KINDS, help="some of the cases")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "build" / "bench.json")
    parser.add_argument("--keep", action="store_true", help="leave the lab and the logs")
    parser.set_defaults(keep_logs=False)
    return parser.parse_args()


def main() -> int:
    options = parse()
    raise_when_told_to_end()
    directory = pathlib.Path(tempfile.mkdtemp(prefix="trustedvm-bench-"))
    lab = Lab(directory)
    rows = []
    try:
        lab.up(*HOSTS)
        say("hosts %s are up; the role hypervisor prepares them" % " and ".join(HOSTS))
        lab.play("bench-hypervisor", "trustedvm.libvirt.hypervisor")
        cases = make_cases(options.items)
        loop_items = 0 if options.no_loop else min(options.loop_items or options.items, options.items)
        for kind in options.only:
            say("measuring %s" % kind.replace("_", " "))
            if kind == "migration":
                rows.append(migration.measure(lab, HOSTS, options.rounds))
            else:
                rows += objects.measure(lab, HOSTS[0], cases, kind, options.rounds, loop_items)
    except BenchError as error:
        options.keep_logs = True
        print("bench: %s" % error, file=sys.stderr)
        return 1
    except Interrupted as interruption:
        print("bench: %s" % interruption, file=sys.stderr)
        return interruption.exit_code
    finally:
        if not options.keep:
            lab.down()
        if not options.keep and not options.keep_logs:
            shutil.rmtree(directory)
    report.write(rows, options.output)
    print("\n" + report.table(rows) + "\n")
    print("\n".join(report.notes(rows) + report.aims(rows)))
    return 0


def say(text: str) -> None:
    print("bench: " + text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
