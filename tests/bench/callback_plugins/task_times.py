# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import time

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: task_times
type: notification
short_description: Write how long each task took, one JSON object a line
version_added: 0.1.0
description:
  - For the benchmark. Wall-clock time from the start of a task to its result, as the controller sees it.
  - The file is named by the environment variable TRUSTEDVM_BENCH_TIMES.
author: trustedvm.libvirt contributors (@trustedvm)
"""


class CallbackModule(CallbackBase):
    """One line for each task and host."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "task_times"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self):
        super().__init__()
        self._path = os.environ["TRUSTEDVM_BENCH_TIMES"]
        self._started = time.monotonic()

    def v2_playbook_on_task_start(self, task, is_conditional):
        self._started = time.monotonic()

    v2_playbook_on_handler_task_start = v2_playbook_on_task_start

    def v2_runner_on_ok(self, result):
        self._write(result, failed=False)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._write(result, failed=True)

    def v2_runner_on_skipped(self, result):
        self._write(result, failed=False, skipped=True)

    def _write(self, result, failed, skipped=False):
        answer = getattr(result, "result", None) or result._result
        ended = time.monotonic()
        line = {
            "task": result.task_name if hasattr(result, "task_name") else result._task.get_name(),
            "started": self._started,
            "ended": ended,
            "seconds": ended - self._started,
            "failed": failed,
            "skipped": skipped,
            "changed": bool(answer.get("changed")),
            "results": len(answer.get("results") or []),
            "changed_results": sum(1 for one in answer.get("results") or [] if one.get("changed")),
            "stdout": answer.get("stdout"),
            "msg": answer.get("msg") if failed else None,
        }
        with open(self._path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
