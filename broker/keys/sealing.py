"""
Sealing of stored records with a master key: AES-256-GCM, a fresh key for each write (rules.md R3).

The key of one write is HKDF-SHA256 (RFC 5869) of the master key with a random salt of 32 bytes. It encrypts
one message, so its nonce may be constant, and no number of writes wears the master key out (a single AES-GCM
key is good for 2**32 messages). Version, store, name and generation are associated data: a sealed record
opens in its place only. MACs and the check value come from keys of their own, so that neither tells anything
about the others.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from broker.errors import LocalError
from broker.keys.files import read_private

VERSION = b"\x01"
"""The first byte of everything sealed; another scheme gets another one."""

MIN_MASTER_BYTES = 32
"""As many as the ciphers take; fewer would be the weakest part."""

SALT_BYTES = 32
"""So many that two writes never get the same key."""

TAG_BYTES = 16
CHECK_BYTES = 16

_NONCE = bytes(12)
"""Constant, because each key is used for one message."""

_RECORD = b"token-broker store v1 record"
_MAC = b"token-broker store v1 mac"
_CHECK = b"token-broker store v1 key check"
"""What a derived key is for (RFC 5869 section 3.2)."""

RandomBytes = Callable[[int], bytes]


@final
class SealingKey:
    """Implements ``storage.sealer.Sealer`` with a master key in memory. It has no printable form."""

    __slots__ = ("_derived", "_master", "_random_bytes")

    def __init__(self, master: bytes, *, random_bytes: RandomBytes = secrets.token_bytes) -> None:
        self._master = master
        self._random_bytes = random_bytes
        self._derived: tuple[bytes, bytes] | None = None

    def __repr__(self) -> str:
        return "SealingKey(***)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is not serialized")

    def check_value(self, store: bytes) -> bytes:
        """Give 16 bytes that tell whether this is the right key and nothing else about it."""
        return self._derive(store, _CHECK)[:CHECK_BYTES]

    def seal(self, value: bytes, *, store: bytes, name: str, generation: int) -> bytes:
        """Encrypt and authenticate *value* for its place: version, salt, ciphertext, tag."""
        salt = self._random_bytes(SALT_BYTES)
        cipher = AESGCM(self._derive(salt, _RECORD))
        return VERSION + salt + cipher.encrypt(_NONCE, value, _place(store, name, generation))

    def unseal(self, sealed: bytes, *, store: bytes, name: str, generation: int) -> bytes | None:
        """Give the value; None if *sealed* was not sealed by this key for this place."""
        start = len(VERSION) + SALT_BYTES
        if not sealed.startswith(VERSION) or len(sealed) < start + TAG_BYTES:
            return None
        cipher = AESGCM(self._derive(sealed[len(VERSION) : start], _RECORD))
        try:
            return cipher.decrypt(_NONCE, sealed[start:], _place(store, name, generation))
        except InvalidTag:
            return None

    def mac(self, content: bytes, *, store: bytes) -> bytes:
        """Give 32 bytes that only this key can make of *content*."""
        if self._derived is None or self._derived[0] != store:
            self._derived = (store, self._derive(store, _MAC))
        return hmac.digest(self._derived[1], content, "sha256")

    def _derive(self, salt: bytes, purpose: bytes) -> bytes:
        return HKDF(algorithm=SHA256(), length=32, salt=salt, info=purpose).derive(self._master)


def load_sealing_key(file: Path) -> SealingKey:
    """
    Read a master key: at least 32 random bytes, all of which count.

    Blocks. Raises LocalError ``store_key_short`` or one of ``files``.
    """
    master = read_private(file)
    if len(master) < MIN_MASTER_BYTES:
        message = f"{file}: a key of the store has at least {MIN_MASTER_BYTES} bytes"
        raise LocalError("store_key_short", message, hint="token-broker keygen store FILE")
    return SealingKey(master)


def _place(store: bytes, name: str, generation: int) -> bytes:
    """Give the associated data; each part has one length or says it, so that no two places look alike."""
    encoded = name.encode()
    return b"".join((VERSION, store, generation.to_bytes(8), len(encoded).to_bytes(2), encoded))
