# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables: compare-and-set, cascades, uniqueness, and the plans of the big queries."""

from __future__ import annotations

import dataclasses

import pytest

sqlalchemy = pytest.importorskip("sqlalchemy")

from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._core.errors import ControllerError
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._registry.engine import open_registry
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._registry.records import (
    KeyIdentity,
    KeyProviderRecord,
    NvramRecord,
    Placement,
    ResourceKeyRecord,
    VmRecord,
    VtpmRecord,
    vtpm_secret_uuid,
)
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._registry.schema import tables

VM = "0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11"
OTHER = "7b6a5d0e-92c1-4a53-8f1e-3a44f0f6c922"


def vtpm(vm=VM, **changes):
    values = {"secret_uuid": vtpm_secret_uuid(vm), "model": "tpm-crb", "version": "2.0", "encrypted": True, "state_exists": False}
    return VtpmRecord(vm, **{**values, **changes})


def web1(**changes):
    nvram = NvramRecord(VM, "directory", "/nvram/web1.fd", 540672, "raw")
    return dataclasses.replace(VmRecord(VM, "web1", "kvm1", "running", vtpm=vtpm(), nvram=nvram), **changes)


def key(version=1, vm=VM, created_by=None):
    return ResourceKeyRecord(KeyIdentity("vtpm", vm, version), "native", "kek", 1, "AES-256-GCM", b"\x00wrapped\xff", "sha256:0", created_by)


@pytest.fixture
def provider(registry):
    with registry.write() as session:
        session.key_providers.put(KeyProviderRecord("native", "native", {"key_ring": "/ring"}))


def stored(registry, uuid=VM):
    with registry.read() as session:
        return session.vms.get(uuid)


def test_a_record_comes_back_as_it_was_written(registry):
    with registry.write() as session:
        session.vms.create(web1())
    found = stored(registry)
    assert found == web1()
    assert found.created_at.utcoffset().total_seconds() == 0


def test_s2_one_statement_moves_only_what_is_still_as_expected(registry):
    with registry.write() as session:
        session.vms.create(web1())
        session.vms.update(VM, Placement("kvm1", 1), {"host": "kvm2"})
    assert (stored(registry).host, stored(registry).generation) == ("kvm2", 2)
    for stale in (Placement("kvm1", 1), Placement("kvm1", 2), Placement("kvm2", 1), Placement("kvm1"), Placement(None, 1)):
        with pytest.raises(ControllerError) as caught:
            with registry.write() as session:
                session.vms.update(VM, stale, {"host": "kvm3"})
        assert caught.value.code == "vm_record_conflict"
        assert caught.value.details == {"found_host": "kvm2", "found_generation": 2}
        assert "host kvm2, generation 2 (running)" in str(caught.value) and str(stale) in str(caught.value)
    assert stored(registry).host == "kvm2"


def test_the_generation_counts_changes_of_host_and_state_only(registry):
    with registry.write() as session:
        session.vms.create(web1())
        session.vms.update(VM, Placement("kvm1", 1), {"name": "web2"})
        session.vms.put_vtpm(vtpm(state_exists=True))
        session.vms.update(VM, Placement("kvm1", 1), {"state": "stopped"})
    assert stored(registry).generation == 2
    assert stored(registry).vtpm.state_exists


def test_s2_of_two_controllers_that_move_a_vm_at_once_one_wins(registry, registry_url, at_once):
    with registry.write() as session:
        session.vms.create(web1())

    def move(destination):
        with open_registry(registry_url, create=True) as own, own.write() as session:
            session.vms.update(VM, Placement("kvm1", 1), {"host": destination})
        return "moved to " + destination

    answers = at_once(move, ["kvm%d" % number for number in range(2, 8)])
    won = [answer for answer in answers if answer.startswith("moved")]
    assert won == ["moved to " + stored(registry).host]
    assert all("is not as expected" in answer for answer in answers if answer not in won)
    assert stored(registry).generation == 2


def test_two_controllers_that_make_one_record_at_once_make_one(registry, registry_url, at_once):
    def make(host):
        with open_registry(registry_url, create=True) as own, own.write() as session:
            session.vms.create(web1(host=host))
        return host

    answers = at_once(make, ["kvm1", "kvm2", "kvm3", "kvm4"])
    assert [answer for answer in answers if "not as expected" not in answer] == [stored(registry).host]


def test_removal_takes_vtpm_and_nvram_with_it(registry):
    with registry.write() as session:
        session.vms.create(web1())
        with pytest.raises(ControllerError):
            session.vms.remove(VM, Placement("kvm2", 1))
        session.vms.remove(VM, Placement("kvm1", 1))
        assert session.vms.get(VM) is None
        session.vms.create(web1(vtpm=None, nvram=None))
        assert session.vms.get(VM).vtpm is None


def test_two_vms_never_share_a_secret(registry):
    with registry.write() as session:
        session.vms.create(web1())
    with pytest.raises(ControllerError) as caught:
        with registry.write() as session:
            session.vms.create(VmRecord(OTHER, "web2", "kvm1", "running", vtpm=vtpm(OTHER, secret_uuid=vtpm_secret_uuid(VM))))
    assert caught.value.code == "secret_uuid_taken"
    assert stored(registry, OTHER) is None


def test_an_item_that_fails_does_not_undo_the_others(registry):
    with registry.write() as session:
        session.vms.create(web1())
        with pytest.raises(ControllerError):
            with session.item():
                session.vms.update(VM, Placement("kvm1", 1), {"host": "kvm2"})
                raise ControllerError("later", "The item fails after its first statement")
        with pytest.raises(ControllerError) as caught:
            with session.item():
                session.vms.update(VM, Placement("kvm1", 1), {"key_provider": "nobody"})
        assert caught.value.code == "registry_conflict"
    assert stored(registry) == web1()


@pytest.mark.parametrize("values", [{"host": "kvm2"}, {"name": "web2"}, {"host": "kvm2", "name": "web2"}], ids=str)
def test_two_vms_of_a_host_never_share_a_name(registry, values):
    other = VmRecord(OTHER, values.get("name", "web1"), values.get("host", "kvm1"), "running")
    with registry.write() as session:
        session.vms.create(web1())
        session.vms.create(other)
        with pytest.raises(ControllerError) as moved:
            session.vms.update(VM, Placement("kvm1", 1), values)
        with pytest.raises(ControllerError) as made:
            session.vms.create(VmRecord("00000000-0000-4000-8000-000000000000", other.name, other.host, "running"))
        # The transaction goes on: what is refused is refused alone.
        session.vms.update(VM, Placement("kvm1", 1), {"state": "stopped"})
    for caught in (moved, made):
        assert caught.value.code == "vm_name_taken"
        assert all(part in str(caught.value) for part in (OTHER, other.name, other.host))
        assert caught.value.__cause__ is None and caught.value.__suppress_context__
    assert stored(registry) == web1(state="stopped", generation=2)


def test_a_provider_that_is_not_there_is_not_taken_for_a_name(registry):
    with pytest.raises(ControllerError) as caught:
        with registry.write() as session:
            session.vms.create(web1(key_provider="nobody"))
    assert caught.value.code == "registry_conflict"


def test_a_comparison_without_values_still_compares(registry):
    with registry.write() as session:
        session.vms.create(web1())
        session.vms.update(VM, Placement("kvm1", 1), {})
        with pytest.raises(ControllerError) as caught:
            session.vms.update(VM, Placement("kvm1", 2), {})
    assert caught.value.code == "vm_record_conflict"
    assert stored(registry) == web1() and stored(registry).updated_at > stored(registry).created_at


def test_the_ring_of_a_provider_is_registered_once(registry):
    with registry.write() as session:
        assert session.key_providers.put(KeyProviderRecord("native", "native")) is None
        assert session.key_providers.put(KeyProviderRecord("native", "native", kek_id="first")) == "first"
        assert session.key_providers.put(KeyProviderRecord("native", "native", {"key_ring": "/x"}, kek_id="second")) == "first"
        assert session.key_providers.put(KeyProviderRecord("native", "native")) == "first"
        assert session.key_providers.get("native").kek_id == "first"
        assert session.key_providers.get("vault") is None


def test_of_rings_that_are_registered_at_once_one_is(registry, registry_url, at_once):
    def put(kek_id):
        with open_registry(registry_url, create=True) as own, own.write() as session:
            return session.key_providers.put(KeyProviderRecord("native", "native", kek_id=kek_id))

    answers = at_once(put, ["one", "two", "three", "four"])
    assert len(set(answers)) == 1 and answers[0] in ("one", "two", "three", "four")


def test_the_uuid_of_a_secret_is_the_same_for_ever():
    """Derived, so that every controller and release gives a VM's secret the same UUID."""
    assert vtpm_secret_uuid(VM) == "a50f6909-17c9-54b0-a6ce-c6a1b58f915d"


def test_key_comes_back_as_it_was_written(registry, provider):
    with registry.write() as session:
        assert session.resource_keys.add_if_absent(key(1, created_by="op1"))
        assert not session.resource_keys.add_if_absent(dataclasses.replace(key(1, created_by="op2"), wrapped=b"other"))
        assert session.resource_keys.add_if_absent(key(2))
    with registry.read() as session:
        found = session.resource_keys.of_resources("vtpm", [VM, OTHER])
        assert found == {VM: [key(1, created_by="op1"), key(2)]}
        assert session.resource_keys.listed(created_by="op1") == [key(1, created_by="op1")]
        assert "wrapped" not in repr(found)


def test_c6_only_the_operation_that_made_a_key_removes_it(registry, provider):
    with registry.write() as session:
        session.resource_keys.add_if_absent(key(created_by="op1"))
        assert not session.resource_keys.remove(key().identity, created_by="op2")
        assert session.resource_keys.remove(key().identity, created_by="op1")
        assert not session.resource_keys.remove(key().identity)


def test_a_provider_in_use_is_not_removed(registry, provider):
    with registry.write() as session:
        session.resource_keys.add_if_absent(key())
        session.vms.create(web1(key_provider="native"))
    with pytest.raises(ControllerError) as caught:
        with registry.write() as session:
            session.key_providers.remove("native")
    assert caught.value.code == "key_provider_in_use"
    assert "1 resource keys and 1 VMs" in str(caught.value)
    with registry.write() as session:
        session.resource_keys.remove(key().identity)
        session.vms.remove(VM, Placement())
        session.key_providers.remove("native")
        assert session.key_providers.all() == {}


def test_many_vms_are_read_with_few_statements(registry):
    """10,000 VMs: the number of statements does not grow with the number of items one by one."""
    uuids = ["00000000-0000-4000-8000-%012d" % number for number in range(1200)]
    rows = [dataclasses.asdict(VmRecord(uuid, "vm%d" % number, "kvm1", "running")) for number, uuid in enumerate(uuids)]
    with registry.write():
        registry._connection.execute(tables().vms.insert(), rows)
    statements = []
    sqlalchemy.event.listen(registry._engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    with registry.read() as session:
        assert len(session.vms.by_uuid(uuids)) == 1200
        assert len(session.vms.by_name(["vm%d" % number for number in range(1200)])) == 1200
    assert len([statement for statement in statements if statement.startswith("SELECT")]) == 6


def test_lookups_use_an_index(sqlite_url):
    with open_registry(sqlite_url, create=True) as registry, registry.read():

        def plan(sql):
            return " ".join(row[-1] for row in registry._connection.exec_driver_sql("EXPLAIN QUERY PLAN " + sql))

        assert "ix_vms_name" in plan("SELECT * FROM vms WHERE name IN ('a', 'b')")
        assert "ix_vms_host_state" in plan("SELECT * FROM vms WHERE host = 'h' AND state = 'running'")
        assert "ix_resource_keys_kek" in plan("SELECT * FROM resource_keys WHERE provider = 'p' AND kek_id = 'k' AND kek_version = 1")
        assert "SEARCH" in plan("SELECT * FROM resource_keys WHERE resource_type = 'vtpm' AND resource_uuid IN ('a', 'b')")
