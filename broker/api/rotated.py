"""What a look at the files brings, and who makes it: the port through which an operator asks for one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedItem:
    """Files that changed and cannot be used: *item* is their section, *reason* a code, *problem* for people."""

    item: str
    reason: str
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """
    What came of a look at the files, by the sections that they belong to.

    *dropped* are those of which something older was in use that was said to be compromised. *adopted*: what was asked
    for was carried out; else everything is as it was before.
    """

    rotated: tuple[str, ...] = ()
    refused: tuple[RefusedItem, ...] = ()
    dropped: tuple[str, ...] = ()
    adopted: bool = True


class Rotate(Protocol):
    """Looks at the files that may be replaced while the daemon runs: implemented by ``daemon.rotation``."""

    def sections(self) -> Collection[str]:
        """Name the sections that can be compromised: ``certificate.NAME`` and ``key.NAME``."""

    async def rotate(self, compromised: Collection[str]) -> Rotated:
        """Look now, and say what came of it; of the sections *compromised* nothing older is used from then on."""
