"""The few faults of a fake Iridium: answers with tokens that come late, are lost, or are 503 instead."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from broker.sandbox.commands import CommandRefusedError, only

MAX_DELAY = 600
MAX_TIMES = 1_000


class Kind(StrEnum):
    """What happens."""

    DELAY = "delay"
    """The request is processed; its answer comes after ``delay_seconds``."""
    LOST_ANSWER = "lost_answer"
    """The request is processed; the connection ends without an answer."""
    STATUS = "status"
    """The request is not processed; an empty answer with ``status``."""


WHERE = ("token", "refresh")


@dataclass(slots=True, kw_only=True)
class Trouble:
    """A fault at *where* that so many requests will meet; *times* None: all, until it is cleared."""

    where: str
    kind: Kind
    times: int | None = None
    delay_seconds: float = 1.0
    status: int = 503
    met: int = 0

    def as_json(self) -> dict[str, Any]:
        """Give all members."""
        return asdict(self)


class Troubles:
    """Those that wait, met in the order in which they were put up."""

    def __init__(self) -> None:
        self._waiting: list[Trouble] = []

    def add(self, trouble: Trouble) -> None:
        """Put one up."""
        self._waiting.append(trouble)

    def take(self, where: str) -> Trouble | None:
        """Give the one that a request at *where* meets."""
        for trouble in self._waiting:
            if trouble.where == where and (trouble.times is None or trouble.met < trouble.times):
                trouble.met += 1
                return trouble
        return None

    def clear(self) -> None:
        """Take all down."""
        self._waiting.clear()

    def as_json(self) -> list[dict[str, Any]]:
        """List them."""
        return [trouble.as_json() for trouble in self._waiting]


def read_trouble(given: dict[str, Any]) -> Trouble:
    """Read a fault as the control listener gets it. Raises CommandRefusedError."""
    only(given, "where", "kind", "times", "delay_seconds", "status")
    where, kind, times = given.get("where"), given.get("kind"), given.get("times")
    if where not in WHERE:
        raise CommandRefusedError(f"where: must be {' or '.join(WHERE)}")
    if not isinstance(kind, str) or kind not in set(Kind):
        raise CommandRefusedError(f"kind: must be one of {', '.join(Kind)}")
    if times is not None and not _is_number(times, 1, MAX_TIMES, int):
        raise CommandRefusedError(f"times: must be null, or a number from 1 to {MAX_TIMES}")
    delay, status = given.get("delay_seconds", 1.0), given.get("status", 503)
    if not _is_number(delay, 0, MAX_DELAY, int | float):
        raise CommandRefusedError(f"delay_seconds: must be a number from 0 to {MAX_DELAY}")
    if not _is_number(status, 400, 599, int):
        raise CommandRefusedError("status: must be a number from 400 to 599")
    return Trouble(where=where, kind=Kind(kind), times=times, delay_seconds=delay, status=status)


def _is_number(value: Any, least: int, most: int, of: Any) -> bool:
    return isinstance(value, of) and not isinstance(value, bool) and least <= value <= most
