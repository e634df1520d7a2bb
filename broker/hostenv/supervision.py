"""
What a service manager tells a process at its start: inherited sockets, whom to notify, how often.

The protocols of sd_listen_fds(3), sd_notify(3) and sd_watchdog_enabled(3), read from the variables that are handed
in. It opens nothing and believes nothing that was meant for another process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from broker.errors import LocalError

VARIABLES = (
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
)
"""Meant for this process alone: not to be handed on to children, who would speak in our name."""

FIRST_DESCRIPTOR = 3
"""SD_LISTEN_FDS_START: behind the three standard streams."""

MAX_DESCRIPTORS = 1_024
"""More sockets than anybody has listeners: a larger number is a mistake."""

MAX_DIGITS = 20
"""Of a number: one of 64 bits has no more."""

UNNAMED = "unknown"
"""What sd_listen_fds_with_names(3) calls a descriptor without a name."""

MICROSECONDS = 1_000_000
"""In a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inherited:
    """An open descriptor that we were started with, and its ``FileDescriptorName``."""

    name: str
    descriptor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervision:
    """
    What we were told.

    *notify_socket* is a path or, with ``@`` in front, an abstract name; None: nobody listens. *watchdog_seconds*:
    who does not say that it is alive within so long is killed; None: nobody looks.
    """

    inherited: tuple[Inherited, ...] = ()
    notify_socket: str | None = None
    watchdog_seconds: float | None = None


UNSUPERVISED = Supervision()
"""Started by hand, or by something that says nothing."""


def supervision_of(variables: Mapping[str, str], pid: int) -> Supervision:
    """Read what was meant for the process *pid*. Raises LocalError ``supervision_invalid``."""
    return Supervision(
        inherited=_inherited(variables, pid),
        notify_socket=_notify_socket(variables),
        watchdog_seconds=_watchdog(variables, pid),
    )


def _inherited(variables: Mapping[str, str], pid: int) -> tuple[Inherited, ...]:
    if _number(variables, "LISTEN_PID") != pid:
        return ()
    count = _number(variables, "LISTEN_FDS")
    if not count:
        return ()
    if count > MAX_DESCRIPTORS:
        raise _invalid("LISTEN_FDS")
    names = variables["LISTEN_FDNAMES"].split(":") if "LISTEN_FDNAMES" in variables else [UNNAMED] * count
    if len(names) != count:
        raise _invalid("LISTEN_FDNAMES")
    return tuple(Inherited(name=name, descriptor=FIRST_DESCRIPTOR + at) for at, name in enumerate(names))


def _notify_socket(variables: Mapping[str, str]) -> str | None:
    address = variables.get("NOTIFY_SOCKET")
    if not address:
        return None
    if address[0] not in "/@" or len(address) == 1:
        raise _invalid("NOTIFY_SOCKET")
    return address


def _watchdog(variables: Mapping[str, str], pid: int) -> float | None:
    if _number(variables, "WATCHDOG_PID") not in {None, pid}:
        return None
    period = _number(variables, "WATCHDOG_USEC")
    if period is None:
        return None
    if period == 0:
        raise _invalid("WATCHDOG_USEC")
    return period / MICROSECONDS


def _number(variables: Mapping[str, str], name: str) -> int | None:
    """Give the number that *name* has, None where there is none. Raises LocalError ``supervision_invalid``."""
    text = variables.get(name)
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        raise _invalid(name)
    return int(text)


def _invalid(name: str) -> LocalError:
    return LocalError(
        "supervision_invalid",
        f"the service manager set {name} to something that cannot be read",
        hint=f"systemd sets it by itself: see who else does, or unset {name}",
    )
