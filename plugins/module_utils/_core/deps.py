# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Third-party libraries of the host side, and the error that names the package to install.

The modules must load without them (documentation, sanity tests), so a missing library is None
here and only `require_*` complains.
"""

import traceback
from typing import Optional

from .errors import TrustedVMError

LIBVIRT_IMPORT_ERROR: Optional[str] = None
LXML_IMPORT_ERROR: Optional[str] = None

try:
    import libvirt
except ImportError:
    libvirt = None  # type: ignore[assignment]
    LIBVIRT_IMPORT_ERROR = traceback.format_exc()

try:
    from lxml import etree
except ImportError:
    etree = None  # type: ignore[assignment]
    LXML_IMPORT_ERROR = traceback.format_exc()


def require_libvirt() -> None:
    """Raise ``libvirt_python_missing`` where the binding is not installed."""
    if libvirt is None:
        raise TrustedVMError(
            "libvirt_python_missing",
            "The Python that Ansible uses on this host has no module 'libvirt'",
            hint="Install python3-libvirt (Debian, Ubuntu, RHEL kin) for that Python, or set "
            "ansible_python_interpreter to the distribution's /usr/bin/python3",
        )


def require_lxml() -> None:
    """Raise ``lxml_missing`` where lxml is not installed."""
    if etree is None:
        raise TrustedVMError(
            "lxml_missing",
            "The Python that Ansible uses on this host has no module 'lxml'",
            hint="Install python3-lxml (Debian, Ubuntu, RHEL kin) for that Python",
        )
