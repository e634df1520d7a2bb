"""
The port of the store: where grants, refresh tokens and pending authorizations are while nobody uses them.

Values are opaque bytes here; ``broker.storage`` implements the port and never learns what they mean. Names
are not secret: they stand in the file, in events and in messages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

Durability = Literal["durable", "degraded", "none"]
"""
``durable``: what was acknowledged is on the disk. ``degraded``: it is, but the last attempt to write failed.
``none``: nothing outlives the process.
"""

MAX_NAME = 128
"""Bytes; a kind and an id of 256 bits in base64url have about 60."""

MAX_VALUE = 1024 * 1024
"""Bytes; the largest answer of a token endpoint that is read has 64 KiB, and a grant keeps two of its tokens."""

_NAME = re.compile(r"[a-z]+/[A-Za-z0-9._~-]+")


def check_name(name: str) -> str:
    """Give *name*, a kind and an id with a slash between them. Raises ValueError for anything else."""
    if len(name) > MAX_NAME or not _NAME.fullmatch(name):
        raise ValueError("the name of a record is KIND/ID, in ASCII, of at most 128 bytes")
    return name


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """Store *value* under *name*, whatever was there before. Raises ValueError for a bad name or too much."""

    name: str
    value: bytes = field(repr=False)

    def __post_init__(self) -> None:
        check_name(self.name)
        if len(self.value) > MAX_VALUE:
            raise ValueError("the value of a record is too large")


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Remove what is under *name*; nothing happens if there is nothing. Raises ValueError for a bad name."""

    name: str

    def __post_init__(self) -> None:
        check_name(self.name)


Change = Put | Delete


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRecord:
    """
    What is under *name*.

    *suspect*: it is what the broker once wrote, but perhaps not the last it wrote, or something beside it is
    missing or changed (rules.md R3). It may be tried once. Writing it anew ends the suspicion.
    """

    name: str
    value: bytes = field(repr=False)
    suspect: bool


class Store(Protocol):
    """Opened before anything else begins, and written to from one event loop."""

    @property
    def durability(self) -> Durability:
        """Say how much an acknowledgement is worth now."""

    @property
    def rolled_back(self) -> bool:
        """Say whether the anchor knows of a newer store: rotating grants then wait for ``accept``."""

    def records(self, kind: str = "") -> Mapping[str, StoredRecord]:
        """
        Give what is stored under names that begin with *kind*, by name, as it was last acknowledged.

        Opens each record, some 20 microseconds for one: for the start, not for each request.
        """

    async def write(self, changes: Sequence[Change]) -> None:
        """
        Do all *changes*, in their order, or none; they are durable when this returns.

        Raises LocalError ``store_unavailable``: it is then not known whether they are durable (a disk that
        fails may have kept them), but never are only some. The caller keeps the values and writes them
        again; that repairs the store as soon as the disk lets it. A caller that is cancelled does not
        take its changes back.
        """

    async def prove_writable(self) -> None:
        """
        Show that a write would succeed now, by one that is synced; shared with others, and good for a moment.

        Raises LocalError ``store_unavailable``.
        """

    async def close(self) -> None:
        """Finish what was begun and let go of the file. Twice does no harm; nothing can be written after it."""
