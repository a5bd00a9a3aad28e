# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Defining a secret, setting its value, proving it, and putting back what was there."""

from typing import Any, Optional

from .._core.change import Change
from .._core.connection import libvirt_failure, libvirt_message
from .._core.deps import libvirt
from .._core.errors import TrustedVMError
from .._core.host_paths import HostPaths
from .definition import SecretDefinition, build_secret, usage_type_number
from .index import SecretIndex, read_definition
from .refusals import not_as_asked, usage_taken
from .value import StoredValue, stored_value


class SecretWriter:
    """The steps of one item; remembers what it did so that :meth:`undo` can take it back."""

    def __init__(
        self,
        connection: Any,
        index: SecretIndex,
        paths: Optional[HostPaths],
        change: Change,
        target: SecretDefinition,
        found: Optional[SecretDefinition],
        stored: StoredValue,
    ) -> None:
        self._connection = connection
        self._index = index
        self._paths = paths
        self._change = change
        self._target = target
        self._found = found
        self._stored = stored
        self._secret: Any = None if found is None else index.get(found.uuid)
        self._defined = False
        self._value_written = False

    def define(self) -> None:
        """Define or redefine; a usage that was taken meanwhile is told as what it is."""
        try:
            secret = self._connection.secretDefineXML(build_secret(self._target))
        except libvirt.libvirtError as error:
            raise self._define_failure(error) from error
        self._secret = secret
        self._defined = True
        self._index.put(secret)
        self._change.details["uuid"] = secret.UUIDString()

    def _define_failure(self, error: Any) -> TrustedVMError:
        holder = self._current_holder()
        # libvirt has only its generic error 1 for a taken usage.
        if holder is not None and self._target.uuid is not None and holder != self._target.uuid:
            return usage_taken(self._target.uuid, self._target.usage_type, self._target.usage, holder)
        return libvirt_failure(error, "defining the secret")

    def _current_holder(self) -> Optional[str]:
        if self._target.usage is None:
            return None
        number = usage_type_number(self._target.usage_type)
        try:
            return str(self._connection.secretLookupByUsage(number, self._target.usage).UUIDString())
        except libvirt.libvirtError:
            return None

    def set_value(self, value: bytes) -> None:
        """Give libvirt the value."""
        try:
            self._secret.setValue(value)
        except libvirt.libvirtError as error:
            raise libvirt_failure(error, "setting the value of the secret") from error
        self._value_written = True

    def verify(self, value: Optional[bytes]) -> None:
        """Look the secret up again: UUID, usage and, where it can be seen, the value (requirement M1).

        Raises:
            TrustedVMError: ``secretnot_as_asked``.
        """
        asked = self._secret.UUIDString() if self._target.uuid is None else self._target.uuid
        try:
            secret = self._connection.secretLookupByUUIDString(asked)
            found = read_definition(secret)
        except libvirt.libvirtError as error:
            raise not_as_asked("libvirt has no such secret: %s" % libvirt_message(error), "secret %s" % asked) from error
        for what in ("uuid", "usage_type", "usage", "private", "ephemeral"):
            wanted = asked if what == "uuid" else getattr(self._target, what)
            if getattr(found, what) != wanted:
                raise not_as_asked("%s %s" % (what, getattr(found, what)), "%s %s" % (what, wanted))
        holder = self._current_holder()
        if self._target.usage is not None and holder != asked:
            raise not_as_asked("usage held by secret %s" % holder, "usage held by secret %s" % asked)
        stored = stored_value(secret, found, self._paths)
        if value is not None and stored.known and not stored.equals(value):
            raise not_as_asked("another value in libvirt's store", "the value that was given")

    def undo(self) -> None:
        """Remove the secret if this made it; else the definition and value that were there.

        Raises:
            TrustedVMError: ``secret_value_lost`` where the old value could not be read beforehand.
        """
        if self._found is None:
            if self._defined:
                uuid = self._secret.UUIDString()
                self._secret.undefine()
                self._index.drop(uuid)
            return
        if self._defined:
            self._secret = self._connection.secretDefineXML(build_secret(self._found))
        if not self._value_written:
            return
        if self._stored.data is not None:
            self._secret.setValue(self._stored.data)
        elif not self._stored.known:
            raise TrustedVMError(
                "secret_value_lost",
                "The value that the secret had cannot be put back, because libvirt does not show it",
                hint="Set the right value again",
            )
