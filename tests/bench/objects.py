# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lists of secrets, NVRAM volumes and domains: our one task, raw calls, and the loop."""

from __future__ import annotations

import json
from statistics import median
from typing import Any

from cases import Case
from harness import HERE, BenchError, Lab

REMOTE = "/run/trustedvm-bench"


def measure(lab: Lab, host: str, cases: dict[str, Case], name: str, rounds: int, loop_items: int) -> list[dict[str, Any]]:
    """Two rows: first run and no-change run.

    Args:
        loop_items: how many items the loop goes over; its time is scaled to all, as each costs the same.
    """
    case = cases[name]
    (lab.directory / (name + ".json")).write_text(json.dumps(case.items))
    tasks = _prepare(lab, cases, case)
    for number in range(rounds):
        tasks += _round(case, number)
    if loop_items:
        loop = case.loop_task(loop_items)
        tasks += [_raw("clean", case), _named("loop first", loop), _named("loop second", loop)]
    tasks += [_raw("clean", cases[needed]) for needed in (name, *reversed(case.needs))]
    play = {
        "hosts": host,
        "gather_facts": False,
        "vars": {"bench_items": "{{ lookup('ansible.builtin.file', '%s') | from_json }}" % (lab.directory / (name + ".json"))},
        "tasks": tasks,
    }
    lines, _took = lab.play("bench-" + name, [play])
    _check(case, lines, loop_items)
    return [_row(case, lines, which, loop_items) for which in ("first", "second")]


def _named(name: str, task: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, **task}


def _prepare(lab: Lab, cases: dict[str, Case], case: Case) -> list[dict[str, Any]]:
    tasks = [
        _named("prepare", {"ansible.builtin.file": {"path": REMOTE, "state": "directory", "mode": "0700"}}),
        _named("prepare", {"ansible.builtin.copy": {"src": str(HERE / "raw.py"), "dest": REMOTE + "/raw.py", "mode": "0600"}}),
    ]
    for needed in (*case.needs, case.name):
        source = lab.directory / (needed + "-raw.json")
        source.write_text(json.dumps(cases[needed].raw))
        copy = {"src": str(source), "dest": "%s/%s.json" % (REMOTE, needed), "mode": "0600"}
        tasks.append(_named("prepare", {"ansible.builtin.copy": copy}))
    for needed in (*case.needs, case.name):
        tasks.append(_raw("clean", cases[needed]))
    for needed in case.needs:
        if needed == "secrets":
            tasks.append(_raw("first", cases[needed], "prepare"))
        else:
            (lab.directory / (needed + ".json")).write_text(json.dumps(cases[needed].items))
            items = "{{ lookup('ansible.builtin.file', '%s') | from_json }}" % (lab.directory / (needed + ".json"))
            tasks.append({**_named("prepare", cases[needed].task()), "vars": {"bench_items": items}})
    return tasks


def _round(case: Case, number: int) -> list[dict[str, Any]]:
    """Ours and the raw calls close together, so that both see the same machine."""
    tasks = [
        _raw("clean", case),
        _named("ping", {"ansible.builtin.ping": {}}),
        _named("empty", case.empty_task()),
        _named("ours first", case.task()),
        _named("ours second", case.task()),
    ]
    if case.name == "domains" and number == 0:
        tasks.append(_raw("save", case))
    tasks += [
        _raw("clean", case),
        _raw("first", case, "raw first"),
        _raw("second", case, "raw second"),
        _named("empty", case.empty_task()),
    ]
    return tasks


def _raw(action: str, case: Case, name: str = "clean") -> dict[str, Any]:
    command = "/usr/bin/python3 %s/raw.py %s %s %s/%s.json" % (REMOTE, action, case.name, REMOTE, case.name)
    return {"name": name, "ansible.builtin.command": command, "changed_when": False}


def _check(case: Case, lines: list[dict[str, Any]], loop_items: int) -> None:
    """A fast task that does nothing must not look good."""
    for line in lines:
        who, _space, which = line["task"].partition(" ")
        if who not in ("ours", "loop"):
            continue
        count = len(case.items) if who == "ours" else loop_items
        if line["results"] != count:
            raise BenchError("%s: %s had %d results" % (case.name, line["task"], line["results"]))
        if which == "first" and line["changed_results"] != count:
            raise BenchError("%s: %s changed %d of %d" % (case.name, line["task"], line["changed_results"], count))
        if which == "second" and line["changed"]:
            raise BenchError("%s: the second run changed something" % case.name)


def _row(case: Case, lines: list[dict[str, Any]], which: str, loop_items: int) -> dict[str, Any]:
    ours = [line["seconds"] for line in lines if line["task"] == "ours " + which]
    raw = [json.loads(line["stdout"])["seconds"] for line in lines if line["task"] == "raw " + which]
    loop = [line["seconds"] * len(case.items) / loop_items for line in lines if line["task"] == "loop " + which]
    empty = [line["seconds"] for line in lines if line["task"] == "empty"]
    row = {
        "case": "%s, %s" % (case.name.replace("_", " "), {"first": "first run", "second": "no change"}[which]),
        "items": len(case.items),
        "rounds": len(ours),
        "ours_s": median(ours),
        "raw_s": median(raw),
        "loop_s": median(loop) if loop else None,
        "empty_call_s": median(empty),
    }
    # For those who take the emptiest module that there is for "an empty call".
    row["ping_s"] = median([line["seconds"] for line in lines if line["task"] == "ping"])
    row["ratio_raw"] = row["ours_s"] / (row["raw_s"] + row["empty_call_s"])
    row["ratio_loop"] = row["loop_s"] / row["ours_s"] if loop else None
    row["loop_items"] = loop_items or None
    return row
