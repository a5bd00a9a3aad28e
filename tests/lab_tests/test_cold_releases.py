# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cold migration between libvirt 9.0 (bookworm), 11.3 (trixie) and 12.8 (forky), forth and back."""

from __future__ import annotations

import base64
import time

import pytest
from ansible_collections.trustedvm.libvirt.tests.lab_tests.conftest import Vm, prepared_lab

pytestmark = pytest.mark.lab

RELEASES = {"colb": "bookworm", "colt": "trixie", "colf": "forky"}
OS_XML = {
    "autoselect": "<os firmware='efi'><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>",
    "explicit": "<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type>"
    "<loader readonly='yes' secure='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.ms.fd</loader>"
    "<nvram template='/usr/share/OVMF/OVMF_VARS_4M.ms.fd'>{nvram}</nvram></os>",
}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    """A host of each release."""
    with prepared_lab(tmp_path_factory.mktemp("releases"), RELEASES) as made:
        yield made


class ReleaseVm(Vm):
    """With a machine type that all three have, and one of the two ways to name the firmware."""

    firmware = "autoselect"

    def xml(self, disk, nvram):
        text = super().xml(disk, nvram)
        start, end = text.index("<os "), text.index("</os>") + len("</os>")
        return text[:start] + OS_XML[self.firmware].format(nvram=self.nvram) + text[end:]

    def sums(self, host):
        return self.lab.script(host, "sha256sum %s %s/tpm2/tpm2-00.permall | cut -c1-64" % (self.nvram, self.tpm)).splitlines()

    def use(self, host):
        """Start it until its firmware has used the TPM."""
        before = self.lab.script(host, "sha256sum < %s/tpm2/tpm2-00.permall 2>/dev/null || true" % self.tpm)
        self.lab.on(host, "virsh", "-q", "start", self.name)
        ended = time.monotonic() + 120
        while self.lab.script(host, "sha256sum < %s/tpm2/tpm2-00.permall" % self.tpm) == before:
            assert time.monotonic() < ended, "its firmware comes up"
            time.sleep(0.5)
        self.lab.on(host, "virsh", "-q", "destroy", self.name)


@pytest.mark.parametrize("firmware", sorted(OS_XML))
@pytest.mark.parametrize("way", ["colb colt colf", "colt colb"])
def test_state_arrives_and_is_used(fleet, way, firmware):
    hosts = way.split()
    vm = ReleaseVm(fleet, hosts)
    vm.firmware = firmware
    key = base64.b64encode(vm.key.encode()).decode()
    try:
        vm.define_secret(hosts[0])
        fleet.write(hosts[0], "/run/vm.xml", vm.xml(None, None))
        fleet.script(hosts[0], "virsh -q define /run/vm.xml")
        vm.use(hosts[0])
        for source, destination in zip(hosts, hosts[1:]):
            before = vm.sums(source)
            vm.define_secret(destination)
            item = vm.migrate(source=source, destination=destination, mode="auto", value=key, clean_source=True)["item"]
            assert item["outcome"] == "migrated", item["msg"]
            assert vm.sums(destination) == before == [item["digests"]["nvram"], item["digests"]["tpm_state"]]
            assert item["source_leftovers"] == [], item
            vm.use(destination)
            assert vm.sums(destination)[1] != before[1]
    finally:
        vm.remove()


def test_a_tpm_that_the_older_release_cannot_read_goes_nowhere(fleet):
    """swtpm 0.10 gives a new TPM a profile, and writes its state as libtpms 0.9 does not know it."""
    vm = ReleaseVm(fleet, ["colf", "colb"])
    try:
        vm.define_secret("colf")
        fleet.write("colf", "/run/vm.xml", vm.xml(None, None))
        fleet.script("colf", "virsh -q define /run/vm.xml")
        vm.use("colf")
        vm.define_secret("colb")
        before = vm.sums("colf")
        item = vm.migrate(source="colf", destination="colb", mode="auto")["item"]
        assert item["error_code"] == "destination_libvirt_too_old" and "profile" in item["msg"]
        assert vm.sums("colf") == before and fleet.state("colb", vm.name) == "absent"
    finally:
        vm.remove()
