# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The native provider: what is wrapped opens for its own record only; the key ring survives crashes and says what is wrong with it."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import pickle
import signal
import stat
import subprocess
import sys
import time

import pytest

pytest.importorskip("cryptography")

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._core.errors import ControllerError
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._core.key_material import KeyMaterial
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._key_providers import key_ring, private_file, sealing
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._key_providers.base import KeyContext, WrappedKey
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._key_providers.loader import open_provider
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._key_providers.native import NativeProvider, open_native

CONTEXT = KeyContext("vtpm", "0d0b1bd2-5c3a-4e0f-9f3a-6d2f4f1f6b11", 1, "native")

contexts = st.builds(
    KeyContext,
    resource_type=st.text(max_size=8),
    resource_uuid=st.text(max_size=40),
    key_version=st.integers(min_value=1, max_value=1 << 31),
    provider=st.text(max_size=8),
)
keys = st.binary(min_size=32, max_size=32).map(KeyMaterial)
quickly = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def cheap_passphrases(monkeypatch):
    """Half a second for each derivation is for attackers."""
    monkeypatch.setattr(sealing, "SCRYPT", {"n": 1 << 10, "r": 8, "p": 1})


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "rings" / "native.json")


@pytest.fixture
def provider(path):
    made = NativeProvider("native", path, None)
    made.create()
    return made


def error_of(function, *arguments):
    with pytest.raises(ControllerError) as caught:
        function(*arguments)
    # Ansible prints the chain of exceptions: nothing that handled key material may be in it.
    assert caught.value.__cause__ is None and (caught.value.__context__ is None or caught.value.__suppress_context__)
    return caught.value


# Wrapping


@quickly
@given(dek=keys, context=contexts)
def test_what_was_wrapped_comes_back(provider, dek, context):
    wrapped = provider.wrap(dek, context)
    assert dek.reveal() not in wrapped.wrapped
    assert provider.unwrap(wrapped, context) == dek


@quickly
@given(dek=keys, context=contexts, other=contexts)
def test_one_record_cannot_stand_in_for_another(provider, dek, context, other):
    assume(other != context)
    assert error_of(provider.unwrap, provider.wrap(dek, context), other).code == "wrapped_key_rejected"


@quickly
@given(one=contexts, other=contexts, kek=st.text(max_size=8), version=st.integers(0, 9))
def test_associated_data_has_one_spelling_for_each_context(one, other, kek, version):
    assert (one.associated_data(kek, version) == other.associated_data(kek, version)) == (one == other)


@quickly
@given(dek=keys, position=st.integers(0, 59), flip=st.integers(1, 255))
def test_a_changed_byte_is_found(provider, dek, position, flip):
    wrapped = provider.wrap(dek, CONTEXT)
    changed = bytearray(wrapped.wrapped)
    changed[position] ^= flip
    error = error_of(provider.unwrap, dataclasses.replace(wrapped, wrapped=bytes(changed)), CONTEXT)
    assert error.code == "wrapped_key_rejected"
    assert CONTEXT.resource_uuid in str(error)


@pytest.mark.parametrize("length", [0, 11, 59, 61])
def test_a_truncated_record_is_named_as_such(provider, length):
    wrapped = provider.wrap(KeyMaterial(b"k" * 32), CONTEXT)
    cut = dataclasses.replace(wrapped, wrapped=(wrapped.wrapped + b"x")[:length])
    error = error_of(provider.unwrap, cut, CONTEXT)
    assert error.code == "wrapped_key_truncated" and "%d bytes" % length in str(error)


def test_another_ring_says_which_kek_is_missing(provider, tmp_path):
    wrapped = provider.wrap(KeyMaterial(b"k" * 32), CONTEXT)
    other = NativeProvider("native", str(tmp_path / "other.json"), None)
    other.create()
    error = error_of(other.unwrap, wrapped, CONTEXT)
    assert error.code == "kek_unknown" and wrapped.kek_id in str(error)


def test_a_kek_of_the_same_name_with_another_value_opens_nothing(provider, path):
    """The ring was rebuilt by hand: same KEK id and version, other bytes."""
    wrapped = provider.wrap(KeyMaterial(b"k" * 32), CONTEXT)
    ring = key_ring.read_key_ring(path, None)
    forged = dataclasses.replace(ring, keks={1: KeyMaterial(b"z" * 32)})
    private_file.replace_private(path, forged.encode())
    assert error_of(NativeProvider("native", path, None).unwrap, wrapped, CONTEXT).code == "wrapped_key_rejected"


def test_after_a_rotation_old_keys_open_and_new_ones_are_under_the_new_kek(provider, path):
    dek = KeyMaterial(os.urandom(32))
    old = provider.wrap(dek, CONTEXT)
    described = provider.rotate()
    assert (described.kek_version, list(described.kek_versions)) == (2, [1, 2])
    fresh = NativeProvider("native", path, None)
    new = fresh.wrap(dek, CONTEXT)
    assert (old.kek_version, new.kek_version) == (1, 2)
    assert fresh.unwrap(old, CONTEXT) == fresh.unwrap(new, CONTEXT) == dek
    downgraded = dataclasses.replace(new, kek_version=1)
    assert error_of(fresh.unwrap, downgraded, CONTEXT).code == "wrapped_key_rejected"


# Key material


def test_key_material_hides_in_every_text(provider, path):
    value = os.urandom(32)
    key = KeyMaterial(value)
    texts = [
        repr(key),
        str(key),
        "%s" % key,
        "%r" % [key],
        "{}".format(key),
        repr(provider),
        repr(provider.wrap(key, CONTEXT)),
        repr(key_ring.read_key_ring(path, None)),
    ]
    for text in texts:
        for spelling in [*key.spellings(), repr(value)]:
            assert spelling not in text
    with pytest.raises(TypeError):
        pickle.dumps(key)
    with pytest.raises(TypeError):
        hash(key)
    key.wipe()
    assert key.reveal() == b""


def test_the_value_of_a_secret_is_base64_of_the_keys_text():
    key = KeyMaterial(bytes(range(32)))
    text = base64.b64decode(key.secret_value())
    assert len(text) == 44 and base64.b64decode(text) == bytes(range(32))


# The ring's file


def test_m2_reading_never_makes_a_ring(path):
    provider = NativeProvider("native", path, None)
    assert provider.health().code == "key_ring_missing"
    for action in (lambda: provider.wrap(KeyMaterial(b"k" * 32), CONTEXT), provider.describe):
        assert error_of(action).code == "key_ring_missing"
    assert not os.path.exists(os.path.dirname(path))


def test_the_ring_is_private(path):
    previous = os.umask(0)
    try:
        NativeProvider("native", path, None).create()
    finally:
        os.umask(previous)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700
    assert sorted(os.listdir(os.path.dirname(path))) == ["native.json", "native.json.lock"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o606, 0o644])
def test_a_ring_that_others_can_read_is_refused(provider, path, mode):
    os.chmod(path, mode)
    error = error_of(NativeProvider("native", path, None).describe)
    assert error.code == "key_ring_insecure" and "%04o" % mode in str(error) and path in str(error)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_ring_of_another_user_is_refused(provider, path):
    os.chown(path, 12345, 0)
    assert error_of(NativeProvider("native", path, None).describe).code == "key_ring_insecure"


def test_a_directory_in_the_place_of_the_ring(path):
    os.makedirs(path, mode=0o700)
    assert error_of(NativeProvider("native", path, None).describe).code == "key_ring_insecure"


def rewritten(path, change):
    with open(path, encoding="ascii") as file:
        fields = json.load(file)
    change(fields)
    with open(path, "w", encoding="ascii") as file:
        json.dump(fields, file)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: open(path, "w").close(),
        lambda path: os.truncate(path, os.path.getsize(path) // 2),
        lambda path: open(path, "ab").write(b"x"),
        lambda path: open(path, "wb").write(b"\xff\xfe{}"),
        lambda path: open(path, "w", encoding="ascii").write("[]"),
        lambda path: open(path, "w", encoding="ascii").write('{"digest": "0"}'),
        lambda path: rewritten(path, lambda fields: fields["keks"][0].update(key=base64.b64encode(b"k" * 32).decode())),
        lambda path: rewritten(path, lambda fields: fields["keks"][0].update(version=7)),
        lambda path: rewritten(path, lambda fields: fields.pop("digest")),
    ],
    ids=["empty", "cut", "longer", "binary", "list", "no fields", "other kek", "other version", "no digest"],
)
@pytest.mark.parametrize("passphrase", [None, "correct horse"], ids=["open", "sealed"])
def test_a_damaged_ring_is_refused_and_left_as_it_is(path, damage, passphrase):
    NativeProvider("native", path, passphrase).create()
    damage(path)
    with open(path, "rb") as file:
        before = file.read()
    provider = NativeProvider("native", path, passphrase)
    for action in (provider.describe, provider.create, provider.rotate):
        error = error_of(action)
        assert error.code == "key_ring_damaged" and path in str(error) and "backup" in str(error)
    with open(path, "rb") as file:
        assert file.read() == before


def signed(path, change):
    """Damage that keeps the digest right: what a careless editor with our code at hand would do."""
    with open(path, encoding="ascii") as file:
        fields = json.load(file)
    del fields["digest"]
    change(fields)
    fields["digest"] = hashlib.sha256(key_ring._canonical(fields)).hexdigest()
    with open(path, "w", encoding="ascii") as file:
        json.dump(fields, file)


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: fields.update(keks=[]),
        lambda fields: fields["keks"][0].update(key="c2hvcnQ="),
        lambda fields: fields["keks"][0].update(key="no base64!"),
        lambda fields: fields.update(sealing={"method": "scrypt", "salt": "AAAA", "n": 1 << 40, "r": 8, "p": 1}),
        lambda fields: fields.update(sealing={"method": "scrypt", "salt": "AAAA", "n": 1000, "r": 8, "p": 1}),
        lambda fields: fields.update(format="something else"),
        lambda fields: fields.pop("kek_id"),
    ],
)
def test_a_ring_with_impossible_fields_is_damaged(provider, path, change):
    signed(path, change)
    assert error_of(NativeProvider("native", path, "a passphrase").describe).code == "key_ring_damaged"


def test_a_ring_of_a_later_format(provider, path):
    signed(path, lambda fields: fields.update(format_version=2))
    assert error_of(NativeProvider("native", path, None).describe).code == "key_ring_newer"


# The passphrase


def test_a_sealed_ring_opens_with_its_passphrase_only(path):
    NativeProvider("native", path, "correct horse").create()
    provider = NativeProvider("native", path, "correct horse")
    wrapped = provider.wrap(KeyMaterial(b"k" * 32), CONTEXT)
    assert provider.describe().details["sealed"] is True
    assert error_of(NativeProvider("native", path, "battery staple").describe).code == "key_ring_passphrase_wrong"
    assert error_of(NativeProvider("native", path, None).describe).code == "key_ring_passphrase_missing"
    provider.rotate()
    assert NativeProvider("native", path, "correct horse").unwrap(wrapped, CONTEXT) == KeyMaterial(b"k" * 32)


def test_the_passphrase_costs_what_owasp_asks_for(path, monkeypatch):
    monkeypatch.undo()
    NativeProvider("native", path, "correct horse").create()
    with open(path, encoding="ascii") as file:
        parameters = json.load(file)["sealing"]
    assert (parameters["n"], parameters["r"], parameters["p"]) == (1 << 15, 8, 3)
    assert len(base64.b64decode(parameters["salt"])) == 16
    assert NativeProvider("native", path, "correct horse").health() is None


def test_no_kek_is_readable_in_a_sealed_ring(path):
    NativeProvider("native", path, "correct horse").create()
    ring = key_ring.read_key_ring(path, "correct horse")
    with open(path, "rb") as file:
        content = file.read()
    for kek in ring.keks.values():
        assert kek.reveal() not in content
        assert not any(spelling.encode() in content for spelling in kek.spellings())


def test_a_sealed_ring_that_was_changed_does_not_open(path):
    """With the digest made right again: the tag is made with the passphrase."""
    NativeProvider("native", path, "correct horse").create()
    signed(path, lambda fields: fields["keks"][0].update(created_at="2020-01-01T00:00:00Z"))
    assert error_of(NativeProvider("native", path, "correct horse").describe).code == "key_ring_passphrase_wrong"


def test_an_open_ring_is_sealed_later(provider, path):
    wrapped = provider.wrap(KeyMaterial(b"k" * 32), CONTEXT)
    later = NativeProvider("native", path, "correct horse")
    assert later.unsealed()
    later.seal()
    assert not later.unsealed()
    assert error_of(NativeProvider("native", path, None).describe).code == "key_ring_passphrase_missing"
    assert NativeProvider("native", path, "correct horse").unwrap(wrapped, CONTEXT) == KeyMaterial(b"k" * 32)


@pytest.mark.parametrize(
    "content,mode,code",
    [
        ("correct horse\n", 0o600, None),
        ("correct horse", 0o400, None),
        ("correct horse", 0o644, "passphrase_file_insecure"),
        ("\n", 0o600, "key_ring_passphrase_missing"),
        ("wrong", 0o600, "key_ring_passphrase_wrong"),
        (None, 0, "key_ring_passphrase_missing"),
    ],
)
def test_passphrase_file(path, tmp_path, content, mode, code):
    NativeProvider("native", path, "correct horse").create()
    file = tmp_path / "passphrase"
    if content is not None:
        file.write_text(content, encoding="utf-8")
        file.chmod(mode)
    settings_ = {"key_ring": path, "passphrase_file": str(file)}
    if code is None:
        assert open_native("native", settings_, None, str(tmp_path), None).describe().kek_version == 1
    else:
        assert error_of(lambda: open_native("native", settings_, None, str(tmp_path), None).describe()).code == code
    assert open_native("native", settings_, None, str(tmp_path), "correct horse").describe().kek_version == 1


# Writers


def test_two_that_make_a_ring_at_once_make_one(path, at_once):
    made = at_once(lambda _number: NativeProvider("native", path, None).create().kek_id, list(range(6)))
    assert len(set(made)) == 1


def test_writers_at_once_lose_nothing(provider, path, at_once):
    def rotate(_number):
        own = NativeProvider("native", path, None)
        for _time in range(5):
            own.rotate()
        return "done"

    assert at_once(rotate, list(range(4))) == ["done"] * 4
    assert list(NativeProvider("native", path, None).describe().kek_versions) == list(range(1, 22))


def test_a_restored_ring_is_never_overwritten(provider, path, monkeypatch):
    """The ring appears between the look and the write, put there by something that takes no lock."""
    before = provider.describe().kek_id
    late = NativeProvider("native", path, None)
    monkeypatch.setattr(late, "exists", lambda: False)
    assert error_of(late.create).code == "key_ring_unwritable"
    assert NativeProvider("native", path, None).describe().kek_id == before
    assert not os.path.exists(path + ".new")


def test_a_writer_that_hangs_is_named(provider, path, monkeypatch):
    monkeypatch.setattr(private_file, "LOCK_TIMEOUT", 0.1)
    with private_file.writer_lock(path):
        error = error_of(provider.rotate)
    assert error.code == "key_ring_busy" and path in str(error)


WRITER = """
import sys
from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._key_providers.native import NativeProvider
provider = NativeProvider("native", sys.argv[1], None)
print("ready", flush=True)
while True:
    provider.rotate()
"""


def test_kill_9_while_writing_leaves_the_old_ring_or_the_new_one(provider, path):
    wrapped = provider.wrap(KeyMaterial(b"k" * 32), CONTEXT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    versions = [1]
    for round_ in range(8):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, env=environment)
        assert writer.stdout.readline() == b"ready\n"
        time.sleep(0.01 + 0.013 * round_)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        fresh = NativeProvider("native", path, None)
        assert fresh.unwrap(wrapped, CONTEXT) == KeyMaterial(b"k" * 32)
        versions.append(fresh.describe().kek_version)
    assert versions == sorted(versions) and versions[-1] > 1
    # The lock of a killed writer is gone, and so is its half-written file after the next write.
    fresh.rotate()
    assert sorted(os.listdir(os.path.dirname(path))) == ["native.json", "native.json.lock"]


def test_a_full_or_read_only_place(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert error_of(NativeProvider("native", str(tmp_path / "file" / "ring.json"), None).create).code == "key_ring_unwritable"


def test_destroy_can_be_repeated(provider, path):
    provider.destroy()
    provider.destroy()
    assert not os.path.exists(path)
    NativeProvider("native", path + "/no/such/place", None).destroy()


# The ring that the registry means


@pytest.mark.parametrize(
    "use",
    [
        lambda provider: provider.wrap(KeyMaterial(b"k" * 32), CONTEXT),
        lambda provider: provider.unwrap(WrappedKey("wanted", 1, "AES-256-GCM", b"x" * 60), CONTEXT),
        NativeProvider.describe,
        NativeProvider.rotate,
        NativeProvider.seal,
        NativeProvider.destroy,
        NativeProvider.refuse_removal,
    ],
    ids=["wrap", "unwrap", "describe", "rotate", "seal", "destroy", "refuse_removal"],
)
def test_another_ring_is_used_for_nothing(provider, path, use):
    with open(path, "rb") as file:
        before = file.read()
    error = error_of(use, NativeProvider("native", path, "correct horse", "wanted"))
    assert error.code == "key_ring_other"
    for part in (provider.describe().kek_id, "KEK wanted", path):
        assert part in str(error)
    with open(path, "rb") as file:
        assert file.read() == before


def test_the_ring_of_the_registry_is_used(provider, path):
    same = NativeProvider("native", path, None, provider.describe().kek_id)
    same.rotate()
    assert same.unwrap(same.wrap(KeyMaterial(b"k" * 32), CONTEXT), CONTEXT) == KeyMaterial(b"k" * 32)
    same.destroy()
    assert "KEK " + same.kek_id in str(error_of(NativeProvider("native", path, None, same.kek_id).describe))


def test_a_place_that_cannot_be_looked_at_is_not_a_place_without_a_ring(tmp_path):
    os.symlink("loop", tmp_path / "loop")
    assert error_of(NativeProvider("native", str(tmp_path / "loop" / "ring.json"), None).exists).code == "file_unreadable"


# Choosing a provider


def test_an_unknown_type_is_named(tmp_path):
    error = error_of(open_provider, "vault", "vault", {}, None, str(tmp_path), None)
    assert error.code == "key_provider_type_unknown" and "vault" in str(error)


def test_m8_a_missing_library_is_named_and_others_still_work(tmp_path, monkeypatch, path):
    from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._core.dependencies import Dependency
    from ansible_collections.trustedvm.libvirt.plugins.plugin_utils._key_providers.loader import TYPES

    class NeedsMore(NativeProvider):
        DEPENDENCIES = (Dependency("no_such_library_here", "no-such-library>=3", "The key provider type other"),)

    types = {**TYPES, "other": (NeedsMore, open_native)}
    error = error_of(open_provider, "hsm", "other", {}, None, str(tmp_path), None, types)
    assert error.code == "missing_dependency"
    assert "pip install 'no-such-library>=3'" in str(error)
    open_provider("native", "native", {"key_ring": path}, None, str(tmp_path), None, types).create()


def test_m8_native_without_cryptography(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    error = error_of(open_provider, "native", "native", {}, None, str(tmp_path), None)
    assert error.code == "missing_dependency" and "cryptography" in str(error)


def test_the_default_ring_is_in_the_state_directory(tmp_path):
    assert open_native("production", {}, None, str(tmp_path), None).path == str(tmp_path / "key-rings" / "production.json")


def test_wrapped_bytes_are_not_in_the_records_text():
    assert "secretish" not in repr(WrappedKey("kek", 1, "AES-256-GCM", b"secretish"))
