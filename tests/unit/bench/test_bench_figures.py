# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark's figures: what is refused as a measurement, and how ratios and aims are reckoned."""
from __future__ import annotations

import importlib
import json
import pathlib

import pytest

BENCH = pathlib.Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def bench(monkeypatch):
    """Import a file of the benchmark by its name."""
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module


def line(task, seconds, results=0, changed=0, stdout=None):
    return {
        "task": task,
        "seconds": seconds,
        "results": results,
        "changed_results": changed,
        "changed": bool(changed),
        "stdout": stdout,
    }


def lines_of_a_run():
    raw = [line("raw " + which, 9, stdout=json.dumps({"seconds": seconds})) for which, seconds in (("first", 2.0), ("second", 0.5))]
    return [
        line("ping", 0.4),
        line("empty", 0.5),
        line("ours first", 3.0, 4, 4),
        line("ours second", 1.2, 4, 0),
        line("loop first", 20.0, 2, 2),
        line("loop second", 10.0, 2, 0),
        *raw,
    ]


def test_ratios(bench):
    case = bench("cases").make_cases(4)["secrets"]
    row = bench("objects")._row(case, lines_of_a_run(), "second", loop_items=2)
    assert row["ratio_raw"] == pytest.approx(1.2 / (0.5 + 0.5))
    assert row["loop_s"] == pytest.approx(20.0), "two items took 10 s, four would take 20 s"
    assert row["ratio_loop"] == pytest.approx(20.0 / 1.2)


@pytest.mark.parametrize(
    "spoiled",
    [
        line("ours first", 0.1, 4, 3),
        line("ours first", 0.1, 3, 3),
        line("ours second", 0.1, 4, 1),
        line("loop second", 0.1, 1, 0),
    ],
    ids=["changed too little", "too few results", "second run changed", "loop too short"],
)
def test_a_task_that_did_not_do_its_work_is_no_measurement(bench, spoiled):
    objects, case = bench("objects"), bench("cases").make_cases(4)["secrets"]
    objects._check(case, lines_of_a_run(), 2)
    with pytest.raises(bench("harness").BenchError):
        objects._check(case, [*lines_of_a_run(), spoiled], 2)


@pytest.mark.parametrize("ratio, word", [(1.5, "met"), (1.6, "MISSED")])
def test_aims(bench, ratio, word):
    row = {"case": "secrets, no change", "ratio_raw": ratio, "ratio_loop": None}
    assert bench("report").aims([row])[0].startswith(word)


def test_json_has_the_fields_that_were_agreed(bench, tmp_path):
    case = bench("cases").make_cases(4)["secrets"]
    row = bench("objects")._row(case, lines_of_a_run(), "first", loop_items=2)
    bench("report").write([row], tmp_path / "build" / "bench.json")
    written = json.loads((tmp_path / "build" / "bench.json").read_text())
    assert set(bench("report").FIELDS) <= set(written[0])
