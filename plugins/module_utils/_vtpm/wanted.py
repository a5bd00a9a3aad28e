# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""What an item of the module ``vtpm`` asks for, checked before libvirt is asked anything."""

from dataclasses import dataclass, field
from typing import Any, Mapping, Optional

from .._core.domains import as_uuid
from .._core.errors import TrustedVMError
from .._core.texts import fits_xml
from .._secret.value import given_value
from .._tpm.device import MODEL_DEFAULT, TpmSpec


@dataclass(frozen=True)
class WantedVtpm:
    """The options of one item; ``None`` is "not said"."""

    vm: str
    state: str
    model: Optional[str] = None
    encrypted: bool = True
    secret_uuid: Optional[str] = None
    require_state: bool = False
    remove_state: bool = False
    moved: bool = False
    accept_data_loss: bool = False
    reset_id: Optional[str] = None
    value: Optional[bytes] = field(default=None, repr=False)

    def device(self, found: Optional[TpmSpec]) -> TpmSpec:
        """The device that ``state: present`` asks for, given the one that is there.

        Raises:
            TrustedVMError: ``secret_uuid_missing``.
        """
        secret_uuid = self.secret_uuid
        if self.encrypted and secret_uuid is None and found is not None:
            secret_uuid = found.secret_uuid
        if self.encrypted and secret_uuid is None:
            raise TrustedVMError(
                "secret_uuid_missing",
                "The vTPM is to be encrypted, but no secret is named",
                found="no secret_uuid, neither in the task nor in the VM",
                wanted="secret_uuid: the UUID of a libvirt secret",
                hint="Give secret_uuid; encrypted=false makes a vTPM whose state anyone with the disk can read",
            )
        return TpmSpec(
            secret_uuid=secret_uuid if self.encrypted else None,
            model=self.model or (found.model if found is not None else MODEL_DEFAULT),
            source=None if found is None else found.source,
        )


def wanted_vtpm(item: Mapping[str, Any]) -> WantedVtpm:
    """Check an item's options.

    Raises:
        TrustedVMError: ``identity_missing``, ``uuid_invalid``, ``secret_uuid_not_expected``,
            ``reset_id_invalid`` and those of :func:`.._secret.value.given_value`.
    """
    if not item.get("vm"):
        raise TrustedVMError("identity_missing", "The item does not say which VM is meant", wanted="vm: a name or UUID")
    secret_uuid = item.get("secret_uuid") or None
    if secret_uuid is not None:
        if as_uuid(secret_uuid) is None:
            raise TrustedVMError("uuid_invalid", "secret_uuid '%s' is not a UUID" % secret_uuid)
        secret_uuid = as_uuid(secret_uuid)
    if secret_uuid is not None and not item["encrypted"]:
        raise TrustedVMError(
            "secret_uuid_not_expected",
            "The vTPM is to be unencrypted, but a secret is named",
            found="encrypted: false and secret_uuid %s" % secret_uuid,
            hint="Leave out one of the two",
        )
    if item["moved"]:
        _refuse_odd_move(item)
    if not fits_xml(item.get("reset_id") or ""):
        raise TrustedVMError("reset_id_invalid", "The option reset_id holds a control character")
    return WantedVtpm(
        vm=item["vm"],
        state=item["state"],
        model=item.get("model"),
        encrypted=item["encrypted"],
        secret_uuid=secret_uuid,
        require_state=item["require_state"],
        remove_state=item["remove_state"],
        moved=item["moved"],
        accept_data_loss=item["accept_data_loss"],
        reset_id=item.get("reset_id") or None,
        value=given_value(item),
    )


def _refuse_odd_move(item: Mapping[str, Any]) -> None:
    if item["state"] != "absent":
        raise TrustedVMError(
            "moved_not_expected",
            "The option moved is about the copy that a VM left behind, so it goes with state=absent only",
            found="state %s" % item["state"],
        )
    if as_uuid(item["vm"]) is None:
        raise TrustedVMError(
            "uuid_invalid",
            "'%s' is not a UUID, and a VM that lives elsewhere can be named by its UUID only" % item["vm"],
            hint="Give the VM's UUID as vm",
        )
