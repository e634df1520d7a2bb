"""
Metrics of which there is a series for each token: kept as plain numbers, and written in pieces.

There may be ten thousand tokens. The library takes kilobytes for a series and a hundredth of a millisecond to
write one, all of them in one go, for which the loop would stand still. What it writes for the few others is
what is written here: text exposition format 0.0.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")

SUCCESS = "success"
"""The outcome that every token has from the start, at 0. Another one is there once it has occurred."""

PIECE = 250
"""Tokens in a piece: written in half a millisecond, as long as a caller of the broker may wait for it."""

REFRESHES = "token_broker_refresh_total"
EXPIRIES = "token_broker_token_expires_timestamp_seconds"
AVAILABLE = "token_broker_token_available"


class Refreshes:
    """Counts refreshes by token and outcome; whoever counts makes sure that both are from a closed set."""

    def __init__(self) -> None:
        self._successes: dict[
            str, int
        ] = {}  # apart, because most tokens have no other outcome: 230 bytes less for each
        self._others: dict[str, dict[str, int]] = {}

    def expect(self, token: str) -> None:
        """Start the series of *token*, unless it has been."""
        self._successes.setdefault(token, 0)

    def count(self, token: str, outcome: str) -> None:
        """Count one."""
        self.expect(token)
        if outcome == SUCCESS:
            self._successes[token] += 1
        else:
            outcomes = self._others.setdefault(token, {})
            outcomes[outcome] = outcomes.get(outcome, 0) + 1

    def pieces(self) -> Iterator[bytes]:
        """Write all series; between two pieces more may be counted."""
        yield head(
            REFRESHES, "counter", "Requests for a new access token, by outcome: success or the reason of the failure."
        )
        for tokens in _batches(tuple(self._successes)):
            yield "".join(
                f'{REFRESHES}{{outcome="{escaped(outcome)}",token="{escaped(token)}"}} {count}.0\n'
                for token in tokens
                for outcome, count in self._outcomes(token)
            ).encode()

    def _outcomes(self, token: str) -> Iterator[tuple[str, int]]:
        yield SUCCESS, self._successes[token]
        yield from self._others.get(token, {}).items()


def expiries(tokens: Iterable[tuple[str, float | None]]) -> Iterator[bytes]:
    """Write when each of *tokens* ends, in Unix time; *tokens* may be found out one by one as they are written."""
    yield head(EXPIRIES, "gauge", "Unix time when the token that is served expires; absent while there is none.")
    for batch in _batches(tokens):
        yield "".join(
            f'{EXPIRIES}{{token="{escaped(name)}"}} {expires_at!r}\n'
            for name, expires_at in batch
            if expires_at is not None
        ).encode()


def availabilities(tokens: Iterable[tuple[str, bool]]) -> Iterator[bytes]:
    """Write which of *tokens* can be served: a token that is dead has a series, too, unlike its end."""
    yield head(AVAILABLE, "gauge", "1 while a token can be served, or nobody asks for it; 0 while it is missing.")
    for batch in _batches(tokens):
        yield "".join(f'{AVAILABLE}{{token="{escaped(name)}"}} {int(good)}.0\n' for name, good in batch).encode()


def _batches(items: Iterable[T]) -> Iterator[tuple[T, ...]]:
    iterator = iter(items)
    while batch := tuple(islice(iterator, PIECE)):
        yield batch


def head(name: str, kind: str, meaning: str) -> bytes:
    """Write the two lines above the series of a metric."""
    return f"# HELP {name} {meaning}\n# TYPE {name} {kind}\n".encode()


def escaped(value: str) -> str:
    """Write the value of a label."""
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
