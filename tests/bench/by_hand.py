# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a person types to move one VM with an encrypted vTPM; copied to the source and run there.

    by_hand.py VM DESTINATION

Prints the seconds of all calls, and of ``virsh migrate`` alone.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from xml.etree import ElementTree


def virsh(*arguments, text=None):
    done = subprocess.run(["virsh", "-q", *arguments], input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit("virsh %s: %s" % (" ".join(arguments), done.stderr))
    return done.stdout


def main():
    vm, destination = sys.argv[1:]
    there = "qemu+tls://%s/system" % destination
    started = time.monotonic()
    domain = ElementTree.fromstring(virsh("dumpxml", vm))
    secret = domain.find("devices/tpm/backend/encryption").get("secret")
    nvram = domain.findtext("os/nvram").strip()
    definition = "/run/by-hand-secret.xml"
    with open(definition, "w", encoding="utf-8") as stream:
        stream.write(virsh("secret-dumpxml", secret))
    with open("/etc/libvirt/secrets/%s.base64" % secret, encoding="utf-8") as stream:
        value = stream.read()
    with open("/run/by-hand-value", "wb") as stream:
        stream.write(base64.b64decode(value))
    virsh("-c", there, "secret-define", definition)
    virsh("-c", there, "secret-set-value", secret, "--file", "/run/by-hand-value", "--plain")
    os.unlink("/run/by-hand-value")
    before = time.monotonic()
    virsh("migrate", "--live", "--p2p", "--tls", "--persistent", "--undefinesource", "--unsafe", vm, there)
    bare = time.monotonic() - before
    virsh("secret-undefine", secret)
    os.unlink(nvram)
    shutil.rmtree("/var/lib/libvirt/swtpm/" + domain.findtext("uuid"), ignore_errors=True)
    print(json.dumps({"all": time.monotonic() - started, "bare": bare}))


if __name__ == "__main__":
    main()
