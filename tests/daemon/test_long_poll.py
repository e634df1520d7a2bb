"""Callers that wait for the next token, on real sockets: all have it at once, and none keeps a right it lost."""

from __future__ import annotations

import resource
import selectors
import signal
import socket
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from tests.daemon.harness import (
    PATIENCE,
    Answer,
    BrokerProcess,
    SandboxProcess,
    broker_process,
    get,
    sandbox_process,
    split,
    wait_until,
)

CALLERS = 500

WITHIN = 1.0
"""Seconds in which all of them have the new token."""

LIFETIME = 16
"""Seconds: refreshed after eight of them, which is time enough for all callers to be there."""

ROOM = f"""
[daemon]
max_connections = {CALLERS + 100}
max_connections_per_uid = {CALLERS + 50}
max_waiting = {CALLERS + 50}
max_waiting_per_uid = {CALLERS}
"""

RESOURCE = "https://api.sandbox.example/"
"""One of the two that the sandbox lets its client ask for."""

DESCRIPTORS = 4_096
"""What a broker has to be allowed to open for so many connections: of half of them it makes no use."""


@pytest.fixture
def descriptors() -> Iterator[None]:
    """Let this process and its children open enough."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(DESCRIPTORS, hard)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@dataclass
class Caller:
    """A request that is on its way; *answered_at* in Unix seconds."""

    connection: socket.socket
    received: bytes = b""
    answered_at: float = 0.0

    def read(self) -> bool:
        """Take what is there; gives whether the answer is whole: each caller has asked for the end after it."""
        piece = self.connection.recv(65_536)
        self.received += piece
        if not piece:
            return True
        self.answered_at = time.time()
        return False

    def answer(self) -> Answer:
        """Wait for the answer."""
        while not self.read():
            pass
        return split(self.received)


@contextmanager
def calling(path: Path, etag: str, *, wait: int = 60, query: str = "") -> Iterator[Caller]:
    """Ask for another token than the one of *etag*."""
    lines = [f"GET /v1/tokens/demo?wait={wait}{query} HTTP/1.1", "Host: localhost", "Connection: close"]
    lines += [f"If-None-Match: {etag}", "", ""]
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(str(path))
        connection.sendall("\r\n".join(lines).encode())
        yield Caller(connection)


def read_all(callers: list[Caller]) -> None:
    """Read until each has its answer."""
    with selectors.DefaultSelector() as selector:
        for caller in callers:
            selector.register(caller.connection, selectors.EVENT_READ, caller)
        deadline = time.monotonic() + PATIENCE
        while selector.get_map():
            assert time.monotonic() < deadline, f"{len(selector.get_map())} callers had no answer"
            for key, _ in selector.select(1.0):
                if key.data.read():
                    selector.unregister(key.fileobj)


def unix(text: str) -> float:
    """Read the time of a log line."""
    return datetime.fromisoformat(text).timestamp()


def waiting(broker: BrokerProcess) -> int:
    """Count the connections of the broker's socket, as the kernel sees them: each of them has a caller."""
    lines = Path("/proc/net/unix").read_text().splitlines()
    return sum(line.endswith(f" {broker.socket}") for line in lines) - 1


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with sandbox_process(tmp_path_factory.mktemp("poll"), lifetime=LIFETIME) as process:
        yield process


@contextmanager
def broker_with(sandbox: SandboxProcess, more: str = "", *, lifetime: int = LIFETIME) -> Iterator[BrokerProcess]:
    """Run a broker whose tokens live for *lifetime* seconds."""
    sandbox.control.clear_faults()
    sandbox.control.set(lifetime_seconds=lifetime, down=False)
    for old in (sandbox.home / "audit.log", *sandbox.directory.glob("broker.*")):
        old.unlink(missing_ok=True)
    with broker_process(sandbox, config=(sandbox.home / "config.toml").read_text() + more) as broker:
        yield broker


@dataclass(frozen=True)
class Round:
    """What came of all callers at one refresh; times in seconds since the broker had the token."""

    before: Answer
    answers: list[Answer]
    asked: float
    after: list[float]

    def lines(self) -> list[str]:
        statuses = dict(Counter(answer.status for answer in self.answers))
        return [
            f"callers that wait with the current ETag          {len(self.answers)}, one connection each",
            f"answers                                          {statuses}",
            f"from the sandbox's token request to the broker   {-1_000 * self.asked:.0f} ms",
            f"from the broker having it: first answer          {1_000 * min(self.after):.0f} ms",
            f"  median                                         {1_000 * statistics.median(self.after):.0f} ms",
            f"  last answer                                    {1_000 * max(self.after):.0f} ms",
            f"from the sandbox's token request to the last     {1_000 * (max(self.after) - self.asked):.0f} ms",
        ]


def one_round(broker: BrokerProcess, sandbox: SandboxProcess) -> Round:
    """Let all callers wait for the next token."""
    before, tokens = broker.token(), len(broker.log("token_refreshed"))
    sandbox.control.clear_requests()
    with ExitStack() as stack:
        callers = [stack.enter_context(calling(broker.socket, before.headers["etag"])) for _ in range(CALLERS)]
        wait_until(lambda: waiting(broker) >= CALLERS, "all callers are there")
        read_all(callers)
    had_at = unix(broker.log("token_refreshed")[tokens]["time"])
    return Round(
        before=before,
        answers=[split(caller.received) for caller in callers],
        asked=sandbox.control.requests("token")[0]["time"] - had_at,
        after=[caller.answered_at - had_at for caller in callers],
    )


@pytest.mark.usefixtures("descriptors")
def test_five_hundred_callers_have_the_next_token_within_a_second(
    sandbox: SandboxProcess, record_property: Callable[[str, object], None]
):
    """
    Counted from when the broker has it; each on a connection of its own, and each with a record of its own.

    What is measured is the broker and not who else has the machine: up to three refreshes have their chance.
    """
    rounds: list[Round] = []
    with broker_with(sandbox, ROOM) as broker:
        while not rounds or (max(rounds[-1].after) >= WITHIN and len(rounds) < 3):
            rounds.append(one_round(broker, sandbox))
        log, records = broker.log("token_refreshed"), broker.records("token_served")

    record_property("table", "\n".join(line for one in rounds for line in one.lines()))
    for one in rounds:
        assert {answer.status for answer in one.answers} == {200}
        assert {answer.headers["etag"] for answer in one.answers} != {one.before.headers["etag"]}
        assert len({answer.json()["access_token"] for answer in [one.before, *one.answers]}) == 2
    assert max(rounds[-1].after) < WITHIN
    assert len(log) <= 1 + 2 * len(rounds)  # one request brought the token for all
    assert [record["generation"] for record in records].count(2) >= CALLERS


def test_a_caller_is_held_for_its_time_and_has_what_it_had(sandbox: SandboxProcess):
    """304 has no body and no record: no token left."""
    with broker_with(sandbox, lifetime=600) as broker:
        etag = broker.token().headers["etag"]
        began = time.monotonic()
        with calling(broker.socket, etag, wait=1) as caller:
            answer = caller.answer()
        took = time.monotonic() - began
        at_once = get(broker.socket, "/v1/tokens/demo", {"If-None-Match": f'"other", {etag}'})
        records = broker.records("token_served")
        metrics = broker.ops("/metrics").body.decode()

    assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", etag)
    assert answer.headers["cache-control"] == "no-store"
    assert 1.0 <= took < PATIENCE
    assert at_once.status == 304
    assert len(records) == 1
    assert 'token_broker_requests_total{outcome="not_modified",route="/v1/tokens/{name}"} 2.0' in metrics


def test_a_caller_learns_that_refreshing_fails_and_then_that_its_token_ended(sandbox: SandboxProcess):
    """One answer for each, though the server is asked all the time."""
    with broker_with(sandbox, lifetime=8) as broker:
        first = broker.token()
        etag = first.headers["etag"]
        sandbox.control.set(down=True)
        with calling(broker.socket, etag) as caller:
            stale = caller.answer()
        with calling(broker.socket, etag, wait=10) as caller:
            ended = caller.answer()
        failures = len(broker.log("token_refresh_failed"))

    assert (stale.status, stale.headers["etag"], stale.json()["stale"]) == (200, etag, True)
    assert stale.json()["access_token"] == first.json()["access_token"]
    assert ended.status == 503
    assert failures > 1


def hang_up(broker: BrokerProcess, *changes: tuple[str, str]) -> None:
    """Change the file and send SIGHUP."""
    text = broker.config.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    broker.config.write_text(text)
    assert broker.process is not None
    broker.process.send_signal(signal.SIGHUP)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [('tokens = ["demo"]', "tokens = []", "not_granted"), ('may = ["get"]', 'may = ["refresh"]', "action_not_granted")],
)
def test_a_caller_whose_right_is_removed_while_it_waits_is_refused(
    sandbox: SandboxProcess, old: str, new: str, reason: str
):
    """As soon as the configuration is in force; with a record, and without a token."""
    with broker_with(sandbox, lifetime=600) as broker:
        etag = broker.token().headers["etag"]
        with calling(broker.socket, etag) as caller:
            wait_until(lambda: waiting(broker) >= 1, "the caller is there")
            hang_up(broker, (old, new))
            answer = caller.answer()
        loaded_at = unix(broker.log("configuration_loaded")[-1]["time"])
        refusals, records = broker.records("request_refused"), broker.records("token_served")

    assert (answer.status, answer.json()["error"]) == (403, "access_denied")
    assert abs(caller.answered_at - loaded_at) < WITHIN
    assert [(record["reason"], record["status"], record["token"]) for record in refusals] == [(reason, 403, "demo")]
    assert len(records) == 1


def test_a_caller_of_a_token_that_is_removed_or_renewed_by_a_reload_is_answered(sandbox: SandboxProcess):
    """One gets 403 as for any unknown name; the other the token of the new configuration."""
    second = '\n[token.second]\nclient = "demo"\nscope = ["hello:read"]\n'
    with broker_with(sandbox, second, lifetime=600) as broker, ExitStack() as stack:
        etag = broker.token().headers["etag"]
        caller = stack.enter_context(calling(broker.socket, etag))
        wait_until(lambda: waiting(broker) >= 1, "the caller is there")
        hang_up(broker, ('scope = ["hello:read"]\nrequired', f'resource = ["{RESOURCE}"]\nrequired'))
        narrowed = caller.answer()
        caller = stack.enter_context(calling(broker.socket, narrowed.headers["etag"]))
        wait_until(lambda: waiting(broker) >= 1, "the caller is there")
        text = broker.config.read_text()
        start, end = text.index("[token.demo]"), text.index("[listener.demo]")
        hang_up(broker, (text[start:end], ""), ('tokens = ["demo"]', 'tokens = ["second"]'))
        removed = caller.answer()

    assert (narrowed.status, removed.status) == (200, 403)
    assert narrowed.headers["etag"] != etag


def test_a_caller_that_waits_when_the_broker_stops_is_answered_at_once(sandbox: SandboxProcess):
    """It is told that it has what there is, and the broker does not wait for its time to be up."""
    with broker_with(sandbox, lifetime=600) as broker, ExitStack() as stack:
        etag = broker.token().headers["etag"]
        callers = [stack.enter_context(calling(broker.socket, etag)) for _ in range(20)]
        wait_until(lambda: waiting(broker) >= 20, "the callers are there")
        began = time.time()
        code = broker.stop()
        ended = time.time()
        read_all(callers)

    assert {split(caller.received).status for caller in callers} == {304}
    assert max(caller.answered_at for caller in callers) < ended + WITHIN
    assert code == 0
    assert ended - began < 5.0


def test_beyond_the_places_to_wait_a_caller_is_told_to_slow_down(sandbox: SandboxProcess):
    """And whoever has something to get gets it all the same."""
    with broker_with(sandbox, "\n[daemon]\nmax_waiting_per_uid = 3\n", lifetime=600) as broker, ExitStack() as stack:
        etag = broker.token().headers["etag"]
        callers = [stack.enter_context(calling(broker.socket, etag)) for _ in range(3)]
        wait_until(lambda: waiting(broker) >= 3, "the callers are there")

        def refused() -> bool:
            with calling(broker.socket, etag, wait=1) as caller:
                return caller.answer().status == 429

        wait_until(refused, "the places are taken")
        others = [broker.token().status, get(broker.socket, "/v1/tokens/demo", {"If-None-Match": etag}).status]
        for caller in callers:
            caller.connection.close()
        wait_until(lambda: not refused(), "who went away has left its place")

    assert others == [200, 304]
