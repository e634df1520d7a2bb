"""
What the sandbox saw: counters for ever, the latest requests in detail, and never a secret.

Tests assert on it ("the server saw one token request"); people look at it to understand what a broker does.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

KEPT = 1_000
"""Requests kept in detail; less than a megabyte. The counters go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """
    One request.

    *time* in Unix seconds. *endpoint* is ``token``, ``metadata``, ``jwks``, ``resource``, ``authorize``, ``par``,
    ``userinfo``, ``revocation``, ``end_session``, ``elsewhere``, or ``client_jwks`` where it was the sandbox that asked
    a client for its keys; *grant_type* is that of a token request.
    *outcome* is ``issued``, ``ok``, ``pushed``, ``revoked``, a page (``login``, ``consent``), ``granted``, an error
    code, or ``fault`` when the request was not processed; *reason* explains an error code, *fault* is the kind of
    the fault that it met. *client*, *jti* and *alg* are what the client assertion said, unverified;
    *certificate* is the thumbprint of the connection's certificate. *grant* is the sandbox's name for a person's
    grant. *jkt* is the thumbprint of the key that a proof of possession names, unverified, and *proof_nonce* says
    whether the proof has a nonce. *credentials* names the secrets that came to ``elsewhere``, *body_bytes* counts
    what came there or to the resource API. Requests to the resource API also have their *target* and the *status*
    they got (None: none), a fingerprint of the access *token*, its *cnf* if it is ours, and whether the request
    *matched* that. One that was let in and did not go to its end has a second entry, ``aborted``.
    """

    time: float
    endpoint: str
    method: str
    outcome: str
    client: str | None = None
    jti: str | None = None
    alg: str | None = None
    certificate: str | None = None
    reason: str | None = None
    fault: str | None = None
    grant_type: str | None = None
    grant: str | None = None
    jkt: str | None = None
    proof_nonce: bool | None = None
    body_bytes: int = 0
    credentials: tuple[str, ...] = ()
    target: str | None = None
    status: int | None = None
    token: str | None = None
    cnf: Mapping[str, Any] | None = None
    matched: bool | None = None


class Journal:
    """Counts and keeps entries."""

    def __init__(self) -> None:
        self._counters: Counter[str] = Counter()
        self._entries: deque[Entry] = deque(maxlen=KEPT)

    def record(self, entry: Entry) -> None:
        """
        Count *entry* under its endpoint, and under ``endpoint.outcome``; keep it.

        A token that came without what it is bound to counts as ``endpoint.unmatched``, too.
        """
        self._counters[entry.endpoint] += 1
        self._counters[f"{entry.endpoint}.{entry.outcome}"] += 1
        if entry.matched is False:
            self._counters[f"{entry.endpoint}.unmatched"] += 1
        self._entries.append(entry)

    def count(self, name: str) -> int:
        """Say how often *name* (``token``, ``token.issued`` ...) was seen since the last ``clear``."""
        return self._counters[name]

    def entries(self, endpoint: str | None = None) -> tuple[Entry, ...]:
        """Give the entries of one endpoint, or all, oldest first."""
        return tuple(entry for entry in self._entries if endpoint in {None, entry.endpoint})

    def clear(self) -> None:
        """Forget everything."""
        self._counters.clear()
        self._entries.clear()

    def as_json(self) -> dict[str, Any]:
        """Give everything as JSON values."""
        return {"counters": dict(sorted(self._counters.items())), "requests": [asdict(one) for one in self._entries]}
