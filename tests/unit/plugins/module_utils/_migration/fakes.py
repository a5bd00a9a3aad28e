# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Two hosts for tests of the migration: scripted, with libvirt's real error numbers and words."""

import os
import threading
from typing import Any, Callable, Optional
from xml.etree import ElementTree

import libvirt
from ansible_collections.trustedvm.libvirt.tests.unit.plugins.module_utils._migration.fake_resources import (
    DomainResources,
    HostResources,
)

VM_UUID = "0b0e1f5e-6c1c-4f5c-8a8e-6e2b7e0f6e11"
OTHER_UUID = "5d1b5f2a-0a4e-4c0f-9a39-0f8c36c7f6aa"
SECRET_UUID = "7a44b0a5-7a5d-5e0c-9c6a-0d8d54b6cc1f"
USAGE = "trustedvm:vtpm:" + VM_UUID
LOADER = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd"
TEMPLATE = "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"
DESTINATION_URI = "qemu+tls://hv2.example.org/system"


def libvirt_error(code: int, message: str, errno: int = -1) -> libvirt.libvirtError:
    """A libvirtError as libvirt itself raises it."""
    error = libvirt.libvirtError("scripted")
    error.err = (code, libvirt.VIR_FROM_QEMU, message, libvirt.VIR_ERR_ERROR, "%s", message, None, errno, -1)
    return error


def no_domain() -> libvirt.libvirtError:
    return libvirt_error(libvirt.VIR_ERR_NO_DOMAIN, "Domain not found: no domain with matching uuid")


def domain_xml(root: str, name: str = "web1", uuid: str = VM_UUID, secret: Optional[str] = SECRET_UUID) -> str:
    encryption = "<encryption secret='%s'/>" % secret if secret else ""
    return """<domain type='qemu'><name>%s</name><uuid>%s</uuid><memory unit='KiB'>131072</memory>
<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type><loader readonly='yes' type='pflash'>%s</loader>
<nvram template='%s'>%s/nvram/%s.fd</nvram></os>
<cpu mode='custom' match='exact' check='full'><model fallback='forbid'>qemu64</model></cpu>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<tpm model='tpm-crb'><backend type='emulator' version='2.0' persistent_state='yes'>%s</backend></tpm>
</devices></domain>""" % (name, uuid, LOADER, TEMPLATE, root, uuid, encryption)


def _values(names: list[str]) -> str:
    return "".join("<value>%s</value>" % name for name in names)


def _raise(error: BaseException) -> None:
    raise error


class FakeDomain(DomainResources):
    """A virDomain of one host."""

    def __init__(self, host: FakeHost, xml: str, state: tuple[int, int] = (1, 1), persistent: bool = True) -> None:
        self.host = host
        self.xml = xml
        self.now = state
        self.persistent = persistent
        self.job_type = libvirt.VIR_DOMAIN_JOB_NONE
        self.on_migrate: Callable[[FakeDomain, str, dict[str, Any], int], None] = move
        self.calls: list[tuple[str, dict[str, Any], int]] = []
        self.aborted = False
        self.undefined_with: Optional[int] = None
        self.starts_at_boot = 0
        self.managed_save = 0
        self.snapshots = 0
        self.checkpoints: list[str] = []

    def name(self) -> str:
        return str(ElementTree.fromstring(self.xml).findtext("name"))

    def UUIDString(self) -> str:
        return str(ElementTree.fromstring(self.xml).findtext("uuid"))

    def ID(self) -> int:
        return 1 if self.isActive() else -1

    def XMLDesc(self, flags: int = 0) -> str:
        if self.undefined_with is not None:
            raise no_domain()
        return self.xml

    def isActive(self) -> int:
        return int(self.now[0] in (1, 2, 3, 7))

    def isPersistent(self) -> int:
        return int(self.persistent)

    def state(self) -> list[int]:
        return list(self.now)

    def jobInfo(self) -> list[int]:
        return [self.job_type, 0]

    def jobStats(self, flags: int = 0) -> dict[str, Any]:
        if flags & libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED:
            return {"downtime": 110, "memory_total": 172376064, "memory_processed": 51570588, "memory_iteration": 3}
        return {"memory_total": 172376064, "memory_processed": 1}

    def abortJob(self) -> None:
        self.aborted = True

    def autostart(self) -> int:
        return self.starts_at_boot

    def setAutostart(self, value: int) -> None:
        self.host.touch("setAutostart")
        self.starts_at_boot = value

    def hasManagedSaveImage(self, flags: int = 0) -> int:
        return self.managed_save

    def snapshotNum(self, flags: int = 0) -> int:
        return self.snapshots

    def listAllCheckpoints(self, flags: int = 0) -> list[str]:
        return self.checkpoints

    def undefineFlags(self, flags: int) -> None:
        self.host.touch("undefineFlags")
        self.undefined_with = flags
        self.host.domains.remove(self)

    def migrateToURI3(self, uri: str, parameters: dict[str, Any], flags: int) -> None:
        self.calls.append((uri, parameters, flags))
        self.on_migrate(self, uri, parameters, flags)


def move(domain: FakeDomain, uri: str, parameters: dict[str, Any], flags: int) -> None:
    """What a migration that works does to both hosts."""
    source, destination = domain.host, domain.host.hosts[uri]
    persistent = bool(flags & libvirt.VIR_MIGRATE_PERSIST_DEST)
    destination.add(FakeDomain(destination, domain.xml, (1, 2), persistent))
    if flags & libvirt.VIR_MIGRATE_UNDEFINE_SOURCE:
        source.domains.remove(domain)
    else:
        domain.now = (5, 4)


class FakeSecret:
    def __init__(self, uuid: str, usage: str = USAGE, value: Optional[bytes] = b"key", private: bool = True) -> None:
        self.uuid = uuid
        self.usage = usage
        self.stored = value
        self.private = private
        self.holders: list[FakeSecret] = []

    def UUIDString(self) -> str:
        return self.uuid

    def usageType(self) -> int:
        return libvirt.VIR_SECRET_USAGE_TYPE_VTPM

    def usageID(self) -> str:
        return self.usage

    def undefine(self) -> None:
        self.holders.remove(self)

    def XMLDesc(self, flags: int = 0) -> str:
        return "<secret ephemeral='no' private='%s'><uuid>%s</uuid><usage type='vtpm'><name>%s</name></usage></secret>" % (
            "yes" if self.private else "no",
            self.uuid,
            self.usage,
        )

    def value(self, flags: int = 0) -> bytes:
        if self.private:
            raise libvirt_error(libvirt.VIR_ERR_INVALID_SECRET, "Invalid secret: secret is private")
        if self.stored is None:
            raise libvirt_error(libvirt.VIR_ERR_NO_SECRET, "Secret not found: secret does not have a value")
        return self.stored


class FakeVolume:
    def __init__(self, path: str, pool: FakePool) -> None:
        self.path = path
        self.pool = pool

    def name(self) -> str:
        return os.path.basename(self.path)

    def info(self) -> list[int]:
        return [0, os.path.getsize(self.path), os.path.getsize(self.path)]

    def upload(self, stream: FakeStream, offset: int, length: int, flags: int = 0) -> None:
        self.pool.host.touch("upload")
        stream.target, stream.length = self.path, length

    def delete(self, flags: int = 0) -> None:
        self.pool.host.touch("delete")
        os.unlink(self.path)
        self.pool.files.remove(os.path.basename(self.path))

    def download(self, stream: FakeStream, offset: int, length: int, flags: int = 0) -> None:
        self.pool.host.touch("download")
        with open(self.path, "rb") as file:
            file.seek(offset)
            # libvirt: 0 is all that follows.
            stream.data = file.read(length or -1)


class FakeStream:
    data = b""
    target = ""
    length = 0

    def __init__(self, host: Optional[FakeHost] = None) -> None:
        self.host = host

    def sendAll(self, handler: Callable[[Any, int, Any], bytes], opaque: Any) -> None:
        with open(self.target, "r+b") as file:
            part = handler(self, 2, opaque)
            while part:
                file.write(part)
                if self.host is not None and file.tell() < self.length:
                    self.host.touch("sendAll")
                part = handler(self, 2, opaque)

    def recvAll(self, handler: Callable[[Any, bytes, Any], Any], opaque: Any) -> None:
        handler(self, self.data, opaque)

    def finish(self) -> None:
        pass


class FakePool:
    """A directory pool over a real directory; what a refresh saw is what it has."""

    def __init__(self, host: FakeHost, directory: str) -> None:
        self.host = host
        self.directory = directory
        self.refresh(0)
        self.destroyed = False

    def refresh(self, flags: int = 0) -> None:
        # A pool that is only defined need not have its directory.
        self.files = os.listdir(self.directory) if os.path.isdir(self.directory) else []

    def storageVolLookupByName(self, name: str) -> FakeVolume:
        if name not in self.files:
            raise libvirt_error(libvirt.VIR_ERR_NO_STORAGE_VOL, "Storage volume not found: no storage vol with matching name")
        return FakeVolume(os.path.join(self.directory, name), self)

    def createXML(self, xml: str, flags: int = 0) -> FakeVolume:
        volume = ElementTree.fromstring(xml)
        path = os.path.join(self.directory, str(volume.findtext("name")))
        self.host.touch("createXML")
        if self.host.volume_error is not None:
            raise self.host.volume_error
        if os.path.exists(path):
            raise libvirt_error(libvirt.VIR_ERR_STORAGE_VOL_EXIST, "storage volume '%s' exists already" % path)
        with open(path, "wb") as file:
            file.truncate(int(volume.findtext("capacity") or 0))
        self.files.append(os.path.basename(path))
        return FakeVolume(path, self)

    def createXMLFrom(self, xml: str, original: FakeVolume, flags: int = 0) -> FakeVolume:
        made = self.createXML(xml)
        with open(made.path, "wb") as file, open(original.path, "rb") as source:
            content = source.read()
            file.write(content[:2])
            self.host.touch("createXMLFrom")
            file.write(content[2:])
        return made

    def listAllVolumes(self, flags: int = 0) -> list[FakeVolume]:
        return [FakeVolume(os.path.join(self.directory, name), self) for name in self.files]

    def destroy(self) -> None:
        self.destroyed = True

    def delete(self, flags: int = 0) -> None:
        try:
            os.rmdir(self.directory)
        except OSError as error:
            raise libvirt_error(libvirt.VIR_ERR_SYSTEM_ERROR, "failed to remove pool", error.errno or 0) from error

    def undefine(self) -> None:
        pass


class FakeHost(HostResources):
    """A virConnect. ``directories`` maps a directory to where this host really has it."""

    def __init__(self, name: str, root: str, hosts: dict[str, FakeHost]) -> None:
        super().__init__()
        self.name = name
        self.root = root
        self.hosts = hosts
        self.uuid = "uuid-of-" + name
        self.domains: list[FakeDomain] = []
        self.secrets: list[FakeSecret] = []
        self.has_secret_driver = True
        self.directories: dict[str, str] = {}
        self.pools: list[FakePool] = []
        self.pool_error: Optional[libvirt.libvirtError] = None
        self.volume_error: Optional[libvirt.libvirtError] = None
        self.loaders = [LOADER]
        self.tpm_backends = ["passthrough", "emulator"]
        self.tpm_models = ["tpm-tis", "tpm-crb"]
        self.machines = ["pc-q35-7.2"]
        self.cpu_verdict = libvirt.VIR_CPU_COMPARE_SUPERSET
        self.closed = False
        self.calls_made: list[str] = []
        self.fail_at = 0
        self.failure: Optional[BaseException] = None
        self.defined_with = 0

    def touch(self, what: str) -> None:
        """Each call that could fail or be the last one of a killed run is counted."""
        self.calls_made.append(what)
        if len(self.calls_made) == self.fail_at and self.failure is not None:
            _raise(self.failure)

    def defineXMLFlags(self, xml: str, flags: int = 0) -> FakeDomain:
        self.touch("defineXMLFlags")
        self.defined_with = flags
        return self.add(FakeDomain(self, xml, (5, 0)))

    def listAllStoragePools(self, flags: int = 0) -> list[FakePool]:
        return []

    def storageVolLookupByPath(self, path: str) -> FakeVolume:
        raise libvirt_error(libvirt.VIR_ERR_NO_STORAGE_VOL, "Storage volume not found: no storage vol with matching path")

    def add(self, domain: FakeDomain) -> FakeDomain:
        self.domains.append(domain)
        return domain

    def close(self) -> None:
        self.closed = True

    def getHostname(self) -> str:
        return self.name

    def getURI(self) -> str:
        return "qemu:///embed?root=" + self.root

    def getCapabilities(self) -> str:
        return "<capabilities><host><uuid>%s</uuid></host></capabilities>" % self.uuid

    def listAllDomains(self, flags: int = 0) -> list[FakeDomain]:
        return list(self.domains)

    def lookupByName(self, name: str) -> FakeDomain:
        return self._domain(lambda domain: domain.name() == name)

    def lookupByUUIDString(self, uuid: str) -> FakeDomain:
        return self._domain(lambda domain: domain.UUIDString() == uuid)

    def _domain(self, fits: Callable[[FakeDomain], bool]) -> FakeDomain:
        for domain in self.domains:
            if fits(domain):
                return domain
        raise no_domain()

    def listAllSecrets(self, flags: int = 0) -> list[FakeSecret]:
        for secret in self.secrets:
            secret.holders = self.secrets
        return list(self.secrets)

    def secretLookupByUUIDString(self, uuid: str) -> FakeSecret:
        return self._secret(lambda secret: secret.uuid == uuid)

    def secretLookupByUsage(self, kind: int, usage: str) -> FakeSecret:
        assert kind == libvirt.VIR_SECRET_USAGE_TYPE_VTPM
        return self._secret(lambda secret: secret.usage == usage)

    def _secret(self, fits: Callable[[FakeSecret], bool]) -> FakeSecret:
        if not self.has_secret_driver:
            raise libvirt_error(libvirt.VIR_ERR_NO_SUPPORT, "this function is not supported by the connection driver")
        for secret in self.secrets:
            if fits(secret):
                return secret
        raise libvirt_error(libvirt.VIR_ERR_NO_SECRET, "Secret not found: no secret with matching uuid")

    def storagePoolCreateXML(self, xml: str, flags: int = 0) -> FakePool:
        self.touch("storagePoolCreateXML")
        if self.pool_error is not None:
            raise self.pool_error
        asked = os.path.normpath(str(ElementTree.fromstring(xml).findtext("target/path")))
        real = self.directories.get(asked, self.root + asked)
        if flags & libvirt.VIR_STORAGE_POOL_CREATE_WITH_BUILD:
            os.makedirs(real, exist_ok=True)
        if not os.path.isdir(real):
            raise libvirt_error(libvirt.VIR_ERR_SYSTEM_ERROR, "cannot open directory '%s': No such file or directory" % asked, 2)
        self.pools.append(FakePool(self, real))
        return self.pools[-1]

    def storagePoolDefineXML(self, xml: str, flags: int = 0) -> FakePool:
        asked = os.path.normpath(str(ElementTree.fromstring(xml).findtext("target/path")))
        return FakePool(self, self.root + asked)

    def newStream(self, flags: int = 0) -> FakeStream:
        return FakeStream(self)

    def getDomainCapabilities(self, emulator: str, arch: str, machine: str, kind: str, flags: int = 0) -> str:
        if machine not in self.machines:
            raise libvirt_error(
                libvirt.VIR_ERR_INVALID_ARG,
                "invalid argument: the machine '%s' is not supported by emulator '%s'" % (machine, emulator),
            )
        return "<domainCapabilities>%s<os><loader>%s</loader></os><devices><tpm supported='yes'>%s</tpm></devices></domainCapabilities>" % (
            "<vcpu max='%d'/>" % self.vcpu_limit if self.vcpu_limit else "",
            _values(self.loaders),
            "<enum name='model'>%s</enum><enum name='backendModel'>%s</enum><enum name='backendVersion'><value>2.0</value></enum>"
            % (_values(self.tpm_models), _values(self.tpm_backends)),
        )

    def compareHypervisorCPU(self, *arguments: Any) -> int:
        if isinstance(self.cpu_verdict, Exception):
            raise self.cpu_verdict
        return self.cpu_verdict


class Wire:
    """A connection over a network that may go: then every call waits, as libvirt's client does."""

    def __init__(self, host: FakeHost) -> None:
        self._host = host
        self._cut = threading.Event()

    def cut(self) -> None:
        self._cut.set()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._host, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            if self._cut.is_set():
                threading.Event().wait(30)
            return found(*arguments, **named)

        return call


class Pair:
    """A source with one running VM, and a destination that is ready for it."""

    def __init__(self, root: str) -> None:
        self.hosts: dict[str, FakeHost] = {}
        self.source = FakeHost("hv1", os.path.join(root, "hv1"), self.hosts)
        self.destination = FakeHost("hv2", os.path.join(root, "hv2"), self.hosts)
        self.hosts[DESTINATION_URI] = self.destination
        self.vm = self.source.add(FakeDomain(self.source, domain_xml(self.source.root)))
        self.source.secrets.append(FakeSecret(SECRET_UUID))
        self.destination.secrets.append(FakeSecret(SECRET_UUID))
        self.nvram = "%s/nvram/%s.fd" % (self.source.root, VM_UUID)
        self.tpm_directory = "%s/lib/swtpm/%s/tpm2" % (self.source.root, VM_UUID)
        for path in (self.nvram, os.path.join(self.tpm_directory, "tpm2-00.permall")):
            os.makedirs(os.path.dirname(path))
            with open(path, "wb") as stream:
                stream.write(b"state")

    def connect(self, uri: str) -> FakeHost:
        if uri not in self.hosts:
            raise libvirt_error(
                libvirt.VIR_ERR_SYSTEM_ERROR, "unable to connect to server at 'hv2:16514': Connection refused", 111
            )
        return self.hosts[uri]

    def share(self, directory: str) -> None:
        """Both hosts see this directory of the source."""
        self.destination.directories[directory] = directory

    def own_copy(self, path: str, content: bytes = b"older") -> None:
        """The destination has a file of that path, but its own one."""
        real = self.destination.root + path
        os.makedirs(os.path.dirname(real), exist_ok=True)
        with open(real, "wb") as stream:
            stream.write(content)


def options(**given: Any) -> dict[str, Any]:
    """A complete item, as the module hands it to the planner."""
    return {
        "vm": "web1",
        "destination_host": None,
        "destination_uri": DESTINATION_URI,
        "pkipath": None,
        "mode": "live",
        "tls": True,
        "tls_hostname": None,
        "undefine_source": True,
        "persist_destination": True,
        "unsafe": False,
        "clean_source": False,
        "migrate_uri": None,
        "bandwidth": 0,
        "auto_converge": False,
        "timeout": 0,
        "connect_timeout": 2,
        "provided_secrets": [],
        "value": None,
        "resource_key": None,
        "tpm_state_sharing": "detect",
        **given,
    }
