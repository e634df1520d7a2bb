"""Tokens in files, for programs that can read nothing else, and the programs that are told of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from broker.events.event import Event, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFiled(Event):
    """A sink is about to write a token into its file: the record is written before that, at each try."""

    name: ClassVar[str] = "token_filed"
    severity: ClassVar[Severity] = Severity.DEBUG
    audited: ClassVar[bool] = True
    indispensable: ClassVar[bool] = True

    sink: str
    token: str
    grant: str | None
    path: str
    fingerprint: str
    generation: int
    expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkWritten(Event):
    """The file of a sink holds another token; *expires_at* in Unix seconds."""

    name: ClassVar[str] = "sink_written"

    sink: str
    token: str
    path: str
    expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkWriteFailed(Event):
    """
    The file of a sink could not be written or removed; tried again in *retry_in* seconds.

    *reason* is as in errno(3), in lower case, or a code. *serving*: the file holds a token that is good still.
    """

    name: ClassVar[str] = "sink_write_failed"
    severity: ClassVar[Severity] = Severity.ERROR

    sink: str
    token: str
    path: str
    reason: str
    retry_in: float
    serving: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkFileRemoved(Event):
    """
    The file of a sink is gone, because its token is.

    *reason* is ``expired``, ``withdrawn`` (it is not served any more), ``consent_required``, ``outdated`` (from an
    earlier run, and nobody knows that it is good) or ``unconfigured``.
    """

    name: ClassVar[str] = "sink_file_removed"
    severity: ClassVar[Severity] = Severity.WARNING
    audited: ClassVar[bool] = True

    sink: str
    token: str
    path: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkHookEnded(Event):
    """The program that is told of a new token ended well, after *duration* seconds."""

    name: ClassVar[str] = "sink_hook_ended"

    sink: str
    duration: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkHookFailed(Event):
    """
    The program that is told of a new token did not do its work; it is run again after the next token.

    *reason* is ``exit`` (*status* is the code), ``signal`` (its number), ``timeout`` or ``not_started``.
    """

    name: ClassVar[str] = "sink_hook_failed"
    severity: ClassVar[Severity] = Severity.WARNING

    sink: str
    reason: str
    status: int | None
    duration: float
