# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Opening libvirt, and turning its errors into ours."""

from contextlib import contextmanager
from typing import Any, Iterator

from .deps import libvirt, require_libvirt
from .errors import TrustedVMError


def _ignore_error(context: Any, error: Any) -> None:
    """libvirt prints each error to stderr unless a handler is set; we report them ourselves."""


@contextmanager
def open_connection(uri: str, readonly: bool = False) -> Iterator[Any]:
    """Yield an open ``virConnect`` and close it afterwards.

    Raises:
        TrustedVMError: ``libvirt_python_missing`` or ``libvirt_unreachable``.
    """
    require_libvirt()
    libvirt.registerErrorHandler(_ignore_error, None)
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
