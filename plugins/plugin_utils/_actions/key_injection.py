# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The base of actions whose module may need a key on the host.

The key is put into the arguments where Ansible builds the payload, and the payload goes to the host's
Python over standard input. What that rests on, in ansible-core 2.19 to 2.21:

- ``_execute_module()`` prints its ``module_args`` with ANSIBLE_DEBUG. So the key is added one call later,
  in ``_configure_module()``, to a copy that only the payload is made of.
- The payload is cached on the controller (``modify_module()``) without its arguments.
- Without pipelining the payload becomes a file on the host, which stays with ANSIBLE_KEEP_REMOTE_FILES or
  when the connection breaks. So a call that carries a key is pipelined, whatever the configuration says.
- Every file that Ansible brings to a host for a module goes through ``_transfer_data()`` or
  ``_transfer_file()``. Both refuse while a key is on its way, should Ansible not heed the above.
"""
from __future__ import annotations

import contextlib
import os
from typing import Any, ClassVar, Iterator, Mapping, Optional, Sequence, Union

from ansible.plugins.action import ActionBase

from .._core.errors import ControllerError
from .._core.key_material import DEK_SIZE, KeyMaterial
from .._key_providers.base import KeyProvider
from .._key_providers.loader import open_provider
from .._records.key_reader import read_keys
from .._records.key_request import KeyRequest
from .._records.runner import Outcome, failed_result
from .._registry.engine import open_registry
from .._registry.records import KeyProviderRecord
from .cargo import Slot, load, scrub, unload
from .hidden import hide_values, take
from .settings import resolve_settings

# What check mode may find missing because an earlier task of the play only predicted it.
NOT_YET_THERE = ("resource_key_missing", "vm_unknown")

# Options of the module that are for its action; the module gets them only where there is no action.
CONTROLLER_SIDE = ("registry_url", "state_directory")

IDENTITY = ("name", "uuid", "vm", "usage", "secret_uuid")


class KeyCarryingAction(ActionBase):
    """Runs the module of the same name; ``resource_key`` in its arguments becomes ``value`` on the way.

    Attributes:
        ITEMS: the module's list option.
        ITS_OWN: options that only the action reads.
    """

    ITEMS: ClassVar[str]
    ITS_OWN: ClassVar[tuple[str, ...]] = ()

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = True

    # By slot, the values that the payload gets; None while no key is on its way.
    _cargo: Optional[dict[Optional[int], Any]] = None
    _delivered = False

    # Where the registry and the key rings are, as far as the task says it.
    _options: Mapping[str, Any]

    def run(self, tmp: Optional[str] = None, task_vars: Optional[dict[str, Any]] = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        url = take(self._task.args, "registry_url")
        self._options = {"registry_url": url, "state_directory": self._task.args.get("state_directory")}
        hide_values(self._task.args, self.ITEMS)
        arguments = {name: value for name, value in self._task.args.items() if name not in (*CONTROLLER_SIDE, *self.ITS_OWN)}
        public, slots = unload(arguments, self.ITEMS)
        try:
            if not slots:
                result.update(self._run_module(public, task_vars))
            else:
                result.update(self._run_with_keys(public, slots, task_vars or {}))
        except ControllerError as error:
            result.update(error.as_result(), failed=True, changed=False, results=[])
        return result

    def _run_with_keys(self, public: dict[str, Any], slots: Sequence[Slot], task_vars: dict[str, Any]) -> dict[str, Any]:
        self._refuse_files()
        keys = self._resolve(slots, task_vars)
        failures = [(slot, key) for slot, key in zip(slots, keys) if isinstance(key, ControllerError)]
        if failures:
            # Nothing is sent: half of a flow's secrets would have to be removed again.
            return self._failed(public, failures)
        opened = [key for key in keys if isinstance(key, KeyMaterial)]
        self._cargo = {
            slot.index: key.secret_value() if isinstance(key, KeyMaterial) else slot.value
            for slot, key in zip(slots, keys)
        }
        try:
            with self._pipelined():
                result = scrub(self._run_module(public, task_vars), opened)
        finally:
            self._cargo = None
            for key in opened:
                key.wipe()
        if not self._delivered:
            raise ControllerError(
                "key_not_delivered",
                "This release of ansible-core builds the module's payload in a way that the collection does not know",
                found="a call of %s that went to the host without its key" % self._task.action,
                hint="Use an ansible-core release that the collection is tested with",
            )
        return result

    def _run_module(self, arguments: dict[str, Any], task_vars: Optional[dict[str, Any]]) -> dict[str, Any]:
        """As Ansible's own action for modules does."""
        wrap_async = bool(self._task.async_val) and not self._connection.has_native_async
        result: dict[str, Any] = self._execute_module(
            module_args=arguments, task_vars=task_vars, wrap_async=wrap_async
        )
        if not wrap_async:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return result

    def _configure_module(self, module_name: Any, module_args: Any, task_vars: Any) -> Any:
        if self._cargo is not None:
            module_args = load(module_args, self.ITEMS, self._cargo)
            self._delivered = True
        return super()._configure_module(module_name, module_args, task_vars)

    def _is_pipelining_enabled(self, module_style: str, wrap_async: bool = False) -> bool:
        if self._cargo is None:
            return bool(super()._is_pipelining_enabled(module_style, wrap_async))
        if module_style != "new" or wrap_async:
            raise _needs_pipelining("a module that Ansible cannot pipeline")
        return True

    def _transfer_data(self, remote_path: Any, data: Any) -> Any:
        self._refuse_transfer()
        return super()._transfer_data(remote_path, data)

    def _transfer_file(self, local_path: Any, remote_path: Any) -> Any:
        self._refuse_transfer()
        return super()._transfer_file(local_path, remote_path)

    def _refuse_transfer(self) -> None:
        if self._cargo is not None:
            raise _needs_pipelining("a release of ansible-core that puts the module into a file on the host")

    def _refuse_files(self) -> None:
        """Raises:
        ControllerError: ``key_needs_pipelining``, when the call could only go through a file on the host.
        """
        connection = self._connection
        become = connection.become
        if self._task.async_val:
            raise _needs_pipelining("async, which keeps the module in a file on the host")
        if not connection.has_pipelining:
            raise _needs_pipelining("the connection plugin %s, which cannot pipeline" % connection.transport)
        if become is not None and not become.pipelining:
            raise _needs_pipelining("the become plugin %s, which cannot pipeline" % become.name)
        # ssh only: "-tt" or RequestTTY in ssh_args gives Python a terminal instead of the payload.
        tty_requested = getattr(connection, "_is_tty_requested", None)
        if tty_requested is not None and tty_requested():
            raise _needs_pipelining("a terminal requested in the SSH arguments")

    @contextlib.contextmanager
    def _pipelined(self) -> Iterator[None]:
        """The connection's own option too: the local one opens a terminal for sudo's password without it."""
        try:
            before = self._connection.get_option("pipelining")
        except KeyError:
            yield
            return
        self._connection.set_option("pipelining", True)
        try:
            yield
        finally:
            self._connection.set_option("pipelining", before)

    def _resolve(self, slots: Sequence[Slot], task_vars: dict[str, Any]) -> list[Union[KeyMaterial, ControllerError, None]]:
        """For each slot its key, the error, or None where the task gives the value itself."""
        requests = [slot.request for slot in slots if slot.request is not None]
        found = iter(self._read(requests, task_vars) if requests else [])
        keys = [slot.problem if slot.request is None else next(found) for slot in slots]
        return [self._predicted(slot.request, key) for slot, key in zip(slots, keys)]

    def _read(self, requests: list[KeyRequest], task_vars: dict[str, Any]) -> list[Union[KeyMaterial, ControllerError]]:
        settings = resolve_settings(self._options, task_vars, self._templar.template)

        def opener(record: KeyProviderRecord) -> KeyProvider:
            return open_provider(record.name, record.type, record.settings, record.kek_id, settings.state_directory, settings.passphrase)

        with open_registry(settings.registry_url, create=False) as registry:
            return read_keys(registry, requests, opener)

    def _predicted(self, request: Optional[KeyRequest], key: Any) -> Any:
        """In check mode a key that the play would have made stands for itself as random bytes: also the real
        one would be new, so whatever the module says of it (does it open the TPM state that is there?) holds."""
        missing = isinstance(key, ControllerError) and key.code in NOT_YET_THERE
        if missing and self._task.check_mode and request is not None and request.may_create:
            return KeyMaterial(os.urandom(DEK_SIZE))
        return key

    def _failed(self, public: Mapping[str, Any], failures: Sequence[tuple[Slot, ControllerError]]) -> dict[str, Any]:
        outcome = Outcome()
        for slot, error in failures:
            item = public if slot.index is None else public[self.ITEMS][slot.index]
            subject = {name: str(item[name]) for name in IDENTITY if item.get(name)}
            if slot.request is not None:
                subject.update(slot.request.subject(), purpose=slot.request.purpose)
            outcome.results.append(failed_result(subject, error))
        return outcome.as_result()


def _needs_pipelining(found: str) -> ControllerError:
    return ControllerError(
        "key_needs_pipelining",
        "A key goes to a host over standard input only, so that no file there holds it",
        found=found,
        wanted="the ssh or local connection, without async, and sudo or doas instead of su where become is needed",
    )
