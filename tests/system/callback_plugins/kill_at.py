# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ends the playbook as `kill -9` does: at the start of a task, some time into it, or when it has ended."""
from __future__ import annotations

import os
import signal
import threading
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: kill_at
type: notification
short_description: Kills the playbook at a task
description: For tests of what a killed run leaves.
"""

TASK = os.environ.get("TRUSTEDVM_KILL_TASK", "")
# "start", "end", or seconds after the start.
WHEN = os.environ.get("TRUSTEDVM_KILL_WHEN", "start")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "kill_at"
    CALLBACK_NEEDS_ENABLED = True

    def _is_it(self, task: Any) -> bool:
        return bool(TASK) and str(task.name) == TASK

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        if not self._is_it(task):
            return
        if WHEN == "start":
            die()
        elif WHEN != "end":
            threading.Timer(float(WHEN), die).start()

    def v2_runner_on_ok(self, result: Any) -> None:
        if WHEN == "end" and self._is_it(getattr(result, "task", None) or result._task):
            die()
