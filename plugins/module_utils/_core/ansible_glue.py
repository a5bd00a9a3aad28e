# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Where the classes meet Ansible: argument specs for one item or a list, and the way out."""

from dataclasses import dataclass
from typing import Any, Callable, Mapping, Sequence

from .change import Change
from .connection import host_name, open_connection
from .errors import TrustedVMError
from .runner import Item, Outcome, converge_items, failure_of, refuse_duplicates

CONNECTION_OPTIONS: dict[str, Any] = {"uri": {"type": "str", "default": "qemu:///system"}}

# Of modules whose action looks up keys: it takes these out of the arguments. They mean nothing on a host.
KEY_CARRIER_OPTIONS: dict[str, Any] = {
    "registry_url": {"type": "str", "no_log": True},
    "state_directory": {"type": "path"},
}


@dataclass(frozen=True)
class ItemSpec:
    """A module that takes one item at the top level or a list of them.

    Attributes:
        list_name: the list option (``vms``).
        identity: options that say which object is meant. At the top level they exclude the list.
        options: the item's options with their defaults. At the top level they are the defaults
            for each item of the list; in the list an unset one takes the top level's value.
        extra: options that are about the task, not about an item (``uri``).
    """

    list_name: str
    identity: Sequence[str]
    options: Mapping[str, Mapping[str, Any]]
    extra: Mapping[str, Mapping[str, Any]]

    def argument_spec(self) -> dict[str, Any]:
        suboptions = {name: _without_default(spec) for name, spec in self.options.items()}
        items: dict[str, Any] = {
            "type": "list",
            "elements": "dict",
            "options": suboptions,
            # Said for names such as "secrets": what must not be logged says so itself.
            "no_log": False,
        }
        if len(self.identity) == 1:
            suboptions[self.identity[0]]["required"] = True
        else:
            items["required_one_of"] = [tuple(self.identity)]
        return {**self.options, **self.extra, self.list_name: items}

    def module_arguments(self) -> dict[str, Any]:
        """Keyword arguments for AnsibleModule."""
        return {
            "argument_spec": self.argument_spec(),
            "mutually_exclusive": [(name, self.list_name) for name in self.identity],
            "required_one_of": [(*self.identity, self.list_name)],
            "supports_check_mode": True,
        }

    def items(self, params: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The items with the top level's defaults filled in."""
        top = {name: params[name] for name in self.options}
        if params[self.list_name] is None:
            return [top]
        return [
            {name: top[name] if item.get(name) is None else item[name] for name in self.options}
            for item in params[self.list_name]
        ]

    def subject(self, item: Item) -> dict[str, Any]:
        return {name: item[name] for name in self.identity if item.get(name) is not None}


def _without_default(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in spec.items() if key != "default"}


def run_converger(module: Any, spec: ItemSpec, make_plan: Callable[[Any], Callable[[Item], Change]]) -> None:
    """Run a converging module from its parameters to exit_json or fail_json.

    Args:
        make_plan: gets the open connection (enumerates once) and returns the planner of one item.
    """
    items = spec.items(module.params)

    def converge(connection: Any) -> Outcome:
        refuse_duplicates(items, lambda item: tuple(sorted(spec.subject(item).items())))
        return converge_items(
            items, make_plan(connection), spec.subject, host_name(connection), module.check_mode
        )

    outcome = with_connection(module, converge)
    answer: dict[str, Any] = {
        "changed": outcome.changed,
        "results": outcome.results,
        "invocation": {"module_args": given_options(module.params)},
    }
    if module._diff:
        answer["diff"] = outcome.diffs
    if outcome.failures:
        answer["error_code"] = outcome.failures[0]["error_code"]
        module.fail_json(msg=outcome.message(), **answer)
    module.exit_json(**answer)


def given_options(options: Any) -> Any:
    """Options without those that nobody set.

    Ansible repeats all options in the result, and each item has dozens that are unset: for 200
    VMs that was more than the results themselves, to be read again by the controller.
    """
    if isinstance(options, dict):
        return {name: given_options(value) for name, value in options.items() if value is not None}
    if isinstance(options, list):
        return [given_options(value) for value in options]
    return options


def run_info(module: Any, key: str, read: Callable[[Any], list[dict[str, Any]]], readonly: bool = True) -> None:
    """Run an ``_info`` module: what ``read`` returns goes out under ``key``.

    Args:
        read: gets the open connection; an entry that failed says ``failed`` and ``error_code``.
        readonly: open libvirt read-only.
    """
    entries = with_connection(module, read, readonly)
    failures = [entry for entry in entries if entry.get("failed")]
    if failures:
        first = failures[0]
        module.fail_json(msg=first["msg"], error_code=first["error_code"], **{key: entries})
    module.exit_json(changed=False, **{key: entries})


def with_connection(module: Any, work: Callable[[Any], Any], readonly: bool = False) -> Any:
    """Open ``module.params['uri']``, do the work; a failure of the whole task ends the module."""
    try:
        with open_connection(module.params["uri"], readonly=readonly) as connection:
            return work(connection)
    except Exception as error:
        fail(module, failure_of(error, "talking to %s" % module.params["uri"]))
    return None


def fail(module: Any, error: TrustedVMError) -> None:
    """End the module with a task-wide error."""
    module.fail_json(results=[], **error.as_result())
