# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Every check of a preflight is made, also after one that libvirt did not answer."""

from typing import Callable, Optional, Sequence

from .._core.connection import libvirt_message
from .._core.deps import libvirt
from .._core.errors import TrustedVMError
from .survey import Survey


class Checks:
    """The obstacles of one VM, in the order of the checks.

    A question that was not answered is an obstacle, too: what would be lost by a wrong guess is the TPM.
    Checks that only spare a failed attempt catch libvirt's errors themselves.
    """

    def __init__(self, survey: Survey) -> None:
        self.found: list[TrustedVMError] = []
        self._vm = survey.machine.name if survey.machine else ""
        self._host = survey.destination_host

    def run(self, what: str, check: Callable[[], Sequence[Optional[TrustedVMError]]]) -> None:
        """Make one check.

        Args:
            what: what is looked at, for the message.
        """
        try:
            self.found += [obstacle for obstacle in check() if obstacle is not None]
        except libvirt.libvirtError as error:
            self.found.append(self._unanswered(what, error))

    def _unanswered(self, what: str, error: libvirt.libvirtError) -> TrustedVMError:
        return TrustedVMError(
            "preflight_incomplete",
            "libvirt did not answer a question about VM '%s' and host %s: %s" % (self._vm, self._host, what),
            found=libvirt_message(error),
            hint="See libvirt's log on both hosts, then run again",
            details={"libvirt_error": error.get_error_code()},
        )
