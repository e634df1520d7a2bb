"""Identity, listing and head come back as they were written, and not at all when one bit differs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from broker.storage.values import (
    Head,
    Identity,
    Listed,
    Row,
    decode_head,
    decode_identity,
    decode_listing,
    encode_head,
    encode_identity,
    encode_listing,
)
from tests.unit.storage.places import KEY, OTHER_KEY

STORE = b"s" * 16
CHECK = b"c" * 16
LISTED = (
    Listed(name="grant/a", generation=1, tag=b"a" * 16, suspect=False),
    Listed(name="pending/bb", generation=2**60, tag=b"b" * 16, suspect=True),
)
HEAD = Head(counter=9, anchored=True, tags=(b"t" * 16, b"u" * 16))


def damaged(good: bytes) -> Iterator[bytes]:
    """Give *good* with each bit turned, and of each shorter length."""
    for at in range(len(good)):
        for bit in range(8):
            yield good[:at] + bytes([good[at] ^ (1 << bit)]) + good[at + 1 :]
        yield good[:at]


def test_an_identity_comes_back():
    """Damage is told from another identity."""
    encoded = encode_identity(STORE, CHECK)

    assert decode_identity(encoded) == Identity(store=STORE, check=CHECK)
    assert {decode_identity(item) for item in damaged(encoded)} == {None}


def test_a_listing_comes_back_for_its_bucket_and_key():
    """An empty one too."""
    encoded = encode_listing(5, LISTED, STORE, KEY)

    assert decode_listing(5, encoded, STORE, KEY) == LISTED
    assert decode_listing(5, encode_listing(5, (), STORE, KEY), STORE, KEY) == ()
    assert decode_listing(6, encoded, STORE, KEY) is None
    assert decode_listing(5, encoded, b"t" * 16, KEY) is None
    assert decode_listing(5, encoded, STORE, OTHER_KEY) is None
    assert {decode_listing(5, item, STORE, KEY) for item in damaged(encoded)} == {None}


@pytest.mark.parametrize("head", [HEAD, Head(counter=0, anchored=False, tags=())])
def test_a_head_comes_back(head: Head):
    """It cannot be taken for a listing, nor a listing for a head."""
    encoded = encode_head(head, STORE, KEY)

    assert decode_head(encoded, STORE, KEY) == head
    assert decode_head(encoded, STORE, OTHER_KEY) is None
    assert {decode_head(item, STORE, KEY) for item in damaged(encoded)} == {None}
    assert decode_listing(0, encoded, STORE, KEY) is None
    assert decode_head(encode_listing(0, LISTED, STORE, KEY), STORE, KEY) is None


def test_nothing_sealed_is_printed():
    """Ciphertext in a log helps nobody."""
    assert "sealed" not in repr(Row(row=1, name="grant/a", generation=1, sealed=b"x"))
