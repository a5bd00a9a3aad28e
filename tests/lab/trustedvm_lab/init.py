# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PID 1 of a lab host: starts the services and reaps what is left to it.

Copied into the host and run by the host's own Python, so nothing but the standard library.
When it is killed, the kernel kills all processes of the host: that is the lab's power loss.
"""

from __future__ import annotations

import os
import signal
import subprocess

SERVICES = ("ssh", "libvirtd")


def main() -> None:
    # Not "init": Ansible's service_mgr fact would then go looking for systemd in the file system.
    with open("/proc/self/comm", "w", encoding="ascii") as comm:
        comm.write("lab-init")
    with open("/dev/null", "rb") as null:
        os.dup2(null.fileno(), 0)
    # A signal that PID 1 has no handler for is not delivered; that also holds for SIGTERM, on purpose.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    starting = {
        subprocess.Popen(["service", service, "start"], stdin=subprocess.DEVNULL).pid: service for service in SERVICES
    }
    while True:
        try:
            pid, status = os.waitpid(-1, 0)
        except ChildProcessError:
            signal.pause()
            continue
        service = starting.pop(pid, None)
        if service is not None:
            code = os.waitstatus_to_exitcode(status)
            print(f"lab: service {service}: {'started' if code == 0 else f'start failed with exit status {code}'}", flush=True)


if __name__ == "__main__":
    main()
