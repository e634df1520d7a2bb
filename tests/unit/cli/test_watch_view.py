"""Tests of ``broker/cli/watch_view.py``: pictures that fit, and lines for what changed."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from broker.cli.local_client import Status, TokenState
from broker.cli.watch_view import Seen, Size, changes, lines_of, objects_of, picture
from broker.errors import LocalError, Outcome, RemoteError
from tests.unit.cli.test_status_view import token

WALL = 1_790_000_000.0  # 2026-09-21 14:13:20 UTC
BOOT = 100.0
SGR = re.compile(r"\x1b\[[0-9]*m")
AWAY = LocalError("daemon_unreachable", "nobody listens at /s")
WIDE = Size(columns=80, lines=24)


def seen(*tokens: TokenState, ready: bool = True, at: float = 0.0, restart: tuple[str, ...] = ()) -> Seen:
    status = Status(ready=ready, tokens=tokens, sandboxes=(), restart=restart)
    return Seen(wall=WALL + at, status=status, asked=BOOT + at)


def drawn(look: Seen | None, *, after: float = 0.0, size: Size = WIDE, colors: bool = False) -> list[str]:
    return picture(look, place="/s", wall=WALL + after, boot=BOOT + after, size=size, colors=colors)


def test_times_run_down_between_two_looks_and_stop_at_nothing():
    """A token that is over is not given back by counting on."""
    look = seen(token("a", expires_in=61), token("b", state="unavailable", expires_in=None, retry_in=2))

    now, later = drawn(look), drawn(look, after=5)

    assert ("1 min 1 s" in now[4], "56 s" in later[4]) == (True, True)
    assert " 0 s " in later[5]


@pytest.mark.parametrize("lines", range(1, 30))
@pytest.mark.parametrize("count", [0, 1, 5, 100])
def test_a_picture_never_has_more_lines_than_the_screen(lines: int, count: int):
    """Else the terminal would scroll, and nothing stayed in its place."""
    tokens = [token(f"t{n}", state="unavailable" if n % 3 else "fresh", hint="h" * 200) for n in range(count)]

    assert len(drawn(seen(*tokens), size=Size(columns=40, lines=lines))) <= lines
    away = seen(*tokens).failed(AWAY, WALL)
    assert len(drawn(away, size=Size(columns=40, lines=lines))) <= lines


def test_a_long_table_shows_what_is_wrong_and_counts_the_rest():
    """With what to do about it: the good ones are what can be left out."""
    tokens = [token(f"good-{n}") for n in range(50)] + [token("bad", state="unavailable", hint="is it up?")]

    lines = drawn(seen(*tokens), size=Size(columns=80, lines=12))

    assert lines[4].startswith("bad ")
    assert "46 more: 46 fresh" in lines
    assert lines[-1] == "bad: is it up?"


def test_a_table_that_fits_keeps_its_order():
    """Rows do not jump about without need."""
    lines = drawn(seen(token("a"), token("b", state="unavailable"), token("c")))

    assert [line.split()[0] for line in lines[4:7]] == ["a", "b", "c"]


def test_a_daemon_that_is_away_is_said_to_be_so_since_when_above_what_was_known():
    """The first failure counts, however often it is asked again."""
    look = seen(token("a", expires_in=100)).failed(AWAY, WALL + 3).failed(AWAY, WALL + 5)

    lines = drawn(look, after=10)

    assert lines[1] == "unreachable since 14:13:23 UTC (7 s): nobody listens at /s"
    assert lines[2] == "below is what was known at 14:13:23 UTC"
    assert any("1 min 30 s" in line for line in lines)


def test_nothing_is_shown_of_what_was_never_known():
    """Neither before the first answer nor without one."""
    assert drawn(None)[1:] == ["asking ..."]
    assert len(drawn(Seen(wall=WALL).failed(AWAY, WALL))) == 2


def test_colors_stand_around_whole_words_only_where_wanted():
    """Green for ready, red for what is not."""
    assert drawn(seen(token()), colors=True)[1] == "\x1b[32mready\x1b[0m"
    assert drawn(seen(token(), ready=False), colors=True)[1] == "\x1b[31mNOT READY\x1b[0m"
    assert "\x1b" not in "".join(drawn(seen(token())))


def test_a_hostile_name_cannot_steer_the_terminal():
    """Whatever answers at the socket."""
    lines = drawn(seen(token("\x1b[2Jx", hint="\r\n\x07")))

    assert not any(ord(letter) < 32 for letter in "".join(lines))


CHANGES = {
    "state": (token(), token(state="unavailable", reason="r", expires_in=None), ["a: fresh -> unavailable (r)"]),
    "reason": (token(state="pending"), token(state="pending", reason="r"), ["a: pending, the reason is now r"]),
    "renewed": (token(expires_in=5), token(expires_in=300), ["a: renewed, expires in 5 min 0 s"]),
    "grants": (token(grants=1), token(grants=2), ["a: 2 grant(s)"]),
    "only time": (token(expires_in=50), token(expires_in=48), []),
    "rounded": (token(expires_in=50), token(expires_in=49), []),
    "other name": (token(), token("b"), ["b: fresh, expires in 5 s", "a: gone"]),
}


@pytest.mark.parametrize(("before", "after", "told"), CHANGES.values(), ids=CHANGES)
def test_a_log_has_a_line_for_what_changed(before: TokenState, after: TokenState, told: list[str]):
    """And none for time that passes."""
    assert changes(seen(before), seen(after, at=2)) == told


def test_a_log_begins_with_all_and_has_the_time_in_each_line():
    """In UTC, so that it can be held against other logs."""
    lines = lines_of(None, seen(token()))

    assert lines == ["2026-09-21T14:13:20Z ready", "2026-09-21T14:13:20Z a: fresh, expires in 5 s"]


def test_a_daemon_that_goes_and_comes_back_is_three_lines():
    """Once for each change, and not for each look that failed."""
    first = seen(token())
    away = first.failed(AWAY, WALL + 2)

    assert changes(first, away) == ["unreachable: nobody listens at /s [daemon_unreachable]"]
    assert changes(away, away.failed(AWAY, WALL + 4)) == []
    assert changes(away, seen(token(), at=2)) == ["reachable again"]


def test_a_daemon_that_says_no_is_not_called_unreachable():
    """It is there."""
    no = RemoteError("forbidden", "not for you", outcome=Outcome.REFUSED, status=403)

    assert changes(None, Seen(wall=WALL).failed(no, WALL)) == ["refused: not for you [forbidden]"]


def test_what_is_remarked_of_the_daemon_comes_and_goes():
    """A reload that waits for a restart, and the restart."""
    before, after = seen(), seen(restart=("store",), at=2)

    assert changes(before, after) == ["restart pending: changes of store wait for one"]
    assert changes(after, before) == ["no longer: restart pending: changes of store wait for one"]


def test_programs_get_one_object_in_a_line_for_each_change():
    """With the members of ``status --json``; a failure has its code."""
    first = seen(token())
    (whole,) = objects_of(None, first)
    (away,) = objects_of(first, first.failed(AWAY, WALL + 2))

    assert json.loads(whole)["tokens"][0]["name"] == "a"
    assert json.loads(away) == {
        "time": "2026-09-21T14:13:22Z",
        "reachable": False,
        "error": "daemon_unreachable",
        "message": "nobody listens at /s",
    }
    assert objects_of(first, seen(token(expires_in=3), at=2)) == []


def test_no_word_of_a_daemon_steers_a_terminal():
    """Neither its message nor its code."""
    no = RemoteError("\x1b[2J", "a\nb", outcome=Outcome.REFUSED, status=403)

    assert changes(None, Seen(wall=WALL).failed(no, WALL)) == ["refused: a\ufffdb [\ufffd[2J]"]


@pytest.mark.parametrize("columns", [1, 10, 20, 39, 40, 60, 80, 120])
@pytest.mark.parametrize("colors", [False, True])
def test_no_line_of_a_picture_is_wider_than_the_screen(columns: int, colors: bool):
    """The terminal would write all that is too much over its last column."""
    bad = {"state": "unavailable", "reason": "connect_failed", "expires_in": None, "retry_in": 4, "hint": "h" * 200}
    look = replace_sandboxes(seen(token("n" * 43, **bad), token("m" * 43, grants=3), ready=False))
    size = Size(columns=columns, lines=40)

    lines = drawn(look, size=size, colors=colors) + drawn(look.failed(AWAY, WALL), size=size, colors=colors)

    assert max(len(SGR.sub("", line)) for line in [*lines, *drawn(None, size=size)]) <= columns


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_the_reason_is_seen_on_a_narrow_screen(columns: int):
    """It is what somebody watches for."""
    bad = {"state": "unavailable", "reason": "connect_failed", "expires_in": None, "retry_in": 4}

    lines = drawn(seen(token("n" * 43, **bad)), size=Size(columns=columns, lines=24))

    assert lines[3].endswith("  REASON")
    assert "  connect_fai" in lines[4]


def replace_sandboxes(look: Seen) -> Seen:
    """Give it the longest remarks that there are."""
    assert look.status is not None
    return replace(look, status=replace(look.status, sandboxes=("s" * 60,), restart=("store",), reload_refused=True))
