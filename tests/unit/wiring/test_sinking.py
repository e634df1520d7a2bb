"""From the sinks of a configuration to those that are kept."""

from __future__ import annotations

from pathlib import Path

from broker.wiring.sinking import sinks_of, unsafe_sinks
from tests.fakes import Dice, Events, HandClock
from tests.unit.api.world import FakeTokens
from tests.unit.daemon.test_process import CONFIG
from tests.unit.wiring.configurations import settings_of

SINK = """
[sink.app]
token = "one"
path = "{path}"
"""


def configured(path: str) -> str:
    """Give a configuration with a sink of its first token."""
    name = CONFIG[CONFIG.index("[token.") :].partition("]")[0].removeprefix("[token.")
    return CONFIG + SINK.format(path=path).replace('"one"', f'"{name}"')


def test_every_sink_is_opened(tmp_path: Path) -> None:
    """Its place is looked at, and a crash cleaned up after."""
    settings = settings_of(tmp_path, configured("token"))
    (tmp_path / ".token.new").touch()

    sinks_of(settings, FakeTokens(), clock=HandClock(), randomness=Dice(), emit=Events()).open()

    assert not (tmp_path / ".token.new").exists()


def test_a_place_that_is_missing_is_said_but_for_one_that_a_listener_makes(tmp_path: Path) -> None:
    """Listeners are opened first."""
    settings = settings_of(tmp_path, configured("missing/token"))
    made = settings_of(tmp_path, configured("missing/token").replace("api.sock", "missing/api.sock"))

    assert [error.code for error in unsafe_sinks(settings)] == ["sink_failed"]
    assert unsafe_sinks(made) == []
