"""
The two families of errors, known to every package of the broker.

``LocalError`` means that we or our configuration are wrong, ``RemoteError`` that the other side is. Each
carries a stable *code* that operators and tests rely on, and a *hint* where somebody can act on it.
Messages are constants or made of configured names: never of bytes that came from a peer, and never of a
secret. Foreign exceptions (aiohttp, joserfc, ssl, OSError) are translated at the edge of the one package
that meets them and do not travel further.
"""

from __future__ import annotations

import traceback
from enum import StrEnum


class BrokerError(Exception):
    """
    The root of all errors of the broker.

    *code* is stable and lower-case (``certificate_mismatch``); *message* is for people; *hint* says what
    to do, or is None.
    """

    def __init__(self, code: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint


class LocalError(BrokerError):
    """We, our configuration or our host are wrong; the other side was not asked, or is not at fault."""


class Outcome(StrEnum):
    """What became of a request to the authorization server (rules.md R1)."""

    NOT_SENT = "not_sent"
    """No byte of the request was written, or a TLS alert came first."""
    REFUSED = "refused"
    """The server said that it did not process the request."""
    UNKNOWN = "unknown"
    """A byte was written and no definite answer came: the request may have been processed."""
    ANSWERED = "answered"
    """The server processed the request; the answer fails one of our checks."""


class RemoteError(BrokerError):
    """
    The other side did something wrong, or nothing at all.

    *code* says what (it is a label of metrics, so the set is closed: ``broker.oauth.reasons``), *outcome*
    what became of the request, *status* the HTTP status if there was one, *server_error* a registered
    OAuth error code or ``unrecognized``, *retry_after* the seconds the server asked us to wait.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        outcome: Outcome,
        hint: str | None = None,
        status: int | None = None,
        server_error: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(code, message, hint=hint)
        self.outcome = outcome
        self.status = status
        self.server_error = server_error
        self.retry_after = retry_after


def frames_of(error: BaseException) -> str:
    """
    Say where *error* was raised: types and source lines of the whole chain, and nothing else.

    No messages and no locals: both may hold bytes from a peer, or a secret.
    """
    parts: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        where = [
            f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(current.__traceback__)
        ]
        parts.append(f"{type(current).__name__} at {' > '.join(where) or 'unknown place'}")
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return " <- ".join(parts)
