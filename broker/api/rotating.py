"""
``POST /v1/rotate``: the files are looked at now, for operators; an addition to the routes that workloads use.

A signal would do for the look, but it carries no name of what is compromised, and gives no answer. Whoever may ask
for it, root and the uid of the broker, could replace the files as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass


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

    *dropped* are those of which something older was in use that was said to be compromised.
    """

    rotated: tuple[str, ...] = ()
    refused: tuple[RefusedItem, ...] = ()
    dropped: tuple[str, ...] = ()


Rotate = Callable[[Collection[str]], Awaitable[Rotated]]
"""Looks at the files; of the sections given nothing older is used from then on."""
