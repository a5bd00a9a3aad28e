# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The same work as raw libvirt-python calls in one process; copied to a host and run there.

    raw.py ACTION KIND FILE

ACTION is first, second or clean; FILE holds the items. Prints the seconds from before libvirt is
opened until it is closed; the start of Python does not count.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import sys
import time
import uuid

import libvirt

NVRAM_DIRECTORY = "/srv/local/bench-nvram"
SAVED = "/run/bench-domains.json"


def secrets_first(connection, items):
    for item in items:
        secret = connection.secretDefineXML(
            "<secret ephemeral='no' private='yes'><uuid>%s</uuid><usage type='vtpm'><name>%s</name></usage></secret>"
            % (item["uuid"], item["usage"])
        )
        secret.setValue(base64.b64decode(item["value"]))


def secrets_second(connection, items):
    """A private value cannot be read over libvirt, so only the definitions are compared."""
    found = {secret.UUIDString(): secret for secret in connection.listAllSecrets()}
    for item in items:
        assert item["usage"] in found[item["uuid"]].XMLDesc(0)


def secrets_clean(connection, items):
    for secret in connection.listAllSecrets():
        if secret.UUIDString() in {item["uuid"] for item in items}:
            secret.undefine()


def _pool(connection):
    os.makedirs(NVRAM_DIRECTORY + "-raw", exist_ok=True)
    return connection.storagePoolCreateXML(
        "<pool type='dir'><name>bench-raw</name><target><path>%s-raw</path></target></pool>" % NVRAM_DIRECTORY, 0
    )


def nvram_first(connection, items):
    pool = _pool(connection)
    for item in items:
        with open(item["template"], "rb") as stream:
            content = stream.read()
        volume = pool.createXML(
            "<volume><name>%s</name><capacity unit='bytes'>%d</capacity><target><format type='raw'/>"
            "<permissions><mode>0600</mode></permissions></target></volume>" % (os.path.basename(item["path"]), len(content)),
            0,
        )
        upload = connection.newStream(0)
        volume.upload(upload, 0, len(content), 0)
        for start in range(0, len(content), 262120):
            upload.send(content[start : start + 262120])
        upload.finish()
    pool.destroy()


def nvram_second(connection, items):
    pool = _pool(connection)
    found = {volume.name(): volume for volume in pool.listAllVolumes()}
    for item in items:
        assert found[os.path.basename(item["path"])].info()[1] == os.path.getsize(item["template"])
    pool.destroy()


def nvram_clean(connection, items):
    for directory in (NVRAM_DIRECTORY, NVRAM_DIRECTORY + "-raw"):
        shutil.rmtree(directory, ignore_errors=True)
    # Our module makes a VM's directory, not the storage.
    os.makedirs(NVRAM_DIRECTORY)


def domains_save(connection, items):
    """Keep the definitions that our module made, to define exactly the same by raw calls."""
    found = {domain.UUIDString(): domain for domain in connection.listAllDomains()}
    saved = {item["uuid"]: found[item["uuid"]].XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE) for item in items}
    with open(SAVED, "w", encoding="utf-8") as stream:
        json.dump(saved, stream)


def domains_first(connection, items):
    with open(SAVED, encoding="utf-8") as stream:
        saved = json.load(stream)
    for item in items:
        connection.defineXML(saved[item["uuid"]])


def domains_second(connection, items):
    with open(SAVED, encoding="utf-8") as stream:
        saved = json.load(stream)
    found = {domain.UUIDString(): domain for domain in connection.listAllDomains()}
    for item in items:
        assert found[item["uuid"]].XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE) == saved[item["uuid"]]


def domains_clean(connection, items):
    wanted = {item["uuid"] for item in items}
    flags = libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_KEEP_TPM
    for domain in connection.listAllDomains():
        if domain.UUIDString() in wanted:
            domain.undefineFlags(flags)


def main():
    action, kind, path = sys.argv[1:]
    with open(path, encoding="utf-8") as stream:
        items = json.load(stream)
    work = globals()["%s_%s" % (kind.split("_")[0], action)]
    started = time.monotonic()
    connection = libvirt.open("qemu:///system")
    work(connection, items)
    connection.close()
    print(json.dumps({"seconds": time.monotonic() - started, "run": str(uuid.uuid4())}))


if __name__ == "__main__":
    main()
