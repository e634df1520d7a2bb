"""What goes back to a caller, before it is HTTP; every answer may be a secret, so none may be stored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol

from broker.api.problems import Problem
from broker.tokens.calls import Fields

JSON = "application/json"

PLAIN_TEXT = "text/plain; charset=utf-8"

OK = "ok"
"""The outcome of a request that was not refused; the others are the error codes, and ``NOT_MODIFIED``'s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """
    An answer; *body* has no printable form, for it may hold a token. *close*: the connection ends with it;
    *linger*: what its sender still sends is read for a moment, so that it sees the answer. *after_body*: the connection
    may go on behind a request with a body, if that is over; else it ends there.

    Without a *content_type* there is no body (RFC 9110 section 15.4.5).
    """

    status: int = 200
    content_type: str = JSON
    body: bytes = field(repr=False)
    headers: tuple[tuple[str, str], ...] = ()
    outcome: str = OK
    close: bool = False
    linger: bool = True
    after_body: bool = False

    def all_headers(self) -> dict[str, str]:
        """Give the headers of the answer, but for those of the connection."""
        return {
            **({"Content-Type": self.content_type} if self.content_type else {}),
            "Cache-Control": "no-store",
            "Server": "token-broker",
            **dict(self.headers),
        }


class Stream(Protocol):
    """The body of an answer that is written as it comes, and read once."""

    async def read(self) -> bytes:
        """Give the next piece, none at the end. Raises BrokerError: then the answer breaks off."""

    async def end(self, *, whole: bool) -> None:
        """Let go of it: it was written to its end, or the caller is gone. Once is enough, twice does no harm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PassedAnswer(Answer):
    """
    The reply of an API, as it is passed on: with *fields* in place of our own headers.

    *length* is that of its body, None if it is not known; with a *stream*, *body* is not used.
    """

    fields: Fields = field(repr=False)
    length: int | None = None
    stream: Stream | None = field(default=None, repr=False)
    after_body: bool = True


NO_CONTENT = Answer(status=204, content_type="", body=b"")
"""It is done, and there is nothing to say."""

NOT_MODIFIED = Answer(status=304, content_type="", body=b"", outcome="not_modified")
"""The caller has what it asked for."""


def json_body(members: Mapping[str, Any]) -> bytes:
    """Write *members* as JSON, leaving out those that are None."""
    present = {name: value for name, value in members.items() if value is not None}
    return json.dumps(present, separators=(",", ":")).encode()


def json_answer(members: Mapping[str, Any]) -> Answer:
    """Answer 200 with *members*, leaving out those that are None."""
    return Answer(body=json_body(members))


def problem_answer(problem: Problem, more: Mapping[str, Any] | None = None) -> Answer:
    """Give *problem* its one shape; *more* members may follow."""
    members = {
        "error": problem.error.value,
        "error_description": problem.description,
        "hint": problem.hint,
        "server_error": problem.server_error,
        **dict(problem.more),
        **(more or {}),
    }
    return Answer(
        status=problem.status,
        body=json_body(members),
        headers=problem.headers,
        outcome=problem.error.value,
        close=problem.close,
        linger=problem.linger,
    )


def last_words(answer: Answer) -> bytes:
    """Write *answer* as HTTP, for a connection that is closed with it before a request was understood."""
    headers = {**answer.all_headers(), "Content-Length": str(len(answer.body)), "Connection": "close"}
    lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + answer.body
