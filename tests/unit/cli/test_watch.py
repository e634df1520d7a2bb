"""Tests of ``broker/cli/watch.py``: looks that go on whatever they find (tests/daemon has a terminal)."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.cli import main
from broker.cli.watch import log, look
from broker.cli.watch_view import lines_of
from tests.fakes import HandClock
from tests.unit.cli.canned import answer
from tests.unit.cli.test_status import LISTED, READY, daemon


class EnoughError(Exception):
    """The test has seen what it wanted."""


def test_a_daemon_that_goes_away_keeps_what_was_known(tmp_path: Path):
    """And one that was never there leaves nothing."""
    clock = HandClock()
    with daemon(tmp_path / "s", {"/v1/tokens": answer(LISTED), "/readyz": answer(READY)}):
        first = look(tmp_path / "s", None, clock)
    away = look(tmp_path / "s", first, clock)
    never = look(tmp_path / "t", None, clock)

    assert first.status is not None
    assert (away.status, never.status) == (first.status, None)
    assert away.trouble is not None
    assert never.trouble is not None


def test_a_log_goes_on_until_it_is_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The same look twice is told once."""
    waits = iter([None, EnoughError(), None])

    def wait() -> None:
        found = next(waits)
        if found is not None:
            raise found

    with pytest.raises(EnoughError):
        log(tmp_path / "s", write=lines_of, wait=wait, clock=HandClock())

    assert [line.partition(" ")[2] for line in capsys.readouterr().out.splitlines()] == [
        f"unreachable: there is no socket at {tmp_path}/s [daemon_unreachable]"
    ]


@pytest.mark.parametrize("text", ["0", "-1", "x", "3601", "1.5"])
def test_an_interval_is_some_whole_seconds(text: str, capsys: pytest.CaptureFixture[str]):
    """An hour at most."""
    with pytest.raises(SystemExit, match="2"):
        main(["status", "--watch", "--interval", text])

    assert "whole number of seconds from 1 to 3600" in capsys.readouterr().err


def test_an_interval_without_watch_is_a_mistake(capsys: pytest.CaptureFixture[str]):
    """Nothing would be repeated."""
    assert main(["status", "--interval", "2"]) == 2
    assert "--interval goes with --watch" in capsys.readouterr().err
