# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""What the destination's libvirt is too old for: it ignores elements that it does not know, without a word."""

from typing import Any, Callable, Optional, Sequence

from .._core.errors import TrustedVMError
from .survey import Survey


def release_obstacles(survey: Survey, tree: Any) -> list[TrustedVMError]:
    """One that names everything."""
    has = survey.destination.getLibVersion()
    too_new = [(version, what) for version, find in _SINCE for what in [find(tree)] if what and version > has]
    if not too_new:
        return []
    return [
        TrustedVMError(
            "destination_libvirt_too_old",
            "libvirt on host %s is too old for VM '%s'"
            % (survey.destination_host, survey.machine.name if survey.machine else ""),
            found="libvirt %s" % _text(has),
            wanted="libvirt %s for %s" % (_text(max(too_new)[0]), ", ".join(what for _version, what in too_new)),
            hint="Upgrade that host, or move the VM to one with a newer release",
        )
    ]


def _profile(tree: Any) -> Optional[str]:
    """The profile "null" is what libtpms 0.9 does, so that an old host can take such a state (man swtpm)."""
    profile = tree.find("devices/tpm/backend/profile")
    if profile is None or profile.get("name", profile.get("source")) == "null":
        return None
    return "the TPM's <profile name='%s'>" % profile.get("name", profile.get("source"))


def _source(tree: Any) -> Optional[str]:
    source = tree.find("devices/tpm/backend[@type='emulator']/source")
    return None if source is None else "the TPM's <source path='%s'>" % source.get("path")


def _there(path: str, what: str) -> Callable[[Any], Optional[str]]:
    return lambda tree: what if tree.find(path) is not None else None


# formatdomain.html of libvirt 12.8
_SINCE: Sequence[tuple[int, Callable[[Any], Optional[str]]]] = (
    (7000000, _there("devices/tpm/backend[@persistent_state='yes']", "the TPM's persistent_state")),
    (7010000, _there("devices/tpm/backend/active_pcr_banks", "the TPM's <active_pcr_banks>")),
    (8005000, _there("os/nvram[@type]", "<nvram type=…>")),
    (10010000, _profile),
    (10010000, _source),
    (12001000, _there("os/varstore", "<varstore>")),
)


def _text(version: int) -> str:
    return "%d.%d.%d" % (version // 1000000, version // 1000 % 1000, version % 1000)
