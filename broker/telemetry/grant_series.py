"""
Metrics of grants, put together from all of them when somebody looks: there may be ten thousand.

Labels are the token and a state of a closed set, never a grant: what is counted is bounded by the configuration.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from broker.telemetry.token_series import escaped, head

GRANTS = "token_broker_grants"
CONSENTS = "token_broker_consent_expires_timestamp_seconds"

CONSENT_REQUIRED = "consent_required"
STATES = ("fresh", "stale", "pending", "unavailable", CONSENT_REQUIRED)
"""States of a grant, as callers see them."""

PIECE = 50
"""Grants that are looked at before others have their turn: half a millisecond."""

Sighting = tuple[str, str, float | None, float | None]
"""Of a grant: its token, its state, and the Unix times when its access token and its consent end, None without."""


class Survey:
    """What was seen of the grants of *tokens*."""

    def __init__(self, tokens: Iterable[str]) -> None:
        self.ends: dict[str, float] = {}
        self._counts = Counter({(token, state): 0 for token in tokens for state in STATES})
        self._consents: dict[str, float] = {}

    def take(self, grants: Iterable[Sighting]) -> Iterator[bytes]:
        """Look at *grants*, found out one by one; gives nothing, again and again, for others to have their turn."""
        for number, (token, state, ends, consent_ends) in enumerate(grants):
            self._counts[token, state] += 1
            if ends is not None:
                self.ends[token] = min(ends, self.ends.get(token, ends))
            # The consent of a grant that has ended is over already, whatever was said of it.
            if consent_ends is not None and state != CONSENT_REQUIRED:
                self._consents[token] = min(consent_ends, self._consents.get(token, consent_ends))
            if number % PIECE == PIECE - 1:
                yield b""

    def pieces(self) -> Iterator[bytes]:
        """Write the series, but for *ends*, which go with those of other tokens."""
        yield head(GRANTS, "gauge", "Grants that people gave for a token, by state.")
        yield "".join(
            f'{GRANTS}{{state="{escaped(state)}",token="{escaped(token)}"}} {count}.0\n'
            for (token, state), count in self._counts.items()
        ).encode()
        yield head(
            CONSENTS, "gauge", "Unix time when the first consent to a token ends; absent where that is not known."
        )
        yield "".join(
            f'{CONSENTS}{{token="{escaped(token)}"}} {ends!r}\n' for token, ends in self._consents.items()
        ).encode()
