# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One key provider, one key ring: settings that stay, and controllers that share a registry."""

from __future__ import annotations

import os
import shutil

import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("cryptography")

from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._core.key_material import KeyMaterial
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._key_providers import sealing
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._records import reading
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._records.key_request import KeyRequest
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._registry.engine import open_registry
from ansible_collections.trustedvm.libvirt.tests.unit.plugins.plugin_utils.controllers import (
    OTHER,
    VM,
    Controller,
    one,
    predicted_and_done,
)


@pytest.fixture(autouse=True)
def cheap_passphrases(monkeypatch):
    monkeypatch.setattr(sealing, "SCRYPT", {"n": 1 << 10, "r": 8, "p": 1})


@pytest.fixture
def second(controller, tmp_path):
    """Another controller: the same registry, a state directory of its own."""
    return Controller(controller.url, tmp_path / "second")


def ring_of(controller, name="native"):
    return os.path.join(controller.state_directory, "key-rings", name + ".json")


def registered(controller, name="native"):
    with open_registry(controller.url, create=False) as registry, registry.read() as session:
        return session.key_providers.get(name)


def health(controller):
    (provider,) = controller.info(reading.read_key_providers, None, controller.opener)["providers"]
    return provider["health"]


# Settings


@pytest.mark.parametrize("nothing", [None, {}, {"key_ring": None, "passphrase_file": None}], ids=["none", "empty", "nulls"])
def test_without_settings_the_registered_ones_stay(controller, tmp_path, nothing):
    """A ring that is forgotten would be replaced by a second one, without the first one's seal."""
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("correct horse\n", encoding="utf-8")
    passphrase.chmod(0o600)
    settings = {"key_ring": str(tmp_path / "elsewhere.json"), "passphrase_file": str(passphrase)}
    made = one(predicted_and_done(controller.providers, {"name": "native", "native": settings}))
    assert (made["settings"], made["key_ring"], made["sealed"]) == (settings, settings["key_ring"], True)
    for check_mode in (True, False):
        again = one(controller.providers({"name": "native", "native": nothing}, check_mode=check_mode))
        assert (again["outcome"], again["settings"], again["kek_id"]) == ("unchanged", settings, made["kek_id"])
    assert not os.path.exists(ring_of(controller))


@pytest.mark.parametrize("nothing", [None, {}, {"key_ring": None}], ids=["none", "empty", "nulls"])
def test_a_new_provider_without_settings_has_its_ring_in_the_state_directory(controller, nothing):
    made = one(predicted_and_done(controller.providers, {"name": "native", "native": nothing}))
    assert (made["settings"], made["key_ring"]) == ({}, ring_of(controller))


def test_another_place_for_the_ring_does_not_make_another_ring(controller, tmp_path):
    made = one(controller.providers({"name": "native"}))
    elsewhere = {"name": "native", "native": {"key_ring": str(tmp_path / "elsewhere.json")}}
    for check_mode in (True, False):
        refused = one(controller.providers(elsewhere, check_mode=check_mode))
        assert refused["error_code"] == "key_ring_missing" and made["kek_id"] in refused["msg"]
    assert registered(controller).settings == {} and not os.path.exists(elsewhere["native"]["key_ring"])
    shutil.move(made["key_ring"], elsewhere["native"]["key_ring"])
    moved = one(predicted_and_done(controller.providers, elsewhere))
    assert (moved["outcome"], moved["kek_id"]) == ("updated", made["kek_id"])


# Controllers that share a registry


def test_the_registry_knows_which_ring_the_name_stands_for(controller):
    made = one(controller.providers({"name": "native"}))
    assert registered(controller).kek_id == made["kek_id"]
    assert one(controller.providers({"name": "native"}))["outcome"] == "unchanged"


def test_the_second_controller_makes_no_ring_of_its_own(controller, second):
    made = one(controller.providers({"name": "native"}))
    for check_mode in (True, False):
        refused = one(second.providers({"name": "native"}, check_mode=check_mode))
        assert refused["error_code"] == "key_ring_missing"
        assert made["kek_id"] in refused["msg"] and "Copy it from the controller that made it" in refused["msg"]
    assert not os.path.exists(second.state_directory)
    assert health(second)["error_code"] == "key_ring_missing"


def test_with_the_ring_copied_both_work(controller, second):
    made = one(controller.providers({"name": "native"}))
    os.makedirs(os.path.dirname(ring_of(second)), mode=0o700)
    shutil.copy(made["key_ring"], ring_of(second))
    assert one(second.providers({"name": "native"}))["outcome"] == "unchanged"
    assert one(second.keys({"vm": VM, "provider": "native"}))["created"]
    (key,) = controller.read(KeyRequest("vtpm", VM, "start"))
    assert isinstance(key, KeyMaterial)


@pytest.fixture
def with_other_ring(controller, second):
    """The second controller has a ring of this name that it made for another registry."""
    controller.providers({"name": "native"})
    controller.keys({"vm": VM, "provider": "native"})
    foreign = Controller("sqlite:///%s/other.sqlite" % second.state_directory, second.state_directory)
    foreign.providers({"name": "native"})
    return second


def refused(outcome, controller, second):
    """By the code, with both KEKs and what to do."""
    result = one(outcome)
    assert result["error_code"] == "key_ring_other" and result["failed"] and not result["changed"]
    for part in (registered(controller).kek_id, registered(second).kek_id, ring_of(second), "Copy the ring of the controller that made it"):
        assert part in result["msg"]
    return True


@pytest.mark.parametrize("check_mode", [True, False])
def test_another_ring_is_refused_wherever_it_would_be_used(controller, with_other_ring, check_mode):
    foreign = Controller("sqlite:///%s/other.sqlite" % with_other_ring.state_directory, with_other_ring.state_directory)
    with open(ring_of(with_other_ring), "rb") as file:
        before = file.read()
    assert refused(with_other_ring.providers({"name": "native"}, check_mode=check_mode), controller, foreign)
    assert refused(with_other_ring.keys({"vm": OTHER, "provider": "native"}, check_mode=check_mode), controller, foreign)
    (error,) = with_other_ring.read(KeyRequest("vtpm", VM, "start"))
    assert error.code == "key_ring_other" and "Copy the ring" in str(error)
    verified = with_other_ring.info(reading.read_resource_keys, [VM], None, None, with_other_ring.opener)["resource_keys"][0]
    assert (verified["usable"], verified["error_code"]) == (False, "key_ring_other")
    assert health(with_other_ring)["error_code"] == "key_ring_other"
    with_other_ring.passphrase = "correct horse"
    assert refused(with_other_ring.providers({"name": "native"}, check_mode=check_mode), controller, foreign)
    with open(ring_of(with_other_ring), "rb") as file:
        assert file.read() == before
    assert controller.info(reading.read_resource_keys, None, None, None, None)["missing"] == []


@pytest.mark.parametrize("check_mode", [True, False])
def test_a_ring_of_somebody_elses_keys_is_not_removed(controller, with_other_ring, check_mode):
    controller.keys({"vm": VM, "state": "absent"})
    gone = {"name": "native", "state": "absent", "remove_key_ring": True}
    assert one(with_other_ring.providers(gone, check_mode=check_mode))["error_code"] == "key_ring_other"
    assert os.path.exists(ring_of(with_other_ring)) and registered(controller) is not None
    kept = one(with_other_ring.providers({**gone, "remove_key_ring": False}, check_mode=check_mode))
    assert kept["outcome"] == "removed" and os.path.exists(ring_of(with_other_ring))


def test_a_damaged_ring_can_be_removed(controller):
    made = one(controller.providers({"name": "native"}))
    os.truncate(made["key_ring"], 20)
    assert one(predicted_and_done(controller.providers, {"name": "native", "state": "absent", "remove_key_ring": True}))["key_ring_removed"]


def test_a_ring_that_another_controller_registers_meanwhile_is_the_ring(controller, second):
    lost = one(second.providers({"name": "native"}, meanwhile=lambda: controller.providers({"name": "native"})))
    assert lost["error_code"] == "key_ring_other" and registered(controller).kek_id in lost["msg"]
    assert one(controller.providers({"name": "native"}))["outcome"] == "unchanged"
    assert one(second.keys({"vm": VM, "provider": "native"}))["error_code"] == "key_ring_other"


def test_of_controllers_that_make_a_ring_at_once_one_registers_it(controller, tmp_path, at_once):
    with open_registry(controller.url, create=True):
        pass

    def make(number):
        own = Controller(controller.url, tmp_path / ("controller%d" % number))
        result = one(own.providers({"name": "native", "native": {"key_ring": ring_of(own)}}))
        return result.get("error_code", result.get("kek_id"))

    answers = at_once(make, list(range(6)))
    won = [answer for answer in answers if not answer.startswith("key_ring_")]
    assert won == [registered(controller).kek_id], answers


def test_a_provider_that_was_made_anew_meanwhile_gets_no_key_of_the_old_ring(controller, second):
    controller.providers({"name": "native"})

    def anew():
        second.providers({"name": "native", "state": "absent"})
        second.providers({"name": "native"})

    late = one(controller.keys({"vm": VM, "provider": "native"}, meanwhile=anew))
    assert late["error_code"] == "key_ring_other"
    assert controller.info(reading.read_resource_keys, None, None, None, None)["resource_keys"] == []


# A place that does not last


@pytest.mark.parametrize("check_mode", [True, False])
def test_a_new_ring_at_a_place_that_may_not_last_is_warned_of(controller, check_mode):
    controller.temporary_place = "/home/operator"
    (warning,) = controller.providers({"name": "native"}, check_mode=check_mode).as_result()["warnings"]
    assert ring_of(controller) in warning and "AWX" in warning and "key_ring" in warning


def test_no_warning_where_there_is_nothing_to_warn_of(controller, tmp_path):
    assert "warnings" not in controller.providers({"name": "native"}).as_result()
    controller.temporary_place = "/home/operator"
    assert "warnings" not in controller.providers({"name": "native"}).as_result(), "the ring was there"
    chosen = {"name": "other", "native": {"key_ring": str(tmp_path / "chosen.json")}}
    assert "warnings" not in controller.providers(chosen).as_result()
    assert "warnings" not in controller.providers({"name": "vault", "type": "vault", "native": {}}).as_result(), "it failed"
    with open_registry(controller.url, create=True) as registry:
        with registry.read() as session:
            assert session.shared == controller.url.startswith("postgresql")
