# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import threading
import time

import pytest
from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.errors import TrustedVMError
from ansible_collections.trustedvm.libvirt.plugins.module_utils._migration.destination import Destinations
from ansible_collections.trustedvm.libvirt.tests.unit.plugins.module_utils._migration.fakes import DESTINATION_URI


def test_a_silent_host_is_given_up_in_time():
    stop = threading.Event()
    destinations = Destinations(lambda uri: stop.wait(30))
    started = time.monotonic()
    with pytest.raises(TrustedVMError) as caught:
        destinations.get(DESTINATION_URI, 0.2)
    stop.set()
    assert time.monotonic() - started < 5
    assert caught.value.code == "destination_unreachable"
    assert "0.2 s" in str(caught.value)


def test_refused_at_once(pair):
    with pytest.raises(TrustedVMError) as caught:
        Destinations(pair.connect).get("qemu+tls://nowhere/system", 2)
    assert caught.value.code == "destination_unreachable"
    assert "Connection refused" in str(caught.value)


def test_a_destination_that_failed_is_not_waited_for_again(pair):
    asked = []

    def connect(uri):
        asked.append(uri)
        return pair.connect(uri)

    destinations = Destinations(connect)
    for _item in range(3):
        with pytest.raises(TrustedVMError):
            destinations.get("qemu+tls://nowhere/system", 2)
    assert len(asked) == 1


def test_one_connection_for_all_items(pair):
    destinations = Destinations(pair.connect)
    assert destinations.get(DESTINATION_URI, 2) is destinations.get(DESTINATION_URI, 2)
    destinations.close()
    assert pair.destination.closed
