# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files that make a copy of a root a host of its own. Written once, at the first boot.

Only what the lab itself needs: what an operator's host gets from the hypervisor role comes from that role.
"""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

from .records import HostRecord

ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}

# This machine's own guests, secrets, keys and certificates must neither run nor show in a lab host.
EMPTIED = (
    "etc/libvirt/secrets", "etc/libvirt/storage", "etc/libvirt/qemu/autostart", "etc/libvirt/qemu/networks/autostart",
    "etc/pki/CA", "etc/pki/libvirt", "etc/pki/qemu", "etc/pki/libvirt-migrate",
    "var/lib/libvirt/images", "var/lib/libvirt/swtpm", "var/lib/libvirt/qemu", "var/lib/swtpm-localca",
    "var/log/libvirt", "var/log/swtpm",
    # No host reaches a package mirror; without the lists apt needs a tenth of the time to see what is installed.
    "var/lib/apt/lists",
)
# docker-clean: container images switch apt's cache off.
REMOVED = (
    "etc/libvirt/qemu/*.xml", "etc/ssh/ssh_host_*", "etc/ssh/sshd_config.d/*", "var/lib/dbus/machine-id", "etc/apt/apt.conf.d/docker-clean",
)

# cgroups and security drivers are not to be had in the lab, and without systemd nobody runs virtlogd.
QEMU_CONF = """\
# Of the lab: no cgroups, no security driver and no virtlogd in a namespace host.
security_driver = "none"
cgroup_controllers = [ ]
namespaces = [ ]
user = "root"
group = "root"
swtpm_user = "root"
swtpm_group = "root"
stdio_handler = "file"
"""

# Two hosts on one machine read the same DMI tables; libvirt refuses to migrate to an equal UUID.
LIBVIRTD_CONF = """\
host_uuid = "{uuid}"
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
"""

SSHD_CONFIG = """\
HostKey /etc/ssh/ssh_host_ed25519_key
PidFile /run/sshd.pid
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
PrintMotd no
MaxSessions 100
MaxStartups 50:30:200
Subsystem sftp internal-sftp
"""

LIBVIRTD_INIT = """\
#!/bin/sh
### BEGIN INIT INFO
# Provides:          libvirtd
# Required-Start:    $network $local_fs
# Required-Stop:     $network $local_fs
# Default-Start:     2 3 4 5
# Default-Stop:      0 1 6
# Short-Description: libvirt management daemon
### END INIT INFO
# As Debian's libvirt-daemon-system-sysv: options come from /etc/default/libvirtd; guests outlive the daemon.
DAEMON=/usr/sbin/libvirtd
PIDFILE=/run/libvirtd.pid
LIBVIRTD_ARGS=
[ -r /etc/default/libvirtd ] && . /etc/default/libvirtd
start() {
    start-stop-daemon --start --quiet --oknodo --pidfile $PIDFILE --exec $DAEMON -- --daemon --pid-file $PIDFILE $LIBVIRTD_ARGS
}
stop() {
    start-stop-daemon --stop --quiet --oknodo --retry TERM/20/KILL/5 --pidfile $PIDFILE --exec $DAEMON
}
case "$1" in
    start) start ;;
    stop) stop ;;
    restart|force-reload) stop && start ;;
    reload) start-stop-daemon --stop --quiet --signal HUP --pidfile $PIDFILE --exec $DAEMON ;;
    status) start-stop-daemon --status --pidfile $PIDFILE --exec $DAEMON && echo "libvirtd is running." || { echo "libvirtd is not running."; exit 3; } ;;
    *) echo "Usage: $0 {start|stop|restart|reload|force-reload|status}" >&2; exit 2 ;;
esac
"""


def install(record: HostRecord) -> None:
    """Write the host's own files, unless an earlier boot did: later they belong to who configures the host."""
    done = record.path / "installed"
    if done.exists():
        return
    root = record.root
    _forget_machine(root)
    write(root / "etc/hostname", record.name + "\n")
    write(root / "etc/machine-id", uuid.UUID(record.uuid).hex + "\n")
    write(root / "etc/libvirt/qemu.conf", QEMU_CONF, 0o600)
    write(root / "etc/libvirt/libvirtd.conf", LIBVIRTD_CONF.format(uuid=record.uuid))
    write(root / "etc/init.d/libvirtd", LIBVIRTD_INIT, 0o755)
    write(root / "etc/ssh/sshd_config", SSHD_CONFIG)
    for name, mode in (("ssh_host_ed25519_key", 0o600), ("ssh_host_ed25519_key.pub", 0o644)):
        write(root / "etc/ssh" / name, (record.path / name).read_text(encoding="utf-8"), mode)
    (root / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
    write(root / "root/.ssh/authorized_keys", (record.path / "authorized_keys").read_text(encoding="utf-8"), 0o600)
    _allow_root(root / "etc/shadow")
    done.touch()


def _forget_machine(root: Path) -> None:
    for name in EMPTIED:
        directory = root / name
        if directory.is_dir():
            for entry in directory.iterdir():
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    for pattern in REMOVED:
        for entry in root.glob(pattern):
            entry.unlink()
    # swtpm_setup runs as swtpm_user and writes here; some packages leave the owner to systemd-tmpfiles.
    (root / "var/log/swtpm/libvirt/qemu").mkdir(parents=True, exist_ok=True)
    (root / "var/log/libvirt/qemu").mkdir(parents=True, exist_ok=True)
    (root / "var/lib/swtpm-localca").mkdir(parents=True, exist_ok=True)
    for name in ("var/lib/swtpm-localca", "var/log/swtpm/libvirt/qemu"):
        shutil.chown(root / name, "root", "root")


def _allow_root(shadow: Path) -> None:
    """Without PAM, sshd refuses even a key login to an account whose password field starts with '!'."""
    lines = shadow.read_text(encoding="utf-8").splitlines()
    fixed = ["root:*" + line[line.index(":", 5):] if line.startswith("root:!") else line for line in lines]
    if fixed != lines:
        write(shadow, "\n".join(fixed) + "\n", 0o640)


def write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        path.unlink()
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def hosts_file(records: list[HostRecord], gateway: str) -> str:
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback", f"{gateway} controller"]
    lines += [f"{record.address} {record.name}" for record in sorted(records, key=lambda record: record.index)]
    return "\n".join(lines) + "\n"
