# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""The refusals of ``libvirt_secret``, each with what was found, what was wanted and what to do."""

from typing import Optional

from .._core.errors import TrustedVMError
from .definition import NO_USAGE, SecretDefinition
from .wanted import WantedSecret


def usage_taken(uuid: str, usage_type: str, usage: Optional[str], holder: str) -> TrustedVMError:
    """Requirement M3: another UUID for the same usage is an error with a remedy, not a success."""
    return TrustedVMError(
        "secret_usage_taken",
        "Secret %s cannot be defined, because secret %s has its usage" % (uuid, holder),
        found="secret %s for %s '%s'" % (holder, usage_type, usage),
        wanted="secret %s for %s '%s'" % (uuid, usage_type, usage),
        hint="If nothing needs secret %s any more, remove it (libvirt_secret uuid=%s state=absent); "
        "else define the VM with that UUID" % (holder, holder),
        details={"found_uuid": holder},
    )


def refuse_incomplete(wanted: WantedSecret) -> None:
    if wanted.usage is None and wanted.usage_type != NO_USAGE:
        raise TrustedVMError(
            "usage_missing",
            "Secret %s does not exist, and the item does not say what it is for" % wanted.uuid,
            wanted="usage (of type %s)" % wanted.usage_type,
            hint="Give usage, or usage_type=none for a secret that is for nothing in particular",
        )


def refuse_other_usage(wanted: WantedSecret, found: SecretDefinition) -> None:
    """libvirt compares the usage but not its type when a UUID is defined again.

    So it accepts a second vtpm secret of one name that way (libvirt 9.0 to 12.8, virSecretObjListAdd).
    """
    if wanted.usage is None or (found.usage_type, found.usage) == (wanted.usage_type, wanted.usage):
        return
    raise TrustedVMError(
        "secret_usage_differs",
        "Secret %s exists for another usage, and a secret's usage cannot change" % found.uuid,
        found="usage %s" % found.describe_usage(),
        wanted="usage %s '%s'" % (wanted.usage_type, wanted.usage),
        hint="Use another UUID, or remove that secret first if nothing needs it",
    )


def in_use(found: SecretDefinition, users: list[str]) -> TrustedVMError:
    return TrustedVMError(
        "secret_in_use",
        "Secret %s is needed by %d VM(s) on this host" % (found.uuid, len(users)),
        found="used by %s" % ", ".join(users),
        wanted="a secret that no VM uses",
        hint="Remove those VMs or their devices first; in_use=keep leaves the secret, in_use=remove removes it all the same",
        details={"used_by": users},
    )


def refuse_unprivate(wanted: WantedSecret, found: SecretDefinition) -> None:
    """libvirt's own refusal of private → not private is its generic error 1."""
    if not found.private or wanted.private:
        return
    raise TrustedVMError(
        "secret_private_stays",
        "Secret %s is private, and libvirt never makes a private secret readable" % found.uuid,
        found="private: true",
        wanted="private: false",
        hint="Keep private: true, or remove the secret (state=absent) and define it anew with its value",
    )


def not_as_asked(found: str, wanted: str) -> TrustedVMError:
    return TrustedVMError(
        "secret_not_as_asked",
        "libvirt took the secret, but does not hold it as asked",
        found=found,
        wanted=wanted,
        hint="See whether something else on the host manages this secret",
    )
