"""A sealer without a cipher; and without an import of one, for programs that start often."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass


@dataclass(frozen=True)
class PlainSealer:
    """A sealer that hides nothing and is quick: for what does not depend on the cipher."""

    key: bytes = b"k"

    def check_value(self, store: bytes) -> bytes:
        return self.mac(b"check", store=store)[:16]

    def seal(self, value: bytes, *, store: bytes, name: str, generation: int) -> bytes:
        return value + self._tag(value, store, name, generation)

    def unseal(self, sealed: bytes, *, store: bytes, name: str, generation: int) -> bytes | None:
        value, tag = sealed[:-16], sealed[-16:]
        return value if tag == self._tag(value, store, name, generation) else None

    def mac(self, content: bytes, *, store: bytes) -> bytes:
        return hmac.digest(self.key + store, content, "sha256")

    def _tag(self, value: bytes, store: bytes, name: str, generation: int) -> bytes:
        return hashlib.sha256(b"|".join((self.key, store, name.encode(), str(generation).encode(), value))).digest()[
            :16
        ]
