# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""What is asked of one migration, and how libvirt is told."""

from dataclasses import dataclass, field
from typing import Any, Mapping, Optional, Tuple
from urllib.parse import quote

from .._core.deps import libvirt
from .._core.errors import TrustedVMError
from .._secret.value import given_value

SHARING_DETECT = "detect"
SHARING_LOCAL = "local"
SHARING_SHARED = "shared"

LIVE = "live"
COLD = "cold"
AUTO = "auto"


@dataclass(frozen=True)
class Request:
    """One migration. The times are seconds, the bandwidth is MiB/s; 0 is "no limit".

    Attributes:
        value: the value of the TPM's secret, to be tried on the TPM state; never in a result.
    """

    vm: str
    destination_uri: str
    mode: str = LIVE
    tls: bool = True
    tls_hostname: Optional[str] = None
    undefine_source: bool = True
    persist_destination: bool = True
    unsafe: bool = False
    clean_source: bool = False
    migrate_uri: Optional[str] = None
    bandwidth: int = 0
    auto_converge: bool = False
    timeout: int = 0
    connect_timeout: int = 10
    provided_secrets: Tuple[str, ...] = ()
    tpm_state_sharing: str = SHARING_DETECT
    value: Optional[bytes] = field(default=None, repr=False)

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Request:
        """From the module's options.

        Raises:
            TrustedVMError: ``invalid_destination``, ``invalid_option`` and those of
                :func:`.._secret.value.given_value`.
        """
        for name in ("bandwidth", "timeout", "connect_timeout"):
            _refuse_negative(name, options[name])
        if options["clean_source"] and not options["undefine_source"]:
            raise TrustedVMError(
                "invalid_option",
                "clean_source removes what a definition on the source needs, and undefine_source=false keeps that definition",
                hint="Set one of the two to its default",
            )
        if options["mode"] == COLD and not options["persist_destination"]:
            raise TrustedVMError(
                "invalid_option",
                "A VM that is off is nothing but its definition, and persist_destination=false makes none",
                hint="Leave persist_destination at its default for a cold migration",
            )
        return cls(
            vm=options["vm"],
            destination_uri=_destination_uri(options),
            mode=options["mode"],
            tls=options["tls"],
            tls_hostname=options["tls_hostname"],
            undefine_source=options["undefine_source"],
            persist_destination=options["persist_destination"],
            unsafe=options["unsafe"],
            clean_source=options["clean_source"],
            migrate_uri=options["migrate_uri"],
            bandwidth=options["bandwidth"],
            auto_converge=options["auto_converge"],
            timeout=options["timeout"],
            connect_timeout=options["connect_timeout"] or 10,
            provided_secrets=tuple(text.lower() for text in options["provided_secrets"] or ()),
            tpm_state_sharing=options["tpm_state_sharing"],
            value=given_value(options),
        )

    def flags(self) -> int:
        """The ``VIR_MIGRATE_*`` flags: live and peer to peer, so that the data does not pass the caller."""
        flags: int = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER
        optional = (
            (self.tls, libvirt.VIR_MIGRATE_TLS),
            (self.undefine_source, libvirt.VIR_MIGRATE_UNDEFINE_SOURCE),
            (self.persist_destination, libvirt.VIR_MIGRATE_PERSIST_DEST),
            (self.unsafe, libvirt.VIR_MIGRATE_UNSAFE),
            (self.auto_converge, libvirt.VIR_MIGRATE_AUTO_CONVERGE),
        )
        for wanted, flag in optional:
            flags |= flag if wanted else 0
        return flags

    def parameters(self) -> dict[str, Any]:
        """The typed parameters of ``migrateToURI3``."""
        parameters: dict[str, Any] = {}
        if self.migrate_uri:
            parameters[libvirt.VIR_MIGRATE_PARAM_URI] = self.migrate_uri
        if self.bandwidth:
            parameters[libvirt.VIR_MIGRATE_PARAM_BANDWIDTH] = self.bandwidth
        if self.tls and self.tls_hostname:
            parameters[libvirt.VIR_MIGRATE_PARAM_TLS_DESTINATION] = self.tls_hostname
        return parameters


def _refuse_negative(name: str, value: int) -> None:
    if value < 0:
        raise TrustedVMError(
            "invalid_option", "'%s' is %d, but cannot be less than 0" % (name, value)
        )


def _destination_uri(options: Mapping[str, Any]) -> str:
    uri, host, pkipath = (options[key] for key in ("destination_uri", "destination_host", "pkipath"))
    if uri:
        return str(uri)
    if not host:
        raise TrustedVMError(
            "invalid_destination",
            "Neither 'destination_host' nor 'destination_uri' says where VM '%s' goes" % options["vm"],
            hint="Give one of the two, in the item or at the top level",
        )
    address = "[%s]" % host if ":" in host and not host.startswith("[") else host
    query = "?pkipath=%s" % quote(pkipath, safe="/") if pkipath else ""
    return "qemu+tls://%s/system%s" % (address, query)
