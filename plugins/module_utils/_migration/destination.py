# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""The connection to the destination's libvirt, never waited for without a limit."""

import threading
from typing import Any, Callable, TypeVar

from .._core.connection import libvirt_message
from .._core.deps import libvirt
from .._core.errors import TrustedVMError

Result = TypeVar("Result")


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
        self._open.pop(uri, None)
        self._failed.pop(uri, None)
        return self.get(uri, seconds)

    def close(self) -> None:
        for connection in self._open.values():
            try:
                connection.close()
            except libvirt.libvirtError:
                # The destination went away; there is nothing to close any more.
                pass
        self._open.clear()


def unreachable(uri: str, why: str) -> TrustedVMError:
    return TrustedVMError(
        "destination_unreachable",
        "libvirt on the destination does not answer at %s" % uri,
        found=why,
        hint="See that the host is up, that its libvirtd listens for TLS (port 16514), that the source host "
        "reaches it, and that the source's client certificate and CA are where libvirt looks (option pkipath)",
    )
