"""Files that changed while the daemon runs, and what came of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from broker.events.event import Event, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesRotated(Event):
    """New files are in use: *items* names the sections that they belong to, with commas between them."""

    name: ClassVar[str] = "files_rotated"
    audited: ClassVar[bool] = True

    items: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationRefused(Event):
    """
    Files changed, and cannot be used as they are: what they held before stays in use.

    *item* is the section that they belong to, *reason* a code, *problem* says what is wrong. Said once, until they
    change again.
    """

    name: ClassVar[str] = "rotation_refused"
    severity: ClassVar[Severity] = Severity.ERROR
    audited: ClassVar[bool] = True

    item: str
    reason: str
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationMended(Event):
    """The files of *item*, which were refused, are in use now, or are what they were before."""

    name: ClassVar[str] = "rotation_mended"

    item: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CompromiseDeclared(Event):
    """An operator said that earlier generations of *items* are compromised: nothing of them is used any more."""

    name: ClassVar[str] = "compromise_declared"
    severity: ClassVar[Severity] = Severity.WARNING
    audited: ClassVar[bool] = True

    items: str
    uid: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTrialBegun(Event):
    """A client has a new certificate or key: *grant* tries it first, and the others go on with the older one."""

    name: ClassVar[str] = "client_trial_begun"

    client: str
    token: str
    grant: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTrialPassed(Event):
    """The server takes the new certificate or key of a client: all of its grants move to it."""

    name: ClassVar[str] = "client_trial_passed"
    audited: ClassVar[bool] = True

    client: str
    token: str
    grant: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTrialFailed(Event):
    """
    The first request for a grant with a client's new certificate or key failed, for *reason*.

    Its grants are refreshed with the older one while that is valid; another trial follows in *retry_in* seconds.
    """

    name: ClassVar[str] = "client_trial_failed"
    severity: ClassVar[Severity] = Severity.ERROR
    audited: ClassVar[bool] = True

    client: str
    token: str
    grant: str
    reason: str
    hint: str | None
    retry_in: float
