# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""What the destination lacks for a VM, and what libvirt would not let go: all told before anything moves."""

import os

import libvirt
import pytest
from lxml import etree
from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.errors import TrustedVMError
from ansible_collections.trustedvm.libvirt.plugins.module_utils._migration import obstacles_storage
from ansible_collections.trustedvm.libvirt.plugins.module_utils._migration.destination import Destinations
from ansible_collections.trustedvm.libvirt.plugins.module_utils._migration.machine import read_machine
from ansible_collections.trustedvm.libvirt.plugins.module_utils._migration.obstacles_host import host_obstacles
from ansible_collections.trustedvm.libvirt.plugins.module_utils._migration.planner import MigrationPlanner
from ansible_collections.trustedvm.libvirt.plugins.module_utils._migration.survey import Survey
from ansible_collections.trustedvm.libvirt.tests.unit.plugins.module_utils._migration.fake_resources import (
    GIB,
    Active,
    NamedPool,
    NodeDevice,
)
from ansible_collections.trustedvm.libvirt.tests.unit.plugins.module_utils._migration.fakes import libvirt_error, options

NO_DRIVER = libvirt_error(libvirt.VIR_ERR_NO_SUPPORT, "this function is not supported by the connection driver")
PCI = (
    "<hostdev mode='subsystem' type='pci' managed='yes'>%s<source>"
    "<address domain='0x0000' bus='0x03' slot='0x00' function='0x1'/></source></hostdev>"
)
MDEV = (
    "<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source>"
    "<address uuid='c2177883-f1bb-47f0-914d-32a22e3a8804'/></source></hostdev>"
)
USB = (
    "<hostdev mode='subsystem' type='usb'><source%s><vendor id='0x0951'/><product id='0x1666'/>"
    "<address bus='1' device='4'/></source></hostdev>"
)
VF = "<interface type='hostdev'>%s<source><address type='pci' domain='0x0000' bus='0x03' slot='0x00' function='0x1'/></source></interface>"
TEAMING = "<teaming type='transient' persistent='ua-backup'/>"
STICK = "<device><capability type='usb_device'><product id='0x1666'/><vendor id='0x0951'/></capability></device>"


@pytest.fixture(autouse=True)
def no_qemu_conf(tmp_path, monkeypatch):
    """This machine's own libvirt does not matter."""
    monkeypatch.setattr(obstacles_storage, "QEMU_CONF", str(tmp_path / "qemu.conf"))
    return tmp_path / "qemu.conf"


@pytest.fixture(params=["live", "cold"])
def either(request, pair):
    """A VM that runs, and one that is off."""
    if request.param == "cold":
        pair.vm.now = (5, 1)
    return pair


def add(pair, device):
    pair.vm.xml = pair.vm.xml.replace("</devices>", device + "</devices>")


def replace(pair, old, new):
    assert old in pair.vm.xml
    pair.vm.xml = pair.vm.xml.replace(old, new)


def told(pair, **given):
    """The codes of all obstacles, none where the migration may begin."""
    return [error["error_code"] for error in obstacles(pair, **given)]


def obstacles(pair, **given):
    """Each as the result of an item tells it, the first cause first."""
    before = files(pair)
    try:
        MigrationPlanner(pair.source, Destinations(pair.connect), True).plan(options(**{"mode": "auto", **given}))
        return []
    except TrustedVMError as error:
        found = error.details.get("obstacles") or [{**error.as_result(), "hint": error.hint}]
        assert found[0]["error_code"] == error.code, "the first is the one to report"
        assert all("hv2" in one["msg"] or "hv1" in one["msg"] for one in found) and all(one["hint"] for one in found)
        return found
    finally:
        assert files(pair) == before, "a preflight leaves nothing"
        assert all(pool.destroyed for pool in pair.destination.pools)


def lacking(pair):
    """What host_obstacles tells of the VM, whether it runs or is off."""
    survey = Survey(pair.source, "hv1", destination=pair.destination, destination_host="hv2", here=pair.vm)
    survey.machine = read_machine(etree.fromstring(pair.vm.xml), None)
    before = files(pair)
    found = host_obstacles(survey)
    assert files(pair) == before, "a preflight leaves nothing"
    assert all("web1" in one.message and "hv2" in one.message and one.found and one.wanted and one.hint for one in found)
    return found


def codes_of(found):
    return [one.code for one in found]


def files(pair):
    return sorted(os.path.join(place, name) for host in (pair.source, pair.destination) for place, _d, names in os.walk(host.root) for name in names)


def test_nothing_speaks_against_it(either):
    assert told(either) == [] and lacking(either) == []


# Networks and interfaces


@pytest.mark.parametrize(
    "interface, attribute, value, code",
    [
        ("<interface type='network'><source network='lan'/></interface>", "networks", {}, "destination_network_missing"),
        ("<interface type='network'><source network='lan'/></interface>", "networks", {"lan": 0}, "destination_network_inactive"),
        ("<interface type='network'><source network='lan'/></interface>", "networks", {"lan": 1}, None),
        ("<interface type='network'><source network='lan'/></interface>", "networks", NO_DRIVER, None),
        # As the live XML shows a network that lends a bridge.
        ("<interface type='bridge'><source network='lan' bridge='br9'/></interface>", "networks", {"lan": 1}, None),
        ("<interface type='bridge'><source bridge='br0'/></interface>", "interfaces", ["lo"], "destination_bridge_missing"),
        ("<interface type='bridge'><source bridge='br0'/></interface>", "interfaces", ["lo", "br0"], None),
        ("<interface type='bridge'><source bridge='br0'/></interface>", "interfaces", NO_DRIVER, None),
        ("<interface type='direct'><source dev='eno1' mode='bridge'/></interface>", "interfaces", ["lo"], "destination_interface_missing"),
        ("<interface type='direct'><source dev='eno1' mode='bridge'/></interface>", "interfaces", ["eno1"], None),
        ("<interface type='user'/>", "interfaces", [], None),
    ],
)
def test_sources_of_interfaces(either, interface, attribute, value, code):
    add(either, interface)
    setattr(either.destination, attribute, value)
    assert codes_of(lacking(either)) == ([code] if code else [])


def test_two_interfaces_on_one_bridge_are_one_obstacle(pair):
    for _number in range(2):
        add(pair, "<interface type='bridge'><source bridge='br0'/></interface>")
    (one,) = obstacles(pair)
    assert "Host hv2 lacks the bridge 'br0' of VM 'web1'" in one["msg"] and "as on hv1" in one["msg"]


def test_a_bridge_that_only_the_node_devices_show(pair):
    """libvirt with netcf knows the interfaces of the network configuration only."""
    add(pair, "<interface type='bridge'><source bridge='br-lan0'/></interface>")
    pair.destination.node_devices = [NodeDevice("net_br_lan0_52_54_00_00_00_01")]
    assert told(pair) == []


# Devices of the host


@pytest.mark.parametrize(
    "device, qemu, codes",
    [
        (PCI % "", 7002000, ["host_device_not_migratable", "destination_host_device_missing"]),
        (VF % "", 7002000, ["host_device_not_migratable", "destination_host_device_missing"]),
        (MDEV, 7002000, ["host_device_not_migratable", "destination_host_device_missing"]),
        (PCI % TEAMING, 7002000, ["destination_host_device_missing"]),
        (VF % TEAMING, 7002000, ["destination_host_device_missing"]),
        # Whether such a device can be migrated only QEMU knows, from 8.1.
        (PCI % "", 8001000, ["destination_host_device_missing"]),
        (USB % "", 7002000, ["destination_host_device_missing"]),
        (USB % " startupPolicy='optional'", 7002000, []),
    ],
)
def test_host_devices_of_a_vm_that_runs(pair, device, qemu, codes):
    pair.source.qemu_version = qemu
    add(pair, device)
    assert told(pair) == codes


@pytest.mark.parametrize("device", [PCI % "", VF % "", MDEV, USB % ""])
def test_host_devices_of_a_vm_that_is_off_must_be_there(pair, device):
    pair.vm.now = (5, 1)
    add(pair, device)
    assert codes_of(lacking(pair)) == ["destination_host_device_missing"]
    pair.destination.node_devices += [
        NodeDevice("pci_0000_03_00_1"),
        NodeDevice("mdev_c2177883_f1bb_47f0_914d_32a22e3a8804_0000_00_02_0"),
        NodeDevice("usb_1_4", STICK),
    ]
    assert lacking(pair) == []


def test_another_usb_device_does_not_count(pair):
    add(pair, USB % "")
    pair.destination.node_devices.append(NodeDevice("usb_1_2", STICK.replace("0951", "1d6b")))
    (one,) = obstacles(pair)
    assert "USB device 0951:1666" in one["msg"]


@pytest.mark.parametrize("answer", [[], NO_DRIVER])
def test_no_list_of_devices_proves_nothing(pair, answer):
    for device in (PCI % TEAMING, MDEV, USB % ""):
        add(pair, device)
    pair.source.qemu_version = 9000000
    pair.destination.node_devices = answer
    assert told(pair) == []


# What the VM is busy with


def test_snapshots(pair):
    pair.vm.snapshots = 2
    (one,) = obstacles(pair)
    assert one["error_code"] == "snapshots_exist" and "Found: 2 snapshots" in one["msg"]


def test_checkpoints_travel_with_a_vm_that_runs(pair):
    pair.vm.checkpoints = ["daily"]
    assert told(pair) == []


def test_a_block_job(pair):
    with_disk(pair, pair.source.root + "/shared/web1.img", shared=True)
    pair.vm.block_jobs = ("vda",)
    (one,) = obstacles(pair, unsafe=True)
    assert one["error_code"] == "block_job_active" and "a job on vda" in one["msg"]


# Files that the VM writes


@pytest.mark.parametrize(
    "device",
    [
        "<serial type='file'><source path='%s/console.log'/></serial>",
        "<serial type='pty'><source path='/dev/pts/3'/><log file='%s/console.log' append='on'/></serial>",
        "<serial type='file'><source path='%s/a'/></serial><console type='file'><source path='%s/a'/></console>",
    ],
)
def test_the_directory_of_a_log(either, device):
    directory = either.source.root + "/only-here"
    add(either, device.replace("%s", directory))
    (one,) = lacking(either)
    assert one.code == "destination_log_directory_missing" and one.found == "no directory " + directory
    os.makedirs(either.destination.root + directory)
    assert lacking(either) == []


def test_devices_are_never_opened_to_look_for_a_directory(pair):
    add(pair, "<serial type='file'><source path='/dev/null'/></serial>")
    assert told(pair) == [] and "/dev" not in [pool.directory for pool in pair.destination.pools]


def test_a_directory_that_cannot_be_looked_at_is_no_obstacle(pair):
    add(pair, "<serial type='file'><source path='/srv/logs/web1'/></serial>")
    pair.destination.pool_error = libvirt_error(libvirt.VIR_ERR_ACCESS_DENIED, "access denied")
    assert told(pair, tpm_state_sharing="local") == []


# Memory, virtual CPUs, releases


@pytest.mark.parametrize(
    "current, rss, stats, codes",
    [
        (40, 36, {"free": 8 * GIB}, ["destination_memory_short"]),
        (40, 36, {"free": 8 * GIB, "buffers": 2 * GIB, "cached": 30 * GIB}, []),
        # It has 40 GiB, but never wrote to most of them.
        (40, 4, {"free": 8 * GIB}, []),
        # Within the margin.
        (40, 36, {"free": 33 * GIB}, []),
        (200, 4, {"free": 60 * GIB}, ["destination_memory_short"]),
        # What QEMU holds beyond the guest's memory does not count.
        (4, 36, {"free": 5 * GIB}, []),
        (40, NO_DRIVER, {"free": 8 * GIB}, ["destination_memory_short"]),
    ],
)
def test_memory_of_a_vm_that_runs(pair, current, rss, stats, codes):
    replace(pair, "<memory unit='KiB'>131072</memory>", "<memory unit='KiB'>%d</memory>" % (current * GIB))
    pair.vm.rss = rss if isinstance(rss, Exception) else rss * GIB
    pair.destination.memory = {"total": 64 * GIB, "buffers": 0, "cached": 0, **stats}
    assert told(pair) == codes


def test_memory_of_a_vm_that_is_off_must_only_fit_into_the_host(pair):
    pair.vm.now = (5, 1)
    replace(pair, "131072</memory>", "%d</memory><currentMemory unit='KiB'>%d</currentMemory>" % (128 * GIB, 60 * GIB))
    pair.destination.memory["free"] = GIB
    assert lacking(pair) == []
    replace(pair, "<currentMemory unit='KiB'>%d</currentMemory>" % (60 * GIB), "")
    (one,) = lacking(pair)
    assert (one.code, one.found, one.wanted) == ("destination_memory_short", "65536 MiB in all", "131072 MiB")


def test_huge_pages_are_not_in_what_is_free(pair):
    replace(pair, "<memory unit='KiB'>131072</memory>", "<memory unit='KiB'>%d</memory><memoryBacking><hugepages/></memoryBacking>" % (8 * GIB))
    pair.vm.rss = 8 * GIB
    pair.destination.memory["free"] = GIB
    assert told(pair) == []


def test_memory_that_is_not_told(pair):
    pair.destination.memory = NO_DRIVER
    assert told(pair) == []


@pytest.mark.parametrize("limit, codes", [(8, []), (4, ["destination_vcpu_limit"]), (None, [])])
def test_more_virtual_cpus_than_the_destination_can_give(either, limit, codes):
    replace(either, "<os>", "<vcpu placement='static' current='2'>8</vcpu><os>")
    either.destination.vcpu_limit = limit
    assert told(either) == codes


@pytest.mark.parametrize(
    "element, version, told_codes",
    [
        ("<profile name='default-v1'/>", 9000000, ["destination_libvirt_too_old"]),
        ("<profile name='default-v1'/>", 10010000, []),
        # What libtpms 0.9 does.
        ("<profile name='null'/>", 9000000, []),
        ("<source type='dir' path='/srv/tpm/web1'/>", 10009000, ["destination_libvirt_too_old"]),
        ("<active_pcr_banks><sha256/></active_pcr_banks>", 9000000, []),
        ("<active_pcr_banks><sha256/></active_pcr_banks>", 7009000, ["destination_libvirt_too_old"]),
    ],
)
def test_what_the_destinations_libvirt_would_ignore(pair, element, version, told_codes):
    replace(pair, "</backend>", element + "</backend>")
    pair.destination.libvirt_version = version
    assert told(pair, tpm_state_sharing="local") == told_codes


def test_everything_that_is_too_new_is_told_in_one(pair):
    replace(pair, "</backend>", "<profile name='custom:web'/><source type='file' path='/srv/tpm'/></backend>")
    (one,) = obstacles(pair, tpm_state_sharing="local")
    assert "Found: libvirt 9.0.0" in one["msg"] and "libvirt 10.10.0 for" in one["msg"]
    assert "<profile name='custom:web'>" in one["msg"] and "<source path='/srv/tpm'>" in one["msg"]


# Disks of a VM that runs


def with_disk(pair, path, shared=False, device="disk", more=""):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as stream:
        stream.write(b"disk")
    if shared:
        pair.share(os.path.dirname(path))
    add(pair, "<disk type='file' device='%s'><source file='%s'/><target dev='vda'/>%s</disk>" % (device, path, more))
    return path


def disk_path(pair):
    return pair.source.root + "/images/web1.img"


@pytest.mark.parametrize("unsafe", [True, False])
def test_a_disk_that_the_destination_lacks(pair, unsafe):
    with_disk(pair, disk_path(pair))
    assert told(pair, unsafe=unsafe) == ["disk_not_on_destination"]
    os.makedirs(pair.destination.root + os.path.dirname(disk_path(pair)))
    assert told(pair, unsafe=unsafe) == ["disk_not_on_destination"]


def test_a_local_disk_that_libvirt_would_refuse(pair, no_qemu_conf):
    """Its error 81, told before a secret is defined."""
    with_disk(pair, disk_path(pair), shared=True)
    (one,) = obstacles(pair)
    assert one["error_code"] == "storage_not_shared" and "unsafe=true" in one["msg"] and disk_path(pair) in one["msg"]
    assert told(pair, unsafe=True) == []
    no_qemu_conf.write_text("#shared_filesystems = []\n")
    assert told(pair) == ["storage_not_shared"]
    no_qemu_conf.write_text('shared_filesystems = [ "/srv" ]\n')
    assert told(pair) == [], "libvirt may know better"


def test_a_disk_on_a_network_file_system(pair, monkeypatch):
    monkeypatch.setattr(obstacles_storage, "filesystem_type", lambda path: "nfs4")
    with_disk(pair, disk_path(pair), shared=True)
    assert told(pair) == []
    pair.destination.directories.clear()
    assert told(pair) == ["disk_not_on_destination"], "it is not mounted there"


def test_another_disk_of_the_same_name_is_never_taken_for_the_vms(pair):
    with_disk(pair, disk_path(pair))
    pair.own_copy(disk_path(pair))
    assert told(pair) == ["storage_not_shared"]
    assert told(pair, unsafe=True) == ["disk_not_shared"]


def test_a_link_may_lead_to_shared_storage(pair):
    with_disk(pair, disk_path(pair))
    os.rename(disk_path(pair), pair.source.root + "/elsewhere.img")
    os.symlink(pair.source.root + "/elsewhere.img", disk_path(pair))
    pair.own_copy(disk_path(pair))
    assert told(pair, unsafe=True) == []


@pytest.mark.parametrize("device, more", [("cdrom", "<readonly/>"), ("disk", "<readonly/>")])
def test_a_medium_may_be_a_copy_but_must_be_there(pair, device, more):
    path = with_disk(pair, disk_path(pair), device=device, more=more)
    assert told(pair) == ["disk_not_on_destination"]
    pair.own_copy(path)
    assert told(pair) == []


@pytest.mark.parametrize(
    "disk",
    [
        "<disk type='file' device='cdrom'><target dev='sda'/><readonly/></disk>",
        "<disk type='file' device='cdrom'><source file='/gone.iso' startupPolicy='optional'/><target dev='sda'/><readonly/></disk>",
        "<disk type='network' device='disk'><source protocol='rbd' name='pool/web1'/><target dev='vda'/></disk>",
        "<disk type='block' device='disk'><source dev='/dev/vg/web1'/><target dev='vda'/></disk>",
    ],
)
def test_what_cannot_be_told_of_a_disk_is_no_obstacle(pair, disk):
    add(pair, disk)
    assert told(pair) == []


def test_a_backing_file_that_the_destination_lacks(pair):
    base = pair.source.root + "/base/debian.qcow2"
    os.makedirs(os.path.dirname(base))
    with_disk(
        pair,
        disk_path(pair),
        shared=True,
        more="<backingStore type='file'><format type='qcow2'/><source file='%s'/><backingStore/></backingStore>" % base,
    )
    (one,) = obstacles(pair, unsafe=True)
    assert one["error_code"] == "disk_not_on_destination" and "backing file " + base in one["msg"]
    pair.own_copy(base)
    assert told(pair, unsafe=True) == []


def with_volume(pair, here=None, there=None):
    add(pair, "<disk type='volume' device='disk'><source pool='fast' volume='web1'/><target dev='vda'/></disk>")
    pair.source.named_pools["fast"] = here or NamedPool("rbd", {"web1": "fast/web1"})
    if there is not None:
        pair.destination.named_pools["fast"] = there


@pytest.mark.parametrize(
    "there, codes",
    [
        (None, ["disk_not_on_destination"]),
        (NamedPool("rbd", {}), ["disk_not_on_destination"]),
        (NamedPool("rbd", {"web1": "fast/web1"}, active=False), ["destination_pool_inactive"]),
        (NamedPool("rbd", {"web1": "fast/web1"}), []),
    ],
)
def test_volumes_of_a_pool(pair, there, codes):
    with_volume(pair, there=there)
    assert told(pair) == codes


def test_a_volume_in_a_local_directory(pair):
    path = disk_path(pair)
    os.makedirs(os.path.dirname(path))
    with_volume(pair, NamedPool("dir", {"web1": path}), NamedPool("dir", {"web1": path}))
    pair.own_copy(path)
    assert told(pair) == ["storage_not_shared"]


# All at once, and no question that goes wrong hides another


def test_everything_is_told_at_once(pair):
    with_disk(pair, disk_path(pair))
    add(pair, "<interface type='bridge'><source bridge='br0'/></interface>")
    add(pair, "<serial type='file'><source path='/only-here/web1.log'/></serial>")
    add(pair, PCI % "")
    replace(pair, "131072</memory>", "%d</memory><vcpu>300</vcpu>" % (100 * GIB))
    replace(pair, "</backend>", "<profile name='default-v1'/></backend>")
    pair.vm.snapshots = 1
    pair.destination.vcpu_limit = 288
    pair.destination.secrets.clear()
    pair.destination.loaders = []
    assert told(pair) == [
        "destination_secret_missing",
        "destination_firmware_missing",
        "destination_vcpu_limit",
        "snapshots_exist",
        "host_device_not_migratable",
        "disk_not_on_destination",
        "destination_libvirt_too_old",
        "destination_memory_short",
        "destination_bridge_missing",
        "destination_host_device_missing",
        "destination_log_directory_missing",
    ]


def test_a_question_without_an_answer_is_told_among_the_others(pair, monkeypatch):
    def broken(*arguments):
        raise libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR, "internal error: client socket is closed")

    pair.destination.secrets.clear()
    monkeypatch.setattr(pair.vm, "jobInfo", broken)
    pair.destination.libvirt_version = libvirt_error(libvirt.VIR_ERR_RPC, "Cannot recv data")
    found = obstacles(pair)
    assert [one["error_code"] for one in found] == ["preflight_incomplete", "destination_secret_missing", "preflight_incomplete"]
    assert "client socket is closed" in found[0]["msg"] and "Cannot recv data" in found[2]["msg"]


def test_no_answer_to_a_question_that_only_spares_an_attempt_is_no_obstacle(pair, monkeypatch):
    def broken(*arguments):
        raise libvirt_error(libvirt.VIR_ERR_OPERATION_DENIED, "access denied")

    with_volume(pair, there=NamedPool("rbd", {"web1": "fast/web1"}))
    add(pair, USB % "")
    add(pair, "<interface type='network'><source network='lan'/></interface>")
    for owner, name in (
        (pair.vm, "snapshotNum"),
        (pair.vm, "blockJobInfo"),
        (pair.vm, "memoryStats"),
        (pair.destination, "listAllDevices"),
        (pair.destination, "networkLookupByName"),
        (pair.destination, "getMemoryStats"),
        (Active, "isActive"),
    ):
        monkeypatch.setattr(owner, name, broken)
    assert told(pair) == []
