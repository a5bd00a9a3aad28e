# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a playbook does, as lines of a story: one a task, with its time, and what went wrong."""
from __future__ import annotations

DOCUMENTATION = r"""
name: story
type: stdout
short_description: One line a task, for the demonstration
version_added: 0.1.0
description:
  - One line for each task that did something, with the seconds that it took.
extends_documentation_fragment:
  - default_callback
"""

import time

from ansible.plugins.callback import CallbackBase

# Too quick and too inward to be worth a line.
QUIET = ("set_fact", "assert", "include_tasks", "fail", "validate_argument_spec")


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "story"

    def __init__(self) -> None:
        super().__init__()
        self._began = time.monotonic()
        self._shown = ""

    def v2_playbook_on_task_start(self, task, is_conditional):  # type: ignore[no-untyped-def]
        self._began = time.monotonic()
        self._shown = ""

    def v2_playbook_on_handler_task_start(self, task):  # type: ignore[no-untyped-def]
        self.v2_playbook_on_task_start(task, False)

    def v2_runner_on_ok(self, result):  # type: ignore[no-untyped-def]
        task = result.task
        if task.action.rsplit(".", 1)[-1] == "debug":
            return
        if task.action.rsplit(".", 1)[-1] in QUIET or self._shown == task.name:
            return
        self._shown = task.name
        host = result.result.get("_ansible_delegated_vars", {}).get("ansible_delegated_host") or result.host.get_name()
        self._display.display("    %-64s %-4s %5.1f s" % (task.name[:64], host, time.monotonic() - self._began))

    def v2_runner_item_on_ok(self, result):  # type: ignore[no-untyped-def]
        if result.task.action.rsplit(".", 1)[-1] == "debug" and "msg" in result.result:
            self._display.display("    %s" % result.result["msg"], color="green")

    def v2_runner_on_failed(self, result, ignore_errors=False):  # type: ignore[no-untyped-def]
        self._display.display("    %s: %s" % (result.task.name, result.result.get("msg")), color="red")

    def v2_runner_on_unreachable(self, result):  # type: ignore[no-untyped-def]
        self.v2_runner_on_failed(result)
