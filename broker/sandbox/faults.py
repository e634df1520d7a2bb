"""
What can be made to go wrong, as values: the catalogue of faults, and the board that says which is next.

A fault waits at one place (*where*) until requests have met it *times* times, or until it is cleared.
Faults at one place are met in the order in which they were put up. This module carries out nothing:
``misbehaving`` and ``listeners`` do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

MAX_DELAY = 3_600.0
"""Seconds: longer than any deadline of a client."""

MAX_BYTES = 1_000_000_000
"""Of a body that a fault makes: more than any client should read, little enough to be streamed in a test."""

MAX_TIMES = 1_000_000


class Where(StrEnum):
    """Which requests meet a fault; for the faults of the handshake, which listener."""

    TOKEN = "token"  # noqa: S105 (a place, not a password)
    """The token endpoint at both listeners; handshakes of the mutual TLS listener."""
    METADATA = "metadata"
    """Both well-known locations; handshakes of the issuer's listener."""
    RESOURCE = "resource"
    """The resource API; handshakes of its listener."""


EVERYWHERE = frozenset(Where)
ANSWERS_WITH_JSON = frozenset({Where.TOKEN, Where.METADATA})
TOKEN_ONLY = frozenset({Where.TOKEN})
METADATA_ONLY = frozenset({Where.METADATA})


class FaultRefusedError(ValueError):
    """A description of a fault makes no sense; the message says why."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a kind of fault: *default* where none is given, *form* says what is accepted."""

    default: Any
    form: str
    accepts: Callable[[Any], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of fault; *handshake* says that it strikes before there is a request."""

    summary: str
    where: frozenset[Where] = EVERYWHERE
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    handshake: bool = False


def _integer(default: int | None, least: int, most: int) -> Parameter:
    def accepts(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most

    return Parameter(default, f"an integer from {least} to {most}", accepts)


def _one_of(default: Any, *choices: Any) -> Parameter:
    return Parameter(default, "one of " + ", ".join(map(str, choices)), lambda value: value in choices)


def _text(default: str | None) -> Parameter:
    return Parameter(default, "printable ASCII", _is_text)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.isascii() and value.isprintable()


def _is_seconds(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= MAX_DELAY


def _is_header_value(value: Any) -> bool:
    return _is_text(value) or (isinstance(value, int) and not isinstance(value, bool))


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


_STATUS_200 = _integer(200, 200, 599)
_BYTES = _integer(100_000_000, 1, MAX_BYTES)

KINDS: Mapping[str, Kind] = {
    "delay": Kind(summary="The request is processed after delay_seconds (here 1 unless given)."),
    "status": Kind(
        summary="Another status, with Retry-After as given or as a date so many seconds ahead; not processed.",
        parameters={
            "status": _integer(503, 200, 599),
            "retry_after": Parameter(None, "seconds, or any printable ASCII", _is_header_value),
            "retry_after_date": _integer(None, -86_400, 86_400 * 365),
        },
    ),
    "oauth_error": Kind(
        summary="An OAuth error (RFC 6749 section 5.2); not processed.",
        where=TOKEN_ONLY,
        parameters={
            "error": _text("temporarily_unavailable"),
            "status": _integer(400, 400, 599),
            "error_description": _text("a fault on command"),
        },
    ),
    "html": Kind(summary="A web page instead of JSON; not processed.", parameters={"status": _STATUS_200}),
    "empty": Kind(summary="No body; not processed.", parameters={"status": _STATUS_200}),
    "redirect": Kind(
        summary="A redirect to another origin, which records what it gets; not processed.",
        parameters={"status": _one_of(307, 301, 302, 303, 307, 308)},
    ),
    "huge_body": Kind(summary="An endless string of so many bytes; not processed.", parameters={"bytes": _BYTES}),
    "gzip_bomb": Kind(
        summary="The same, gzip-compressed, whatever the client accepts; not processed.", parameters={"bytes": _BYTES}
    ),
    "garbage": Kind(summary="Bytes that are not HTTP; not processed."),
    "reset": Kind(summary="The connection is reset (RST) once the request is read; not processed."),
    "lost_answer": Kind(summary="Processed; then the connection ends without an answer."),
    "half_json": Kind(summary="Processed; the first half of the answer, as if that were all."),
    "cut": Kind(summary="Processed; the connection ends in the middle of the answer."),
    "drip": Kind(
        summary="Processed; the body comes byte by byte.",
        parameters={"seconds_per_byte": Parameter(0.5, f"seconds up to {MAX_DELAY:.0f}", _is_seconds)},
    ),
    "content_type": Kind(
        summary="Processed; the answer calls itself something else.", parameters={"value": _text("text/plain")}
    ),
    "duplicate_member": Kind(summary="Processed; every member of the JSON object comes twice."),
    "alter": Kind(
        summary="Processed; members of the answer are set and removed.",
        where=ANSWERS_WITH_JSON,
        parameters={
            "set": Parameter({}, "an object", _is_object),
            "remove": Parameter([], "a list of names", _is_names),
        },
    ),
    "wrong_cnf": Kind(summary="The access token is bound to a certificate that nobody has.", where=TOKEN_ONLY),
    "no_cnf": Kind(summary="The access token is bound to nothing.", where=TOKEN_ONLY),
    "opaque": Kind(summary="The access token is a random string.", where=TOKEN_ONLY),
    "wrong_token_type": Kind(summary="token_type is another.", where=TOKEN_ONLY, parameters={"value": _text("mac")}),
    "wider_scope": Kind(
        summary="More scope than asked for is granted.", where=TOKEN_ONLY, parameters={"value": _text("admin")}
    ),
    "bad_expires_in": Kind(
        summary="expires_in is the value given, whatever that is.",
        where=TOKEN_ONLY,
        parameters={"value": Parameter(-1, "any JSON value", lambda _: True)},
    ),
    "wrong_issuer": Kind(
        summary="The metadata names another issuer (by default ours with INVALID behind it).",
        where=METADATA_ONLY,
        parameters={"value": _text(None)},
    ),
    "foreign_endpoint": Kind(
        summary="The token endpoints lie on another host (by default the one that records).",
        where=METADATA_ONLY,
        parameters={"origin": _text(None)},
    ),
    "bad_certificate": Kind(
        summary="New connections see a server certificate that must be refused; open ones are closed.",
        parameters={"variant": _one_of("self_signed", "self_signed", "wrong_name", "expired")},
        handshake=True,
    ),
    "refuse_certificate": Kind(
        summary="Client certificates are refused: with TLS 1.3 a reset at the first read. Open connections are closed.",
        where=frozenset({Where.TOKEN, Where.RESOURCE}),
        handshake=True,
    ),
}
"""Every kind of fault by name; ``docs/sandbox.md`` lists the same, by test."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault, checked; *times* None: until cleared. *delay_seconds* passes before anything else happens."""

    where: Where
    kind: str
    times: int | None = None
    delay_seconds: float = 0.0
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Give the form in which ``read_fault`` takes it."""
        common = {"where": str(self.where), "kind": self.kind, "times": self.times}
        return {**common, "delay_seconds": self.delay_seconds, **self.parameters}


def read_fault(description: Mapping[str, Any]) -> Fault:
    """
    Check *description*: ``where``, ``kind``, ``times``, ``delay_seconds`` and the parameters of the kind.

    Raises FaultRefusedError.
    """
    given = dict(description)
    kind, name = _kind(given.pop("kind", None))
    where = given.pop("where", None)
    if where not in kind.where:
        raise FaultRefusedError(f"where: must be one of {', '.join(sorted(kind.where))}")
    times = given.pop("times", None)
    if times is not None and not _integer(None, 1, MAX_TIMES).accepts(times):
        raise FaultRefusedError(f"times: must be null or an integer from 1 to {MAX_TIMES}")
    delay = given.pop("delay_seconds", 1.0 if name == "delay" else 0.0)
    if not _is_seconds(delay):
        raise FaultRefusedError(f"delay_seconds: must be seconds up to {MAX_DELAY:.0f}")
    unknown = sorted(set(given) - set(kind.parameters))
    if unknown:
        known = ", ".join(sorted(kind.parameters)) or "none"
        raise FaultRefusedError(f"unknown parameter; {name} knows: {known}")
    for parameter_name, value in given.items():
        if not kind.parameters[parameter_name].accepts(value):
            raise FaultRefusedError(f"{parameter_name}: must be {kind.parameters[parameter_name].form}")
    parameters = {key: given.get(key, parameter.default) for key, parameter in kind.parameters.items()}
    return Fault(where=Where(where), kind=name, times=times, delay_seconds=delay, parameters=parameters)


def _kind(name: Any) -> tuple[Kind, str]:
    if not isinstance(name, str) or name not in KINDS:
        raise FaultRefusedError(f"kind: must be one of {', '.join(sorted(KINDS))}")
    return KINDS[name], name


@dataclass(slots=True)
class _Posted:
    fault: Fault
    met: int = 0

    @property
    def spent(self) -> bool:
        return self.fault.times is not None and self.met >= self.fault.times


class FaultBoard:
    """The faults that are waiting."""

    def __init__(self) -> None:
        self._posted: list[_Posted] = []

    def add(self, fault: Fault) -> None:
        """Put *fault* up, behind those that wait already."""
        self._posted.append(_Posted(fault))

    def clear(self) -> None:
        """Take all faults down."""
        self._posted.clear()

    def take(self, where: Where, *, handshake: bool = False) -> Fault | None:
        """Give the fault that the next request (or *handshake*) at *where* meets, and count it as met."""
        for posted in self._posted:
            if posted.fault.where is where and KINDS[posted.fault.kind].handshake is handshake:
                posted.met += 1
                if posted.spent:
                    self._posted.remove(posted)
                return posted.fault
        return None

    def as_json(self) -> list[dict[str, Any]]:
        """List what is waiting, with how often each was *met*."""
        return [{**posted.fault.as_json(), "met": posted.met} for posted in self._posted]
