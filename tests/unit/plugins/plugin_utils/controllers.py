# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A controller without Ansible, for the tests of records; needs SQLAlchemy and cryptography."""

from __future__ import annotations

from ansible_collections.trustedvm.libvirt.plugins.action.key_provider import OPTIONS as PROVIDER_OPTIONS
from ansible_collections.trustedvm.libvirt.plugins.action.resource_key import OPTIONS as KEY_OPTIONS
from ansible_collections.trustedvm.libvirt.plugins.action.vm_operation import OPTIONS as OPERATION_OPTIONS
from ansible_collections.trustedvm.libvirt.plugins.action.vm_record import OPTIONS as VM_OPTIONS
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._key_providers.loader import open_provider
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._records import reading
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._records.key_providers import KeyProviderPlanner, key_provider_subject
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._records.key_reader import read_keys
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._records.operations import OperationPlanner, operation_subject
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._records.resource_keys import ResourceKeyPlanner, resource_key_subject
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._records.runner import converge
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._records.vm_records import VmRecordPlanner, vm_record_subject
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._registry.engine import open_registry
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._registry.operation_records import Holder

VM = "0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11"
OTHER = "7b6a5d0e-92c1-4a53-8f1e-3a44f0f6c922"
ALICE = Holder("alice", "ctl", 4711)
THIRD = "11111111-92c1-4a53-8f1e-3a44f0f6c922"


class Controller:
    """What the actions do, without Ansible: options in, results out."""

    temporary_place = None
    passphrase = None

    def __init__(self, url, state_directory):
        self.url = url
        self.state_directory = str(state_directory)

    def opener(self, record):
        return open_provider(record.name, record.type, record.settings, record.kek_id, self.state_directory, self.passphrase)

    def converge(self, options, items, make, subject, check_mode, meanwhile=None):
        """``meanwhile`` runs when all is planned and nothing is written: what another controller does then."""
        complete = [{**{name: spec.get("default") for name, spec in options.items()}, **item} for item in items]

        def planner(session):
            plan = make(session, complete).plan
            return plan if meanwhile is None else lambda item: _delayed(plan(item), meanwhile)

        with open_registry(self.url, create=not check_mode) as registry:
            return converge(registry, complete, planner, subject, check_mode)

    def vms(self, *items, check_mode=False, meanwhile=None):
        return self.converge(
            VM_OPTIONS,
            items,
            lambda session, complete: VmRecordPlanner(session, complete, check_mode),
            vm_record_subject,
            check_mode,
            meanwhile,
        )

    def keys(self, *items, check_mode=False, meanwhile=None):
        complete = [{"purpose": "provision", **item} for item in items]
        return self.converge(
            KEY_OPTIONS,
            complete,
            lambda session, all_: ResourceKeyPlanner(session, all_, self.opener, check_mode),
            resource_key_subject,
            check_mode,
            meanwhile,
        )

    def providers(self, *items, check_mode=False, meanwhile=None):
        return self.converge(
            PROVIDER_OPTIONS,
            items,
            lambda session, all_: KeyProviderPlanner(session, all_, self.opener, self.temporary_place),
            key_provider_subject,
            check_mode,
            meanwhile,
        )

    def operations(self, *items, check_mode=False, meanwhile=None, holder=ALICE):
        return self.converge(
            OPERATION_OPTIONS,
            items,
            lambda session, complete: OperationPlanner(session, complete, holder),
            operation_subject,
            check_mode,
            meanwhile,
        )

    def read(self, *requests):
        with open_registry(self.url, create=False) as registry:
            return read_keys(registry, requests, self.opener)

    def info(self, function, *arguments):
        with open_registry(self.url, create=False) as registry:
            return function(registry, *arguments)

    def dates(self, vm=VM):
        """When the record was written last."""
        with open_registry(self.url, create=False) as registry, registry.read() as session:
            return session.vms.get(vm).updated_at

    def record(self, vm=VM):
        records = self.info(reading.read_vm_records, [vm], None, None)["records"]
        return records[0] if records else None


def _delayed(change, meanwhile):
    before = change.prepare

    def prepare():
        if before is not None:
            before()
        meanwhile()

    change.prepare = prepare
    return change


def one(outcome):
    (result,) = outcome.results
    return result


def predicted_and_done(action, *items):
    """Check mode says what the run then does, and a second run does nothing."""
    predicted = action(*items, check_mode=True)
    done = action(*items)
    for left, right in zip(predicted.results, done.results):
        assert (left["changed"], left["outcome"]) == (right["changed"], right["outcome"])
        unknown = {"algorithm", "fingerprint", "created_at", "kek_id", "kek_version", "kek_versions", "sealed"}
        assert {name: value for name, value in left.items() if name not in unknown} == {
            name: value for name, value in right.items() if name not in unknown
        }
    again = action(*items)
    assert [entry["changed"] for entry in again.results] == [False] * len(items)
    assert all(diff["before"] == diff["after"] for diff in again.diffs)
    return done
