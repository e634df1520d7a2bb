"""A sealed record opens in its place, with its key, unchanged, and not otherwise."""

from __future__ import annotations

import copy
import hmac
import pickle
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from broker.errors import LocalError
from broker.keys.sealing import SealingKey, load_sealing_key

STORE = b"s" * 16
KEY = SealingKey(b"k" * 32)


def sealed(value: bytes = b"value", key: SealingKey = KEY) -> bytes:
    return key.seal(value, store=STORE, name="grant/a", generation=7)


def test_what_was_sealed_opens_in_its_place():
    """An empty value too."""
    for value in (b"", b"value", bytes(100_000)):
        assert KEY.unseal(sealed(value), store=STORE, name="grant/a", generation=7) == value


@pytest.mark.parametrize(
    "elsewhere", [{"store": b"t" * 16}, {"name": "grant/b"}, {"name": "grant/"}, {"generation": 6}, {"generation": 8}]
)
def test_it_does_not_open_in_another_place(elsewhere: dict[str, object]):
    """Neither under another name, nor as a later write, nor in another store."""
    place = {"store": STORE, "name": "grant/a", "generation": 7} | elsewhere

    assert KEY.unseal(sealed(), **place) is None  # type: ignore[arg-type]


def test_it_does_not_open_with_another_key():
    """Not even with a longer one that begins alike."""
    for master in (b"o" * 32, b"k" * 33):
        assert SealingKey(master).unseal(sealed(), store=STORE, name="grant/a", generation=7) is None


def test_no_altered_byte_and_no_cut_is_accepted():
    """Every bit of every byte, and every length."""
    good = sealed()
    altered = [
        good[:at] + bytes([good[at] ^ (1 << bit)]) + good[at + 1 :] for at in range(len(good)) for bit in range(8)
    ]
    cut = [good[:length] for length in range(len(good))] + [good + b"\0"]

    opened = [KEY.unseal(item, store=STORE, name="grant/a", generation=7) for item in (*altered, *cut)]

    assert len(opened) == len(good) * 9 + 1
    assert set(opened) == {None}


def test_two_writes_have_nothing_in_common():
    """The same value twice: another salt, another key, another tag; and no value stands in it."""
    first, second = sealed(b"refresh-token"), sealed(b"refresh-token")

    assert first[1:33] != second[1:33]
    assert first[-16:] != second[-16:]
    assert b"refresh" not in first


def test_it_is_aes_gcm_under_hkdf_as_the_page_says():
    """Made again by hand from RFC 5869: a store can be read without this program."""
    good = sealed()
    salt, ciphertext = good[1:33], good[33:]
    extracted = hmac.digest(salt, b"k" * 32, "sha256")
    key = hmac.digest(extracted, b"token-broker store v1 record\x01", "sha256")
    place = b"\x01" + STORE + (7).to_bytes(8) + (7).to_bytes(2) + b"grant/a"

    assert good[:1] == b"\x01"
    assert AESGCM(key).decrypt(bytes(12), ciphertext, place) == b"value"


def test_macs_and_check_values_depend_on_key_and_store():
    """And on each other in no way."""
    other = SealingKey(b"o" * 32)
    macs = {KEY.mac(b"x", store=STORE), KEY.mac(b"y", store=STORE), KEY.mac(b"x", store=b"t" * 16)}
    macs |= {other.mac(b"x", store=STORE), KEY.mac(b"", store=STORE)}

    assert len(macs) == 5
    assert {len(mac) for mac in macs} == {32}
    assert KEY.mac(b"x", store=STORE) == SealingKey(b"k" * 32).mac(b"x", store=STORE)
    checks = {KEY.check_value(STORE), KEY.check_value(b"t" * 16), other.check_value(STORE)}
    assert len(checks) == 3
    assert {len(check) for check in checks} == {16}


def test_a_key_does_not_show_and_is_not_copied_out():
    """Not printed, formatted, pickled or copied."""
    assert repr(KEY) == str(KEY) == f"{KEY}" == "SealingKey(***)"
    with pytest.raises(TypeError):
        pickle.dumps(KEY)
    with pytest.raises(TypeError):
        copy.copy(KEY)


def test_a_key_is_read_from_a_private_file(tmp_path: Path):
    """All of its bytes count."""
    file = tmp_path / "store.key"
    file.write_bytes(b"k" * 32)
    file.chmod(0o600)

    assert load_sealing_key(file).unseal(sealed(), store=STORE, name="grant/a", generation=7) == b"value"


@pytest.mark.parametrize(("content", "mode", "code"), [(31, 0o600, "store_key_short"), (32, 0o644, "file_permissions")])
def test_a_short_or_open_key_is_refused(tmp_path: Path, content: int, mode: int, code: str):
    """With the command that makes a good one."""
    file = tmp_path / "store.key"
    file.write_bytes(bytes(content))
    file.chmod(mode)

    with pytest.raises(LocalError) as caught:
        load_sealing_key(file)

    assert caught.value.code == code
    assert caught.value.hint
