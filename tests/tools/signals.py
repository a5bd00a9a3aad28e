# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A run that is told to end takes down what it started."""

from __future__ import annotations

import signal

# ^C, kill, and the terminal or SSH session that goes away.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """Somebody pressed ^C, the CI job was cancelled, or the terminal went away."""

    def __init__(self, number: int) -> None:
        super().__init__("interrupted by %s" % signal.Signals(number).name)
        self.exit_code = 128 + number


def raise_when_told_to_end() -> None:
    """Turn the first such signal into an exception, so that ``finally`` runs; further ones do not disturb it."""

    def interrupt(number: int, frame: object) -> None:
        for each in ENDING:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(number)

    for number in ENDING:
        # Ignored from the start (nohup): stays so.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)
