"""
Clocks that are set, a machine that sleeps, a process that is stopped: nothing expired is served, nothing asked twice.

The server is the judge, and its clock is nobody's to move: its tokens say when they end, its resource API says
whether it takes them, and its journal says when it was asked.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.daemon.harness import Answer, BrokerProcess, SandboxProcess, broker_process, sandbox_process, wait_until

Record = Callable[[str, str], None]

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)

HALF = 0.5
"""Share of a short lifetime before which the broker does not refresh."""

EARLY = 0.05
"""Seconds by which the clocks of two processes, each read at its own moment, may seem to differ."""


def claims(token: str) -> dict[str, Any]:
    """Read what the server wrote into a token."""
    payload = token.split(".")[1]
    read: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return read


def accepted(sandbox: SandboxProcess, token: str) -> bool:
    """Ask the resource API whether it takes the token."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(sandbox.home / "ca.pem")
    context.load_cert_chain(sandbox.home / "client.pem", sandbox.home / "client.key")
    url = urlsplit(sandbox.control.addresses["resource"])
    connection = http.client.HTTPSConnection(url.netloc, context=context, timeout=10)
    try:
        connection.request("GET", "/api/hello", headers={"Authorization": f"Bearer {token}"})
        return connection.getresponse().status == 200
    finally:
        connection.close()


@dataclass
class Caller:
    """Asks for the token all the time, and lets the server judge what it gets."""

    broker: BrokerProcess
    sandbox: SandboxProcess
    served: Counter[str] = field(default_factory=Counter)
    expired: list[float] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    last: Answer | None = None

    def ask(self) -> None:
        asked_at = time.time()
        answer = self.broker.token("demo", "?wait=0")
        body = answer.json()
        if answer.status == 200:
            kind = "stale" if body["stale"] else "good"
            ends_at = claims(body["access_token"])["exp"]
            if ends_at <= asked_at:
                self.expired.append(asked_at - ends_at)
            if not accepted(self.sandbox, body["access_token"]) and time.time() < ends_at:
                self.refused.append(body["access_token"])
        else:
            kind = f"{answer.status} {body['error']}"
        self.served[kind] += 1
        self.last = answer

    def summary(self) -> str:
        return ", ".join(f"{count} x {kind}" for kind, count in self.served.items())


@contextmanager
def asking(broker: BrokerProcess, sandbox: SandboxProcess) -> Iterator[Caller]:
    """Ask in a thread until the end of the context; then no answer may have held an expired token."""
    caller, done = Caller(broker, sandbox), threading.Event()

    def ask() -> None:
        while not done.wait(0.05):
            caller.ask()

    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(ask)
        try:
            yield caller
        finally:
            done.set()
        asked.result()
    assert caller.expired == []
    assert caller.refused == []


def asked_at(sandbox: SandboxProcess) -> list[float]:
    """Give the times of the token requests, by the server's clock."""
    return [float(request["time"]) for request in sandbox.control.requests("token")]


def assert_none_early(broker: BrokerProcess, asked: list[float], lifetime: int) -> None:
    """Each request but the first came when the token before it was due, by the end that the broker counted for it."""
    ends = [record["expires_at"] for record in broker.log("token_refreshed")]
    for at, end in zip(asked[1:], ends, strict=False):
        assert at >= end - lifetime * HALF - EARLY


def status_of(caller: Caller) -> int:
    return 0 if caller.last is None else caller.last.status


@dataclass(frozen=True)
class WallClock:
    """The wall clock of a process under libfaketime: set at run time, while every other clock goes its way."""

    file: Path

    def set(self, seconds: int) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self.file)  # at once: an empty file would be another time

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",  # in 0.9.10 that means CLOCK_BOOTTIME, too
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # its name in later versions
            "NO_FAKE_STAT": "1",
        }


CLOCKS = "import time; print(*(time.clock_gettime(c) for c in (time.CLOCK_REALTIME, 7, time.CLOCK_MONOTONIC)))"
"""Prints the wall clock, CLOCK_BOOTTIME and CLOCK_MONOTONIC."""


def wall_clock(directory: Path) -> WallClock:
    """Give a wall clock that is right so far, and shown to be the only clock that is faked."""
    clock = WallClock(directory / "faketime")
    clock.set(7_200)
    said = subprocess.run(
        [sys.executable, "-c", CLOCKS], env={**os.environ, **clock.environment}, capture_output=True, check=True
    )
    wall, boot, monotonic = map(float, said.stdout.split())
    assert abs(wall - time.time() - 7_200) < 60
    assert abs(boot - time.clock_gettime(time.CLOCK_BOOTTIME)) < 60
    assert abs(monotonic - time.monotonic()) < 60
    clock.set(0)
    return clock


@pytest.mark.skipif(FAKETIME is None, reason="no libfaketime (Debian: faketime)")
def test_a_wall_clock_that_is_set_ends_no_token_and_costs_no_request(tmp_path: Path, record_property: Record):
    """
    Two hours forward, one hour back, at run time; two brokers at once, because a test should not take long.

    The token in hand is served to its end, by a lifetime that no clock moves. Its refresh comes when it would
    have come, and is refused: the assertion is from the future, or from the past. When the clock is put right
    the broker has a token within seconds, and not after the quarter of an hour that such an error waits.
    """
    with ThreadPoolExecutor(2) as threads:
        tables = [threads.submit(set_and_put_right, tmp_path / name, by) for name, by in JUMPS.items()]
        record_property("table", "\n".join(table.result() for table in tables))


JUMPS = {"forward": 7_200, "back": -3_600}
"""Seconds by which the wall clock is set."""


def set_and_put_right(directory: Path, seconds: int) -> str:
    """Play the story of one jump and assert what it should come to; gives the lines of the table."""
    directory.mkdir()
    clock = wall_clock(directory)
    with (
        sandbox_process(directory, lifetime=6) as sandbox,
        broker_process(sandbox, start=False) as broker,
    ):
        broker.environment = clock.environment
        broker.up()
        with asking(broker, sandbox) as caller:
            wait_until(lambda: status_of(caller) == 200, "a token")
            clock.set(seconds)
            jump = broker.wait_for("clock_jumped")
            body, wall = broker.token().json(), time.time() + seconds
            failure = broker.wait_for("token_refresh_failed")
            wait_until(lambda: caller.served["stale"] > 0, "the token is served though its refresh was refused")
            wait_until(lambda: status_of(caller) == 502, "the end of the token")
            at_first, before = asked_at(sandbox), caller.summary()
            clock.set(0)
            put_right = time.monotonic()
            wait_until(lambda: status_of(caller) == 200, "a token once the clock is right")
            took, in_all = time.monotonic() - put_right, asked_at(sandbox)
        metrics = broker.ops("/metrics").body.decode()

    assert jump["by"] == pytest.approx(seconds, abs=2)
    assert abs(body["expires_at"] - wall - body["expires_in"]) < 3
    assert 1 <= body["expires_in"] <= 6
    assert (failure["server_error"], failure["serving"]) == ("invalid_client", True)
    late = at_first[1] - (broker.log("token_refreshed")[0]["expires_at"] - 6 * HALF)
    assert len(at_first) == 2
    assert_none_early(broker, at_first, 6)
    assert len(in_all) == 3
    assert "token_broker_clock_jumps_total 2.0" in metrics
    lines = [
        f"wall clock {seconds:+d} s       noticed: {jump['by']:+.1f} s",
        f"  until the token's end     {before}",
        f"  token requests            2, the second {late:+.1f} s from when it was due: {failure['server_error']}",
        f"  clock put right           a token after {took:.1f} s; token requests in all {len(in_all)}",
        "  expired tokens served     0",
    ]
    return "\n".join(lines)


def test_a_stopped_process_does_not_serve_what_ended_while_it_stood_still(tmp_path: Path, record_property: Record):
    """
    SIGSTOP and SIGCONT: all clocks go on, and the process sees none of it.

    After a short stop it has the token that it had. After one that is longer than the token lives, the caller
    that asked meanwhile is answered with a new one, for one request.
    """
    with sandbox_process(tmp_path, lifetime=4) as sandbox, broker_process(sandbox) as broker:
        before = broker.token().json()["access_token"]
        os.kill(broker.pid, signal.SIGSTOP)
        time.sleep(0.7)
        os.kill(broker.pid, signal.SIGCONT)
        short = broker.token().json()["access_token"]
        after_short = asked_at(sandbox)
        with ThreadPoolExecutor(1) as threads:
            os.kill(broker.pid, signal.SIGSTOP)
            ended_at = max(claims(token)["exp"] for token in (before, short))
            asked = threads.submit(broker.token)
            wait_until(lambda: time.time() > ended_at + 1.5, "the end of the token, and of any that came since")
            resumed_at = time.time()
            os.kill(broker.pid, signal.SIGCONT)
            answer = asked.result().json()
        judged, after_long = accepted(sandbox, answer["access_token"]), asked_at(sandbox)
        jumps = [*broker.log("clock_jumped"), *broker.log("machine_resumed")]

    assert_none_early(broker, after_short, 4)
    assert short == before or len(after_short) > 1
    assert answer["access_token"] not in {before, short}
    assert claims(answer["access_token"])["exp"] > resumed_at
    assert judged
    assert_none_early(broker, after_long, 4)
    assert jumps == []
    lines = [
        f"process stopped for 0.7 s      the same token: {short == before}; token requests {len(after_short)}",
        f"stopped past the token's end   another token, good at the server: {judged}; token requests {len(after_long)}",
    ]
    record_property("table", "\n".join(lines))


def test_a_machine_that_slept_serves_no_token_past_its_end_and_keeps_the_others(
    tmp_path: Path, record_property: Record
):
    """
    A suspended machine, as the broker sees it: see ``suspendable`` for what is real about it.

    Two seconds of sleep cost nothing but two seconds of the token's life. Twelve more end it: no timer rings,
    since timers slept as well, and still no caller gets it. The server did not sleep, and accepts the new
    assertion, which is fourteen seconds ahead.
    """
    slept = tmp_path / "slept"
    slept.write_text("0")

    def sleep(seconds: int) -> None:
        new = slept.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(slept)

    with (
        sandbox_process(tmp_path, lifetime=13) as sandbox,
        broker_process(sandbox, start=False) as broker,
    ):
        broker.command = (sys.executable, "-m", "tests.daemon.suspendable", str(slept))
        broker.up()
        before = broker.token().json()
        sleep(2)
        after_two, asked_for_two = broker.token().json(), asked_at(sandbox)
        short = broker.wait_for("machine_resumed")
        sleep(14)
        after_twelve = broker.token().json()
        broker.wait_for("machine_resumed", asleep=pytest.approx(12, abs=0.1))
        time.sleep(1.5)  # another look at the clocks, for a request that should not be there
        judged, requests, jumps = (
            accepted(sandbox, after_twelve["access_token"]),
            asked_at(sandbox),
            broker.log("clock_jumped"),
        )

    assert after_two["access_token"] == before["access_token"]
    assert after_two["expires_in"] <= before["expires_in"] - 2
    assert len(asked_for_two) == 1
    assert short["asleep"] == pytest.approx(2, abs=0.1)
    assert after_twelve["access_token"] != before["access_token"]
    assert judged
    assert len(requests) == 2
    assert jumps == []
    lines = [
        f"machine slept 2 s    the same token, {before['expires_in']} -> {after_two['expires_in']}; 1 request",
        f"machine slept 12 s   another token, good at the server: {judged}; token requests {len(requests)}",
    ]
    record_property("table", "\n".join(lines))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a time namespace")
@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare (Debian: util-linux)")
def test_a_machine_that_had_slept_before_is_no_different(tmp_path: Path, record_property: Record):
    """
    In a time namespace where CLOCK_BOOTTIME is an hour ahead of CLOCK_MONOTONIC.

    The offset of a namespace cannot be changed once a process is in it: this shows that deadlines on the one
    clock and timers on the other go together, and that an old sleep is no news.
    """
    with (
        sandbox_process(tmp_path, lifetime=4) as sandbox,
        broker_process(sandbox, start=False) as broker,
    ):
        namespace = ("unshare", "--time", "--boottime", "3600", "--fork", "--kill-child")
        broker.command = (*namespace, sys.executable, "-m", "broker")
        broker.up()
        ahead = subprocess.run([*namespace, sys.executable, "-c", CLOCKS], capture_output=True, check=True).stdout
        with asking(broker, sandbox) as caller:
            wait_until(lambda: len(asked_at(sandbox)) >= 2, "a refresh")
        times = asked_at(sandbox)
        told = [*broker.log("machine_resumed"), *broker.log("clock_jumped"), *broker.log("token_expired")]
        (child,) = Path(f"/proc/{broker.pid}/task/{broker.pid}/children").read_text().split()
        os.kill(int(child), signal.SIGTERM)
        wait_until(lambda: not broker.running(), "the end of the broker")

    offset = float(ahead.split()[1]) - float(ahead.split()[2])
    apart = [later - earlier for earlier, later in pairwise(times)]
    assert offset > 3_500
    assert_none_early(broker, times, 4)
    assert set(caller.served) <= {"good", "stale"}
    assert told == []
    record_property(
        "table",
        f"boot clock {offset:.0f} s ahead   {caller.summary()}; token requests "
        + ", ".join(f"{gap:.1f} s" for gap in apart)
        + " apart",
    )
