"""
A broker that is killed, or whose disk fails, at each moment of a refresh: no grant is lost that could be kept.

The moments are all system calls between the metadata of the server and the answer to the workload that waits:
the intent, the request, its answer, the new refresh token, the new access token. With ALL_MOMENTS=1 in the
environment (``make test-crash``) all are tried, without it a few of them, always the same.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker.tokens.grant import Phase
from broker.tokens.grant_steps import NEARLY_SPENT
from tests.crash.killing import (
    DISK_CALLS,
    MAIN,
    WRITER,
    Caller,
    Moment,
    Story,
    killed_at,
    moments_of,
    refused_at,
)
from tests.daemon.harness import PATIENCE, get, wait_until
from tests.daemon.rotating_server import RotatingServer, rotating_server

SEED = 20_261_128

SAMPLE = {"killed": 2, "EIO": 1, "ENOSPC": 1, "for good": 1}
"""Moments of each kind in each mode of a server, where not all are tried."""

MODES = ("never", "grace", "strict")

ALL = bool(os.environ.get("ALL_MOMENTS"))

BROKEN_FOR = 2.5
"""Seconds that a disk goes on failing before the broker is killed."""

OLD_TOKEN = NEARLY_SPENT + 4.0
"""Seconds that an access token has left, of which the first four are too early for a replay (R2.5, strict)."""

Record = Callable[[str, object], None]

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("key") / "store.key"
    command = [sys.executable, "-m", "broker", "keygen", "store", str(file)]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
    return file


@pytest.fixture(scope="module")
def traced_moments() -> dict[str, list[Moment]]:
    """Keep what was found out about a mode for the other tests."""
    return {}


@contextmanager
def story_of(directory: Path, key: Path, server: RotatingServer, *, good_for: float | None = None) -> Iterator[Story]:
    home = directory / str(len(server.families))  # short: it becomes a part of the name of a socket
    home.mkdir()
    shutil.copy(key, home / "store.key")
    story = Story(home, server)
    story.seed(good_for=good_for)
    try:
        yield story
    finally:
        server.release()
        story.kill()
    story.broker.secrets |= server.secrets()
    story.broker.sweep()


def moments(known: dict[str, list[Moment]], mode: str, home: Path, key: Path, server: RotatingServer) -> list[Moment]:
    """Give all moments of a refresh at a server of *mode*."""
    if mode not in known:
        with story_of(home, key, server) as story:
            known[mode] = moments_of(story)
    return known[mode]


def chosen(possible: Sequence[Moment], mode: str, what: str) -> list[Moment]:
    """Give those of the moments that are to be tried."""
    if ALL:
        return list(possible)
    return random.Random(f"{SEED} {mode} {what}").sample(possible, SAMPLE[what])


def judge(story: Story, caller: Caller, *, exact: bool = True) -> str:
    """
    Start the next broker on what the last one left, and see that it lost nothing; give what came of it.

    *exact*: what was served to *caller* was durable before.
    """
    mode, family, sent_before = story.server.mode, story.family, story.sent()
    stored = story.stored()
    may_be_lost = mode == "strict" and not story.knows_newest()
    story.start()
    answer = get(story.broker.socket, "/v1/tokens/person?wait=20")

    count = Counter(story.sent())
    assert max(count.values(), default=0) <= 2
    assert not any(count[token] > 1 for token in family.tokens[1:]), "a fresh one was sent again"
    if may_be_lost:
        assert (answer.status, answer.json().get("reason")) == (409, "lost_answer")
        assert len(family.tokens) == 2
        return "lost answer"
    assert answer.status == 200, (answer.body, story.broker.said())
    assert answer.json()["access_token"] in story.server.access_tokens
    assert not family.dead
    assert not story.broker.log("grant_ended")
    if caller.answer is not None and caller.answer.status == 200 and exact:
        assert answer.json()["access_token"] == caller.answer.json()["access_token"]
        assert story.sent() == sent_before, "a restart spends nothing"
    if stored.access is not None and stored.phase is Phase.SETTLED:
        assert story.sent() == sent_before
        return "kept"
    return "asked again" if sent_before else "asked first"


def table(mode: str, what: str, tried: Sequence[object], of: int, outcomes: Counter[str]) -> str:
    rows = "\n".join(f"{count:6} {outcome}" for outcome, count in sorted(outcomes.items()))
    return f"refresh tokens: {mode}; {what}: {len(tried)} runs of {of} possible\n{rows}"


@pytest.mark.parametrize("mode", MODES)
def test_a_kill_at_any_moment_of_a_refresh_costs_no_grant(
    mode: str, key: Path, tmp_path: Path, traced_moments: dict[str, list[Moment]], record_property: Record
) -> None:
    """Only what a strict server gave and nobody could have written down is lost, and it is told as that."""
    outcomes: Counter[str] = Counter()
    missed = 0
    with rotating_server(mode) as server:
        possible = moments(traced_moments, mode, tmp_path, key, server)
        tried = chosen(possible, mode, "killed")
        for moment in tried:
            with story_of(tmp_path, key, server) as story:
                with told(moment):
                    outcomes[judge(story, killed_at(story, moment))] += 1
                missed += not story.died

    what = f"killed, {missed} of them behind the refresh because their moment did not come"
    record_property("table", table(mode, what, tried, len(possible), outcomes))
    assert {moment.thread for moment in possible} == {MAIN, WRITER}
    assert len(possible) > 40
    assert missed <= len(tried) // 10
    assert mode == "strict" or outcomes["lost answer"] == 0


@pytest.mark.parametrize("mode", MODES)
def test_a_disk_that_fails_once_at_any_moment_costs_nothing(
    mode: str, key: Path, tmp_path: Path, traced_moments: dict[str, list[Moment]], record_property: Record
) -> None:
    """The workload gets its token, late perhaps, and soon all is written down."""
    outcomes: Counter[str] = Counter()
    with rotating_server(mode) as server:
        possible = disk_moments(moments(traced_moments, mode, tmp_path, key, server))
        tried = [(moment, error) for error in ("EIO", "ENOSPC") for moment in chosen(possible, mode, error)]
        for moment, error in tried:
            with story_of(tmp_path, key, server) as story, told(moment, error):
                outcomes[judge(story, survived(story, moment, error))] += 1

    record_property("table", table(mode, "EIO or ENOSPC once", tried, 2 * len(possible), outcomes))
    assert set(outcomes) == {"kept"}


@pytest.mark.parametrize("mode", MODES)
def test_a_disk_that_fails_for_good_and_a_kill_cost_no_more_than_the_last_answer(
    mode: str, key: Path, tmp_path: Path, traced_moments: dict[str, list[Moment]], record_property: Record
) -> None:
    """What was given after the disk had proved writable is all that can be lost, and only at a strict server."""
    outcomes: Counter[str] = Counter()
    with rotating_server(mode) as server:
        possible = disk_moments(moments(traced_moments, mode, tmp_path, key, server))
        tried = chosen(possible, mode, "for good")
        for number, moment in enumerate(tried):
            with story_of(tmp_path, key, server) as story:
                error = ("EIO", "ENOSPC")[number % 2]
                with told(moment, error, "for good"):
                    caller = refused_at(story, moment, error, on=True, patience=BROKEN_FOR)
                    story.kill()
                    caller.result()
                    outcomes[judge(story, caller, exact=False)] += 1

    record_property("table", table(mode, "EIO or ENOSPC from then on, then killed", tried, len(possible), outcomes))
    assert mode == "strict" or outcomes["lost answer"] == 0


@contextmanager
def told(*what: object) -> Iterator[None]:
    """Say in which run it was that something failed."""
    try:
        yield
    except AssertionError as error:
        error.add_note(f"in the run {' '.join(map(str, what))}")
        raise


def survived(story: Story, moment: Moment, error: str) -> Caller:
    """
    See that the broker lives with one *error* at *moment*: it serves, and all is written down.

    Its caller may be told to come again: where the disk is full no refresh token is spent.
    """
    caller = refused_at(story, moment, error, on=False, patience=PATIENCE)
    answer = caller.result()
    assert answer is not None, story.broker.said()
    if answer.status != 200:
        assert answer.status == 503, story.broker.said()
        assert "retry-after" in answer.headers
        assert story.sent() == []
        wait_until(lambda: get(story.broker.socket, "/v1/tokens/person?wait=5").status == 200, "there is room again")
    wait_until(lambda: settled(story), "all is written")
    story.kill()
    return caller


def disk_moments(of: Sequence[Moment]) -> list[Moment]:
    return [moment for moment in of if moment.thread == WRITER and moment.call in DISK_CALLS]


def settled(story: Story) -> bool:
    """Say whether the store has everything that the server gave."""
    stored = story.stored()
    return stored.phase is Phase.SETTLED and stored.access is not None and story.knows_newest()


def test_after_a_kill_a_strict_server_is_not_asked_again_while_the_old_access_token_is_good(
    key: Path, tmp_path: Path
) -> None:
    """A replay can end the family: as long as there is something to serve, it waits, and then it is made once."""
    with (
        rotating_server("strict") as server,
        story_of(tmp_path, key, server, good_for=OLD_TOKEN) as story,
    ):
        until = time.monotonic() + OLD_TOKEN
        server.hold()
        caller = story.begin()
        server.release_description()
        assert server.processed.wait(PATIENCE)
        story.kill()
        server.release()
        caller.result()
        story.start()
        served = get(story.broker.socket, "/v1/tokens/person?min_valid=0")
        asked_at_once = len(story.sent())
        story.broker.wait_for("grant_ended", reason="lost_answer")
        still = get(story.broker.socket, "/v1/tokens/person?min_valid=0")

        assert asked_at_once == 1
        assert served.json()["access_token"] == still.json()["access_token"] == "the-one-before"
        assert story.sent() == [story.family.tokens[0]] * 2
        assert server.heard_at[-1] >= until - NEARLY_SPENT - 0.5
        time.sleep(max(0.0, until - time.monotonic()) + 0.5)
        refused = get(story.broker.socket, "/v1/tokens/person")
        assert (refused.status, refused.json()["reason"]) == (409, "lost_answer")
        assert len(story.sent()) == 2


@pytest.mark.parametrize("wait", [0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.5] if ALL else [0.02, 0.5])
def test_an_orderly_stop_at_any_moment_of_a_refresh_loses_no_answer(wait: float, key: Path, tmp_path: Path) -> None:
    """Before the request, while the server thinks and behind it: there is nothing to be lost."""
    with rotating_server("strict") as server, story_of(tmp_path, key, server) as story:
        server.hold()
        caller = story.begin()
        server.release_description()
        time.sleep(wait)
        os.kill(story.broker.pid, signal.SIGTERM)
        time.sleep(0.3)  # for the server's answer, which is late
        server.release()
        assert story.broker.stop() == 0
        caller.result()

        assert story.knows_newest()
        assert judge(story, caller, exact=False) in {"kept", "asked first"}
        assert not server.families[0].dead
