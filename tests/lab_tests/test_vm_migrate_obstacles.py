# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What speaks against a migration, as real libvirt tells it: before anything moves, and all at once."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.lab

SOURCE, DESTINATION = "mig1", "mig2"
CONSOLE = "/srv/local/only-here/console.log"


def start(vm, devices="", disk=None, xml=lambda text: text):
    """The firmware-only VM with more devices; the destination has its secret."""
    vm.define_secret(SOURCE)
    vm.define_secret(DESTINATION)
    vm.lab.write(SOURCE, "/run/vm.xml", xml(vm.xml(disk, None).replace("</devices>", devices + "</devices>")))
    vm.lab.script(SOURCE, "virsh -q define /run/vm.xml; virsh -q start %s" % vm.name)


def refused(vm, **options):
    """The obstacles that a run tells, by code; check mode tells the same, and both leave the hosts as they were."""
    before = [hosts_files(vm, host) for host in (SOURCE, DESTINATION)]
    state = vm.lab.state(SOURCE, vm.name)
    answers = [vm.migrate(check=check, **options)["item"] for check in (True, False)]
    assert [hosts_files(vm, host) for host in (SOURCE, DESTINATION)] == before
    assert vm.lab.state(SOURCE, vm.name) == state and vm.lab.state(DESTINATION, vm.name) == "absent"
    predicted, told = [answer.get("obstacles") or [answer] for answer in answers]
    assert [one["msg"] for one in predicted] == [one["msg"] for one in told]
    return {one["error_code"]: one["msg"] for one in told}


def hosts_files(vm, host):
    """Pools, and files in the places that a preflight looks at."""
    script = "virsh -q pool-list --all --name; ls -A /srv/local /srv/shared /var/lib/libvirt/qemu/nvram %s %s 2>/dev/null || true"
    return vm.lab.script(host, script % (vm.tpm, CONSOLE.rsplit("/", 1)[0]))


def test_what_the_destination_lacks_is_told_at_once(vm):
    bridge = "<interface type='bridge'><source bridge='br-here'/><model type='virtio'/></interface>"
    network = "<interface type='network'><source network='only-here'/><model type='virtio'/></interface>"
    log = "<serial type='pty'><log file='%s' append='on'/></serial>" % CONSOLE
    disk = "/srv/local/%s.img" % vm.name
    lab = vm.lab
    try:
        lab.script(SOURCE, "mkdir -p %s; qemu-img create -q -f raw %s 8M" % (CONSOLE.rsplit("/", 1)[0], disk))
        lab.script(SOURCE, "ip link add name br-here type bridge; ip link set br-here up")
        lab.write(SOURCE, "/run/net.xml", "<network><name>only-here</name><bridge name='virbr-here'/></network>")
        lab.script(SOURCE, "virsh -q net-define /run/net.xml; virsh -q net-start only-here")
        start(vm, bridge + network + log, disk)
        assert list(refused(vm)) == [
            "disk_not_on_destination",
            "destination_bridge_missing",
            "destination_network_missing",
            "destination_log_directory_missing",
        ]
        lab.write(DESTINATION, "/run/net.xml", "<network><name>only-here</name><bridge name='virbr-here'/></network>")
        lab.script(DESTINATION, "virsh -q net-define /run/net.xml; ip link add name br-here type bridge")
        lab.script(DESTINATION, "mkdir -p %s; qemu-img create -q -f raw %s 8M" % (CONSOLE.rsplit("/", 1)[0], disk))
        assert list(refused(vm)) == ["storage_not_shared", "destination_network_inactive"]
        assert list(refused(vm, unsafe=True)) == ["disk_not_shared", "destination_network_inactive"]
        lab.script(DESTINATION, "rm %s; virsh -q net-start only-here; ip link set br-here up" % disk)
        assert list(refused(vm, unsafe=True)) == ["disk_not_on_destination"]
        lab.script(SOURCE, "virsh -q detach-disk %s vda --live; rm %s" % (vm.name, disk))
    finally:
        vm.remove()
        for host in (SOURCE, DESTINATION):
            lab.on(
                host,
                "sh",
                "-c",
                "virsh -q net-destroy only-here; virsh -q net-undefine only-here; ip link del br-here; rm -rf %s %s"
                % (disk, CONSOLE.rsplit("/", 1)[0]),
                check=False,
            )


def test_once_everything_is_there_the_vm_moves(vm):
    log = "<serial type='pty'><log file='%s' append='on'/></serial>" % CONSOLE
    directory = CONSOLE.rsplit("/", 1)[0]
    try:
        vm.lab.script(SOURCE, "mkdir -p " + directory)
        start(vm, log)
        assert list(refused(vm)) == ["destination_log_directory_missing"]
        vm.lab.script(DESTINATION, "mkdir -p " + directory)
        assert vm.migrate()["item"]["outcome"] == "migrated"
    finally:
        vm.remove()
        for host in (SOURCE, DESTINATION):
            vm.lab.on(host, "rm", "-rf", directory)


def test_snapshots_are_refused_and_checkpoints_travel(vm):
    """libvirt itself refuses the one, and takes the other."""
    disk = "/srv/shared/%s.qcow2" % vm.name
    vm.lab.on(SOURCE, "qemu-img", "create", "-q", "-f", "qcow2", disk, "8M")
    try:
        start(vm, disk=disk, xml=lambda text: text.replace("name='qemu' type='raw'", "name='qemu' type='qcow2'"))
        vm.lab.script(SOURCE, "virsh -q snapshot-create-as %s one --disk-only --diskspec vda,file=%s.one" % (vm.name, disk))
        assert list(refused(vm, unsafe=True)) == ["snapshots_exist"]
        libvirts = vm.lab.on(SOURCE, "sh", "-c", "virsh migrate --live --p2p --tls --unsafe %s qemu+tls://%s/system 2>&1; true" % (vm.name, DESTINATION))
        assert "cannot migrate domain with 1 snapshots" in libvirts
        vm.lab.script(SOURCE, "virsh -q snapshot-delete %s one --metadata; virsh -q checkpoint-create-as %s daily" % (vm.name, vm.name))
        assert vm.migrate(unsafe=True)["item"]["outcome"] == "migrated"
    finally:
        vm.remove()
        vm.lab.script(SOURCE, "rm -f %s %s.one" % (disk, disk))


def test_a_vm_that_is_off_and_that_the_destination_could_never_start(vm):
    """Its device, its network and its memory are not there; its saved memory would be left behind."""
    start(vm)
    vm.lab.script(SOURCE, "virsh -q managedsave " + vm.name)
    assert list(refused(vm, mode="cold")) == ["managed_save_exists"]
    vm.lab.script(SOURCE, "virsh -q managedsave-remove " + vm.name)
    pci = "<hostdev mode='subsystem' type='pci'><source><address domain='0x0' bus='0x7f' slot='0x1f' function='0x7'/></source></hostdev>"
    network = "<interface type='network'><source network='nowhere'/></interface>"
    xml = vm.lab.on(SOURCE, "virsh", "dumpxml", "--inactive", vm.name)
    for memory in ("<memory unit='KiB'>131072<", "<currentMemory unit='KiB'>131072<"):
        assert memory in xml
        xml = xml.replace(memory, memory.replace("KiB'>131072", "TiB'>4"))
    vm.lab.write(SOURCE, "/run/vm.xml", xml.replace("</devices>", pci + network + "</devices>"))
    vm.lab.script(SOURCE, "virsh -q define /run/vm.xml")
    told = refused(vm, mode="cold")
    assert list(told) == ["destination_memory_short", "destination_network_missing", "destination_host_device_missing"]
    assert "4194304 MiB" in told["destination_memory_short"]
    assert "PCI device 0000_7f_1f_7" in told["destination_host_device_missing"]


def test_a_firmware_and_a_secret_that_the_destination_lacks(vm):
    start(vm)
    vm.lab.script(DESTINATION, "virsh -q secret-undefine " + vm.secret)
    hidden = "/usr/share/qemu/firmware"
    vm.lab.script(DESTINATION, "mkdir -p /run/empty; mount --bind /run/empty " + hidden)
    try:
        assert list(refused(vm)) == ["destination_secret_missing", "destination_firmware_missing"]
    finally:
        vm.lab.script(DESTINATION, "umount " + hidden)
