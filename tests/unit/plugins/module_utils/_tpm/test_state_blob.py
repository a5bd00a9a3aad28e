# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""swtpm state blobs, made by swtpm itself: what they are, and which key opens them."""
from __future__ import annotations

import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.errors import TrustedVMError
from ansible_collections.trustedvm.libvirt.plugins.module_utils._tpm import linear_file, state_blob


def field(tag, data):
    return struct.pack(">HI", tag, len(data)) + data


def blob(body, version=2, least=1, header_size=10, flags=0, total=None):
    return struct.pack(">BBHHI", version, least, header_size, flags, 10 + len(body) if total is None else total) + body


def test_m1_right_key_opens_and_others_do_not(real_states):
    found = state_blob.parse(real_states.encrypted)
    assert found.encrypted
    assert found.key_bytes == 32
    assert found.opens_with(real_states.passphrase)


@pytest.mark.parametrize(
    "change",
    [
        lambda key: key + b"\n",  # the value is used as it is, a newline at the end included
        lambda key: key[:-1],
        lambda key: b"",
        lambda key: key.swapcase(),
        lambda key: b"A" * 44,
    ],
    ids=["newline", "shorter", "empty", "other case", "other key"],
)
def test_m1_wrong_key_does_not_open(real_states, change):
    assert not state_blob.parse(real_states.encrypted).opens_with(change(real_states.passphrase))


def test_plain_state_is_told_from_an_encrypted_one_and_opens_with_no_key(real_states):
    found = state_blob.parse(real_states.plain)
    assert not found.encrypted
    assert found.plain
    assert not found.opens_with(real_states.passphrase)


def test_any_flipped_byte_of_the_ciphertext_is_noticed(real_states):
    data = bytearray(real_states.encrypted)
    data[100] ^= 1
    assert not state_blob.parse(bytes(data)).opens_with(real_states.passphrase)


def test_linear_file_holds_the_same_kind_of_state(real_states):
    data = linear_file.permanent_state(real_states.linear)
    assert state_blob.parse(data).opens_with(real_states.passphrase)


@pytest.mark.parametrize(
    "data, what",
    [
        (b"", "0 bytes"),
        (b"\x02\x01\x00", "3 bytes"),
        (b"x" * 4096, "does not begin with the header"),
        (blob(field(1, b"x"), version=1), "does not begin with the header"),
        (blob(field(1, b"x"), least=3), "format version 3"),
        (blob(field(1, b"x"), header_size=12), "does not begin with the header"),
        (blob(field(1, b"x"), total=999), "truncated: 17 bytes instead of 999"),
        (blob(field(1, b"x"), total=11), "longer than its header says"),
        (blob(b""), "no plain data"),
        (blob(field(1, b"")), "no plain data"),
        (blob(b"\x00\x01\x00"), "cut off at byte 10"),
        (blob(struct.pack(">HI", 1, 50) + b"x"), "field 1 at byte 16 goes past the end"),
        (blob(field(3, b"m" * 32), flags=9), "no ciphertext"),
        (blob(field(2, b"c" * 16), flags=9), "no message authentication code"),
        (blob(field(2, b"c" * 16) + field(3, b"m" * 20), flags=9), "20 bytes instead of 32"),
        (blob(field(2, b"c" * 15) + field(3, b"m" * 32), flags=9), "AES blocks"),
    ],
)
def test_damaged_state_says_what_is_wrong(data, what):
    with pytest.raises(TrustedVMError) as caught:
        state_blob.parse(data)
    assert caught.value.code == "tpm_state_damaged"
    assert what in str(caught.value)


def test_every_truncation_of_a_real_state_is_damaged(real_states):
    for length in range(0, len(real_states.encrypted), 7):
        with pytest.raises(TrustedVMError):
            state_blob.parse(real_states.encrypted[:length])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_noise_is_damaged_and_nothing_else(data):
    for parse in (state_blob.parse, linear_file.permanent_state):
        try:
            parse(data)
        except TrustedVMError as error:
            assert error.code == "tpm_state_damaged"


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(min_value=0), value=st.integers(1, 255))
def test_a_changed_byte_never_passes_as_the_same_state(real_states, position, value):
    data = bytearray(real_states.encrypted)
    data[position % len(data)] ^= value
    try:
        found = state_blob.parse(bytes(data))
    except TrustedVMError as error:
        assert error.code == "tpm_state_damaged"
        return
    # The version of the oldest reader (byte 1) and flags that concern migration are not authenticated.
    if found.encrypted and position % len(data) not in (1, 4, 5):
        assert not found.opens_with(real_states.passphrase)


@pytest.mark.parametrize(
    "data, what",
    [
        (b"x" * 10, "fewer than its header"),
        (b"x" * 4096, "not one that swtpm wrote"),
        (struct.pack("<QBBH", 0x737774706D6C696E, 2, 0, 192) + bytes(184), "format version 2"),
        (struct.pack("<QBBHIII", 0x737774706D6C696E, 1, 0, 192, 192, 500, 500) + bytes(100), "ends before byte 692"),
    ],
)
def test_damaged_linear_file_says_what_is_wrong(data, what):
    with pytest.raises(TrustedVMError) as caught:
        linear_file.permanent_state(data)
    assert caught.value.code == "tpm_state_damaged"
    assert what in str(caught.value)


def test_new_linear_file_holds_no_state():
    assert linear_file.permanent_state(b"") is None
    assert linear_file.permanent_state(struct.pack("<QBBH", 0x737774706D6C696E, 1, 0, 192) + bytes(180)) is None
