"""
``token-broker status --watch``: the same question again and again, and what comes of it where it is read.

A terminal gets a table that stays in its place; anything else gets a line, or an object, for each change. A
daemon that is away is no reason to end: that is when somebody watches.
"""

from __future__ import annotations

import select
import sys
from collections.abc import Callable, Mapping
from typing import NoReturn

from broker.cli.local_client import Daemon, get_status
from broker.cli.screen import Screen
from broker.cli.tables import has_colors
from broker.cli.watch_view import Seen, lines_of, objects_of, picture
from broker.errors import BrokerError
from broker.hostenv.clock import SYSTEM_CLOCK
from broker.tokens.ports import Clock

TICK = 1.0
"""Seconds between two pictures: the times in them run down by seconds."""

Write = Callable[[Seen | None, Seen], list[str]]


def watch(daemon: Daemon, *, interval: int, variables: Mapping[str, str], in_json: bool) -> NoReturn:
    """Show every change, looking every *interval* seconds, until a signal ends it."""
    is_terminal = sys.stdout.isatty()
    if in_json or not is_terminal or variables.get("TERM", "dumb") == "dumb":
        log(daemon, write=objects_of if in_json else lines_of, wait=lambda: _wait_for_reader(interval))
    with Screen(sys.stdout.fileno(), sys.stdin.fileno() if sys.stdin is not None else -1) as screen:
        show(daemon, screen, interval=interval, colors=has_colors(variables, is_terminal=True))


def look(daemon: Daemon, before: Seen | None, clock: Clock = SYSTEM_CLOCK) -> Seen:
    """Ask once; a failure keeps what was known."""
    try:
        status = get_status(daemon)
    except BrokerError as error:
        return (before or Seen(wall=clock.wall())).failed(error, clock.wall())
    return Seen(wall=clock.wall(), status=status, asked=clock.boot())


def log(daemon: Daemon, *, write: Write, wait: Callable[[], None], clock: Clock = SYSTEM_CLOCK) -> NoReturn:
    """Print what changes from look to look, until *wait*, which comes between them, raises."""
    before: Seen | None = None
    while True:
        seen = look(daemon, before, clock)
        for line in write(before, seen):
            print(line, flush=True)
        before = seen
        wait()


def show(daemon: Daemon, screen: Screen, *, interval: int, colors: bool, clock: Clock = SYSTEM_CLOCK) -> NoReturn:
    """Keep a picture on *screen*."""
    seen: Seen | None = None

    def draw() -> None:
        now = {"wall": clock.wall(), "boot": clock.boot()}
        screen.draw(picture(seen, place=str(daemon), size=screen.size, colors=colors, **now))

    draw()
    while True:
        seen = look(daemon, seen, clock)
        until = clock.boot() + interval
        while (left := until - clock.boot()) > 0:
            draw()
            screen.wait(min(TICK, left))


def _wait_for_reader(seconds: float) -> None:
    """Wait so long. Raises BrokenPipeError as soon as nobody reads any more: without a change nobody would notice."""
    output = select.poll()
    output.register(sys.stdout.fileno(), 0)
    if any(event & (select.POLLERR | select.POLLHUP) for _, event in output.poll(seconds * 1000)):
        raise BrokenPipeError
