"""
What can be made to go wrong, as values: the catalogue of faults, and the board that says which is next.

A fault waits at one place (*where*) until requests have met it *times* times, or until it is cleared.
Faults at one place are met in the order in which they were put up. The kinds that only people's grants can
meet are in ``grant_faults``, those about HTTP itself in ``wire_kinds``. This module carries out nothing:
``misbehaving``, ``wire_misbehaving``, ``twists``, ``listeners`` and whoever makes the thing in question do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

from broker.sandbox.fault_kinds import (
    ENDPOINTS_WITH_ERRORS,
    HANDSHAKES,
    MAX_BYTES,
    MAX_DELAY,
    METADATA_ONLY,
    TOKEN_ONLY,
    Kind,
    Parameter,
    Where,
    integer,
    is_header_value,
    is_names,
    is_object,
    is_seconds,
    one_of,
    text,
)
from broker.sandbox.grant_faults import GRANT_KINDS
from broker.sandbox.wire_kinds import WIRE_KINDS

MAX_TIMES = 1_000_000

GRANT_TYPES = ("client_credentials", "authorization_code", "refresh_token")


class FaultRefusedError(ValueError):
    """A description of a fault makes no sense; the message says why."""


_STATUS_200 = integer(200, 200, 599)
_BYTES = integer(100_000_000, 1, MAX_BYTES)

_REQUEST_KINDS: Mapping[str, Kind] = {
    "delay": Kind(
        summary="The request is processed after delay_seconds (here 1 unless given).", where=frozenset(Where)
    ),
    "status": Kind(
        summary="Another status, with Retry-After as given or as a date so many seconds ahead; not processed.",
        parameters={
            "status": integer(503, 200, 599),
            "retry_after": Parameter(None, "seconds, or any printable ASCII", is_header_value),
            "retry_after_date": integer(None, -86_400, 86_400 * 365),
        },
    ),
    "oauth_error": Kind(
        summary="An OAuth error (RFC 6749 section 5.2); not processed.",
        where=ENDPOINTS_WITH_ERRORS,
        parameters={
            "error": text("temporarily_unavailable"),
            "status": integer(400, 400, 599),
            "error_description": text("a fault on command"),
        },
    ),
    "html": Kind(summary="A web page instead of JSON; not processed.", parameters={"status": _STATUS_200}),
    "empty": Kind(summary="No body; not processed.", parameters={"status": _STATUS_200}),
    "redirect": Kind(
        summary="A redirect to another origin, which records what it gets; not processed.",
        parameters={"status": one_of(307, 301, 302, 303, 307, 308)},
    ),
    "huge_body": Kind(summary="An endless string of so many bytes; not processed.", parameters={"bytes": _BYTES}),
    "gzip_bomb": Kind(
        summary="The same, gzip-compressed, whatever the client accepts; not processed.", parameters={"bytes": _BYTES}
    ),
    "garbage": Kind(summary="Bytes that are not HTTP; not processed."),
    "reset": Kind(summary="The connection is reset (RST) once the request is read; not processed."),
    "lost_answer": Kind(
        summary="Processed; then the connection ends or is reset without an answer, or with an empty one.",
        parameters={"reset": one_of(False, False, True), "status": integer(None, 400, 599)},
    ),
    "half_json": Kind(summary="Processed; the first half of the answer, as if that were all."),
    "cut": Kind(
        summary="Processed; the connection ends, or is reset, in the middle of the answer.",
        parameters={"chunked": one_of(False, False, True), "reset": one_of(False, False, True)},
    ),
    "drip": Kind(
        summary="Processed; the body comes byte by byte.",
        parameters={"seconds_per_byte": Parameter(0.5, f"seconds up to {MAX_DELAY:.0f}", is_seconds)},
    ),
    "content_type": Kind(
        summary="Processed; the answer calls itself something else.", parameters={"value": text("text/plain")}
    ),
    "duplicate_member": Kind(summary="Processed; every member of the JSON object comes twice."),
    "alter": Kind(
        summary="Processed; members of the answer are set and removed.",
        where=frozenset(Where) - {Where.RESOURCE},
        parameters={
            "set": Parameter({}, "an object", is_object),
            "remove": Parameter([], "a list of names", is_names),
        },
    ),
    "wrong_cnf": Kind(summary="The access token is bound to a certificate that nobody has.", where=TOKEN_ONLY),
    "no_cnf": Kind(summary="The access token is bound to nothing.", where=TOKEN_ONLY),
    "opaque": Kind(summary="The access token is a random string.", where=TOKEN_ONLY),
    "wrong_token_type": Kind(summary="token_type is another.", where=TOKEN_ONLY, parameters={"value": text("mac")}),
    "wider_scope": Kind(
        summary="More scope than asked for is granted.", where=TOKEN_ONLY, parameters={"value": text("admin")}
    ),
    "bad_expires_in": Kind(
        summary="expires_in is the value given, whatever that is.",
        where=TOKEN_ONLY,
        parameters={"value": Parameter(-1, "any JSON value", lambda _: True)},
    ),
    "wrong_issuer": Kind(
        summary="The metadata names another issuer (by default ours with INVALID behind it).",
        where=METADATA_ONLY,
        parameters={"value": text(None)},
    ),
    "foreign_endpoint": Kind(
        summary="Endpoints that clients call lie on another host (by default the one that records).",
        where=METADATA_ONLY,
        parameters={"origin": text(None)},
    ),
    "bad_certificate": Kind(
        summary="New connections see a server certificate that must be refused; open ones are closed.",
        where=HANDSHAKES,
        parameters={"variant": one_of("self_signed", "self_signed", "wrong_name", "expired")},
        handshake=True,
    ),
    "refuse_certificate": Kind(
        summary="Client certificates are refused: with TLS 1.3 a reset at the first read. Open connections are closed.",
        where=frozenset({Where.TOKEN, Where.RESOURCE}),
        handshake=True,
    ),
}

KINDS: Mapping[str, Kind] = {**_REQUEST_KINDS, **WIRE_KINDS, **GRANT_KINDS}
"""Every kind of fault by name; ``docs/sandbox.md`` lists the same, by test."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """
    A fault, checked; *times* None: until cleared. *delay_seconds* passes before anything else happens.

    *for_seconds* after it was put up it is taken down, however often it was met. At the token endpoint,
    *grant_type* lets requests of other types pass.
    """

    where: Where
    kind: str
    times: int | None = None
    delay_seconds: float = 0.0
    for_seconds: float | None = None
    grant_type: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Give the form in which ``read_fault`` takes it."""
        common = {"where": str(self.where), "kind": self.kind, "times": self.times, "grant_type": self.grant_type}
        return {**common, "delay_seconds": self.delay_seconds, "for_seconds": self.for_seconds, **self.parameters}

    def strikes(self, where: Where, *, grant_type: str | None, handshake: bool) -> bool:
        """Say whether a request, or *handshake*, at *where* meets it; *grant_type* is that of a token request."""
        if self.where is not where or KINDS[self.kind].handshake is not handshake:
            return False
        if self.grant_type is not None:
            return self.grant_type == grant_type
        return grant_type != "client_credentials" or self.kind not in GRANT_KINDS


def read_fault(description: Mapping[str, Any]) -> Fault:
    """
    Check *description*: the members of ``Fault``, and the parameters of the kind.

    Raises FaultRefusedError.
    """
    given = dict(description)
    kind, name = _kind(given.pop("kind", None))
    where = given.pop("where", None)
    if not isinstance(where, str) or where not in kind.where:
        raise FaultRefusedError(f"where: must be one of {', '.join(sorted(kind.where))}")
    common = _common(given, name)
    unknown = sorted(set(given) - set(kind.parameters))
    if unknown:
        known = ", ".join(sorted(kind.parameters)) or "none"
        raise FaultRefusedError(f"unknown parameter; {name} knows: {known}")
    for parameter_name, value in given.items():
        if not kind.parameters[parameter_name].accepts(value):
            raise FaultRefusedError(f"{parameter_name}: must be {kind.parameters[parameter_name].form}")
    parameters = {key: given.get(key, parameter.default) for key, parameter in kind.parameters.items()}
    return Fault(where=Where(where), kind=name, parameters=parameters, **common)


def _common(given: dict[str, Any], name: str) -> dict[str, Any]:
    """Take the members that all kinds have out of *given*, and check them."""
    times = given.pop("times", None)
    if times is not None and not integer(None, 1, MAX_TIMES).accepts(times):
        raise FaultRefusedError(f"times: must be null or an integer from 1 to {MAX_TIMES}")
    delay = given.pop("delay_seconds", 1.0 if name == "delay" else 0.0)
    if not is_seconds(delay):
        raise FaultRefusedError(f"delay_seconds: must be seconds up to {MAX_DELAY:.0f}")
    duration = given.pop("for_seconds", None)
    if duration is not None and not is_seconds(duration):
        raise FaultRefusedError(f"for_seconds: must be null or seconds up to {MAX_DELAY:.0f}")
    grant_type = given.pop("grant_type", None)
    if grant_type not in (None, *GRANT_TYPES):  # a tuple: what was given need not be hashable
        raise FaultRefusedError(f"grant_type: must be null or one of {', '.join(GRANT_TYPES)}")
    return {"times": times, "delay_seconds": delay, "for_seconds": duration, "grant_type": grant_type}


def _kind(name: Any) -> tuple[Kind, str]:
    if not isinstance(name, str) or name not in KINDS:
        raise FaultRefusedError(f"kind: must be one of {', '.join(sorted(KINDS))}")
    return KINDS[name], name


@dataclass(slots=True)
class _Posted:
    fault: Fault
    until: float
    met: int = 0

    @property
    def spent(self) -> bool:
        return self.fault.times is not None and self.met >= self.fault.times


class FaultBoard:
    """The faults that are waiting; *wall* gives Unix time, for those that wait only so long."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._posted: list[_Posted] = []

    def add(self, fault: Fault) -> None:
        """Put *fault* up, behind those that wait already."""
        self._posted.append(_Posted(fault, self._wall() + (inf if fault.for_seconds is None else fault.for_seconds)))

    def clear(self) -> None:
        """Take all faults down."""
        self._posted.clear()

    def take(self, where: Where, *, grant_type: str | None = None, handshake: bool = False) -> Fault | None:
        """
        Give the fault that the next request (or *handshake*) at *where* meets, and count it as met.

        *grant_type* is that of a token request.
        """
        now = self._wall()
        self._posted = [posted for posted in self._posted if posted.until > now]
        for posted in self._posted:
            if posted.fault.strikes(where, grant_type=grant_type, handshake=handshake):
                posted.met += 1
                if posted.spent:
                    self._posted.remove(posted)
                return posted.fault
        return None

    def as_json(self) -> list[dict[str, Any]]:
        """List what is waiting, with how often each was *met*."""
        return [{**posted.fault.as_json(), "met": posted.met} for posted in self._posted]
