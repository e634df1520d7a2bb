"""The port through which records are sealed: ``broker.keys.sealing`` implements it with a master key."""

from __future__ import annotations

from typing import Protocol

TAG_BYTES = 16
"""A sealed value ends with its authentication tag, which no two sealed values share."""

MAC_BYTES = 32
"""A full HMAC-SHA256."""

STORE_ID_BYTES = 16
"""As random as a version 4 UUID."""

CHECK_BYTES = 16
"""Enough that two master keys never have the same check value."""


class Sealer(Protocol):
    """
    One master key. *store* is the id of the store: what was sealed for one does not open in another.

    None of these raises anything, and none may be slow: they are called once for each record.
    """

    def check_value(self, store: bytes) -> bytes:
        """Give 16 bytes that tell whether this is the right key and nothing else about it."""

    def seal(self, value: bytes, *, store: bytes, name: str, generation: int) -> bytes:
        """Encrypt and authenticate *value* for its place; the last 16 bytes are the tag."""

    def unseal(self, sealed: bytes, *, store: bytes, name: str, generation: int) -> bytes | None:
        """Give the value; None if *sealed* was not sealed by this key for this place."""

    def mac(self, content: bytes, *, store: bytes) -> bytes:
        """Give 32 bytes that only this key can make of *content*."""
