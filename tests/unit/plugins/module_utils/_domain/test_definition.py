# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Definitions by options and by the user's XML, on a real libvirt that fills in what it likes."""
from __future__ import annotations

import os

import pytest

libvirt = pytest.importorskip("libvirt")

from lxml import etree

from ansible_collections.trustedvm.libvirt.plugins.module_utils._domain.metadata import read_marks

VM = "0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11"
OTHER = "1d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11"
SECRET = "6f0c8a3e-2b1d-5c55-9d0f-0a1b2c3d4e5f"
BASE = {"memory": 64, "virt_type": "qemu"}
TPM = {"tpm": {"secret_uuid": SECRET}}


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="least"),
        pytest.param({"firmware": "bios"}, id="bios"),
        pytest.param(TPM, id="tpm"),
        pytest.param({"tpm": {"secret_uuid": SECRET, "model": "tpm-tis"}}, id="tpm-tis"),
        pytest.param({"tpm": {"allow_unencrypted": True}}, id="plain tpm"),
        pytest.param({"secure_boot": True}, id="secure boot"),
        pytest.param({"secure_boot": True, "enrolled_keys": False, **TPM}, id="secure boot without keys, tpm"),
        pytest.param({"vcpus": 3, "machine": "pc", "firmware": "bios"}, id="pc"),
        pytest.param({"cpu_mode": "custom", "cpu_model": "qemu64"}, id="cpu model"),
        pytest.param({"cpu_model": "Nehalem"}, id="cpu model alone"),
        pytest.param({"networks": [{"network": "default"}, {"bridge": "br0", "mac": "52:54:00:AA:BB:CC", "model": "e1000e"}]}, id="networks"),
        pytest.param({"console": {"path": "/tmp/web1.log"}}, id="console"),
        pytest.param({"console": {"path": "/tmp/web1.log", "append": False}}, id="console, new at each start"),
        pytest.param({"graphics": "vnc"}, id="vnc"),
        pytest.param({"autostart": False}, id="no autostart"),
        pytest.param({"disks": [{"path": "/dev/vg/x"}, {"pool": "p", "volume": "v", "bus": "scsi"}]}, id="block and pool"),
        pytest.param({"disks": [{"path": "/tmp/a.iso", "device": "cdrom"}]}, id="cd"),
        pytest.param({"devices_xml": ["<watchdog model='i6300esb' action='reset'/>", "<input type='keyboard' bus='virtio'/>"]}, id="devices"),
    ],
)
def test_second_run_of_a_definition_changes_nothing(host, options):
    assert host.run(**BASE, **options)["outcome"] == "created"


def test_n8_secure_boot_is_off_by_default_and_never_turned_on_unasked(host):
    assert host.run(**BASE)["firmware"]["secure_boot"] is False
    host.run(**BASE, **TPM)
    assert not host.described()["secure_boot"]
    assert host.run(secure_boot=True)["firmware"]["secure_boot"] is True
    host.run(memory=96)
    assert host.described()["secure_boot"]


def test_tpm_brings_uefi_and_a_ready_volume(host):
    disk = os.path.join(host.root, "web1.qcow2")
    result = host.run(**BASE, **TPM, disks=[{"path": disk, "size": "1M"}])
    path = os.path.join(host.root, "nvram", VM, VM + ".fd")
    assert result["nvram"] == {"path": path, "type": "file", "needed": True, "action": "create"}
    assert os.path.getsize(path) == os.path.getsize(host.described()["loader"].replace("CODE", "VARS"))
    tpm = host.tree().find("devices/tpm/backend")
    assert tpm.get("persistent_state") == "yes" and tpm.find("encryption").get("secret") == SECRET
    assert result["disks"][0]["created"] and os.path.exists(disk)


@pytest.mark.parametrize(
    "change, field, value",
    [
        ({"memory": 128}, "memory_mib", 128),
        ({"vcpus": 2}, "vcpus", 2),
        ({"cpu_mode": "host-model"}, "cpu_mode", "host-model"),
        ({"console": {"path": "/tmp/b.log"}}, "console", "/tmp/b.log"),
        ({"graphics": "vnc"}, "graphics", ["vnc"]),
        ({"networks": []}, "networks", []),
        ({"disks": []}, "disks", []),
        ({"machine": "pc-q35-6.2"}, "machine", "pc-q35-6.2"),
    ],
)
def test_one_option_changes_that_part_and_nothing_else(host, change, field, value):
    host.run(**BASE, networks=[{"network": "default"}], disks=[{"path": "/dev/vg/x"}], console={"path": "/tmp/a.log"})
    before = host.described()
    assert host.run(**change)["outcome"] == "updated"
    after = host.described()
    assert after.pop(field) == value and before.pop(field) != value
    assert after == before


def test_diff_predicts_what_libvirt_then_says(host):
    change = host.plan(check_mode=True, **BASE, **TPM, networks=[{"network": "default", "mac": "52:54:00:aa:bb:cc"}])
    host.run(**BASE, **TPM, networks=[{"network": "default", "mac": "52:54:00:aa:bb:cc"}])
    predicted = {key: value for key, value in change.after.items() if key not in ("state", "machine", "loader")}
    found = host.described()
    assert {key: found[key] for key in predicted} == predicted


def test_interface_keeps_its_mac(host):
    host.run(**BASE, networks=[{"network": "default"}])
    mac = host.described()["networks"][0]["mac"]
    host.run(networks=[{"bridge": "br0"}])
    assert host.described()["networks"][0]["mac"] == mac


def test_passwords_survive_a_change(host):
    """libvirt leaves them out of what it shows; a definition without them would erase them."""
    host.run(**BASE, graphics="vnc")
    tree = host.tree()
    tree.find("devices/graphics").set("passwd", "secret12")
    host.daemon.defineXML(etree.tostring(tree, encoding="unicode"))
    change = host.plan(memory=96)
    change.apply()
    assert "passwd='secret12'" in host.domain().XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE)
    assert "secret12" not in repr([change.result(), change.diff()])


def test_defining_again_never_loses_tpm_or_nvram(host):
    host.run(**BASE, **TPM)
    before = host.described()
    host.run(memory=96)
    after = host.described()
    assert (after["tpm"], after["nvram"], after["loader"]) == (before["tpm"], before["nvram"], before["loader"])


def test_tpm_keeps_its_secret_where_the_option_does_not_say_it(host):
    host.run(**BASE, **TPM)
    host.run(tpm={"model": "tpm-tis"})
    assert host.described()["tpm"]["secret_uuid"] == SECRET


@pytest.mark.parametrize(
    "options, code",
    [
        ({"name": "web2"}, "vm_uuid_taken"),
        ({"uuid": OTHER}, "vm_name_taken"),
        ({"tpm": {}}, "tpm_unencrypted"),
        ({"memory": 96, "disks": [{"path": "/nowhere/a.qcow2", "size": "1G"}]}, "disk_create_failed"),
        ({"devices_xml": ["<watchdog"]}, "xml_invalid"),
        ({"devices_xml": ["<watchdog action='\ud800'/>"]}, "xml_invalid"),
        ({"console": {"path": "/tmp/a\x07"}}, "vm_options_invalid"),
        ({"networks": [{"bridge": "br\x000"}]}, "vm_options_invalid"),
        ({"devices_xml": ["<watchdog model='nosuch'/>"]}, "xml_invalid"),
        ({"architecture": "s390x", "secure_boot": True}, "firmware_not_found"),
    ],
)
def test_bad_input_changes_nothing(host, options, code):
    host.run(**BASE)
    assert host.refused(**options).code == code


@pytest.mark.parametrize(
    "options, code",
    [
        ({}, "vm_not_found"),
        ({"state": "running"}, "vm_not_found"),
        ({"vcpus": 1}, "vm_options_invalid"),
        ({"xml": "<domain"}, "xml_invalid"),
        ({"xml": "<network/>"}, "xml_invalid"),
        ({"xml": "<domain type='qemu'><name>x</name></domain>"}, "xml_invalid"),
        ({"name": None, "uuid": None}, "vm_options_invalid"),
    ],
)
def test_what_is_no_vm_yet(host, options, code):
    assert host.refused(**options).code == code


def test_new_vm_without_uuid_gets_one(host):
    change = host.plan(uuid=None, **BASE)
    change.apply()
    assert host.domain().UUIDString() == change.subject["uuid"]
    assert not host.plan(uuid=None, **BASE).changed


def test_failed_definition_takes_back_disks_and_volume(host):
    disk = os.path.join(host.root, "a.qcow2")
    bad = "<watchdog model='nosuch'/>"
    error = host.refused(**BASE, **TPM, disks=[{"path": disk, "size": "1M"}], devices_xml=[bad])
    assert error.code == "xml_invalid" and host.files() == []


USER_XML = """
<domain type='qemu'>
  <!-- as a user writes it -->
  <name>web1</name>
  <memory unit='GiB'>1</memory>
  <vcpu>2</vcpu>
  <os%s><type arch='x86_64' machine='q35'>hvm</type></os>
  <features><acpi/></features>
  <cpu mode='maximum'/>
  <devices>
    <interface type='network'><source network='default'/><model type='virtio'/></interface>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
  </devices>
</domain>
"""
EFI, PLAIN = USER_XML % " firmware='efi'", USER_XML % ""


@pytest.mark.parametrize("xml", [EFI, PLAIN], ids=["efi", "bios"])
@pytest.mark.parametrize("options", [{}, TPM, {"secure_boot": True}, {"nvram": {}}], ids=repr)
def test_users_xml_is_completed_and_stable(host, xml, options):
    if "nvram" in options:
        options = {"nvram": {"directory": host.root}}
    result = host.run(xml=xml, **options)
    tree = host.tree()
    assert result["outcome"] == "created" and tree.findtext("uuid") == VM
    assert (tree.find("devices/tpm") is not None) == ("tpm" in options)
    if options or xml is EFI:
        assert tree.find("os/loader").get("type") == "pflash" and tree.findtext("os/nvram")
        assert tree.find("os/loader").get("secure") == ("yes" if options.get("secure_boot") else "no")


def test_n8_users_xml_that_leaves_the_choice_open_gets_no_secure_boot(host):
    """libvirt by itself would take the firmware with Secure Boot and Microsoft's keys."""
    host.run(xml=EFI)
    assert not host.described()["secure_boot"] and host.plan(xml=EFI).result()["nvram"]["needed"] is False
    feature = "<os firmware='efi'><firmware><feature enabled='yes' name='secure-boot'/></firmware>"
    host.run(name="web2", uuid=OTHER, xml=EFI.replace("<os firmware='efi'>", feature).replace("web1", "web2"))
    assert host.tree("web2").find("os/loader").get("secure") == "yes"


@pytest.mark.parametrize(
    "old, new",
    [
        ("<memory unit='GiB'>1", "<memory unit='GiB'>1.5"),
        ("<memory unit='GiB'>1", "<memory unit='furlong'>1"),
        ("<memory unit='GiB'>1", "<memory>"),
        ("<vcpu>2", "<vcpu>two"),
        ("<source network='default'/>", "<source network='default'/></interface><disk><boot order='first'/></disk><interface type='user'>"),
        ("<vcpu>", "<uuid>../../etc</uuid><vcpu>"),
    ],
)
def test_users_xml_that_cannot_be_read_is_told_before_anything(host, old, new):
    assert old in EFI
    error = host.refused(xml=EFI.replace(old, new), **TPM)
    assert error.code == "xml_invalid" and "libvirt refused" not in str(error)


def test_units_are_libvirts_own():
    from ansible_collections.trustedvm.libvirt.plugins.module_utils._domain.description import kib

    def read(unit, number="1"):
        return kib(etree.fromstring("<memory unit='%s'>%s</memory>" % (unit, number)))

    assert [read(unit) for unit in ("KiB", "k", "MiB", "GiB", "PiB", "EiB")] == [1, 1, 1 << 10, 1 << 20, 1 << 40, 1 << 50]
    assert (read("KB", "1024"), read("bytes", "1"), read("b", "2048"), read("PB")) == (1000, 1, 2, 10**15 // 1024)


@pytest.mark.parametrize("encoding", ["utf-8", "ISO-8859-1"])
def test_encoding_that_an_xml_declares_is_no_hindrance(host, encoding):
    """What reaches the module is text, whatever the file was in."""
    declaration = "<?xml version='1.0' encoding='%s'?>\n" % encoding
    host.run(xml=declaration + EFI.strip().replace("<memory", "<title>Tür</title><memory"))
    assert host.tree().findtext("title") == "Tür"
    host.run(name="web2", uuid=OTHER, devices_xml=[declaration + "<watchdog model='i6300esb' action='reset'/>"], **BASE)


@pytest.mark.parametrize("text", [VM.upper(), VM.replace("-", ""), "\n%s " % VM])
def test_uuid_in_the_users_xml_in_any_notation_is_the_same_vm(host, text):
    xml = EFI.replace("<memory", "<uuid>%s</uuid><memory" % text)
    for options in ({}, {"uuid": None}):
        host.run(xml=xml, **TPM, **options)
    assert host.domain().UUIDString() == VM


def test_change_of_the_users_xml_is_seen_also_what_it_dropped(host):
    host.run(xml=EFI, **TPM)
    mac = host.described()["networks"][0]["mac"]
    nvram = host.described()["nvram"]
    assert host.run(xml=EFI.replace("<vcpu>2", "<vcpu>1"), **TPM)["outcome"] == "updated"
    without = EFI.replace("<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>", "")
    assert host.run(xml=without, **TPM)["outcome"] == "updated"
    assert host.tree().find("devices/channel") is None
    assert host.described()["networks"][0]["mac"] == mac and host.described()["nvram"] == nvram


def test_tpm_is_not_dropped_with_an_xml_that_has_none(host):
    host.run(xml=EFI, **TPM)
    host.run(xml=EFI.replace("<vcpu>2", "<vcpu>1"))
    assert host.described()["tpm"]["secret_uuid"] == SECRET


OWN_TPM = EFI.replace("<devices>", "<devices><tpm%s><backend type='emulator'%s</backend></tpm>")
ENCRYPTED = "><encryption secret='%s'/>" % SECRET


def test_vtpm_of_the_users_xml_gets_a_persistent_state_and_is_encrypted(host):
    assert host.refused(xml=OWN_TPM % ("", ">")).code == "tpm_unencrypted"
    host.run(xml=OWN_TPM % (" model='tpm-tis'", ENCRYPTED))
    tpm = host.described()["tpm"]
    assert (tpm["persistent_state"], tpm["secret_uuid"], tpm["model"]) == (True, SECRET, "tpm-tis")
    assert host.run(xml=OWN_TPM % ("", ">"))["outcome"] == "updated"
    assert host.described()["tpm"] == tpm, "what the XML leaves open stays, above all the secret"


def test_unencrypted_vtpm_of_the_users_xml_where_it_is_allowed(host):
    host.run(xml=OWN_TPM % ("", " persistent_state='no'>"), tpm={"allow_unencrypted": True})
    tpm = host.described()["tpm"]
    assert tpm["persistent_state"] and not tpm["encrypted"]
    assert host.refused(xml=OWN_TPM % ("", ">")).code == "tpm_unencrypted"


@pytest.mark.parametrize(
    "tpm, code",
    [
        ("<tpm model='tpm-tis'><backend type='emulator' version='1.2'/></tpm>", "tpm_version_differs"),
        ("<tpm model='tpm-tis'><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>", "vtpm_backend_differs"),
    ],
)
def test_vtpm_of_the_users_xml_is_no_other_than_the_vm_has(host, tpm, code):
    host.run(xml=EFI, **TPM)
    assert host.refused(xml=EFI.replace("<devices>", "<devices>" + tpm)).code == code


def test_vtpm_among_devices_xml_is_held_to_the_same_rules(host):
    device = "<tpm model='tpm-crb'><backend type='emulator'>%s</backend></tpm>"
    assert host.refused(devices_xml=[device % ""], **BASE).code == "tpm_unencrypted"
    host.run(devices_xml=[device % ENCRYPTED[1:]], **BASE)
    assert host.described()["tpm"]["persistent_state"] and host.described()["nvram"]


def test_vtpm_that_others_defined_gets_a_persistent_state_with_the_next_change(host):
    host.daemon.defineXML(EFI.replace("<devices>", "<devices><tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"))
    host.run(uuid=None, memory=96)
    tpm = host.described()["tpm"]
    assert tpm["persistent_state"] and not tpm["encrypted"]


def test_drift_from_the_users_xml_is_put_right(host):
    host.run(xml=EFI)
    tree = host.tree()
    tree.find("vcpu").text = "4"
    host.daemon.defineXML(etree.tostring(tree, encoding="unicode"))
    assert host.run(xml=EFI)["outcome"] == "updated"
    assert host.described()["vcpus"] == 2


def test_marks_survive_a_new_definition(host):
    from ansible_collections.trustedvm.libvirt.plugins.module_utils._domain.metadata import set_marks

    host.run(xml=EFI, **TPM)
    set_marks(host.domain(), host.tree(), tpm_state=True, nvram=True)
    host.run(xml=EFI.replace("<vcpu>2", "<vcpu>1"), **TPM)
    marks = read_marks(host.tree())
    assert marks.tpm_state and marks.nvram


def test_notes_of_others_survive_a_new_definition(host):
    """As the one that says which reset a vTPM has had: without it the next run would reset it again."""
    host.run(xml=EFI, **TPM)
    host.domain().setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, "<reset id='7'/>", "other", "urn:other", libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    host.run(xml=EFI.replace("<vcpu>2", "<vcpu>1"), **TPM)
    assert host.tree().find("metadata/{urn:other}reset").get("id") == "7"
    host.run(memory=None, xml=EFI.replace("<vcpu>2", "<vcpu>3"), **TPM)
    assert host.tree().find("metadata/{urn:other}reset").get("id") == "7"


def test_name_and_uuid_of_xml_and_options_must_agree(host):
    assert host.refused(name="web2", xml=EFI).code == "vm_options_invalid"
    assert host.refused(uuid=OTHER, xml=EFI.replace("<memory", "<uuid>%s</uuid><memory" % VM)).code == "vm_options_invalid"


def test_xml_that_libvirt_refuses_says_so_in_its_words(host):
    error = host.refused(xml=EFI.replace("<vcpu>2</vcpu>", "<vcpu>2</vcpu><nonsense/>"))
    assert error.code == "xml_invalid" and "nonsense" in str(error)


def test_loader_and_nvram_of_the_user_are_taken(host):
    options = {"loader": "/usr/share/OVMF/OVMF_CODE_4M.fd", "nvram": {"path": host.root + "/own", "template": "/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd"}}
    if not os.path.exists(options["nvram"]["template"]):
        pytest.skip("no such firmware here")
    result = host.run(**BASE, **TPM, **options)
    assert result["nvram"]["path"] == host.root + "/own"
    with open(host.root + "/own", "rb") as own, open(options["nvram"]["template"], "rb") as template:
        assert own.read() == template.read()


def test_existing_domain_whose_firmware_libvirt_chooses_keeps_it(host):
    """Its variables are in a file that the definition does not name (libvirt 9.0)."""
    host.daemon.defineXML(EFI)
    host.run(uuid=None, memory=96)
    assert host.tree().find("os").get("firmware") == "efi"


@pytest.mark.parametrize("written, rebuilt", [(False, True), (True, False)], ids=["never used", "written to"])
def test_secure_boot_turned_on_brings_its_keys_into_a_volume_that_was_never_used(host, written, rebuilt):
    path = os.path.join(host.root, "vars.fd")
    host.run(**BASE, **TPM, nvram={"path": path})
    if written:
        with open(path, "r+b") as stream:
            stream.write(b"\x01")
    with open(path, "rb") as stream:
        before = stream.read()
    result = host.run(secure_boot=True)
    assert result["nvram"]["action"] == ("rebuild" if rebuilt else "use")
    with open(path, "rb") as stream, open(host.tree().find("os/nvram").get("template"), "rb") as template:
        assert stream.read() == (template.read() if rebuilt else before)


def test_users_xml_that_libvirt_puts_into_other_words_is_stable(host):
    """current='2' of 2 is left out of what libvirt shows; the digest of the user's text has to do."""
    own = EFI.replace("<vcpu>2", "<vcpu placement='static' current='2'>2")
    host.run(xml=own, **TPM)
    assert read_marks(host.tree()).rewritten and host.tree().find("vcpu").get("current") is None
    assert host.run(xml=own.replace("maximum", "host-model"), **TPM)["outcome"] == "updated"
    # Our own part is compared all the same.
    assert host.run(xml=own.replace("maximum", "host-model"), secure_boot=True, **TPM)["firmware"]["secure_boot"]
