# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""What libvirt says when a migration fails, as an error with a code and a remedy."""

import re
from dataclasses import dataclass
from typing import Any, Optional, Sequence

from .._core.connection import libvirt_message
from .._core.deps import libvirt
from .._core.errors import TrustedVMError


@dataclass(frozen=True)
class Sign:
    """How one cause shows: libvirt's error code, words in its message, or both."""

    error_code: str
    message: str
    hint: str
    code: Optional[str] = None
    words: Optional[str] = None

    def fits(self, number: int, text: str) -> bool:
        if self.code is not None and getattr(libvirt, self.code, None) != number:
            return False
        return self.words is None or re.search(self.words, text, re.IGNORECASE) is not None


# The first that fits wins. The words were seen on libvirt 9.0.0 with QEMU 7.2.
SIGNS: Sequence[Sign] = (
    Sign(
        "destination_secret_wrong",
        "The secret on {destination} has another value than the one on the source: it does not open the TPM state",
        "Set the secret's value there with trustedvm.libvirt.libvirt_secret from the VM's key, then migrate again",
        words=r"TPM error 0x21|decryption error",
    ),
    Sign(
        "destination_secret_missing",
        "{destination} lacks a secret that the VM needs",
        "Define it there, with a value, with trustedvm.libvirt.libvirt_secret, or use the role "
        "trustedvm.libvirt.vm_migrate, which does",
        code="VIR_ERR_NO_SECRET",
    ),
    Sign(
        "storage_not_shared",
        "libvirt does not know the storage of the VM's disks to be shared with {destination}",
        "If both hosts really see the same disk, and its cache mode is none or directsync or its storage is "
        "coherent, set unsafe=true; a disk on a local file system has to be moved to shared storage first",
        code="VIR_ERR_MIGRATE_UNSAFE",
    ),
    Sign(
        "same_host",
        "The destination is the host on which the VM runs already",
        "Name a destination that is not the source; hosts cloned from one image need a host_uuid each "
        "(libvirtd.conf)",
        words=r"migrate guest to the same host",
    ),
    Sign(
        "destination_cpu_incompatible",
        "The CPU of the VM cannot be had on {destination}",
        "Give the VM a CPU model that both hosts have (virsh hypervisor-cpu-baseline) and restart it once",
        code="VIR_ERR_CPU_INCOMPATIBLE",
    ),
    Sign(
        "tpm_state_shared_unsupported",
        "The swtpm of the source cannot migrate a TPM state on shared storage",
        "Install swtpm 0.8 or newer on both hosts and restart the VM once, or keep TPM state on local storage",
        words=r"swtpm does not support migration with shared storage",
    ),
    Sign(
        "vm_name_taken",
        "{destination} has another VM with this name or UUID",
        "Rename one of the two (virsh domrename, while it is shut off)",
        words=r"domain '.*' (already exists with uuid|is already defined with uuid)",
    ),
    Sign(
        "migration_aborted",
        "The migration was aborted from outside",
        "See who ran virsh domjobabort, then migrate again",
        code="VIR_ERR_OPERATION_ABORTED",
    ),
    Sign(
        "destination_storage_missing",
        "{destination} does not have a file or a storage pool that the VM uses",
        "Make the path available there (same path as on the source), then migrate again",
        words=r"cannot access storage file|no storage pool with matching target path|storage pool not found"
        r"|failed to create file|unable to open file|could not open",
    ),
    Sign(
        "destination_unreachable",
        "The source's libvirt or QEMU does not reach {destination}",
        "See that the name in the message resolves on the source and that ports 16514 and 49152-49215 are open "
        "there; migrate_uri, or migration_host in the destination's qemu.conf, sets the address for the data",
        words=r"unable to connect to server|unable to resolve address|failed to connect to remote"
        r"|connection refused|no route to host|network is unreachable",
    ),
    Sign(
        "migration_tls_failed",
        "The encrypted channel for the migration did not come about",
        "See the certificates in migrate_tls_x509_cert_dir of qemu.conf on both hosts (server-cert.pem for "
        "{destination}'s name, client-cert.pem, one CA), for instance by the role trustedvm.libvirt.hypervisor",
        words=r"\bTLS\b|x509|gnutls|certificate|access credentials",
    ),
)


UNKNOWN = Sign(
    "migration_failed",
    "libvirt refused or gave up",
    "See libvirtd's log and /var/log/libvirt/qemu/<VM>.log on both hosts",
)


def migration_failure(
    error: Any,
    vm: str,
    destination: str,
    timed_out: Optional[int] = None,
    last_words: Optional[str] = None,
) -> TrustedVMError:
    """The error of a failed ``migrateToURI3``; libvirt's own words stay in ``found``.

    Args:
        timed_out: the limit in seconds after which we aborted the job.
        last_words: of the destination's QEMU, where libvirt itself says too little.
    """
    number = error.get_error_code()
    text = "\n".join(filter(None, (error.get_error_message(), last_words)))
    details = {"libvirt_error": number}
    if timed_out is not None and number == libvirt.VIR_ERR_OPERATION_ABORTED:
        return TrustedVMError(
            "migration_timeout",
            "The migration of VM '%s' to %s was not done within %d s and was aborted" % (vm, destination, timed_out),
            found=libvirt_message(error),
            hint="Allow more time (timeout), more bandwidth, or auto_converge=true for a busy VM",
            details=details,
        )
    for sign in SIGNS:
        if sign.fits(number, text):
            break
    else:
        sign = UNKNOWN
    where = "host %s" % destination
    message = _first_upper(sign.message.format(destination=where))
    return TrustedVMError(
        sign.error_code,
        "VM '%s' could not be migrated to %s. %s" % (vm, where, message),
        found=libvirt_message(error) + ("; QEMU on %s said: %s" % (where, last_words) if last_words else ""),
        hint=sign.hint.format(destination=where),
        details=details,
    )


def _first_upper(text: str) -> str:
    """A sentence begins with a capital letter, libvirt's name never."""
    return text if text.startswith("libvirt") else text[:1].upper() + text[1:]
