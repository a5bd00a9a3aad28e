# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""The connection to the destination's libvirt, never waited for without a limit."""

import threading
from functools import partial
from typing import Any, Callable, Optional, TypeVar

from .._core.connection import libvirt_message
from .._core.deps import libvirt
from .._core.errors import TrustedVMError

Result = TypeVar("Result")

UNREACHABLE = "destination_unreachable"

# How long a host gets to answer a goodbye.
CLOSE_SECONDS = 2.0


def within(seconds: float, work: Callable[[], Result], unreachable: Callable[[str], TrustedVMError]) -> Result:
    """The result of ``work``, or the error after so many seconds.

    libvirt's client has no time-out of its own: a host that drops packets would hold the module
    for as long as TCP tries, two minutes and more. The waiting thread is left behind; it ends
    with the process.
    """
    box: dict[str, Any] = {}

    def run() -> None:
        try:
            box["result"] = work()
        except BaseException as error:  # handed to the waiting thread as it is
            box["error"] = error

    thread = threading.Thread(target=run, name="libvirt-destination", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise unreachable("no answer within %g s" % seconds)
    if "error" in box:
        raise box["error"]
    result: Result = box["result"]
    return result


def connect(uri: str) -> Any:
    """Open a destination; the URI is one that the source's libvirtd can open as well."""
    return libvirt.open(uri)


class Destinations:
    """Open connections by URI, one each, for all items of a task."""

    def __init__(self, opener: Callable[[str], Any] = connect) -> None:
        self._connect = opener
        self._open: dict[str, Any] = {}
        self._failed: dict[str, TrustedVMError] = {}

    def get(self, uri: str, seconds: float) -> Any:
        """The connection, opened as the source's libvirtd will open it.

        A URI that failed is not tried again in this task.

        Raises:
            TrustedVMError: ``destination_unreachable``.
        """
        if uri in self._failed:
            failed = self._failed[uri]
            raise TrustedVMError(failed.code, failed.message, failed.found, failed.wanted, failed.hint)
        if uri not in self._open:
            try:
                self._open[uri] = within(seconds, lambda: self._connect(uri), lambda why: unreachable(uri, why))
            except libvirt.libvirtError as error:
                self._failed[uri] = unreachable(uri, libvirt_message(error))
            except TrustedVMError as error:
                self._failed[uri] = error
            if uri in self._failed:
                raise self._failed[uri]
        return self._open[uri]

    def again(self, uri: str, seconds: float) -> Any:
        """A new connection after something went wrong; the old one may be dead and not know it."""
        if uri in self._open:
            _keep_for_good(self._open.pop(uri))
        self._failed.pop(uri, None)
        return self.get(uri, seconds)

    def ask(self, uri: str, seconds: float, work: Callable[[Any], Result]) -> Result:
        """What ``work`` reads there: over the open connection, and if that is dead over a new one.

        Raises:
            TrustedVMError: ``destination_unreachable``, and those of ``work``.
            libvirtError: of ``work``.
        """
        connection = self.get(uri, seconds)
        try:
            return within(seconds, lambda: work(connection), lambda why: unreachable(uri, why))
        except libvirt.libvirtError:
            pass
        except TrustedVMError as error:
            if error.code != UNREACHABLE:
                raise
        return self.ask_anew(uri, seconds, work)

    def ask_anew(
        self, uri: str, seconds: float, work: Callable[[Any], Result], work_seconds: Optional[float] = None
    ) -> Result:
        """As :meth:`ask`, over a new connection.

        Args:
            work_seconds: the limit for ``work``, if it is not the one for the connection.
        """
        connection = self.again(uri, seconds)
        return within(work_seconds or seconds, lambda: work(connection), lambda why: unreachable(uri, why))

    def close(self) -> None:
        for uri, connection in self._open.items():
            try:
                within(CLOSE_SECONDS, connection.close, partial(unreachable, uri))
            except (libvirt.libvirtError, TrustedVMError):
                # The destination went away; there is nothing to close any more.
                pass
        self._open.clear()


def _keep_for_good(connection: Any) -> None:
    """Never let Python collect it: that closes it, and the close waits for the dead host's answer.

    A thread that sleeps holds it to the end of the process, also while the interpreter shuts down.
    """
    threading.Thread(target=lambda held: threading.Event().wait(), args=(connection,), daemon=True).start()


def unreachable(uri: str, why: str) -> TrustedVMError:
    return TrustedVMError(
        UNREACHABLE,
        "libvirt on the destination does not answer at %s" % uri,
        found=why,
        hint="See that the host is up, that its libvirtd listens for TLS (port 16514), that the source host "
        "reaches it, and that the source's client certificate and CA are where libvirt looks (option pkipath)",
    )
