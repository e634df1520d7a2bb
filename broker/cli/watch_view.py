"""
What ``status --watch`` shows: a picture for a screen of any size, or the lines and objects of a log.

Pure: what was seen, the times and the size come in. A picture never has more lines than the screen.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from broker.cli.local_client import Status, TokenState
from broker.cli.status_view import members_of, notes_of, remarks_of, rows_of, verdict_of
from broker.cli.tables import NOTHING, cut, duration, folded, plain
from broker.errors import BrokerError, LocalError

RENEWED = 5
"""Seconds by which a token has to end later than before to count as another one: both times are rounded."""

URGENCY = {state: rank for rank, state in enumerate(("unavailable", "consent_required", "pending", "stale"))}
"""What is shown first where not all tokens fit."""

NOTES_SHARE = 3
"""What to do about a token that is wrong gets up to a third of a full screen: a row alone says only that it is."""

GREEN, RED = "32", "31"
"""SGR parameters (ECMA-48)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """
    What is known of a daemon: its last *status*, asked for at *asked* (CLOCK_BOOTTIME), and its *trouble* since.

    *wall* is the Unix time of this look, *since* that of the first one that failed so; both None-able parts are
    None where there is nothing to say.
    """

    wall: float
    status: Status | None = None
    asked: float = 0.0
    trouble: BrokerError | None = None
    since: float = 0.0

    def failed(self, error: BrokerError, wall: float) -> Seen:
        """Give what is known after a look that failed."""
        return replace(self, wall=wall, trouble=error, since=self.since if self.trouble is not None else wall)


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Of a screen, in characters."""

    columns: int
    lines: int


def aged(status: Status, seconds: float) -> Status:
    """Give *status* as it is so many *seconds* later, as far as that is known without asking."""
    passed = max(0, int(seconds))
    return replace(status, tokens=tuple(_aged(token, passed) for token in status.tokens))


def _aged(token: TokenState, passed: int) -> TokenState:
    def left(number: int | None) -> int | None:
        return None if number is None else max(0, number - passed)

    return replace(token, expires_in=left(token.expires_in), retry_in=left(token.retry_in))


def picture(seen: Seen | None, *, place: str, wall: float, boot: float, size: Size, colors: bool) -> list[str]:
    """Draw what is known at *wall* and *boot* for a screen of *size*: no line is broken, nor wider than that."""
    width = size.columns
    head = [cut(f"token-broker at {plain(place)}   {_day(wall)} {_clock(wall)}", width)]
    if seen is None:
        return [*head, cut("asking ...", width)][: size.lines]
    head += _verdict(seen, wall, size, colors=colors)
    if seen.status is None:
        return head[: size.lines]
    status = aged(seen.status, boot - seen.asked)
    if not status.tokens:
        return [*head, "", cut("no token that you may see", width)][: size.lines]
    head += [*(cut(line, width) for line in remarks_of(status)), ""]
    room = size.lines - len(head) - 1  # the headings
    wrong = _notes([token for token in status.tokens if token.state in URGENCY], width)
    shown, rest = _fitting(status.tokens, room - min(len(wrong) + 1, room // NOTES_SHARE))
    body = rows_of(shown, colors=colors, width=width) + ([cut(_counted(rest), width)] if rest else [])
    notes = wrong + _notes([token for token in shown if token.state not in URGENCY], width)
    left = size.lines - len(head) - len(body) - 1  # an empty line
    if notes and left > 0:
        body += ["", *(notes if len(notes) <= left else [*notes[: left - 1], "..."])]
    return [*head, *body][: size.lines]


def _notes(tokens: Sequence[TokenState], width: int) -> list[str]:
    return [cut(line, width) for line in notes_of(tokens, width)]


def _verdict(seen: Seen, wall: float, size: Size, *, colors: bool) -> list[str]:
    """Say how the daemon is: in color, as only this line is read from across a room."""
    if seen.trouble is None:
        status = seen.status
        text = "" if status is None else verdict_of(status)
        return [_colored(cut(text, size.columns), GREEN if status is not None and status.ready else RED, colors=colors)]
    text = f"{_of_trouble(seen.trouble)} since {_clock(seen.since)} ({duration(int(max(0, wall - seen.since)))}): "
    lines = folded(text + plain(seen.trouble.message), size.columns)
    told = [_colored(cut(line, size.columns), RED, colors=colors) for line in lines]
    if seen.status is not None:
        return [*told, cut(f"below is what was known at {_clock(seen.since)}", size.columns)]
    hint = [] if seen.trouble.hint is None else folded(plain(seen.trouble.hint), size.columns)
    return [*told, *(cut(line, size.columns) for line in hint)]


def _of_trouble(error: BrokerError) -> str:
    return "unreachable" if isinstance(error, LocalError) else "refused"


def _colored(text: str, color: str, *, colors: bool) -> str:
    return f"\x1b[{color}m{text}\x1b[0m" if colors else text


def _fitting(tokens: Sequence[TokenState], room: int) -> tuple[Sequence[TokenState], Sequence[TokenState]]:
    """Give what fits into *room* lines and the rest; where there is a rest, what is wrong comes first."""
    if len(tokens) <= room:
        return tokens, ()
    urgent = sorted(tokens, key=lambda token: URGENCY.get(token.state, len(URGENCY)))  # stable: else in their order
    at = max(0, room - 1)
    return urgent[:at], urgent[at:]


def _counted(tokens: Sequence[TokenState]) -> str:
    states = Counter(plain(token.state) for token in tokens)
    return f"{len(tokens)} more: " + ", ".join(f"{count} {state}" for state, count in states.items())


def _day(wall: float) -> str:
    return f"{dt.datetime.fromtimestamp(wall, dt.UTC):%Y-%m-%d}"


def _clock(wall: float) -> str:
    return f"{dt.datetime.fromtimestamp(wall, dt.UTC):%H:%M:%S} UTC"


def stamp(wall: float) -> str:
    """Write a Unix time as in RFC 3339, in whole seconds."""
    return f"{dt.datetime.fromtimestamp(wall, dt.UTC):%Y-%m-%dT%H:%M:%SZ}"


def lines_of(before: Seen | None, seen: Seen) -> list[str]:
    """Write what changed between two looks, a line each with the time; all of it at the first look."""
    return [f"{stamp(seen.wall)} {change}" for change in changes(before, seen)]


def objects_of(before: Seen | None, seen: Seen) -> list[str]:
    """Write one JSON object in a line if anything changed between two looks."""
    if not changes(before, seen):
        return []
    members: dict[str, object] = {"time": stamp(seen.wall), "reachable": seen.trouble is None}
    if seen.trouble is not None:
        members |= {"error": seen.trouble.code, "message": seen.trouble.message}
    elif seen.status is not None:
        members |= members_of(seen.status)
    return [json.dumps(members)]


def changes(before: Seen | None, seen: Seen) -> list[str]:
    """Say what changed between two looks, beside the times that only run down."""
    if seen.trouble is not None:
        known = None if before is None or before.trouble is None else before.trouble.code
        told = f"{_of_trouble(seen.trouble)}: {plain(seen.trouble.message)} [{plain(seen.trouble.code)}]"
        return [] if seen.trouble.code == known else [told]
    if seen.status is None:
        return []
    was_away = before is not None and before.trouble is not None
    found = ["reachable again"] if was_away else []
    old = None if before is None else before.status
    found += _of_daemon(old, seen.status)
    known_tokens = {} if old is None else {token.name: token for token in old.tokens}
    passed = 0.0 if before is None else seen.asked - before.asked
    for token in seen.status.tokens:
        found += _of_token(known_tokens.pop(token.name, None), token, passed)
    found += [f"{plain(name)}: gone" for name in known_tokens]
    return found


def _of_daemon(old: Status | None, new: Status) -> list[str]:
    found = [] if old is not None and old.ready == new.ready else [verdict_of(new)]
    known = () if old is None else remarks_of(old)
    found += [remark for remark in remarks_of(new) if remark not in known]
    return found + [f"no longer: {remark}" for remark in known if remark not in remarks_of(new)]


def _of_token(old: TokenState | None, new: TokenState, passed: float) -> list[str]:
    """Say what became of a token in the seconds that have *passed*."""
    name, state = plain(new.name), plain(new.state)
    reason = "" if new.reason is None else f" ({plain(new.reason)})"
    left = "" if new.expires_in is None else f", expires in {duration(new.expires_in)}"
    if old is None:
        return [f"{name}: {state}{reason}{left}"]
    if old.state != new.state:
        return [f"{name}: {plain(old.state)} -> {state}{reason}{left}"]
    if old.reason != new.reason:
        return [f"{name}: {state}, the reason is now {NOTHING if new.reason is None else plain(new.reason)}"]
    if old.grants != new.grants and new.grants is not None:
        return [f"{name}: {new.grants} grant(s)"]
    if old.expires_in is None or new.expires_in is None or new.expires_in + passed <= old.expires_in + RENEWED:
        return []
    return [f"{name}: renewed{left}"]
