# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table, the aims and build/bench.json."""

from __future__ import annotations

import json
import pathlib
from typing import Any

FIELDS = ("case", "items", "rounds", "ours_s", "raw_s", "loop_s", "empty_call_s", "ratio_raw", "ratio_loop")
HEADINGS = ("case", "items", "rounds", "ours s", "raw s", "loop s", "empty call s", "ours/raw", "loop/ours")

MOST_AGAINST_RAW = 1.5
LEAST_AGAINST_LOOP = 60.0


def write(rows: list[dict[str, Any]], path: pathlib.Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rounded = [{key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()} for row in rows]
    path.write_text(json.dumps(rounded, indent=2) + "\n")


def table(rows: list[dict[str, Any]]) -> str:
    lines = [HEADINGS, *([_cell(row.get(field)) for field in FIELDS] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    text = []
    for line in lines:
        cells = [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:]))]
        text.append("  ".join(cells).rstrip())
    return "\n".join([text[0], "  ".join("-" * width for width in widths), *text[1:]])


def notes(rows: list[dict[str, Any]]) -> list[str]:
    """What must be known to read the table."""
    lines = ["An empty call is one of the same module with an empty list; loops run once, all else %d times." % rows[0]["rounds"]]
    for row in rows:
        if row.get("loop_items") and row["loop_items"] < row["items"]:
            lines.append("%s: the loop ran over %d items; its time is scaled to %d." % (row["case"], row["loop_items"], row["items"]))
    return lines


def aims(rows: list[dict[str, Any]]) -> list[str]:
    """One line for each aim: met or missed, with the figures."""
    lines = []
    for row in rows:
        if "no change" in row["case"]:
            lines.append(
                _aim(row["ratio_raw"] <= MOST_AGAINST_RAW, row, "%.2f times (raw calls + one empty module call); aim 1.5" % row["ratio_raw"])
            )
        if row["ratio_loop"] is not None:
            lines.append(
                _aim(row["ratio_loop"] >= LEAST_AGAINST_LOOP, row, "%.0f times faster than the loop; aim 60" % row["ratio_loop"])
            )
        if "bare_migration_s" in row:
            limit = 3 + 1.1 * row["bare_migration_s"]
            words = "role %.1f s, bare migration %.1f s; aim 3 s + 1.1 times that = %.1f s" % (
                row["ours_s"],
                row["bare_migration_s"],
                limit,
            )
            lines.append(_aim(row["ours_s"] <= limit, row, words))
    return lines


def _aim(met: bool, row: dict[str, Any], words: str) -> str:
    return "%-6s  %s: %s" % ("met" if met else "MISSED", row["case"], words)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return "%.2f" % value if isinstance(value, float) else str(value)
