# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From VM descriptions and records to items: provisioning, starting, stopping, destroying."""
from __future__ import annotations

import uuid

import pytest

from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._core.errors import ControllerError
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._plans import descriptions, destroy, placement, provision, start, stop
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._registry.records import vtpm_secret_uuid, vtpm_usage

UUID = "11111111-1111-4111-8111-111111111111"
OTHER = "22222222-2222-4222-8222-222222222222"


def record(name="web1", vm_uuid=UUID, host="hv1", provider="native", state_exists=True, encrypted=True, vtpm=True):
    return {
        "uuid": vm_uuid,
        "name": name,
        "host": host,
        "generation": 3,
        "vm_state": "running",
        "key_provider": provider,
        "bound": provider is not None,
        "vtpm": {
            "secret_uuid": vtpm_secret_uuid(vm_uuid),
            "usage": vtpm_usage(vm_uuid),
            "encrypted": encrypted,
            "state_exists": state_exists,
        }
        if vtpm
        else None,
    }


def test_a_new_vm_gets_one_uuid_in_all_its_items():
    plan = provision.plan([{"name": "web1", "memory": 512}], [], "hv1", "native")
    new = plan["records"][0]["uuid"]
    assert uuid.UUID(new)
    assert plan["domains"][0]["uuid"] == plan["resource_keys"][0]["vm"] == plan["secrets"][0]["verify_vm"] == new
    assert plan["domains"][0]["tpm"]["secret_uuid"] == plan["secrets"][0]["uuid"] == vtpm_secret_uuid(new)
    assert plan["records"][0]["vm_state"] == "provisioning"


def test_two_new_vms_get_two_uuids():
    plan = provision.plan([{"name": "a", "memory": 1}, {"name": "b", "memory": 1}], [], "hv1", "native")
    assert len({item["uuid"] for item in plan["records"]}) == 2


def test_m7_a_vm_that_ran_before_gets_no_new_key_and_must_have_its_state():
    plan = provision.plan([{"name": "web1"}], [record()], "hv1", "native")
    assert plan["resource_keys"] == []
    assert plan["domains"][0]["expect_state"] is True
    assert plan["records"][0]["uuid"] == UUID
    assert "vm_state" not in plan["records"][0]


def test_m7_a_vm_that_never_ran_may_get_a_key():
    plan = provision.plan([{"name": "web1"}], [record(state_exists=False)], "hv1", "native")
    assert [item["vm"] for item in plan["resource_keys"]] == [UUID]
    assert "expect_state" not in plan["domains"][0]


def test_m6_every_secret_says_purpose_usage_vm():
    item = provision.plan([{"name": "web1"}], [record()], "hv1", "native")["secrets"][0]
    assert item["usage"] == "trustedvm:vtpm:" + UUID
    assert item["resource_key"] == {"resource_type": "vtpm", "vm": UUID, "purpose": "provision"}
    assert "value" not in item


def test_a_vm_of_another_host_is_compared_not_taken():
    plan = provision.plan([{"name": "web1"}], [record(host="hv2")], "hv1", "native")
    assert plan["records"][0]["expect"] == {"host": "hv1"}


def test_the_binding_of_a_known_vm_stays():
    plan = provision.plan([{"name": "web1"}], [record(provider="team-vault", state_exists=False)], "hv1", "native")
    assert plan["resource_keys"][0]["provider"] == "team-vault"
    assert "key_provider" not in plan["records"][0] and plan["bindings"] == {}


def test_of_a_known_vm_only_the_binding_is_written_before_the_vm_is_as_described():
    plan = provision.plan([{"name": "web1", "tpm": {"model": "tpm-tis"}}], [record(provider=None, state_exists=False)], "hv1", "native")
    assert plan["records"] == [{"uuid": UUID, "host": "hv1", "expect": {"host": "hv1"}, "key_provider": "native"}]
    assert plan["bindings"] == {UUID: ""}
    done = [{"uuid": UUID, "name": "web1", "state": "running", "tpm": {"model": "tpm-tis"}, "tpm_state_exists": True}]
    assert provision.vm_records(done, "hv1", vtpms=plan["vtpms"])[0]["vtpm"] == {
        "model": "tpm-tis",
        "version": "2.0",
        "encrypted": True,
        "state_exists": True,
    }


def test_m5_an_unencrypted_vtpm_needs_no_key_but_the_vm_module_is_asked():
    plan = provision.plan([{"name": "web1", "tpm": {"encrypted": False}}], [], "hv1", "native")
    assert plan["resource_keys"] == plan["secrets"] == []
    assert plan["domains"][0]["tpm"]["allow_unencrypted"] is False
    assert "key_provider" not in plan["records"][0]


def test_without_tpm_there_is_neither_key_nor_device():
    plan = provision.plan([{"name": "web1", "tpm": {"enabled": False}}], [], "hv1", "native")
    assert plan["resource_keys"] == plan["secrets"] == []
    assert "tpm" not in plan["domains"][0] and "vtpm" not in plan["records"][0]


def test_defaults_are_below_the_description():
    plan = provision.plan(
        [{"name": "web1", "vcpus": 4, "tpm": {"model": "tpm-tis"}}],
        [],
        "hv1",
        "native",
        defaults={"vcpus": 1, "virt_type": "qemu", "tpm": {"model": "tpm-crb", "version": "2.0"}},
    )
    item = plan["domains"][0]
    assert (item["vcpus"], item["virt_type"], item["tpm"]["model"]) == (4, "qemu", "tpm-tis")


def test_the_uuid_of_the_users_own_xml_counts():
    xml = "<domain><name>web1</name><uuid>%s</uuid></domain>" % OTHER
    assert provision.plan([{"name": "web1", "xml": xml}], [], "hv1", "native")["records"][0]["uuid"] == OTHER


def test_defaults_do_not_meddle_with_the_users_own_xml():
    defaults = {"memory": 512, "virt_type": "qemu", "networks": [], "autostart": True, "tpm": {"model": "tpm-tis"}}
    item = provision.plan([{"name": "web1", "xml": "<domain/>"}], [], "hv1", "native", defaults=defaults)["domains"][0]
    assert not {"memory", "virt_type", "networks"} & set(item)
    assert item["autostart"] is True and item["tpm"]["model"] == "tpm-tis"


@pytest.mark.parametrize(
    ("description", "records", "code"),
    [
        ({"memory": 1}, [], "vm_description_invalid"),
        ({"name": "web1", "uuid": "nonsense"}, [], "vm_description_invalid"),
        ({"name": "web1", "uuid": OTHER}, [record()], "vm_name_taken"),
        ({"name": "web2", "uuid": UUID.upper()}, [record()], "vm_uuid_taken"),
        ({"name": "web2", "xml": "<domain><uuid>%s</uuid></domain>" % UUID}, [record()], "vm_uuid_taken"),
        ({"name": "web1", "uuid": OTHER}, [record(), record("web2", OTHER)], "vm_uuid_taken"),
        ({"name": "web1", "tpm": {"encrypted": False}}, [record()], "unencrypted_vtpm_refused"),
    ],
)
def test_bad_descriptions_have_a_code(description, records, code):
    with pytest.raises(ControllerError) as caught:
        provision.plan([description], records, "hv1", "native")
    assert caught.value.code == code


def test_the_registry_is_asked_for_names_and_for_uuids():
    described = [{"name": "web1", "uuid": UUID.upper()}, {"name": "web2", "xml": "<domain><uuid>%s</uuid></domain>" % OTHER}, {"name": "web3"}]
    assert descriptions.identities(described, {"memory": 512}) == ["web1", "web2", "web3", UUID, OTHER]


@pytest.mark.parametrize("other", [{"name": "web1"}, {"name": "web2", "uuid": UUID}])
def test_one_vm_is_described_once(other):
    with pytest.raises(ControllerError) as caught:
        descriptions.identities([{"name": "web1", "uuid": UUID}, other])
    assert caught.value.code == "vm_described_twice"


def test_only_vms_that_something_is_made_for_are_looked_at_beforehand():
    known = [record(), record("web2", OTHER, state_exists=False)]
    plan = provision.plan([{"name": "web1"}, {"name": "web2"}, {"name": "web3"}], known, "hv1", "native")
    assert [item["name"] for item in plan["preflight"]] == ["web2", "web3"]
    assert plan["new"] == ["web3"]


def test_a_new_vm_is_made_on_one_host_only():
    assert provision.refuse_rivals({"hv1": {"new": ["web1"]}, "hv2": {"new": ["web2"]}, "hv3": {}})
    with pytest.raises(ControllerError) as caught:
        provision.refuse_rivals({"hv1": {"new": ["web1"]}, "hv2": {"new": ["web2", "web1"]}})
    assert caught.value.code == "vm_asked_on_several_hosts"
    assert "web1 on hv1, hv2" in str(caught.value) and "web2" not in str(caught.value)


class TestProvisionUndo:
    """The names of the records' VMs: web1 is UUID, web2 is OTHER."""

    MADE = {"outcome": "created", "changed": True}
    FAILED = {"failed": True, "changed": False, "outcome": "failed"}

    def plan(self, *records):
        return provision.plan([{"name": "web1", "uuid": UUID}, {"name": "web2", "uuid": OTHER}], records, "hv1", "native")

    def made(self, plan, *vms, keys="created"):
        return {
            "record_results": [{"uuid": vm, **self.MADE} for vm in vms],
            "key_results": [{"vm": vm, "usage": vtpm_usage(vm), **self.MADE, "outcome": keys} for vm in vms],
            "secret_results": [{"uuid": vtpm_secret_uuid(vm), "usage": vtpm_usage(vm), **self.MADE} for vm in vms],
        }

    def undo(self, results, attempted=True, **more):
        plan = self.plan()
        return provision.outcome(results, plan, attempted=attempted, **{**self.made(plan, UUID, OTHER), **more}), plan

    def test_c6_only_what_the_run_made_for_a_vm_that_it_left_as_it_was(self):
        undo, plan = self.undo([{"uuid": UUID, "name": "web1", "state": "running"}, {"uuid": OTHER, **self.FAILED}])
        assert undo == {
            "secrets": [{"uuid": vtpm_secret_uuid(OTHER), "state": "absent", "in_use": "remove"}],
            "resource_keys": [{"vm": OTHER, "state": "absent", "purpose": "provision", "only_created_by": plan["operation"]}],
            "records": [{"uuid": OTHER, "state": "absent"}],
            "kept": [],
        }

    @pytest.mark.parametrize(
        "results",
        [
            [],
            [{"uuid": UUID, "failed": True, "changed": True}],
            [{"uuid": UUID, "failed": True, "changed": False, "undo_failed": "cannot undefine"}],
        ],
        ids=["died without a result", "left something", "could not undo"],
    )
    def test_m4_everything_stays_where_it_is_not_known_whether_the_vm_was_made(self, results):
        undo, plan = self.undo(results)
        assert undo == {"secrets": [], "resource_keys": [], "records": [], "kept": ["web1", "web2"]}

    def test_m4_removed_if_the_vms_were_never_begun(self):
        undo, plan = self.undo([], attempted=False)
        assert [item["uuid"] for item in undo["records"]] == [UUID, OTHER]
        assert len(undo["resource_keys"]) == len(undo["secrets"]) == 2 and undo["kept"] == []

    def test_c6_a_secret_that_this_run_made_goes_even_if_its_key_was_there_before(self):
        undo, plan = self.undo([{"uuid": UUID, **self.FAILED}], **self.made(self.plan(), UUID, keys="unchanged"))
        assert undo["secrets"] == [{"uuid": vtpm_secret_uuid(UUID), "state": "absent", "in_use": "keep"}]
        assert undo["resource_keys"] == []

    def test_c6_what_existed_before_is_untouched(self):
        undo, plan = self.undo(
            [{"uuid": UUID, **self.FAILED}],
            record_results=[{"uuid": UUID, "outcome": "unchanged"}],
            key_results=[{"vm": UUID, "usage": "u", "outcome": "unchanged"}],
            secret_results=[{"uuid": vtpm_secret_uuid(UUID), "usage": "u", "outcome": "updated"}],
        )
        assert undo == {"records": [], "resource_keys": [], "secrets": [], "kept": []}

    def test_c6_a_known_vm_is_unbound_again(self):
        plan = self.plan(record(provider=None, state_exists=False))
        results = {**self.made(plan, UUID), "record_results": [{"uuid": UUID, "outcome": "updated"}]}
        assert provision.outcome([{"uuid": UUID, **self.FAILED}], plan, **results)["records"] == [{"uuid": UUID, "key_provider": ""}]
        assert provision.outcome([], plan, **results)["records"] == []


def test_what_the_vm_module_did_becomes_the_record():
    items = provision.vm_records(
        [
            {"uuid": UUID, "name": "web1", "state": "running", "tpm": {}, "tpm_state_exists": True, "nvram": {"path": "/n.fd"}},
            {"uuid": OTHER, "name": "web2", "state": "stopped", "tpm": {"model": "tpm-crb"}, "tpm_state_exists": True, "nvram": None},
            {"uuid": "x", "failed": True},
        ],
        "hv1",
    )
    assert [(item["uuid"], item["vm_state"]) for item in items] == [(UUID, "running"), (OTHER, "stopped")]
    assert items[0]["nvram"]["path"] == "/n.fd" and "nvram" not in items[1]
    assert items[1]["vtpm"] == {"state_exists": True}
    assert all(item["expect"] == {"host": "hv1"} for item in items)


class TestStart:
    def plan(self, records, secrets=(), **options):
        return start.plan(records, secrets, "hv1", **options)

    def test_m7_a_secret_that_is_on_the_host_needs_no_key(self):
        secrets = [{"uuid": vtpm_secret_uuid(vm), "has_value": True} for vm in (UUID, OTHER)]
        plan = self.plan([record(), record("web2", OTHER, state_exists=False)], secrets)
        assert plan["secrets"] == plan["resource_keys"] == []
        assert plan["domains"][0]["expect_state"] is True

    def test_a_secret_of_which_the_host_tells_no_value_is_what_it_was_with_the_key_in_it(self):
        secret = {"uuid": vtpm_secret_uuid(UUID), "has_value": None, "usage_type": "vtpm", "usage": "made by hand", "private": True, "ephemeral": True}
        item = self.plan([record()], [secret])["secrets"][0]
        assert (item["usage"], item["ephemeral"], item["verify_vm"]) == ("made by hand", True, UUID)
        assert item["resource_key"] == {"resource_type": "vtpm", "vm": UUID, "purpose": "start"}

    @pytest.mark.parametrize("secrets", [[], [{"uuid": vtpm_secret_uuid(UUID), "has_value": None}], [{"uuid": "other", "has_value": True}]])
    def test_m7_without_a_secret_the_key_is_read_and_not_made(self, secrets):
        plan = self.plan([record()], secrets)
        assert plan["resource_keys"] == []
        assert plan["secrets"][0]["uuid"] == vtpm_secret_uuid(UUID)
        assert plan["secrets"][0]["verify_vm"] == UUID
        assert plan["secrets"][0]["resource_key"]["purpose"] == "start"

    def test_m7_the_very_first_start_may_make_a_key(self):
        plan = self.plan([record(state_exists=False)])
        assert [item["vm"] for item in plan["resource_keys"]] == [UUID]
        assert plan["resource_keys"][0]["operation"] == plan["operation"]
        assert self.plan([])["operation"] != plan["operation"]

    def test_a_vm_that_is_not_off_needs_no_secret(self):
        plan = self.plan([record(), record("web2", OTHER)], vms=[{"uuid": UUID, "state": "running"}, {"uuid": OTHER, "state": "stopped"}])
        assert [item["verify_vm"] for item in plan["secrets"]] == [OTHER]
        assert [item["uuid"] for item in plan["domains"]] == [UUID, OTHER]

    @pytest.mark.parametrize(("found", "wanted", "becomes"), [(True, False, True), (False, True, True), (False, False, False)])
    def test_a_secret_in_memory_does_not_become_a_file(self, found, wanted, becomes):
        secret = {"uuid": vtpm_secret_uuid(UUID), "has_value": None, "ephemeral": found}
        assert self.plan([record()], [secret], ephemeral_secrets=wanted)["secrets"][0]["ephemeral"] is becomes

    def test_c6_a_key_that_this_start_made_goes_if_it_fails(self):
        plan = self.plan([record(state_exists=False)])
        made = {
            "key_results": [{"vm": UUID, "outcome": "created"}],
            "secret_results": [{"uuid": vtpm_secret_uuid(UUID), "outcome": "created"}],
        }
        undo = start.outcome([{"uuid": UUID, "failed": True, "changed": False}], plan, **made)
        assert undo["resource_keys"] == [{"vm": UUID, "state": "absent", "purpose": "start", "only_created_by": plan["operation"]}]
        # A secret without its key would be taken for good by the next start.
        assert undo["secrets"] == [{"uuid": vtpm_secret_uuid(UUID), "state": "absent", "in_use": "remove"}]
        lost = start.outcome([], plan, **made)
        assert (lost["resource_keys"], lost["secrets"], lost["kept"]) == ([], [], ["web1"])

    def test_vms_of_other_hosts_are_left_out(self):
        assert {**self.plan([record(host="hv2")]), "operation": ""} == {"operation": "", "resource_keys": [], "secrets": [], "domains": []}

    @pytest.mark.parametrize(
        ("provider", "allowed", "refused"),
        [(None, False, True), (None, True, False), ("native", True, True), ("native", False, True)],
    )
    def test_m5_unencrypted_passes_only_where_said_and_unbound(self, provider, allowed, refused):
        records = [record(provider=provider, encrypted=False)]
        if refused:
            with pytest.raises(ControllerError) as caught:
                self.plan(records, allow_unencrypted_vtpm=allowed)
            assert caught.value.code == "unencrypted_vtpm_refused"
        else:
            assert len(self.plan(records, allow_unencrypted_vtpm=allowed)["domains"]) == 1

    def test_a_vm_without_vtpm_starts(self):
        plan = self.plan([record(vtpm=False)])
        assert plan["secrets"] == [] and "expect_state" not in plan["domains"][0]


def test_stop_names_this_hosts_vms():
    assert stop.plan([record(), record("web2", OTHER, "hv2")], "hv1") == [{"name": "web1", "uuid": UUID}]


class TestDestroy:
    def test_n5_nvram_and_tpm_state_go_disks_only_if_asked(self):
        item = destroy.plan([record(), record("web2", OTHER, "hv2")], "hv1")[0]
        assert item["uuid"] == UUID and item["state"] == "absent"
        assert item["remove_nvram"] and item["remove_tpm_state"]
        assert not item["remove_disks"] and not item["force"]

    def test_keys_and_records_go_only_with_the_domain(self):
        left = destroy.outcome(
            [{"uuid": UUID, "outcome": "removed"}, {"uuid": OTHER, "failed": True}], [record(), record("web2", OTHER)]
        )
        assert left["records"] == [{"uuid": UUID, "state": "absent", "remove_keys": True}]
        assert left["secrets"] == [{"uuid": vtpm_secret_uuid(UUID), "state": "absent", "in_use": "keep", "released_by": [UUID]}]

    def test_c3_a_domain_that_was_gone_already_still_loses_its_record(self):
        assert destroy.outcome([{"uuid": UUID, "outcome": "unchanged"}], [record()])["records"]


class TestPlacement:
    RECORDS = [record(), record("web2", OTHER, "hv2")]

    def test_each_owner_in_the_play_is_enough(self):
        assert placement.refuse_absent_owners(self.RECORDS, ["hv1", "hv2", "hv3"])
        assert placement.refuse_absent_owners(self.RECORDS, ["hv1"], settled_on="hv2")
        assert placement.refuse_absent_owners([], [])

    def test_an_owner_outside_the_play_is_named_with_its_vms(self):
        with pytest.raises(ControllerError) as caught:
            placement.refuse_absent_owners(self.RECORDS, ["hv1"])
        assert caught.value.code == "vm_host_not_in_play"
        assert "web2 on hv2" in str(caught.value) and "web1" not in str(caught.value)
