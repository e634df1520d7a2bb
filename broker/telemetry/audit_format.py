"""
The bytes of the audit log: which fields of which event are written, and how (rules.md R9).

A record is one JSON object on one line, in ASCII, its members in a fixed order. The format is an interface
(``docs/reference/audit.md``): members may be added, none changes its meaning. What may be recorded is an
allow list: a field that is not listed here is not written, and neither is a value that is not a primitive.
Pure: no clock, no file.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from broker import events
from broker.events import Event

FORMAT = 1
"""The version that ``opened`` records carry."""

ZERO_HEAD = bytes(32)
"""The head before the first record of a log."""

MAX_STRING = 256
"""Characters of a string member: far above any configured name, so that nobody can write a novel into the log."""

SHORT_STRING = 16
"""Characters of a string member in a record that would be too long otherwise (escapes are up to 12 times as long)."""

MAX_LINE = 4_096
"""Bytes of a record with its newline: bounds what has to be read to find the last checkpoint."""

ENDLESS = 16 * MAX_LINE
"""Bytes without a newline that are not waited for any longer: bounds the memory that a damaged file costs."""

CHECKPOINT_EVERY = 1_000
"""Records after which a checkpoint is due, whatever the time (rules.md R9)."""

Primitive = str | int | float | None

ORDER = (
    "listener",
    "uid",
    "gid",
    "pid",
    "workload",
    "sink",
    "authorization",
    "token",
    "grant",
    "issuer",
    "client",
    "certificate",
    "key",
    "item",
    "items",
    "route",
    "upstream",
    "method",
    "pattern",
    "origin",
    "version",
    "tokens",
    "grants",
    "record",
    "listeners",
    "path",
    "sha256",
    "alg",
    "kid",
    "thumbprint",
    "not_after",
    "generation",
    "fingerprint",
    "jti",
    "expires_at",
    "binding",
    "renewed",
    "verified",
    "stale",
    "serving",
    "probe_in",
    "signs_in",
    "retry_in",
    "status",
    "server_error",
    "count",
    "waited",
    "duration",
    "sent",
    "received",
    "outcome",
    "reason",
    "check",
)
"""The order of the members after ``seq``, ``time`` and ``event``."""


def _layout(*fields: str, **renamed: str) -> tuple[tuple[str, str], ...]:
    """Pair members with the fields they come from, in the order of the format."""
    members = {name: name for name in fields} | renamed
    return tuple((member, members[member]) for member in sorted(members, key=ORDER.index))


_CALLER = ("listener", "uid", "gid", "pid", "workload", "token")
_REFRESH = ("token", "grant", "issuer", "client", "jti")
_GRANT = ("token", "grant", "client")
_SINK = ("sink", "token", "path")
_CONSENT = (*_CALLER, "authorization")

ALLOWED: Mapping[type[Event], tuple[tuple[str, str], ...]] = MappingProxyType(
    {
        events.DaemonStarted: _layout("version", "tokens", "listeners", "pid"),
        events.DaemonStopped: _layout(),
        events.ConfigurationLoaded: _layout("path", "sha256", "generation"),
        events.ConfigurationRefused: _layout("path", "reason", count="found"),
        events.CertificateLoaded: _layout("certificate", "generation", "thumbprint", "not_after"),
        events.SigningKeyLoaded: _layout("key", "alg", "kid", "not_after"),
        events.SigningKeyPublished: _layout("key", "alg", "kid", "signs_in"),
        events.CertificateRetired: _layout("certificate", "generation", "thumbprint", "reason"),
        events.FilesRotated: _layout("items"),
        events.RotationRefused: _layout("item", "reason"),
        events.CompromiseDeclared: _layout("uid", "items"),
        events.ClientTrialPassed: _layout("client", "token", "grant"),
        events.ClientTrialFailed: _layout("client", "token", "grant", "retry_in", "reason"),
        events.DpopKeyInUse: _layout("client", "alg", "thumbprint"),
        events.DpopKeyUnreadable: _layout("client", "record"),
        events.SandboxIssuerInUse: _layout("issuer"),
        events.TokenRefreshed: _layout(*_REFRESH, "generation", "expires_at", "binding", "fingerprint"),
        events.TokenRefreshFailed: _layout(
            *_REFRESH, "status", "server_error", "retry_in", "serving", "outcome", "reason"
        ),
        events.AuthorizationStarted: _layout(*_CONSENT, "grant", "client"),
        events.AuthorizationGranted: _layout(
            *_CONSENT, "grant", "client", "renewed", "verified", "expires_at", "binding", "fingerprint", "jti"
        ),
        events.AuthorizationFailed: _layout(*_CONSENT, "client", "status", "server_error", "reason", "check"),
        events.AuthorizationAbandoned: _layout(*_CONSENT),
        events.GrantEnded: _layout(*_GRANT, "reason"),
        events.GrantQuarantined: _layout(*_GRANT, "reason"),
        events.GrantRevived: _layout(*_GRANT, "reason"),
        events.GrantRevoked: _layout(*_GRANT, "outcome"),
        events.GrantUnreadable: _layout("record"),
        events.ClientSuspected: _layout("client", "grants", "probe_in"),
        events.ClientTrusted: _layout("client"),
        events.ClientSuspended: _layout("client", "reason", "probe_in"),
        events.ClientResumed: _layout("client"),
        events.TokenServed: _layout(*_CALLER, "grant", "fingerprint", "generation", "stale"),
        events.EgressCalled: _layout(
            *_CALLER,
            *("grant", "upstream", "method", "pattern", "fingerprint", "jti"),
            *("status", "waited", "duration", "sent", "received", "outcome"),
        ),
        events.ProofServed: _layout(*_CALLER, "grant", "method", "origin", "jti", "fingerprint", "generation", "stale"),
        events.TokenFiled: _layout(*_SINK, "grant", "generation", "fingerprint", "expires_at"),
        events.SinkFileRemoved: _layout(*_SINK, "reason"),
        events.TokenRefreshForced: _layout(*_CALLER),
        events.GrantGivenUp: _layout(*_CALLER, "grant"),
        events.GrantReassigned: _layout(*_CALLER, "grant"),
        events.RequestRefused: _layout(*_CALLER, "route", "status", "count", "reason", outcome="error"),
    }
)
"""For each audited event, the members of its record and the fields they are taken from."""

SUCCESS: Mapping[type[Event], str] = MappingProxyType(
    {events.TokenRefreshed: "success", events.TokenServed: "ok", events.ProofServed: "ok"}
)
"""The ``outcome`` of events that are a good outcome by being what they are."""


def members_of(event: Event) -> dict[str, Primitive]:
    """
    Give what may be recorded of *event*, in order.

    An event that is not in the allow list has a record with its name and nothing else: that it happened is
    not lost, and none of its fields gets out unseen.
    """
    kind = type(event)
    members: dict[str, Primitive] = {}
    for member, source in ALLOWED.get(kind, ()):
        value = getattr(event, source)
        if value is None or isinstance(value, (str, int)) or (isinstance(value, float) and math.isfinite(value)):
            members[member] = value
    outcome = SUCCESS.get(kind)
    if outcome is not None:
        members["outcome"] = outcome
    return members


def encode(seq: int, wall: float, event: str, members: Mapping[str, Primitive]) -> bytes:
    """Make the line of a record; *wall* in Unix seconds."""
    head: dict[str, Primitive] = {"seq": seq, "time": timestamp(wall), "event": event}
    line = _dump(head | {name: _capped(value, MAX_STRING) for name, value in members.items()})
    if len(line) > MAX_LINE:
        line = _dump(head | {name: _capped(value, SHORT_STRING) for name, value in members.items()})
    return line


def rest_of(event: str, members: Mapping[str, Primitive]) -> bytes:
    """Make what of the line of a record stands behind its time; as ``encode``, for a line that is not too long."""
    return _dump({"event": event} | {name: _capped(value, MAX_STRING) for name, value in members.items()})[1:]


def timestamp(wall: float, precision: str = "microseconds") -> str:
    """Write Unix seconds as RFC 3339 in UTC."""
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec=precision).removesuffix("+00:00") + "Z"


def _capped(value: Primitive, limit: int) -> Primitive:
    """Cut a long string, and show that it was cut."""
    if isinstance(value, str) and len(value) > limit:
        return value[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return value


_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
"""``json.dumps`` would make one for each record."""


def _dump(members: Mapping[str, Primitive]) -> bytes:
    return _ENCODER.encode(members).encode("ascii") + b"\n"


# --- the chain ---


def advance(head: bytes, *lines: bytes) -> bytes:
    """Take *lines*, newlines included, into the running hash, each in its turn: SHA-256(head || line)."""
    for line in lines:
        head = hashlib.sha256(head + line).digest()
    return head


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditKeys:
    """
    What is derived from the audit key: one subkey for each purpose, so that none can stand in for another.

    *identifier* tells keys apart in the log and reveals nothing about them.
    """

    checkpoint: bytes = field(repr=False)
    fingerprint: bytes = field(repr=False)
    identifier: str

    @classmethod
    def derive(cls, key: bytes) -> AuditKeys:
        """Derive the subkeys: HMAC-SHA256(key, label)."""
        return cls(
            checkpoint=_mac(key, b"token-broker audit v1 checkpoint"),
            fingerprint=_mac(key, b"token-broker audit v1 fingerprint"),
            identifier=_mac(key, b"token-broker audit v1 key identifier").hex()[:16],
        )


def _mac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


MAC_MEMBER = b',"hmac":"'
"""What stands between the bytes of a checkpoint that its HMAC covers and the HMAC."""


def encode_checkpoint(seq: int, wall: float, *, count: int, head: bytes, keys: AuditKeys | None) -> bytes:
    """
    Make the line of a checkpoint: *count* records precede it in its file, and *head* is the hash of all of them.

    With keys the line ends with an HMAC over all of it that precedes the HMAC.
    """
    members: dict[str, Primitive] = {"count": count, "head": head.hex()}
    if keys is None:
        return encode(seq, wall, "checkpoint", members)
    line = encode(seq, wall, "checkpoint", members | {"key": keys.identifier})
    covered = line.removesuffix(b"}\n")
    return covered + MAC_MEMBER + _mac(keys.checkpoint, covered).hex().encode() + b'"}\n'


def is_authentic(line: bytes, keys: AuditKeys) -> bool:
    """Say whether the line of a checkpoint has the HMAC of *keys*, and nothing after it."""
    covered, member, rest = line.rpartition(MAC_MEMBER)
    if not member:
        return False
    expected = _mac(keys.checkpoint, covered).hex().encode() + b'"}\n'
    return hmac.compare_digest(rest, expected)


# --- reading ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A line that is a record; *members* holds all of them."""

    seq: int
    event: str
    members: Mapping[str, Any]

    def number(self, name: str) -> int | None:
        """Give a member that is a count, or None."""
        value = self.members.get(name)
        return value if type(value) is int and value >= 0 else None

    def text(self, name: str) -> str | None:
        """Give a member that is a string, or None."""
        value = self.members.get(name)
        return value if isinstance(value, str) else None

    def digest(self, name: str) -> bytes | None:
        """Give a member that is a SHA-256 in lower-case hexadecimal, or None."""
        text = self.text(name) or ""
        if len(text) != 64 or text.strip("0123456789abcdef"):
            return None
        return bytes.fromhex(text)


def parse(line: bytes) -> Record | None:
    """Read a line with its newline; None if it is not a record. For any bytes whatever."""
    if len(line) > MAX_LINE or not line.startswith(b"{") or not line.endswith(b"}\n"):
        return None
    try:
        members = json.loads(line)
    except (ValueError, RecursionError):
        return None
    seq, event = members.get("seq"), members.get("event")
    if type(seq) is not int or seq < 1 or not isinstance(event, str):
        return None
    return Record(seq=seq, event=event, members=MappingProxyType(members))


def lines_of(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """
    Cut chunks of any size into lines with their newlines.

    The last line may lack it, and a line without end is given in pieces: neither is a record then.
    """
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line + b"\n"
        if len(rest) > ENDLESS:
            yield rest
            rest = b""
    if rest:
        yield rest
