"""
The anchor: a small file elsewhere that knows how far the store had got, and so tells a copy from the store.

It is written after each transaction and before anybody is told that it is done. The store may be ahead of it
by what a crash cut off, but never behind. An anchor is only as good as its place: on the same volume it is
rolled back together with the store.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from broker.storage.files import FILE_MODE, sync_directory
from broker.storage.sealer import Sealer

MAX_BYTES = 1024
"""Bytes that are read of it; it has some 250."""

_FORM = re.compile(
    rb"token-broker anchor v1\nstore ([0-9a-f]{32})\ncounter ([0-9]{1,19})\nhead ([0-9a-f]{64})\nmac ([0-9a-f]{64})\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """How far a store has got: its id, the counter of its last write and the MAC of the head of that."""

    store: bytes
    counter: int
    head: bytes


class Contradiction(StrEnum):
    """How an anchor and a store do not go together."""

    LATER = "later"
    """The anchor knows of a later write than the store has: the store is an older copy."""
    OTHER_STORE = "other_store"
    """The anchor is another store's."""
    MISSING = "missing"
    """There is no anchor, and the store had one."""
    UNREADABLE = "unreadable"
    """There is one, and it is damaged, of another key, or cannot be read."""


class Anchor:
    """The file *path*, which is replaced as a whole each time."""

    def __init__(self, path: Path, sealer: Sealer) -> None:
        self._path = path
        self._sealer = sealer

    def under(self, sealer: Sealer) -> Anchor:
        """Give the same file under another key."""
        return Anchor(self._path, sealer)

    def read(self) -> tuple[Mark | None, bool]:
        """
        Give the mark and whether there is a file.

        A file without a mark of ours is damaged, of another key, or cannot be read: all of that says the same.
        """
        try:
            with self._path.open("rb") as file:
                content = file.read(MAX_BYTES)
        except FileNotFoundError:
            return None, False
        except OSError:
            return None, True
        match = _FORM.fullmatch(content)
        if match is None:
            return None, True
        mark = Mark(
            store=bytes.fromhex(match[1].decode()), counter=int(match[2]), head=bytes.fromhex(match[3].decode())
        )
        genuine = hmac.compare_digest(bytes.fromhex(match[4].decode()), self._mac(mark))
        return (mark if genuine else None), True

    def write(self, mark: Mark) -> None:
        """Replace the mark, durably. Raises OSError."""
        lines = ("token-broker anchor v1", f"store {mark.store.hex()}", f"counter {mark.counter}")
        content = "\n".join((*lines, f"head {mark.head.hex()}", f"mac {self._mac(mark).hex()}", ""))
        new = self._path.with_name(f"{self._path.name}.new")
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
        try:
            try:
                os.write(descriptor, content.encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            new.rename(self._path)
        finally:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
        sync_directory(self._path.parent)

    def _mac(self, mark: Mark) -> bytes:
        return self._sealer.mac(b"anchor\0" + mark.counter.to_bytes(8) + mark.head, store=mark.store)


def contradiction(mark: Mark | None, *, present: bool, was_anchored: bool, now: Mark) -> Contradiction | None:
    """
    Say how the anchor contradicts that the store is at *now*; None if it does not.

    *mark* and *present* are what the anchor gave, *was_anchored* that the store knows of having had one.
    """
    if mark is None:
        lost = Contradiction.MISSING if was_anchored else None
        return Contradiction.UNREADABLE if present else lost
    if mark.store != now.store:
        return Contradiction.OTHER_STORE
    is_later = mark.counter > now.counter or (mark.counter == now.counter and mark != now)
    return Contradiction.LATER if is_later else None
