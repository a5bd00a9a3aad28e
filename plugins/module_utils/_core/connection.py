# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Opening libvirt, and turning its errors into ours."""

import socket
import threading
from contextlib import contextmanager
from typing import Any, Iterator
from urllib.parse import urlsplit

from .deps import libvirt, require_libvirt
from .errors import TrustedVMError

_event_loop_lock = threading.Lock()
_event_loop: list[threading.Thread] = []


def _ignore_error(context: Any, error: Any) -> None:
    """libvirt prints each error to stderr unless a handler is set; we report them ourselves."""


def _run_event_loop() -> None:
    """An embedded driver (``qemu:///embed?root=DIR``) works inside this process and needs its events.

    The loop must be registered before the connection is opened; it ends with the process.
    """
    with _event_loop_lock:
        if _event_loop:
            return
        libvirt.virEventRegisterDefaultImpl()
        thread = threading.Thread(target=_event_loop_body, name="libvirt-events", daemon=True)
        _event_loop.append(thread)
        thread.start()


def _event_loop_body() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


@contextmanager
def open_connection(uri: str, readonly: bool = False) -> Iterator[Any]:
    """Yield an open ``virConnect`` and close it afterwards.

    Raises:
        TrustedVMError: ``libvirt_python_missing`` or ``libvirt_unreachable``.
    """
    require_libvirt()
    libvirt.registerErrorHandler(_ignore_error, None)
    if urlsplit(uri).path == "/embed":
        _run_event_loop()
    try:
        connection = libvirt.openReadOnly(uri) if readonly else libvirt.open(uri)
    except libvirt.libvirtError as error:
        raise TrustedVMError(
            "libvirt_unreachable",
            "libvirt does not answer at %s: %s" % (uri, libvirt_message(error)),
            hint="See that libvirtd (or virtqemud) runs on the host and that the user may use it",
        ) from error
    try:
        yield connection
    finally:
        try:
            connection.close()
        except libvirt.libvirtError:
            # The daemon may have gone away meanwhile; what was done is done.
            pass


def host_name(connection: Any) -> str:
    """The hypervisor's name for messages and results."""
    try:
        return str(connection.getHostname())
    except libvirt.libvirtError as error:
        # The secret driver of its own (secret:///…) does not tell it.
        if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
            return socket.gethostname()
        raise


def libvirt_message(error: Any) -> str:
    """libvirt's own words with its error number: ``Secret not found: … (libvirt error 66)``."""
    return "%s (libvirt error %s)" % (error.get_error_message() or error, error.get_error_code())


def libvirt_failure(error: Any, doing: str) -> TrustedVMError:
    """An unexpected libvirt error as ours, with libvirt's own words kept.

    Args:
        error: the ``libvirtError``.
        doing: what was tried, as "defining secret 1234…".
    """
    return TrustedVMError(
        "libvirt_error",
        "libvirt refused while %s: %s" % (doing, libvirt_message(error)),
        details={"libvirt_error": error.get_error_code()},
    )
