# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""From what a host's libvirt holds to what an item asks for: find, compare, say the steps."""

from dataclasses import replace
from typing import Any, Mapping, Optional

from .._core.change import Change, Step
from .._core.domains import DomainIndex, as_uuid, definition
from .._core.errors import TrustedVMError
from .._core.host_paths import host_paths
from .._tpm import key_check
from .._tpm.device import read_tpm
from .._tpm.state_dir import TpmState, locate
from .definition import NO_USAGE, SecretDefinition
from .index import SecretIndex, read_definition
from .refusals import in_use, refuse_incomplete, refuse_other_usage, refuse_unprivate, usage_taken
from .uses import SecretUses
from .value import NO_VALUE, StoredValue, stored_value
from .wanted import WantedSecret, wanted_secret
from .writer import SecretWriter

# What a run does, or would do, with the value (``value_status``).
NOT_GIVEN = "not_given"
SAME = "unchanged"
SET = "set"
REPLACED = "replaced"
REWRITTEN = "rewritten"


class SecretPlanner:
    """Plans items against one connection; secrets are listed once.

    Args:
        check_mode: domains that an item calls ``released_by`` are then still there, and do not count.
    """

    def __init__(self, connection: Any, check_mode: bool = False) -> None:
        self._connection = connection
        self._check_mode = check_mode
        self._paths = host_paths(connection)
        self._index = SecretIndex(connection)
        self._domains = DomainIndex(connection)
        self._uses = SecretUses(self._domains)
        self._planned: set[Any] = set()

    def plan(self, item: Mapping[str, Any]) -> Change:
        """The change for one item. Reads only."""
        wanted = wanted_secret(item)
        self._refuse_second_item(wanted)
        return self._plan_absent(wanted) if wanted.state == "absent" else self._plan_present(wanted)

    def _refuse_second_item(self, wanted: WantedSecret) -> None:
        # One secret may be named by UUID in one item and by usage in another.
        usage = (wanted.usage_type, wanted.usage)
        uuid = wanted.uuid or self._index.holder(*usage)
        names = {name for name in (uuid, usage if wanted.usage else None) if name}
        if names & self._planned:
            raise TrustedVMError(
                "duplicate_item",
                "The list has two items for this secret",
                hint="Give each secret one item",
            )
        self._planned |= names

    # present

    def _plan_present(self, wanted: WantedSecret) -> Change:
        secret, found = self._find(wanted)
        target = _target(wanted, found)
        stored = NO_VALUE if found is None else stored_value(secret, found, self._paths)
        status = _value_status(wanted, found, stored)
        value = wanted.value if wanted.value is not None else stored.data
        change = Change(
            subject={"uuid": target.uuid, "usage_type": target.usage_type, "usage": target.usage},
            before={} if found is None else {**found.as_result(), "value": "as stored"},
            after={**target.as_result(), "value": _value_after(status)},
            outcome="created" if found is None else "updated",
            details={
                "private": target.private,
                "ephemeral": target.ephemeral,
                "value_status": status,
                "tpm_state": self._verify_tpm_state(wanted, value),
            },
        )
        writer = SecretWriter(self._connection, self._index, self._paths, change, target, found, stored)
        change.steps = _present_steps(writer, wanted, target, found, status)
        change.undo = writer.undo
        return change

    def _find(self, wanted: WantedSecret) -> tuple[Any, Optional[SecretDefinition]]:
        holder = self._index.holder(wanted.usage_type, wanted.usage)
        secret = self._index.get(wanted.uuid or holder)
        if secret is None:
            if holder is not None and wanted.uuid is not None:
                raise usage_taken(wanted.uuid, wanted.usage_type, wanted.usage, holder)
            refuse_incomplete(wanted)
            return None, None
        found = read_definition(secret)
        refuse_other_usage(wanted, found)
        refuse_unprivate(wanted, found)
        return secret, found

    def _verify_tpm_state(self, wanted: WantedSecret, value: Optional[bytes]) -> str:
        """Prove the value against the VM's state before anything is written (design, promise 4).

        A VM that is not defined here may still have a state here, on shared storage or before an
        incoming migration; its UUID says where.
        """
        if wanted.verify_vm is None or self._paths is None:
            return key_check.NOT_CHECKED
        domain = self._domains.get(wanted.verify_vm)
        vm_uuid = as_uuid(wanted.verify_vm) if domain is None else domain.UUIDString()
        if vm_uuid is None:
            self._domains.find(wanted.verify_vm)
        spec = None if domain is None else read_tpm(definition(domain))
        state = TpmState(locate(self._paths, str(vm_uuid), spec))
        return key_check.check_state(state, encrypted=True, passphrase=value)

    # absent

    def _plan_absent(self, wanted: WantedSecret) -> Change:
        secret = self._index.get(wanted.uuid or self._index.holder(wanted.usage_type, wanted.usage))
        subject = {"uuid": wanted.uuid, "usage_type": wanted.usage_type, "usage": wanted.usage}
        if secret is None:
            return Change(subject=subject)
        found = read_definition(secret)
        refuse_other_usage(wanted, found)
        released = wanted.released_by if self._check_mode else ()
        users = self._uses.domains_using(str(found.uuid), found.usage_type, found.usage, without=released)
        change = Change(
            subject={"uuid": found.uuid, "usage_type": found.usage_type, "usage": found.usage},
            before=found.as_result(),
            outcome="removed",
            details={"used_by": users},
        )
        if users and wanted.in_use == "refuse":
            raise in_use(found, users)
        if users and wanted.in_use == "keep":
            change.after = change.before
            change.idle_outcome = "kept"
            return change

        def remove() -> None:
            secret.undefine()
            self._index.drop(str(found.uuid))

        change.steps = [Step("remove secret", remove)]
        return change


def _target(wanted: WantedSecret, found: Optional[SecretDefinition]) -> SecretDefinition:
    if found is None:
        usage_type = wanted.usage_type if wanted.usage else NO_USAGE
        return SecretDefinition(
            wanted.uuid, usage_type, wanted.usage, wanted.private, wanted.ephemeral, wanted.description or None
        )
    description = found.description if wanted.description is None else wanted.description or None
    return replace(found, private=wanted.private, ephemeral=wanted.ephemeral, description=description)


def _value_status(wanted: WantedSecret, found: Optional[SecretDefinition], stored: StoredValue) -> str:
    if wanted.value is None:
        return NOT_GIVEN
    if not stored.known:
        return REWRITTEN
    if found is None or stored.data is None:
        return SET
    return SAME if stored.equals(wanted.value) else REPLACED


def _value_after(status: str) -> str:
    return {SET: "set", REPLACED: "another than stored"}.get(status, "as stored")


def _present_steps(
    writer: SecretWriter,
    wanted: WantedSecret,
    target: SecretDefinition,
    found: Optional[SecretDefinition],
    status: str,
) -> list[Step]:
    steps = []
    if found is None:
        steps.append(Step("define secret", writer.define))
    elif found != target:
        steps.append(Step("redefine secret", writer.define))
    if wanted.value is not None and status != SAME:
        value = wanted.value
        # A value that cannot be read is written again: the same one makes no difference.
        steps.append(Step("set value", lambda: writer.set_value(value), counts=status != REWRITTEN))
    if steps:
        steps.append(Step("verify secret", lambda: writer.verify(wanted.value), counts=False))
    return steps
