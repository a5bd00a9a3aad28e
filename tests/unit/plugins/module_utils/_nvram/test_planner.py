# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NVRAM volumes of real domains on a real libvirt."""
from __future__ import annotations

import os
import shutil

import pytest

libvirt = pytest.importorskip("libvirt")

from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.errors import TrustedVMError
from ansible_collections.trustedvm.libvirt.plugins.module_utils._domain.metadata import read_marks, set_marks
from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.domains import definition
from ansible_collections.trustedvm.libvirt.plugins.module_utils._nvram.info import NvramInspector
from ansible_collections.trustedvm.libvirt.plugins.module_utils._nvram.planner import NvramPlanner

VM = "0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11"
OTHER = "1d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11"
STORE = bytes(40) + b"_FVH" + bytes(1000)

DEFAULTS = {
    "vm": None,
    "path": None,
    "directory": None,
    "root_disk": None,
    "template": None,
    "secure_boot": False,
    "enrolled_keys": None,
    "architecture": "x86_64",
    "machine": "q35",
    "state": "present",
    "accept_data_loss": False,
    "moved": False,
    "drop_copies": False,
    "expect_state": None,
    "reset_id": None,
}

DOMAIN = """<domain type='qemu'><name>%(name)s</name><uuid>%(uuid)s</uuid><memory unit='MiB'>48</memory>
<os><type arch='x86_64' machine='q35'>hvm</type>
<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>%(nvram)s</os><features><acpi/></features>
<devices><disk type='file' device='disk'><source file='%(disk)s'/><target dev='vda' bus='virtio'/></disk>%(devices)s</devices></domain>"""
TPM = "<tpm model='tpm-crb'><backend type='emulator' version='2.0' persistent_state='yes'/></tpm>"


class Host:
    def __init__(self, daemon, root):
        self.daemon = daemon
        self.root = root
        self.template = root / "VARS.fd"
        self.template.write_bytes(STORE)
        self.path = str(root / "nvram" / VM / (VM + ".fd"))

    def define(self, name="web1", uuid=VM, path=None, devices=TPM, nvram=True):
        text = "<nvram template='%s'>%s</nvram>" % (self.template, path or self.path) if nvram else ""
        values = {"name": name, "uuid": uuid, "nvram": text, "devices": devices, "disk": self.root / "web1.qcow2"}
        return self.daemon.defineXML(DOMAIN % values)

    def plan(self, **options):
        return NvramPlanner(self.daemon.connection)({**DEFAULTS, **options})

    def run(self, **options):
        """Plan, check that the plan touches nothing, apply, and see that a second run has nothing to do."""
        before = self.files()
        change = self.plan(**options)
        assert self.files() == before
        change.apply()
        return change.result()

    def again(self, **options):
        assert not self.plan(**options).changed

    def files(self):
        found = {}
        for directory, _dirs, names in os.walk(self.root):
            for name in names:
                with open(os.path.join(directory, name), "rb") as stream:
                    found[os.path.relpath(os.path.join(directory, name), self.root)] = stream.read()
        return found

    def write(self, content, path=None):
        path = path or self.path
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as stream:
            stream.write(content)

    def content(self, path=None):
        with open(path or self.path, "rb") as stream:
            return stream.read()

    def mark(self):
        domain = self.daemon.lookupByName("web1")
        set_marks(domain, definition(domain), nvram=True)

    def refused(self, **options):
        before = self.files()
        with pytest.raises(TrustedVMError) as caught:
            self.plan(**options)
        assert self.files() == before
        return caught.value


@pytest.fixture
def host(libvirt_daemon, tmp_path):
    return Host(libvirt_daemon, tmp_path)


USED = STORE[:-1] + b"x"


@pytest.mark.parametrize(
    "needed, existing, outcome",
    [
        pytest.param(True, False, "created", id="needed, none"),
        pytest.param(True, True, "unchanged", id="needed, there"),
        pytest.param(False, False, "unchanged", id="not needed, none"),
        pytest.param(False, True, "unchanged", id="not needed, there"),
    ],
)
def test_n1_four_cases_of_needed_and_existing(host, needed, existing, outcome):
    host.define(devices=TPM if needed else "")
    if existing:
        host.write(USED)
    result = host.run(vm="web1")
    assert (result["outcome"], result["needed"]) == (outcome, needed)
    assert os.path.exists(host.path) == (existing or needed)
    if existing:
        assert host.content() == USED
    host.again(vm="web1")


def test_n2_new_volume_is_raw_as_large_as_its_template_beside_the_root_disk(host):
    host.define(nvram=False, devices="")
    result = host.run(vm=OTHER, root_disk=str(host.root / "web1.qcow2"), template=str(host.template))
    assert result["path"] == str(host.root / "nvram" / OTHER / (OTHER + ".fd"))
    assert (result["size"], result["format"], result["ready"]) == (len(STORE), "raw", True)
    assert host.content(result["path"]) == STORE


@pytest.mark.parametrize("option", ["path", "directory"])
def test_n3_format_and_size_are_right_when_the_place_was_given(host, option):
    place = {"path": str(host.root / "own" / "vars"), "directory": str(host.root / "own")}[option]
    os.makedirs(host.root / "own")
    result = host.run(vm=OTHER, template=str(host.template), **{option: place})
    assert host.content(result["path"]) == STORE
    assert result["format"] == "raw"
    host.again(vm=OTHER, template=str(host.template), **{option: place})


@pytest.mark.parametrize("content", [b"", bytes(len(STORE)), bytes(5), b"\xff" * 99], ids=["empty", "blank", "short", "erased"])
def test_n4_volume_that_was_never_used_is_rebuilt(host, content):
    host.define()
    host.write(content)
    assert host.run(vm="web1")["outcome"] == "rebuilt"
    assert host.content() == STORE
    host.again(vm="web1")


def test_n4_an_older_firmwares_template_counts_as_never_used(host):
    """The 2M variable store of this machine's firmware, in a VM that now has another one."""
    path = "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"
    if not os.path.exists(path):
        pytest.skip("no such firmware here")
    host.define()
    with open(path, "rb") as stream:
        host.write(stream.read())
    assert host.run(vm="web1")["outcome"] == "rebuilt"


@pytest.mark.parametrize(
    "content, code",
    [(USED + b"x", "nvram_wrong_size"), (b"QFI\xfb" + bytes(len(STORE) - 4), "nvram_wrong_format"), (b"x" * len(STORE), "nvram_wrong_format")],
    ids=["size", "qcow2", "garbage"],
)
def test_n4_volume_that_is_not_ready_and_was_used_is_refused(host, content, code):
    host.define()
    host.write(content)
    error = host.refused(vm="web1")
    assert error.code == code and host.path in str(error)


def test_missing_volume_of_a_vm_that_ran_is_refused(host):
    host.define()
    host.mark()
    assert host.refused(vm="web1").code == "nvram_missing"
    assert host.refused(vm="web1", state="reset").code == "nvram_missing"
    assert host.run(vm="web1", state="reset", accept_data_loss=True)["outcome"] == "reset"
    assert host.content() == STORE


def test_missing_volume_of_a_vm_that_the_registry_knows_is_refused(host):
    host.define()
    assert host.refused(vm="web1", expect_state=True).code == "nvram_missing"


def test_volume_of_another_vm_is_refused(host):
    host.define()
    host.define("web2", OTHER, path=host.path)
    for state in ("present", "reset"):
        error = host.refused(vm="web1", state=state, accept_data_loss=True)
        assert error.code == "nvram_in_use" and "web2" in str(error) and host.path in str(error)


def test_second_volume_beside_one_with_variables_is_refused(host):
    host.define()
    host.write(USED)
    error = host.refused(vm="web1", directory=str(host.root / "elsewhere"))
    assert error.code == "nvram_elsewhere" and host.path in str(error)


def test_reset_needs_consent_and_keeps_a_copy(host):
    host.define()
    host.write(USED)
    assert host.refused(vm="web1", state="reset").code == "nvram_would_be_lost"
    predicted = host.plan(vm="web1", state="reset", accept_data_loss=True).result()
    result = host.run(vm="web1", state="reset", accept_data_loss=True)
    assert result == predicted
    assert host.content() == STORE
    assert [host.content(copy) for copy in result["copies"]] == [USED]
    host.again(vm="web1", state="reset", accept_data_loss=True)


def test_reset_id_resets_once_however_often_the_vm_was_started(host):
    host.define()
    host.write(USED)
    wanted = {"vm": "web1", "state": "reset", "accept_data_loss": True, "reset_id": "ticket <1>"}
    predicted = host.plan(**wanted).result()
    assert host.run(**wanted) == predicted and predicted["steps"] == ["reset volume", "note the reset"]
    host.write(STORE[:-1] + b"y")
    host.mark()
    result = host.run(**wanted)
    assert (result["outcome"], result["reset_id"]) == ("unchanged", "ticket <1>")
    assert host.content() == STORE[:-1] + b"y" and read_marks(definition(host.daemon.lookupByName("web1"))).nvram
    assert host.run(**{**wanted, "reset_id": "ticket 2"})["outcome"] == "reset"
    assert host.content() == STORE


@pytest.mark.parametrize("there", [True, False])
def test_reset_that_cannot_be_noted_is_taken_back(host, there):
    domain = host.define()
    if there:
        host.write(USED)
    before = host.files()
    change = host.plan(vm="web1", state="reset", accept_data_loss=True, reset_id="a")
    domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM)
    with pytest.raises(libvirt.libvirtError):
        change.apply()
    assert host.files() == before and not change.left_changed


def test_reset_id_needs_a_vm_to_be_noted_in(host):
    assert host.refused(vm=VM, path=host.path, template=str(host.template), state="reset", reset_id="a").code == "vm_not_found"
    host.define()
    assert host.refused(vm="web1", state="reset", reset_id="\x07").code == "reset_id_invalid"


def test_copies_go_only_after_the_new_volume_was_booted_from(host):
    host.define()
    host.write(USED)
    host.run(vm="web1", state="reset", accept_data_loss=True)
    assert host.refused(vm="web1", drop_copies=True).code == "nvram_not_proven"
    host.write(STORE[:-1] + b"y")
    result = host.run(vm="web1", drop_copies=True)
    assert (result["copies"], result["changed"]) == ([], True)
    host.again(vm="web1", drop_copies=True)


def test_removal_of_variables_needs_consent(host):
    host.define()
    host.write(USED)
    host.mark()
    assert host.refused(vm="web1", state="absent").code == "nvram_would_be_lost"
    assert host.run(vm="web1", state="absent", accept_data_loss=True)["outcome"] == "removed"
    assert not os.path.exists(os.path.dirname(host.path))
    host.again(vm="web1", state="absent", accept_data_loss=True)
    assert not read_marks(definition(host.daemon.lookupByName("web1"))).nvram
    assert host.run(vm="web1")["outcome"] == "created"


def test_removal_of_a_pristine_volume_needs_none(host):
    host.define()
    host.run(vm="web1")
    assert host.run(vm="web1", state="absent")["outcome"] == "removed"


def test_what_a_migration_left_goes_without_consent_unless_a_vm_names_it(host):
    host.write(USED)
    domain = host.define()
    assert host.refused(path=host.path, state="absent", moved=True).code == "nvram_in_use"
    domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM)
    assert host.run(path=host.path, state="absent", moved=True)["changed"]
    assert not host.run(path=host.path, state="absent", moved=True)["changed"]


def test_n6_strays_are_told_and_left_alone(host):
    host.define()
    host.run(vm="web1")
    stray = os.path.join(os.path.dirname(host.path), "old.fd")
    host.write(USED, stray)
    host.write(USED, str(host.root / "nvram" / "gone" / "gone.fd"))
    assert host.run(vm="web1")["strays"] == [stray]
    inspector = NvramInspector(host.daemon.connection)
    volumes = inspector.of_all_vms()
    assert [volume["path"] for volume in volumes] == [host.path]
    strays = inspector.strays([str(host.root / "nvram")], volumes)
    assert strays == sorted([stray, str(host.root / "nvram" / "gone" / "gone.fd")])


def test_n7_storage_that_cannot_hold_it_is_refused_before_anything(host):
    error = host.refused(vm=OTHER, root_disk="/nowhere/at/all/web.qcow2", template=str(host.template))
    assert error.code == "nvram_storage_unsuitable" and "/nowhere/at/all" in str(error)


@pytest.mark.parametrize(
    "options, code",
    [
        ({"vm": "nobody"}, "vm_not_found"),
        ({"vm": OTHER, "template": "/nowhere.fd", "directory": "/tmp"}, "nvram_template_missing"),
        ({"vm": OTHER, "architecture": "s390x", "directory": "/tmp"}, "firmware_not_found"),
        ({"path": "relative.fd"}, "vm_options_invalid"),
    ],
)
def test_bad_input_is_one_clear_error(host, options, code):
    assert host.refused(**options).code == code


def test_network_nvram_is_not_touched(host):
    host.define(nvram=False)
    xml = definition(host.daemon.lookupByName("web1"))
    nvram = xml.find("os/nvram")
    nvram.text = None
    nvram.set("type", "network")
    from lxml import etree

    source = etree.SubElement(nvram, "source", protocol="rbd", name="p/i")
    etree.SubElement(source, "host", name="127.0.0.1", port="6789")
    host.daemon.defineXML(etree.tostring(xml, encoding="unicode"))
    assert host.refused(vm="web1").code == "nvram_not_managed"


@pytest.fixture
def efi(host):
    """A VM whose firmware and NVRAM libvirt chooses at each start and (9.0) writes nowhere."""
    host.daemon.defineXML(
        "<domain type='qemu'><name>web1</name><uuid>%s</uuid><memory unit='MiB'>48</memory><os firmware='efi'>"
        "<type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features><devices>%s</devices></domain>" % (VM, TPM)
    )
    domain = host.daemon.lookupByName("web1")
    if definition(domain).find("os/nvram") is not None:
        pytest.skip("this libvirt writes its choice into the definition")
    directory = host.daemon.path("qemu", "nvram")
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory)
    os.chmod(directory, 0o777)
    yield domain
    shutil.rmtree(directory)


@pytest.mark.parametrize("running", [False, True])
def test_volume_that_libvirt_chose_belongs_to_its_vm(host, efi, running):
    efi.create()
    path = definition(efi, inactive=False).findtext("os/nvram")
    if not running:
        efi.destroy()
    assert os.path.exists(path)
    host.write(USED, host.daemon.path("qemu", "nvram", "gone_VARS.fd"))
    inspector = NvramInspector(host.daemon.connection)
    (volume,) = inspector.of_all_vms()
    assert (volume["path"], volume["vm"], volume["exists"], volume["ready"]) == (path, "web1", True, None)
    assert inspector.volumes([{"path": path}])[0]["uuid"] == VM
    assert inspector.strays([os.path.dirname(path)], [volume]) == [host.daemon.path("qemu", "nvram", "gone_VARS.fd")]
    host.define("web2", OTHER, path=path)
    assert host.refused(vm="web2").code == "nvram_in_use"
    if running:
        assert host.refused(path=path, state="absent", accept_data_loss=True).code == "vm_running"


def test_volume_that_libvirt_chose_is_left_alone(host, efi):
    result = host.run(vm="web1")
    assert (result["changed"], result["path"]) == (False, host.daemon.path("qemu", "nvram", "web1_VARS.fd"))
    assert host.files().keys() == {"VARS.fd"}, "no second volume that the VM would never see"
    assert host.refused(vm="web1", state="reset", accept_data_loss=True).code == "nvram_not_managed"


def test_vm_that_vanishes_while_others_are_looked_at_is_no_hindrance(host, monkeypatch):
    host.define()
    host.define("web2", OTHER, path=str(host.root / "other.fd"))
    planner = NvramPlanner(host.daemon.connection)
    planner.inventory.entries()
    host.daemon.lookupByName("web2").undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM)
    assert planner({**DEFAULTS, "vm": "web1"}).changed


def test_info_tells_what_a_volume_is(host):
    host.define()
    inspector = NvramInspector(host.daemon.connection)
    assert inspector.volumes([{"vm": "web1"}])[0]["exists"] is False
    host.write(USED)
    (volume,) = NvramInspector(host.daemon.connection).volumes([{"path": host.path}])
    assert (volume["vm"], volume["uuid"], volume["pristine"], volume["ready"]) == ("web1", VM, False, True)
    host.write(STORE)
    (volume,) = NvramInspector(host.daemon.connection).volumes([{"vm": VM}])
    assert volume["pristine"] is True and len(volume["sha256"]) == 64
