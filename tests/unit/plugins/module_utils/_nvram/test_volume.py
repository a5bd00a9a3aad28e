# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a volume may be handed to a start, and what to do if not."""
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.trustedvm.libvirt.plugins.module_utils._core.errors import TrustedVMError
from ansible_collections.trustedvm.libvirt.plugins.module_utils._nvram.volume import (
    BLANK,
    BLANK_SIZE,
    HEADER_SIZE,
    Facts,
    Template,
    decide,
    is_blank,
    never_used,
)

PATH = "/srv/nvram/u/u.fd"
STORE = bytes(40) + b"_FVH" + bytes(84)
TEMPLATE = Template("/usr/share/OVMF/VARS.fd", len(STORE), lambda: STORE)


def facts(content=STORE, **changes):
    return Facts(**{"exists": True, "size": len(content), "header": content[:HEADER_SIZE], **changes})


MISSING = Facts(exists=False)
QCOW2 = b"QFI\xfb" + bytes(len(STORE) - 4)


@pytest.mark.parametrize(
    "found, was_used, pristine, action",
    [
        pytest.param(facts(), False, True, "use", id="ready and new"),
        pytest.param(facts(), True, False, "use", id="ready and used"),
        pytest.param(facts(), True, True, "use", id="ready, reset since it was used"),
        pytest.param(MISSING, False, False, "create", id="missing, never had one"),
        pytest.param(facts(STORE + b"x"), False, True, "rebuild", id="wrong size, never used"),
        pytest.param(facts(bytes(len(STORE))), False, True, "rebuild", id="blank"),
        pytest.param(facts(b""), False, True, "rebuild", id="empty"),
    ],
)
def test_n4_ready_volumes_are_used_and_unused_ones_rebuilt(found, was_used, pristine, action):
    assert decide(PATH, found, TEMPLATE, was_used, lambda: pristine).action == action


@pytest.mark.parametrize(
    "found, was_used, code",
    [
        pytest.param(MISSING, True, "nvram_missing", id="missing"),
        pytest.param(facts(STORE + b"x"), False, "nvram_wrong_size", id="wrong size, written to"),
        pytest.param(facts(STORE + b"x"), True, "nvram_wrong_size", id="wrong size, was used"),
        pytest.param(facts(QCOW2), False, "nvram_wrong_format", id="qcow2"),
        pytest.param(facts(b"garbage" + bytes(len(STORE) - 7)), False, "nvram_wrong_format", id="no variable store"),
        pytest.param(facts(header=None, problem="Permission denied"), False, "nvram_unreadable", id="unreadable"),
        pytest.param(facts(header=None, regular=False, problem="a directory"), False, "nvram_not_a_file", id="directory"),
    ],
)
def test_n4_unready_volume_is_never_handed_to_a_start(found, was_used, code):
    with pytest.raises(TrustedVMError) as caught:
        decide(PATH, found, TEMPLATE, was_used, lambda: False)
    assert caught.value.code == code
    assert PATH in str(caught.value), "N9: messages name the volume that they are about"


@pytest.mark.parametrize("found", [facts(STORE + b"x"), facts(bytes(len(STORE))), MISSING], ids=["size", "blank", "missing"])
def test_n4_volume_of_a_vm_that_ran_is_never_rebuilt(found):
    """Blank or not: what the VM had is gone, and an empty one in its place would hide that."""
    with pytest.raises(TrustedVMError):
        decide(PATH, found, TEMPLATE, True, lambda: True)


def test_unreadable_volume_is_not_read_to_see_whether_it_is_pristine():
    with pytest.raises(TrustedVMError, match="Permission denied"):
        decide(PATH, facts(header=None, problem="Permission denied"), TEMPLATE, False, lambda: pytest.fail("was read"))


def test_n2_a_volume_without_template_has_one_mebibyte():
    assert decide(PATH, MISSING, BLANK, False, lambda: False).template.size == BLANK_SIZE == 1024 * 1024


def test_blank_volume_is_ready_where_there_is_no_template():
    """The firmware formats it at its first boot."""
    content = bytes(BLANK_SIZE)
    assert decide(PATH, facts(content), BLANK, False, lambda: True).action == "use"


@pytest.mark.parametrize(
    "content, templates, expected",
    [
        (STORE, [STORE], True),
        (STORE, [b"other", STORE], True),
        (STORE, [], False),
        (STORE[:-1] + b"x", [STORE], False),
        (b"", [], True),
        (bytes(9), [], True),
        (b"\xff" * 9, [], True),
        (b"\xff\x00", [], False),
    ],
)
def test_never_used_means_blank_or_equal_to_a_template(content, templates, expected):
    assert never_used(content, templates) is expected


@given(st.binary(max_size=200), st.integers(min_value=0, max_value=199))
def test_one_byte_of_a_guest_is_enough_to_be_used(content, position):
    """Any single change to a template counts, wherever it is."""
    changed = bytearray(STORE[:100])
    changed[position % 100] ^= 0x5A
    assert not never_used(bytes(changed), [STORE[:100]])
    assert is_blank(content) == (set(content) <= {0} or set(content) <= {0xFF})
