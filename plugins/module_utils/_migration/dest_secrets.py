# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""The secrets that a VM's TPM needs at the destination (requirements M1 and M3)."""

import hmac
from typing import Any, Optional, Sequence

from .._core.deps import libvirt
from .._core.errors import TrustedVMError
from .._secret.definition import NO_USAGE, SecretDefinition, parse_secret, usage_type_number
from .lookup import find_secret, find_secret_by_usage


class TpmSecret:
    """One secret: as the source has it, and as the destination has it."""

    def __init__(self, uuid: str, source: Any, destination: Any) -> None:
        self.uuid = uuid
        self._destination = destination
        self._here = find_secret(source, uuid)
        self._there: Optional[Any] = None
        self.supported = True
        try:
            self._there = find_secret(destination, uuid)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
                raise
            self.supported = False
        # A running VM goes on after its source secret vanished (ephemeral, daemon restarted).
        self.definition = _define(self._here) or SecretDefinition(uuid)

    @property
    def on_source(self) -> bool:
        return self._here is not None

    def as_result(self) -> dict[str, Any]:
        known = self.on_source
        return {
            "uuid": self.uuid,
            "usage_type": self.definition.usage_type if known else None,
            "usage": self.definition.usage,
            "private": self.definition.private if known else None,
            "ephemeral": self.definition.ephemeral if known else None,
            "on_source": known,
            "on_destination": self._there is not None,
        }

    def obstacle(self, host: str, provided: Sequence[str]) -> Optional[TrustedVMError]:
        """Why the destination cannot take the TPM, or None.

        Args:
            host: the destination, for the message.
            provided: UUIDs of the secrets that the caller will have defined there by then.
        """
        if not self.supported:
            return TrustedVMError(
                "destination_secret_unsupported",
                "libvirt on %s has no secret driver, so it cannot hold secret %s of the vTPM" % (host, self.uuid),
                hint="Install libvirt's secret driver there (Debian 13 and newer: libvirt-daemon-driver-secret)",
            )
        if self._there is None:
            return self._taken(host) or (None if self.uuid in provided else self._missing(host))
        return self._other_usage(host) or self._value_problem(host, provided)

    def _missing(self, host: str, found: str = "no secret with this UUID") -> TrustedVMError:
        return TrustedVMError(
            "destination_secret_missing",
            "Host %s lacks the secret %s that encrypts the TPM state" % (host, self.uuid),
            found=found,
            wanted="secret %s (%s) with the value that it has on the source"
            % (self.uuid, self.definition.describe_usage()),
            hint="Define it there with trustedvm.libvirt.libvirt_secret before the migration, or use "
            "the role trustedvm.libvirt.vm_migrate, which does",
            details={"secret_uuid": self.uuid},
        )

    def _taken(self, host: str) -> Optional[TrustedVMError]:
        if self._here is None or self.definition.usage_type == NO_USAGE:
            return None
        usage_type = usage_type_number(self.definition.usage_type)
        holder = find_secret_by_usage(self._destination, usage_type, self.definition.usage or "")
        if holder is None:
            return None
        return TrustedVMError(
            "destination_secret_usage_taken",
            "Host %s has another secret for the usage %s" % (host, self.definition.describe_usage()),
            found="secret %s" % holder.UUIDString(),
            wanted="secret %s, as on the source" % self.uuid,
            hint="See that no VM there uses the other one, then remove it "
            "(libvirt_secret with its uuid and state=absent)",
            details={"secret_uuid": self.uuid, "found_secret_uuid": holder.UUIDString()},
        )

    def _other_usage(self, host: str) -> Optional[TrustedVMError]:
        there = _define(self._there)
        if self._here is None or there is None:
            return None
        if (there.usage_type, there.usage) == (self.definition.usage_type, self.definition.usage):
            return None
        return TrustedVMError(
            "destination_secret_mismatch",
            "Secret %s on host %s is for something else" % (self.uuid, host),
            found=there.describe_usage(),
            wanted=self.definition.describe_usage(),
            hint="See what uses it there; remove it and define the right one if nothing does",
            details={"secret_uuid": self.uuid},
        )

    def _value_problem(self, host: str, provided: Sequence[str]) -> Optional[TrustedVMError]:
        """A private secret does not even tell whether it has a value (libvirt error 65)."""
        there = _value(self._there)
        if there is None:
            return None
        if not there:
            return None if self.uuid in provided else self._missing(host, "the secret has no value")
        here = _value(self._here) if self._here is not None else None
        if not here or hmac.compare_digest(here, there):
            return None
        return wrong_secret(self.uuid, host, "another value than on the source")


def wrong_secret(uuid: str, host: str, found: str) -> TrustedVMError:
    return TrustedVMError(
        "destination_secret_wrong",
        "Secret %s on host %s does not open the VM's TPM state" % (uuid, host),
        found=found,
        wanted="the value that the secret has on the source",
        hint="Set its value with trustedvm.libvirt.libvirt_secret from the VM's key, then migrate again",
        details={"secret_uuid": uuid},
    )


def _define(secret: Optional[Any]) -> Optional[SecretDefinition]:
    return None if secret is None else parse_secret(secret.XMLDesc(0))


def _value(secret: Any) -> Optional[bytes]:
    """The value; b"" where it has none; None where libvirt does not tell."""
    try:
        return bytes(secret.value())
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_SECRET:
            return b""
        if error.get_error_code() in (libvirt.VIR_ERR_INVALID_SECRET, libvirt.VIR_ERR_OPERATION_DENIED):
            return None
        raise
