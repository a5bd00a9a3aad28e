# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the actions that work on the controller's records share: options in, one registry, results out."""
from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Mapping, Optional

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from .._core.errors import ControllerError
from .._key_providers.base import KeyProvider
from .._key_providers.loader import open_provider
from .._records.runner import Item, Planner, converge
from .._registry.engine import Registry, Session, open_registry
from .._registry.records import KeyProviderRecord
from .hidden import take
from .items import ItemSpec
from .settings import Settings, resolve_settings


def plain(value: Any) -> Any:
    """The value without Ansible's tags: database drivers look at exact types."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float):
        if isinstance(value, kind):
            return kind(value)
    return str(value)


class ControllerAction(ActionBase):
    """Runs on the controller; the task's host is not contacted and may be down."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    _settings: Settings

    def run(self, tmp: Optional[str] = None, task_vars: Optional[dict[str, Any]] = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        try:
            url = take(self._task.args, "registry_url")
            params = {**self._params(), "registry_url": url}
            self._settings = resolve_settings(params, task_vars or {}, self._templar.template)
            result.update(self.work(params))
        except ControllerError as error:
            result.update(error.as_result(), failed=True, changed=False, results=[])
        return result

    @abstractmethod
    def validation(self) -> Mapping[str, Any]:
        """Keyword arguments for Ansible's argument spec validation."""

    @abstractmethod
    def work(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The task's result."""

    def open_provider(self, record: KeyProviderRecord) -> KeyProvider:
        settings = self._settings
        return open_provider(record.name, record.type, record.settings, record.kek_id, settings.state_directory, settings.passphrase)

    def _params(self) -> dict[str, Any]:
        try:
            _dummy, params = self.validate_argument_spec(**self.validation())
        except AnsibleActionFail as error:
            raise ControllerError("invalid_options", str(error)) from None
        return dict(plain(params))


class ConvergingAction(ControllerAction):
    """Brings records into a wanted state."""

    SPEC: ClassVar[ItemSpec]

    @abstractmethod
    def planner(self, session: Session, items: list[Item]) -> Planner:
        """Reads at once what all items need; returns what plans one item."""

    @abstractmethod
    def subject(self, item: Item) -> Mapping[str, Any]:
        """The identifying fields of an item."""

    def validation(self) -> Mapping[str, Any]:
        return self.SPEC.validation()

    def work(self, params: Mapping[str, Any]) -> dict[str, Any]:
        items: list[Item] = list(self.SPEC.items(params))
        for item in items:
            self._refuse_incomplete(item)
        with open_registry(self._settings.registry_url, create=not self._task.check_mode) as registry:
            outcome = converge(
                registry,
                items,
                lambda session: self.planner(session, items),
                self.subject,
                bool(self._task.check_mode),
            )
        result = outcome.as_result()
        if not self._task.diff:
            del result["diff"]
        return result

    def _refuse_incomplete(self, item: Item) -> None:
        missing = [name for name in self.SPEC.required if item.get(name) is None]
        if not any(item.get(name) for name in self.SPEC.identity):
            missing.append(" or ".join(self.SPEC.identity))
        if missing:
            raise ControllerError(
                "invalid_options",
                "An item of %s lacks %s" % (self.SPEC.list_name, " and ".join(missing)),
                hint="Give it in the item or, for all items, at the top level",
            )


class ReadingAction(ControllerAction):
    """Reads records; the same in check mode, and creates nothing."""

    OPTIONS: ClassVar[Mapping[str, Any]]

    @abstractmethod
    def read(self, registry: Registry, params: Mapping[str, Any]) -> dict[str, Any]:
        """What was found."""

    def validation(self) -> Mapping[str, Any]:
        return {"argument_spec": dict(self.OPTIONS)}

    def work(self, params: Mapping[str, Any]) -> dict[str, Any]:
        with open_registry(self._settings.registry_url, create=False) as registry:
            return {**self.read(registry, params), "changed": False}
