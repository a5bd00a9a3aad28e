# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What `make test` is made of, and how the tests of each step are counted."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
CACHE = Path(os.environ.get("TRUSTEDVM_CACHE", "/var/cache/trustedvm"))
LOGS = BUILD / "logs"


@dataclasses.dataclass
class Counts:
    """How many tests passed, failed and were skipped, and why those were skipped."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    reasons: list[str] = dataclasses.field(default_factory=list)

    def add(self, other: Counts) -> None:
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.reasons += other.reasons

    def __str__(self) -> str:
        text = "%d passed, %d failed" % (self.passed, self.failed)
        return text + (", %d skipped" % self.skipped if self.skipped else "")


@dataclasses.dataclass(frozen=True)
class Step:
    """One command with a log of its own. ``lab`` names the directory of the lab that it uses, if any."""

    name: str
    command: list[str]
    count: Callable[[Step, int], Counts]
    groups: tuple[str, ...] = ()
    lab: str | None = None
    junit: tuple[Path, ...] = ()

    @property
    def log(self) -> Path:
        return LOGS / (self.name + ".log")


def count_command(step: Step, code: int) -> Counts:
    """A command that is one test: it holds or it does not."""
    return Counts(passed=1) if code == 0 else Counts(failed=1)


def count_junit(step: Step, code: int) -> Counts:
    """The tests that pytest or ansible-test reported. A run that failed otherwise is one failure."""
    counts = Counts()
    for directory in step.junit:
        for path in sorted(directory.glob("*.xml")) if directory.is_dir() else [directory] if directory.exists() else []:
            for case in ElementTree.parse(path).iter("testcase"):
                skip = case.find("skipped")
                if case.find("failure") is not None or case.find("error") is not None:
                    counts.failed += 1
                elif skip is not None:
                    counts.skipped += 1
                    counts.reasons.append("%s::%s: %s" % (case.get("classname", ""), case.get("name", ""), skip.get("message", "")))
                else:
                    counts.passed += 1
    if (code != 0 and not counts.failed) or (code == 0 and not counts.passed):
        counts.failed += 1
    return counts


# What tests/tools/ansible-test and run-newest end with where the newest core's Python is missing: a code that
# neither ansible-test nor pytest has (pytest's 3 is an internal error).
NO_PYTHON = 69


def count_no_python(step: Step) -> Counts:
    return Counts(skipped=1, reasons=["%s: no Python 3.12 on this machine, and its source could not be fetched" % step.name])


def count_newest(step: Step, code: int) -> Counts:
    return count_no_python(step) if code == NO_PYTHON else count_junit(step, code)


def count_lines(pattern: str, failures: str) -> Callable[[Step, int], Counts]:
    """For ansible-test's sanity tests and integration targets, which it names in its output only."""

    def count(step: Step, code: int) -> Counts:
        if code == NO_PYTHON:
            return count_no_python(step)
        output = step.log.read_text(encoding="utf-8", errors="replace")
        run = len(set(re.findall(pattern, output, re.M)))
        named = re.search(failures, output, re.M)
        failed = int(named.group(1)) if named else int(code != 0)
        return Counts(passed=max(run - failed, 0), failed=failed or int(run == 0))

    return count


def _pytest(name: str, target: str, *options: str, groups: tuple[str, ...] = (), lab: str | None = None) -> Step:
    report = BUILD / "junit" / (name + ".xml")
    command = ["pytest", "-v", "--tb=short", "--durations=10", "--junitxml", str(report), *options, target]
    return Step(name, command, count_junit, groups, lab, (report,))


def _shell(name: str, text: str, groups: tuple[str, ...]) -> Step:
    return Step(name, ["bash", "-euo", "pipefail", "-c", text], count_command, groups)


def lint_steps() -> list[Step]:
    """Checks that run nothing of the collection."""
    staged = 'stage=$(tests/tools/stage %s); cd "$stage"; %s'
    lint = ("lint",)
    mypy = "mypy --config-file ../../pyproject.toml --cache-dir ../mypy -p ansible_collections.trustedvm.libvirt.plugins"
    first_line = "FNR == 1 && /^#!.*[\\/ ](ba)?sh( |$)/ { print FILENAME } { nextfile }"
    scripts = "git ls-files -coz --exclude-standard | xargs -0 awk '%s' | xargs shellcheck -x -P ." % first_line
    return [
        _shell("yamllint", "yamllint --strict .", lint),
        _shell("ansible-lint", staged % ("ansible-lint", "ansible-lint --offline --profile production"), lint),
        _shell("docs-lint", staged % ("docs-lint", "antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs all ."), lint),
        _shell("changelog-lint", staged % ("changelog-lint", "antsibull-changelog lint"), lint),
        _shell("shellcheck", scripts, lint),
        _shell("ruff", "ruff check --no-cache .", lint),
        _shell("mypy", "cd build/collections; " + mypy, lint),
    ]


def ansible_test_steps() -> list[Step]:
    tool = str(ROOT / "tests/tools/ansible-test")
    sanity = count_lines(r'^Running sanity test "([^"]+)"', r"^FATAL: The (\d+) sanity test")
    steps = [
        Step("sanity-2.19", [tool, "sanity"], sanity, ("sanity",)),
        Step("sanity-newest", [tool, "--newest", "sanity"], sanity, ("sanity",)),
        Step("ansible-test-units", [tool, "units"], count_junit, junit=(_staged("units-oldest") / "tests/output/junit",)),
    ]
    if (ROOT / "tests/integration/targets").is_dir():
        targets = count_lines(r"^Running (\S+) integration test", r"^FATAL: The (\d+) integration test")
        steps.append(Step("integration", [tool, "integration"], targets, ("integration",)))
    return steps


def _staged(area: str) -> Path:
    return BUILD / "stage" / area / "ansible_collections/trustedvm/libvirt"


def lab_steps() -> list[Step]:
    """What runs on lab hosts; each step has a lab of its own."""
    steps = [
        _pytest("migration", "tests/lab_tests", groups=("lab",), lab="lab-migration"),
        _pytest("system", "tests/system", groups=("lab",), lab="lab-system"),
    ]
    for scenario in sorted((ROOT / "molecule").glob("*/molecule.yml")):
        name = scenario.parent.name
        command = ["molecule", "test", "--scenario-name", name]
        steps.append(Step("molecule-" + name, command, count_command, ("lab", "molecule"), "lab-molecule-" + name))
    return steps


def unit_steps() -> list[Step]:
    """Key injection rests on Ansible's inner workings, so it is tested on both ends of what is supported."""
    injection = _pytest("key-injection-newest", "tests/unit/plugins/action/test_key_injection.py", groups=("unit",))
    newest = [str(ROOT / "tests/tools/run-newest"), *injection.command]
    return [
        _pytest("unit", "tests/unit", groups=("unit",)),
        dataclasses.replace(injection, command=newest, count=count_newest),
    ]


def all_steps() -> list[Step]:
    return [*unit_steps(), *ansible_test_steps(), *lint_steps(), *lab_steps()]
