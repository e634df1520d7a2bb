"""
A broker that is killed while it redeems an authorization code: the code is sent once, and nobody is told a lie.

The moments are the system calls of every thread from the callback to its answer; see ``killing`` for how. With
ALL_MOMENTS=1 in the environment all are tried, without it a few of them, always the same.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from broker.sandbox.person import Callback
from tests.crash.killing import CALLS, SETTLES, Moment, counted, traced
from tests.daemon.harness import PATIENCE, POLL, Answer, get, wait_until
from tests.daemon.test_consent import Place, place

SEED = 20_261_128

SAMPLE = 3
"""Moments, where not all are tried."""

TOKEN = "people"

Record = Callable[[str, object], None]

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


class Returning:
    """An application that comes back with what the browser brought."""

    def __init__(self, at: Place) -> None:
        self.at = at
        self.begun = at.begin(at.a, TOKEN)
        self.callback: Callback = at.person(self.begun)
        self.answer: Answer | None = None
        self.known = {grant["id"] for grant in get(at.a, "/v1/grants").json()["grants"]}
        self._thread = threading.Thread(target=self._come_back)

    def start(self) -> None:
        self._thread.start()

    def done(self) -> bool:
        return not self._thread.is_alive()

    def join(self) -> Answer | None:
        self._thread.join(PATIENCE)
        assert self.done(), "the application was left waiting"
        return self.answer

    def _come_back(self) -> None:
        try:
            self.answer = self.at.come_back(self.at.a, self.begun, self.callback)
        except (OSError, ValueError, IndexError):
            self.answer = None  # the broker is gone


def moments_of(at: Place) -> list[Moment]:
    """Redeem a code without faults; give the system calls of all threads."""
    one = Returning(at)
    threads = len(list(Path(f"/proc/{at.broker.pid}/task").iterdir()))
    traces = [at.sandbox.directory / f"trace-{thread}" for thread in range(threads)]
    with ExitStack() as stack:
        for thread, trace in enumerate(traces):
            options = ("-o", str(trace), "-e", f"trace={','.join(CALLS)}")
            stack.enter_context(traced(at.broker.pid, thread, *options))
        one.start()
        answer = one.join()
        time.sleep(SETTLES)
    assert answer is not None
    assert answer.status == 200
    return [moment for thread, trace in enumerate(traces) for moment in counted(thread, trace.read_text().splitlines())]


def killed_at(at: Place, moment: Moment) -> Returning:
    """Let the broker be killed at *moment* of a redemption, or behind it where it does not come."""
    one = Returning(at)
    at.sandbox.control.clear_requests()
    inject = f"inject={moment.call}:signal=KILL:when={moment.number}"
    with traced(at.broker.pid, moment.thread, "-o", "/dev/null", "-e", f"trace={moment.call}", "-e", inject):
        one.start()
        wait_until(lambda: one.done() or not at.broker.running(), "the end of the redemption")
        deadline = time.monotonic() + SETTLES
        while at.broker.running() and time.monotonic() < deadline:
            time.sleep(POLL)
    at.broker.stop(signal.SIGKILL)
    one.join()
    return one


def codes_sent(at: Place) -> int:
    """Count requests with a code; the grants of earlier runs are refreshed meanwhile."""
    requests = at.sandbox.control.requests()
    return sum(request.get("grant_type") == "authorization_code" for request in requests)


def judge(at: Place, one: Returning) -> str:
    """Start the next broker, and see what it makes of the authorization; give what that is."""
    sent = codes_sent(at)
    at.broker.up()
    again = at.come_back(at.a, one.begun, one.callback)

    assert codes_sent(at) <= 1, "a code was sent twice"
    if one.answer is not None and one.answer.status == 200:
        assert (again.status, again.json()["state"]) == (410, "granted")
        assert get(at.a, f"/v1/grants/{one.answer.json()['grant']}/token").status == 200
        return "granted before"
    if again.status == 200:
        assert sent == 0
        assert get(at.a, f"/v1/grants/{again.json()['grant']}/token").status == 200
        return "granted behind the crash"
    state = again.json()["state"]
    assert again.status == 410
    if state == "granted":
        assert get(at.a, f"/v1/grants/{again.json()['grant']}/token").status == 200
        return "granted, and the application learns it later"
    assert (state, again.json()["reason"]) == ("failed", "interrupted")
    assert {grant["id"] for grant in get(at.a, "/v1/grants").json()["grants"]} == one.known, "nobody knows of it"
    return "interrupted"


def test_a_kill_at_any_moment_of_a_redemption_sends_no_code_twice(tmp_path: Path, record_property: Record) -> None:
    """The grant is there and works, or it is not and the application is told so; another consent always works."""
    outcomes: Counter[str] = Counter()
    with place(tmp_path) as at:
        possible = moments_of(at)
        everything = os.environ.get("ALL_MOMENTS")
        tried = possible if everything else random.Random(SEED).sample(possible, SAMPLE)
        for moment in tried:
            try:
                outcomes[judge(at, killed_at(at, moment))] += 1
            except AssertionError as error:
                error.add_note(f"in the run {moment}")
                raise
        last = at.consent(at.a, TOKEN)
        grants = get(at.a, "/v1/grants").json()["grants"]

    rows = "\n".join(f"{count:6} {outcome}" for outcome, count in sorted(outcomes.items()))
    record_property("table", f"killed in a redemption: {len(tried)} runs of {len(possible)} possible\n{rows}")
    assert last.status == 200
    assert {grant["state"] for grant in grants} <= {"fresh", "stale"}
    granted = sum(count for outcome, count in outcomes.items() if outcome.startswith("granted"))
    assert len(grants) == granted + 2, "each grant is one that somebody was told of"
