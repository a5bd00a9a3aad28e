# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Networks, bridges and host interfaces that the destination lacks.

A bridge is looked up with libvirt's interface driver, which asks the kernel each time. Where that is not
installed nothing is concluded: the node device driver may not know of a bridge that was made later.
"""

import re
from typing import Any, Optional

from .._core.deps import libvirt
from .._core.errors import TrustedVMError
from .survey import Survey


def network_obstacles(survey: Survey, tree: Any) -> list[TrustedVMError]:
    """One for each source that the VM's ``<interface>`` elements name and the destination does not have."""
    found: dict[tuple[str, str], Optional[TrustedVMError]] = {}
    for interface in tree.findall("devices/interface"):
        source = interface.find("source")
        if source is None:
            continue
        # The live XML of a network that lends a bridge or a device names that, too; the destination
        # takes its own network's.
        if source.get("network"):
            key = ("network", source.get("network"))
        elif interface.get("type") == "bridge" and source.get("bridge"):
            key = ("bridge", source.get("bridge"))
        elif interface.get("type") == "direct" and source.get("dev"):
            key = ("interface", source.get("dev"))
        else:
            continue
        if key not in found:
            found[key] = _network(survey, key[1]) if key[0] == "network" else _interface(survey, *key)
    return [obstacle for obstacle in found.values() if obstacle is not None]


def _network(survey: Survey, name: str) -> Optional[TrustedVMError]:
    try:
        if survey.destination.networkLookupByName(name).isActive():
            return None
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_NETWORK:
            return None
        return _lacks(survey, "destination_network_missing", "network", name, "no such network", "Define and start it there")
    return _lacks(
        survey,
        "destination_network_inactive",
        "network",
        name,
        "the network is not active",
        "Start it there (virsh net-start %s; virsh net-autostart %s)" % (name, name),
    )


def _interface(survey: Survey, what: str, name: str) -> Optional[TrustedVMError]:
    try:
        survey.destination.interfaceLookupByName(name)
        return None
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_INTERFACE:
            return None
    # A libvirt with netcf knows only what is in the distribution's network configuration.
    if _is_node_device(survey.destination, name):
        return None
    return _lacks(
        survey,
        "destination_%s_missing" % what,
        what,
        name,
        "no such network interface",
        "Make it there under the same name, or attach the VM to a libvirt network that both hosts have",
    )


def _is_node_device(connection: Any, name: str) -> bool:
    # node_device_udev.c: "net_NAME_MAC", with "_" for all but letters and digits.
    prefix = "net_%s_" % re.sub("[^0-9A-Za-z]", "_", name)
    try:
        devices = connection.listAllDevices(libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_NET)
    except libvirt.libvirtError:
        return False
    return any(device.name().startswith(prefix) for device in devices)


def _lacks(survey: Survey, code: str, what: str, name: str, found: str, hint: str) -> TrustedVMError:
    return TrustedVMError(
        code,
        "Host %s lacks the %s '%s' of VM '%s'"
        % (survey.destination_host, what, name, survey.machine.name if survey.machine else ""),
        found=found,
        wanted="%s '%s', as on %s" % (what, name, survey.source_host),
        hint=hint,
    )
