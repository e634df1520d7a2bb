"""
What stands in a store file beside the records, to the byte. Pure.

- *identity*: version, store id, check value of the master key, and a checksum: so that a damaged identity is
  not taken for a wrong key. It is kept twice, on different pages of the file.
- *listing* of a bucket: flags, generation, tag and name of each record in it, then a MAC.
- *head*: version, flags, write counter, the ends of the MACs of all listings, then a MAC.

MACs begin with what they are of, so that none passes for another. Integers are big-endian.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from broker.storage.sealer import CHECK_BYTES, MAC_BYTES, STORE_ID_BYTES, TAG_BYTES, Sealer

VERSION = 1

CHECKSUM_BYTES = 8
"""Against accidents: whoever can write the file can write a checksum, and gains a broker that refuses to start."""

_HEAD = struct.Struct(">BBQ")
_LISTED = struct.Struct(f">BQ{TAG_BYTES}sB")
_SUSPECT = 1
_ANCHORED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Which store this is, and which key it was sealed with."""

    store: bytes
    check: bytes


class Listed(NamedTuple):
    """What a listing says of a record. A tuple, because each change of one makes those of all others of its bucket."""

    name: str
    generation: int
    tag: bytes
    suspect: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """*counter* counts writes, *anchored* says that an anchor was kept then, *tags* are those of the listings."""

    counter: int
    anchored: bool
    tags: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of the table of records, as it is in the file or shall be."""

    row: int
    name: str
    generation: int
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """A whole file."""

    identity: bytes
    rows: tuple[Row, ...]
    listings: Mapping[int, bytes]
    head: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """
    What could be read of a file; nothing in it is trusted yet.

    *whole*: the database found nothing wrong with itself.
    """

    identities: tuple[bytes, ...]
    rows: tuple[Row, ...]
    listings: Mapping[int, bytes]
    head: bytes | None
    whole: bool


def encode_identity(store: bytes, check: bytes) -> bytes:
    """Give the identity with its checksum."""
    content = bytes([VERSION]) + store + check
    return content + _checksum(content)


def decode_identity(encoded: bytes) -> Identity | None:
    """Give the identity, or None if it is damaged."""
    content, checksum = encoded[:-CHECKSUM_BYTES], encoded[-CHECKSUM_BYTES:]
    if len(content) != 1 + STORE_ID_BYTES + CHECK_BYTES or checksum != _checksum(content) or content[0] != VERSION:
        return None
    return Identity(store=content[1 : 1 + STORE_ID_BYTES], check=content[1 + STORE_ID_BYTES :])


def encode_listing(bucket: int, listed: Iterable[Listed], store: bytes, sealer: Sealer) -> bytes:
    """Give the listing of *bucket* with its MAC."""
    parts = []
    for name, generation, tag, suspect in listed:
        written = name.encode("ascii")
        parts.append(_LISTED.pack(_SUSPECT * suspect, generation, tag, len(written)) + written)
    content = b"".join(parts)
    return content + _mac(b"listing", bucket.to_bytes(2) + content, store, sealer)


def decode_listing(bucket: int, encoded: bytes, store: bytes, sealer: Sealer) -> tuple[Listed, ...] | None:
    """Give what is listed, or None if this is not what the broker wrote for *bucket*."""
    content, mac = encoded[:-MAC_BYTES], encoded[-MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(b"listing", bucket.to_bytes(2) + content, store, sealer)):
        return None
    listed = []
    at = 0
    while at < len(content):
        flags, generation, tag, length = _LISTED.unpack_from(content, at)
        at += _LISTED.size
        name = content[at : at + length].decode("ascii")
        at += length
        listed.append(Listed(name=name, generation=generation, tag=tag, suspect=bool(flags & _SUSPECT)))
    return tuple(listed)


def encode_head(head: Head, store: bytes, sealer: Sealer) -> bytes:
    """Give the head with its MAC."""
    content = _HEAD.pack(VERSION, _ANCHORED * head.anchored, head.counter) + b"".join(head.tags)
    return content + _mac(b"head", content, store, sealer)


def decode_head(encoded: bytes, store: bytes, sealer: Sealer) -> Head | None:
    """Give the head, or None if this is not what the broker wrote."""
    content, mac = encoded[:-MAC_BYTES], encoded[-MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(b"head", content, store, sealer)):
        return None
    _, flags, counter = _HEAD.unpack_from(content)
    tags = content[_HEAD.size :]
    return Head(
        counter=counter,
        anchored=bool(flags & _ANCHORED),
        tags=tuple(tags[at : at + TAG_BYTES] for at in range(0, len(tags), TAG_BYTES)),
    )


def _mac(kind: bytes, content: bytes, store: bytes, sealer: Sealer) -> bytes:
    return sealer.mac(kind + b"\0" + content, store=store)


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()[:CHECKSUM_BYTES]
