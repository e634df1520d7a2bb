"""A token that was rejected somewhere is replaced at once, and nobody can make the broker hammer a server."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.harness import (
    CANARY,
    Answer,
    BrokerProcess,
    SandboxProcess,
    broker_process,
    exchange,
    sandbox_process,
    split,
    wait_until,
)

COOLDOWN = 60
"""Seconds after a token was fetched, or an attempt was forced, in which no caller has another one made."""

MAY = 'may = ["get"]'


@dataclass
class Hurry:
    """The deadlines of a broker, which can be brought closer."""

    file: Path

    def by(self, seconds: int) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(str(int(self.file.read_text()) + seconds))
        new.replace(self.file)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with sandbox_process(tmp_path_factory.mktemp("forced"), lifetime=3_600) as process:
        yield process


@contextmanager
def hurried(
    sandbox: SandboxProcess, may: str = 'may = ["get", "refresh"]', *, refusing: bool = False
) -> Iterator[tuple[BrokerProcess, Hurry]]:
    """Run a broker whose deadlines can be brought closer; *refusing*: the server refuses its client from the start."""
    sandbox.control.clear_faults()
    sandbox.control.clear_requests()
    if refusing:
        refuse(sandbox)
    for old in (sandbox.home / "audit.log", *sandbox.directory.glob("broker.*")):
        old.unlink(missing_ok=True)
    hurry = Hurry(sandbox.directory / "ahead")
    hurry.file.write_text("0")
    config = (sandbox.home / "config.toml").read_text()
    assert MAY in config
    with broker_process(sandbox, config=config.replace(MAY, may), start=False) as broker:
        broker.command = (sys.executable, "-m", "tests.daemon.hurried", str(hurry.file))
        broker.up(ready=not refusing)
        yield broker, hurry


def refuse(sandbox: SandboxProcess) -> None:
    """Let the server refuse the client, until the faults are taken down."""
    sandbox.control.fault("token", "oauth_error", error="invalid_client", status=401)


def force(broker: BrokerProcess, body: object = None, *, headers: tuple[str, ...] = ()) -> Answer:
    """POST *body*, as JSON unless it is bytes; None is none."""
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    lines = ["POST /v1/tokens/demo/refresh HTTP/1.1", "Host: localhost", "Connection: close", *headers]
    if raw:
        lines += [f"Content-Length: {len(raw)}"]
        lines += [] if headers else ["Content-Type: application/json"]
    return split(exchange(broker.socket, ("\r\n".join(lines) + "\r\n\r\n").encode() + raw))


def rejected(answer: Answer) -> dict[str, str]:
    return {"rejected": answer.headers["etag"]}


def asked(sandbox: SandboxProcess) -> int:
    """Count the requests that came to the token endpoint."""
    return sandbox.control.count("token")


def test_a_rejected_token_is_replaced_once_in_a_cooldown(sandbox: SandboxProcess):
    """At once, for all callers, and each that gets it has a record; who had it made has one of its own."""
    with hurried(sandbox) as (broker, hurry):
        first = broker.token()
        early = force(broker, rejected(first))
        hurry.by(COOLDOWN + 1)
        second = force(broker, rejected(first))
        late = force(broker, rejected(first))
        again = force(broker, rejected(second))
        seen = broker.token()
        requests, forced, served = (
            asked(sandbox),
            broker.records("token_refresh_forced"),
            broker.records("token_served"),
        )

    answers = [early, second, late, again, seen]
    assert {answer.status for answer in answers} == {200}
    assert early.headers["etag"] == first.headers["etag"]  # it is younger than the cooldown
    assert second.headers["etag"] != first.headers["etag"]
    assert {answer.headers["etag"] for answer in (late, again, seen)} == {second.headers["etag"]}
    assert second.json().keys() == first.json().keys()
    assert (second.json()["stale"], second.json()["access_token"]) == (False, seen.json()["access_token"])
    assert requests == 2
    assert [(one["uid"], one["workload"], one["token"]) for one in forced] == [(os.geteuid(), "demo", "demo")]
    assert [one["generation"] for one in served] == [1, 1, 2, 2, 2, 2]


def test_callers_that_force_at_the_same_time_share_one_request(sandbox: SandboxProcess):
    """Forty of them, with the same rejected token or with none."""
    with hurried(sandbox) as (broker, hurry), ThreadPoolExecutor(40) as threads:
        first = broker.token()
        hurry.by(COOLDOWN + 1)
        sandbox.control.fault("token", "delay", times=1, delay_seconds=1)
        bodies: list[Any] = [rejected(first), None] * 20
        answers = list(threads.map(lambda body: force(broker, body), bodies))
        requests, forced = asked(sandbox), broker.records("token_refresh_forced")

    assert {answer.status for answer in answers} == {200}
    assert len({answer.headers["etag"] for answer in answers} - {first.headers["etag"]}) == 1
    assert first.headers["etag"] not in {answer.headers["etag"] for answer in answers}
    assert (requests, len(forced)) == (2, 1)


def test_without_the_right_to_refresh_nothing_is_fetched(sandbox: SandboxProcess):
    """The right to get is another one."""
    with hurried(sandbox, MAY) as (broker, hurry):
        first = broker.token()
        hurry.by(COOLDOWN + 1)
        answer = force(broker, rejected(first))
        requests, refusals = asked(sandbox), broker.records("request_refused")

    assert (answer.status, answer.json()["error"]) == (403, "access_denied")
    assert requests == 1
    assert [(one["reason"], one["route"]) for one in refusals] == [("action_not_granted", "/v1/tokens/{name}/refresh")]


def test_the_right_to_refresh_does_not_need_the_right_to_get(sandbox: SandboxProcess):
    """And does not give it."""
    with hurried(sandbox, 'may = ["refresh"]') as (broker, _):
        answers = force(broker).status, broker.token().status

    assert answers == (200, 403)


def test_a_server_that_refuses_is_not_hammered_for_a_caller_that_loops(sandbox: SandboxProcess):
    """The good token is served and says that it is stale; one attempt in a cooldown, however often it is forced."""
    with hurried(sandbox) as (broker, hurry):
        first = broker.token()
        hurry.by(COOLDOWN + 1)
        broker.wait_for("clock_jumped")  # what is tried again for that is over before the server refuses
        refuse(sandbox)
        answers = [force(broker, rejected(first)) for _ in range(100)]
        after_a_hundred = asked(sandbox)
        hurry.by(COOLDOWN + 1)
        answers += [force(broker, rejected(first)) for _ in range(100)]
        after_two_hundred, forced = asked(sandbox), broker.records("token_refresh_forced")
        sandbox.control.clear_faults()
        hurry.by(COOLDOWN + 1)
        mended = force(broker, rejected(first))

    assert {(answer.status, answer.headers["etag"], answer.json()["stale"]) for answer in answers} == {
        (200, first.headers["etag"], True)
    }
    assert after_a_hundred == 2
    assert after_two_hundred <= 4  # a clock that was set lets a refused client be tried again, too
    assert 1 <= len(forced) <= 2
    assert (mended.status, mended.json()["stale"]) == (200, False)
    assert mended.headers["etag"] != first.headers["etag"]


def test_what_was_mended_is_tried_at_once_when_a_caller_forces_it(sandbox: SandboxProcess):
    """A client that the server did not know at the start would else be tried again after five minutes."""
    with hurried(sandbox, refusing=True) as (broker, _):
        wait_until(lambda: len(broker.log("token_refresh_failed")) == 1, "the first attempt")
        sandbox.control.clear_faults()
        before, planned = broker.token("demo", "?wait=0"), broker.log("token_refresh_failed")[0]["retry_in"]
        began = time.monotonic()
        mended = force(broker)
        took = time.monotonic() - began

    assert (before.status, before.json()["server_error"]) == (502, "invalid_client")
    assert planned > COOLDOWN
    assert mended.status == 200
    assert took < 10.0


def test_without_a_token_a_failed_forced_refresh_is_the_servers_no(sandbox: SandboxProcess):
    """Once; who loops on it gets the same answer, and the server no request."""
    with hurried(sandbox, refusing=True) as (broker, _):
        wait_until(lambda: len(broker.log("token_refresh_failed")) == 1, "the first attempt")
        answers = [force(broker) for _ in range(30)]
        requests = asked(sandbox)

    assert {(answer.status, answer.json()["server_error"]) for answer in answers} == {(502, "invalid_client")}
    assert all(int(answer.headers["retry-after"]) > COOLDOWN for answer in answers)
    assert requests == 2


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b'{"rejected":"%b"}' % CANARY.encode(), (), 400),
        (b'{"rejected":"\\"a\\"","rejected":"\\"b\\""}', (), 400),
        (b'{"%b":1}' % CANARY.encode(), (), 400),
        (b'{"rejected":NaN}', (), 400),
        (b'{"rejected":null}', (), 400),
        (b"[]", (), 400),
        (b"{", (), 400),
        (b"{}", ("Content-Type: text/plain",), 415),
        (b"{}", ("Content-Type: application/json", "Content-Encoding: gzip"), 415),
        (b" " * 65_537, (), 413),
    ],
    ids=range(10),  # the environment of what is started has the name of the test, and no canary should be there
)
def test_bad_bodies_are_refused_in_the_one_shape(
    sandbox_broker: BrokerProcess, body: bytes, headers: tuple[str, ...], status: int
):
    """Nothing of them comes back."""
    answer = force(sandbox_broker, body, headers=headers)

    assert (answer.status, answer.json()["error"]) == (status, "invalid_request")
    assert answer.headers["cache-control"] == "no-store"
    assert CANARY.encode() not in answer.body


@pytest.fixture(scope="module")
def sandbox_broker(sandbox: SandboxProcess) -> Iterator[BrokerProcess]:
    with hurried(sandbox) as (broker, _):
        yield broker
