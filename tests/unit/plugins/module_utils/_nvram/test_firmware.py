# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The choice of firmware from descriptors, as QEMU's firmware.json specifies it."""
from __future__ import annotations

import json
import os

import pytest

pytest.importorskip("lxml")

from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.errors import TrustedVMError
from ansible_collections.trustedvm.libvirt.plugins.module_utils._nvram.firmware import FirmwareCatalogue, FirmwareWish

SECURE = ["requires-smm", "secure-boot"]
ENROLLED = [*SECURE, "enrolled-keys"]
Q35 = [{"architecture": "x86_64", "machines": ["pc-q35-*"]}]


class Host:
    """A host with descriptor directories, lowest priority first, and firmware images."""

    def __init__(self, root):
        self.root = root
        self.directories = [str(root / "usr"), str(root / "etc")]
        for directory in self.directories:
            os.makedirs(directory)

    def image(self, name, size=64):
        path = self.root / name
        path.write_bytes(b"x" * size)
        return str(path)

    def describe(self, name, features=(), where="usr", targets=None, **changes):
        """A descriptor whose images exist, with their own names."""
        flash = {
            "device": "flash",
            "executable": {"filename": self.image(name + ".code", changes.pop("code_size", 64)), "format": "raw"},
            "nvram-template": {"filename": self.image(name + ".vars", 32), "format": "raw"},
        }
        flash.update(changes.pop("mapping", {}))
        content = {"interface-types": ["uefi"], "mapping": flash, "features": list(features), "targets": targets or Q35}
        content.update(changes)
        self.write(name, json.dumps(content), where)

    def write(self, name, text, where="usr"):
        (self.root / where / (name + ".json")).write_text(text)

    def choose(self, **wish):
        chosen = FirmwareCatalogue(self.directories).choose(FirmwareWish(**wish))
        return os.path.basename(chosen.loader)


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


@pytest.fixture
def debian(host):
    """The order of Debian 12: enrolled first."""
    host.describe("40-enrolled", ENROLLED)
    host.describe("50-secure", SECURE)
    host.describe("60-plain", targets=[{"architecture": "x86_64", "machines": ["pc-i440fx-*", "pc-q35-*"]}])
    return host


@pytest.mark.parametrize(
    "wish, chosen",
    [
        ({}, "60-plain.code"),
        ({"secure_boot": True}, "40-enrolled.code"),
        ({"secure_boot": True, "enrolled_keys": True}, "40-enrolled.code"),
        ({"secure_boot": True, "enrolled_keys": False}, "50-secure.code"),
        ({"machine": "pc-q35-7.2"}, "60-plain.code"),
        ({"machine": "pc"}, "60-plain.code"),
        ({"machine": "pc-i440fx-7.2"}, "60-plain.code"),
    ],
)
def test_choice_by_feature(debian, wish, chosen):
    assert debian.choose(**wish) == chosen


def test_n8_firmware_without_secure_boot_is_the_default(debian):
    assert not FirmwareCatalogue(debian.directories).choose(FirmwareWish()).secure_boot


def test_result_says_what_a_vm_needs(debian):
    firmware = FirmwareCatalogue(debian.directories).choose(FirmwareWish(secure_boot=True))
    assert (firmware.loader_size, firmware.template_size, firmware.smm) == (64, 32, True)
    assert firmware.as_result()["format"] == "raw"


def test_setup_mode_firmware_serves_where_no_other_is(host):
    """A host that has Secure Boot builds only: without keys it enforces nothing."""
    host.describe("40-enrolled", ENROLLED)
    host.describe("50-secure", SECURE)
    assert host.choose() == "50-secure.code"


def test_directory_of_higher_priority_hides_the_same_name(host):
    host.describe("60-plain")
    host.describe("60-plain", where="etc", mapping={"executable": {"filename": host.image("own.code"), "format": "raw"}})
    assert host.choose() == "own.code"


def test_order_is_by_file_name_over_all_directories(host):
    host.describe("60-packaged")
    host.describe("50-own", where="etc")
    host.describe("70-late", where="etc")
    assert host.choose() == "50-own.code"


@pytest.mark.parametrize("text", ["", "\n"])
def test_empty_file_hides_a_descriptor(host, text):
    host.describe("50-a")
    host.describe("60-b")
    host.write("50-a", text, where="etc")
    assert host.choose() == "60-b.code"


@pytest.mark.parametrize(
    "unusable",
    [
        pytest.param({"mapping": {"executable": {"filename": "/nowhere.fd", "format": "raw"}}}, id="image missing"),
        pytest.param({"mapping": {"nvram-template": {"filename": "/nowhere.fd", "format": "raw"}}}, id="template missing"),
        pytest.param({"mapping": {"mode": "stateless"}}, id="stateless"),
        pytest.param({"mapping": {"mode": "combined"}}, id="combined"),
        pytest.param({"mapping": {"device": "memory"}}, id="memory"),
        pytest.param({"interface-types": ["bios"]}, id="bios"),
        pytest.param({"targets": [{"architecture": "aarch64", "machines": ["virt-*"]}]}, id="architecture"),
        pytest.param({"targets": [{"architecture": "x86_64", "machines": ["microvm"]}]}, id="machine"),
    ],
)
def test_what_cannot_be_used_is_passed_over(host, unusable):
    host.describe("10-first", **unusable)
    host.describe("60-plain")
    assert host.choose() == "60-plain.code"


@pytest.mark.parametrize("part", ["executable", "nvram-template"])
def test_qcow2_images_are_passed_over(host, part):
    """Fedora ships them; libvirt 9.0 takes a qcow2 variable store for raw without a word."""
    host.describe("10-qcow2", mapping={part: {"filename": host.image("image.qcow2"), "format": "qcow2"}})
    host.describe("60-plain")
    assert host.choose() == "60-plain.code"


@pytest.mark.parametrize("text", ["{", "[]", '{"mapping": 1}'])
def test_broken_descriptor_is_passed_over_and_named(host, text):
    host.write("10-broken", text)
    host.describe("60-plain")
    assert host.choose() == "60-plain.code"
    with pytest.raises(TrustedVMError) as caught:
        host.choose(secure_boot=True)
    assert "10-broken.json (unreadable)" in str(caught.value)


def test_flash_size_can_be_asked_for(host):
    host.describe("10-small")
    host.describe("20-4m", code_size=(4 << 20) - 32)
    assert host.choose(flash_mib=4) == "20-4m.code"


def test_no_firmware_says_what_the_host_has(debian):
    with pytest.raises(TrustedVMError) as caught:
        debian.choose(architecture="aarch64", machine="virt")
    assert caught.value.code == "firmware_not_found"
    for text in ("60-plain.json (no Secure Boot)", "40-enrolled.json (secure-boot enrolled-keys)", "aarch64"):
        assert text in str(caught.value)


def test_host_without_descriptors(host):
    with pytest.raises(TrustedVMError, match="no descriptors at all"):
        FirmwareCatalogue([str(host.root / "none")]).choose(FirmwareWish())


def test_firmware_of_a_loader(debian):
    catalogue = FirmwareCatalogue(debian.directories)
    found = catalogue.for_loader(str(debian.root / "50-secure.code"))
    assert found is not None and found.template.endswith("50-secure.vars")
    assert catalogue.for_loader("/other") is None


def test_descriptors_of_this_host_are_understood():
    """Whatever this machine has: each choice names files that exist."""
    catalogue = FirmwareCatalogue()
    if not catalogue.templates():
        pytest.skip("no firmware installed here")
    firmware = catalogue.choose(FirmwareWish(secure_boot=True))
    assert os.path.getsize(firmware.template) == firmware.template_size
