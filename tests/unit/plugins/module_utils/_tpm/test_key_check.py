# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Device, key and state: each combination that libvirt reports as one and the same error has its own code."""
from __future__ import annotations

import pytest

from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.errors import TrustedVMError
from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.host_paths import paths_of_uri
from ansible_collections.trustedvm.libvirt.plugins.module_utils._tpm import key_check
from ansible_collections.trustedvm.libvirt.plugins.module_utils._tpm.state_dir import TpmState, locate

VM = "0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11"

RIGHT, WRONG, NO_KEY = "right", b"wrong", None


@pytest.mark.parametrize(
    "state, encrypted, key, answer",
    [
        (None, True, RIGHT, "none"),
        (None, False, NO_KEY, "none"),
        ("encrypted", True, RIGHT, "opened"),
        ("encrypted", True, NO_KEY, "not_checked"),
        ("encrypted", True, WRONG, "!key_does_not_open_tpm_state"),
        ("encrypted", False, NO_KEY, "!tpm_state_encrypted"),
        ("encrypted", False, RIGHT, "!tpm_state_encrypted"),
        ("plain", False, NO_KEY, "plain"),
        ("plain", True, RIGHT, "!tpm_state_not_encrypted"),
        ("plain", True, NO_KEY, "!tpm_state_not_encrypted"),
        ("truncated", True, RIGHT, "!tpm_state_damaged"),
        ("foreign", False, NO_KEY, "!tpm_state_damaged"),
    ],
)
def test_m1_state_against_device_and_key(tmp_path, real_states, state, encrypted, key, answer):
    data = {
        "encrypted": real_states.encrypted,
        "plain": real_states.plain,
        "truncated": real_states.encrypted[:1000],
        "foreign": b"not a TPM state at all",
    }.get(state)
    if data is not None:
        path = real_states.put(str(tmp_path / "lib" / "swtpm"), VM, data)
    place = TpmState(locate(paths_of_uri("qemu:///embed?root=%s" % tmp_path), VM))
    key = real_states.passphrase if key == RIGHT else key
    if not answer.startswith("!"):
        assert key_check.check_state(place, encrypted, key) == answer
        return
    with pytest.raises(TrustedVMError) as caught:
        key_check.check_state(place, encrypted, key)
    assert caught.value.code == answer[1:]
    assert path in str(caught.value)
    assert caught.value.hint


class Growing:
    """A state that is whole only at the third read, as a linear store that swtpm is writing."""

    def __init__(self, data):
        self.reads = [data[:100], data[:2000], data, data]
        self.location = locate(paths_of_uri("qemu:///system"), VM)

    def read(self):
        return self.reads.pop(0) if len(self.reads) > 1 else self.reads[0]


def test_state_that_is_being_written_is_read_again(real_states):
    assert key_check.check_state(Growing(real_states.encrypted), True, real_states.passphrase) == "opened"


def test_inspect_tells_size_digest_and_key(tmp_path, real_states):
    real_states.put(str(tmp_path / "lib" / "swtpm"), VM, real_states.encrypted)
    place = TpmState(locate(paths_of_uri("qemu:///embed?root=%s" % tmp_path), VM))
    found = key_check.inspect(place, real_states.passphrase)
    assert (found.encrypted, found.size, found.opens) == (True, len(real_states.encrypted), True)
    assert key_check.inspect(place, b"wrong").opens is False
    assert key_check.inspect(place).opens is None
