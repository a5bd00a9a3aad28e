# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the steps of `make test` side by side and counts: check.py [--list] [STEP or GROUP…]."""

from __future__ import annotations

import argparse
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time

import steps as definitions
from signals import Interrupted, raise_when_told_to_end
from steps import Counts, Step

# Seconds for an interrupted step to take down what it started, before it is killed.
GRACE = 60
FAILURE_LINES = 30


class Running:
    """One step's process, in a session of its own so that all it started can be told to end."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.began = time.monotonic()
        environment = dict(os.environ)
        if step.lab:
            environment["TRUSTEDVM_LAB_DIR"] = str(definitions.CACHE / step.lab)
        for report in step.junit:
            report.unlink(missing_ok=True) if report.suffix == ".xml" else shutil.rmtree(report, ignore_errors=True)
        with step.log.open("wb") as log:
            self.process = subprocess.Popen(
                step.command, cwd=definitions.ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def wait(self) -> Counts:
        code = self.process.wait()
        counts = self.step.count(self.step, code)
        if code != 0:
            self.clean_up()
        return counts

    def stop(self) -> None:
        """As ^C would: tests then run their own clean-up. After that, ours."""
        for number, patience in ((signal.SIGINT, GRACE), (signal.SIGTERM, 10), (signal.SIGKILL, 10)):
            try:
                os.killpg(self.process.pid, number)
                self.process.wait(patience)
                break
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        # What the step's first process left behind in its session.
        subprocess.run(["pkill", "-KILL", "--session", str(self.process.pid)], check=False)
        self.clean_up()

    def clean_up(self) -> None:
        """A step that failed or was stopped may have left its lab's hosts running."""
        if self.step.lab and (definitions.CACHE / self.step.lab).exists():
            environment = {**os.environ, "TRUSTEDVM_LAB_DIR": str(definitions.CACHE / self.step.lab)}
            with self.step.log.open("ab") as log:
                subprocess.run([str(definitions.ROOT / "tests/lab/lab"), "down"], env=environment, stdout=log, stderr=log, timeout=120, check=False)


class Board:
    """What the terminal shows: a line for each finished step and, on a terminal, one that moves."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running: dict[str, Running] = {}
        self.results: dict[str, tuple[float, Counts]] = {}
        self.terminal = sys.stdout.isatty()
        self.width = shutil.get_terminal_size().columns
        self.told = time.monotonic()

    def start(self, running: Running) -> None:
        with self.lock:
            self.running[running.step.name] = running

    def finish(self, running: Running, counts: Counts) -> None:
        step = running.step
        with self.lock:
            self.running.pop(step.name, None)
            self.results[step.name] = (running.seconds, counts)
            self._clear()
            print("  %-6s %-20s %6.1fs  %s" % ("FAILED" if counts.failed else "ok", step.name, running.seconds, counts), flush=True)
            if counts.failed:
                lines = step.log.read_text(encoding="utf-8", errors="replace").splitlines()
                print("".join("         | %s\n" % line for line in lines[-FAILURE_LINES:]), end="")
                print("         the whole output: %s" % step.log.relative_to(definitions.ROOT), flush=True)

    def tick(self) -> None:
        """On a terminal every second; in a log once a minute, so that a long step is not taken for a hung one."""
        with self.lock:
            text = "running: " + ", ".join("%s %ds" % (name, running.seconds) for name, running in self.running.items())
            if self.terminal:
                print("\r" + ("  " + text)[: self.width - 1].ljust(self.width - 1), end="", flush=True)
            elif self.running and time.monotonic() - self.told > 60:
                self.told = time.monotonic()
                print("  ...    %s" % text, flush=True)

    def _clear(self) -> None:
        if self.terminal:
            print("\r" + " " * (self.width - 1) + "\r", end="")


def lanes(chosen: list[Step]) -> list[list[Step]]:
    """Which steps may run at the same time.

    Guests without hardware acceleration take a core each: steps with a lab go one after the other,
    and everything else beside them on the cores that are left.
    """
    with_lab = [step for step in chosen if step.lab]
    rest = [step for step in chosen if not step.lab]
    return [lane for lane in (with_lab, rest) if lane]


def work(pending: queue.SimpleQueue[Step], board: Board, stopping: threading.Event) -> None:
    while not stopping.is_set():
        try:
            step = pending.get_nowait()
        except queue.Empty:
            return
        try:
            running = Running(step)
        except OSError as error:
            step.log.write_text("%s\n" % error, encoding="utf-8")
            print("  FAILED %s: %s" % (step.name, error))
            board.results[step.name] = (0, Counts(failed=1))
            continue
        board.start(running)
        counts = running.wait()
        if not stopping.is_set():
            board.finish(running, counts)


def run(chosen: list[Step]) -> Board:
    board = Board()
    stopping = threading.Event()
    threads = []
    for lane in lanes(chosen):
        pending: queue.SimpleQueue[Step] = queue.SimpleQueue()
        for step in lane:
            pending.put(step)
        workers = 1 if lane[0].lab else max(1, (os.cpu_count() or 2) - 1)
        threads += [threading.Thread(target=work, args=(pending, board, stopping)) for worker in range(workers)]
    for thread in threads:
        thread.start()
    try:
        while any(thread.is_alive() for thread in threads):
            time.sleep(1)
            board.tick()
    except Interrupted:
        stopping.set()
        print("\ninterrupted: taking down what runs (%s) …" % ", ".join(board.running), flush=True)
        stoppers = [threading.Thread(target=running.stop) for running in list(board.running.values())]
        for thread in stoppers:
            thread.start()
        for thread in stoppers + threads:
            thread.join()
        raise
    return board


def summary(board: Board, chosen: list[Step], seconds: float) -> int:
    total = Counts()
    print("\n  %-20s %8s %7s %7s %8s" % ("step", "time", "passed", "failed", "skipped"))
    for step in chosen:
        took, counts = board.results[step.name]
        total.add(counts)
        print("  %-20s %7.1fs %7d %7d %8d" % (step.name, took, counts.passed, counts.failed, counts.skipped))
    for reason in total.reasons:
        print("  skipped: %s" % reason)
    print("  %.0f s in all; logs in build/logs\n" % seconds)
    print(total, flush=True)
    return 1 if total.failed else 0


def main() -> int:
    steps = definitions.all_steps()
    parser = argparse.ArgumentParser(description="Run the tests of this collection.")
    parser.add_argument("--list", action="store_true", help="list the steps and their groups")
    parser.add_argument("names", nargs="*", metavar="STEP|GROUP", help="only these (default: all)")
    args = parser.parse_args()
    if args.list:
        for step in steps:
            print("%-20s %s" % (step.name, " ".join(step.groups)))
        return 0
    known = {name for step in steps for name in (step.name, *step.groups)}
    if unknown := sorted(set(args.names) - known):
        parser.error("no such step or group: %s (see --list)" % ", ".join(unknown))
    chosen = [step for step in steps if not args.names or set(args.names) & {step.name, *step.groups}]
    definitions.LOGS.mkdir(parents=True, exist_ok=True)
    raise_when_told_to_end()
    began = time.monotonic()
    try:
        board = run(chosen)
    except Interrupted as interruption:
        return interruption.exit_code
    return summary(board, chosen, time.monotonic() - began)


if __name__ == "__main__":
    sys.exit(main())
