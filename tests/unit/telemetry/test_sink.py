from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from broker.errors import frames_of
from broker.events import (
    AuditUnavailableError,
    DaemonStopped,
    Event,
    MetadataLoaded,
    RequestAnswered,
    RequestRefused,
    UnexpectedFailure,
)
from broker.telemetry.audit import AuditLog
from broker.telemetry.logs import open_log as open_logs
from broker.telemetry.metrics import Metrics
from broker.telemetry.sink import Telemetry
from tests.fakes import HandClock
from tests.unit.telemetry.audit_logs import FailingDisk, open_log
from tests.unit.telemetry.catalogue import KINDS, example, refused, served

CANARY = "s3cret-canary-0001"


@dataclass
class World:
    """A telemetry with all of its sinks, and what came out of them."""

    telemetry: Telemetry
    clock: HandClock
    stream: io.StringIO
    metrics: Metrics
    audit: AuditLog
    disk: FailingDisk
    path: Path
    closed: bool = field(default=False)

    def logged(self, name: str | None = None) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.stream.getvalue().splitlines()]
        return [line for line in lines if name is None or line["event"] == name]

    def audited(self, name: str | None = None) -> list[dict[str, Any]]:
        records = [json.loads(line) for line in self.path.read_bytes().splitlines()]
        return [record for record in records if name is None or record["event"] == name]

    def everything(self) -> str:
        return self.stream.getvalue() + self.path.read_text() + self.metrics.render()[0].decode()


@contextmanager
def world(directory: Path, *, on_failure: str = "refuse", level: str = "debug") -> Iterator[World]:
    clock, stream, metrics, disk = HandClock(), io.StringIO(), Metrics(), FailingDisk()
    metrics.expect(tokens=["text"], issuers=["text"], routes=["text"])
    logs = open_logs(stream, level, clock=clock)
    own = Telemetry(logs=logs, metrics=metrics, audit=None, clock=clock)
    path = directory / "audit.log"
    audit = open_log(path, disk=disk, clock=clock, emit=own.emit, on_failure=on_failure)
    telemetry = Telemetry(logs=logs, metrics=metrics, audit=audit, clock=clock)
    try:
        yield World(telemetry, clock, stream, metrics, audit, disk, path)
    finally:
        telemetry.close()


class FailingMetrics(Metrics):
    """Metrics with a bug."""

    def count(self, event: Event) -> None:
        raise ZeroDivisionError(CANARY)


def test_one_event_makes_a_record_a_line_and_a_metric(tmp_path: Path):
    """Every kind of event: those that are audited are, the others are not."""
    with world(tmp_path) as here:
        for kind in KINDS:
            here.telemetry.emit(example(kind))

        assert {line["event"] for line in here.logged()} >= {kind.name for kind in KINDS}
        for kind in KINDS:
            assert len(here.audited(kind.name)) == kind.audited
        assert b'token_broker_refresh_total{outcome="success",token="text"} 1.0' in here.metrics.render()[0]


def test_a_token_without_a_record_is_refused_and_not_logged_as_served(tmp_path: Path):
    """The answer is not sent, and nothing says that it was."""
    with world(tmp_path) as here:
        here.disk.room = 0

        with pytest.raises(AuditUnavailableError):
            here.telemetry.emit(served())

        assert here.logged("token_served") == []
        assert [line["closed"] for line in here.logged("audit_gap")] == [False]


def test_nothing_else_raises_when_the_disk_is_full(tmp_path: Path):
    """They are logged and counted as ever."""
    with world(tmp_path) as here:
        here.disk.room = 0

        for kind in KINDS:
            if not kind.indispensable:
                here.telemetry.emit(example(kind))

        refused = {kind.name for kind in KINDS if kind.indispensable}
        assert refused == {"token_served", "proof_served", "egress_called", "token_filed"}
        assert {line["event"] for line in here.logged()} >= {kind.name for kind in KINDS} - refused
        here.disk.room = None


def test_tokens_are_served_unrecorded_only_if_the_configuration_says_so(tmp_path: Path):
    """The gap is counted and alarmed."""
    with world(tmp_path, on_failure="serve") as here:
        here.disk.room = 0
        here.telemetry.emit(served())
        here.disk.room = None

        here.telemetry.tick()

        assert len(here.logged("token_served")) == 1
        assert [record["lost"] for record in here.audited("gap")] == [1]
        assert b"token_broker_audit_gaps_total 1.0" in here.metrics.render()[0]


def test_without_an_audit_log_events_are_logged_and_counted():
    """For a configuration that says so."""
    clock, stream = HandClock(), io.StringIO()
    telemetry = Telemetry(logs=open_logs(stream, "debug", clock=clock), metrics=Metrics(), audit=None, clock=clock)

    telemetry.emit(served())
    telemetry.tick()
    telemetry.close()

    assert json.loads(stream.getvalue())["event"] == "token_served"


def test_repeated_refusals_are_folded_in_the_log_and_in_the_audit_log(tmp_path: Path):
    """10,000 denials: 20 records and then a count, none lost; the metric of requests has its own event."""
    with world(tmp_path) as here:
        for number in range(10_000):
            here.telemetry.emit(refused(pid=number))
            here.telemetry.emit(RequestAnswered(route="text", outcome="access_denied", duration=0.001))
        here.clock.now += 10.0
        here.telemetry.tick()

        assert [record["count"] for record in here.audited("request_refused")] == [1] * 20 + [9_980]
        assert len(here.logged("request_refused")) == 21
        assert b'token_broker_requests_total{outcome="access_denied",route="text"} 10000.0' in here.metrics.render()[0]


def test_the_count_of_refusals_is_recorded_before_the_end(tmp_path: Path):
    """And sealed."""
    with world(tmp_path) as here:
        for _ in range(25):
            here.telemetry.emit(refused())
        here.telemetry.close()

        assert sum(record["count"] for record in here.audited("request_refused")) == 25
        assert here.audited()[-1]["event"] == "checkpoint"


def test_counts_can_be_recorded_before_the_last_word(tmp_path: Path):
    """So that the record of the end is the last one."""
    with world(tmp_path) as here:
        for _ in range(25):
            here.telemetry.emit(refused())
        here.telemetry.flush()
        here.telemetry.emit(DaemonStopped())
        here.telemetry.close()

        assert [record["event"] for record in here.audited()[-2:]] == ["daemon_stopped", "checkpoint"]
        assert sum(record["count"] for record in here.audited("request_refused")) == 25


def test_a_flood_of_failures_is_one_line_a_second(tmp_path: Path):
    """With a count, in the log and in the metric."""
    with world(tmp_path) as here:
        failure = UnexpectedFailure(where="accept", incident="", error="OSError EMFILE", frames="")
        for _ in range(1_000):
            here.telemetry.emit(failure)
        here.clock.now += 1.0
        here.telemetry.tick()

        assert [line["count"] for line in here.logged("unexpected_failure")] == [1, 999]
        assert b"token_broker_unexpected_failures_total 1000.0" in here.metrics.render()[0]


def test_the_tick_seals_the_audit_log(tmp_path: Path):
    """Every second, if there is something to seal."""
    with world(tmp_path) as here:
        here.telemetry.tick()
        here.telemetry.emit(served())
        here.telemetry.tick()
        here.telemetry.tick()

        assert [record["event"] for record in here.audited()] == ["opened", "checkpoint", "token_served", "checkpoint"]


# --- sinks with bugs ---


def test_a_bug_in_one_sink_does_not_keep_the_others_from_working(tmp_path: Path):
    """It is reported, once, without what its exception says."""
    with world(tmp_path) as here:
        telemetry = Telemetry(
            logs=open_logs(here.stream, "debug", clock=here.clock),
            metrics=FailingMetrics(),
            audit=here.audit,
            clock=here.clock,
        )

        for _ in range(3):
            telemetry.emit(served())

        assert len(here.audited("token_served")) == 3
        assert len(here.logged("token_served")) == 3
        (failure,) = here.logged("unexpected_failure")
        assert (failure["where"], failure["error"]) == ("telemetry.metrics", "ZeroDivisionError")
        assert CANARY not in here.everything()


def test_a_bug_in_all_sinks_ends_nothing():
    """There is nobody left to tell."""

    class FailingStream(io.StringIO):
        def write(self, text: str, /) -> int:
            raise ZeroDivisionError

    clock = HandClock()
    telemetry = Telemetry(
        logs=open_logs(FailingStream(), "debug", clock=clock), metrics=FailingMetrics(), audit=None, clock=clock
    )

    for _ in range(3):
        telemetry.emit(DaemonStopped())
    telemetry.tick()
    telemetry.close()


@pytest.mark.parametrize(("on_failure", "raised"), [("refuse", 1), ("serve", 0)])
def test_a_bug_in_the_audit_log_refuses_tokens_like_a_full_disk(tmp_path: Path, on_failure: str, raised: int):
    """No record, no token, whatever the cause."""

    class BuggyDisk(FailingDisk):
        def write(self, fd: int, line: bytes, /) -> int:
            if self.room is not None:
                raise ZeroDivisionError(CANARY)
            return super().write(fd, line)

    with world(tmp_path) as here:
        disk = BuggyDisk()
        audit = open_log(tmp_path / "other.log", disk=disk, on_failure=on_failure)
        telemetry = Telemetry(
            logs=open_logs(here.stream, "debug", clock=here.clock), metrics=here.metrics, audit=audit, clock=here.clock
        )
        disk.room = 1
        refusals = 0

        telemetry.emit(DaemonStopped())
        try:
            telemetry.emit(served())
        except AuditUnavailableError:
            refusals += 1
        telemetry.tick()
        disk.room = None
        telemetry.close()

        assert refusals == raised
        assert [line["where"] for line in here.logged("unexpected_failure")] == ["telemetry.audit"]
        assert CANARY not in here.everything()


def test_an_event_that_cannot_be_folded_is_passed_on(tmp_path: Path):
    """A value that cannot be counted is a bug of ours and no reason to lose a refusal."""
    with world(tmp_path) as here:
        event = example(RequestRefused, token=["a", "list"])

        here.telemetry.emit(event)

        assert len(here.audited("request_refused")) == 1
        assert here.logged("unexpected_failure")[0]["where"] == "telemetry.folding"


# --- secrets and junk ---


def test_control_characters_and_long_strings_end_in_no_output(tmp_path: Path):
    """In any field of any event: every output stays a sequence of lines of JSON, and short."""
    junk = "".join(map(chr, range(0x20))) + "\x7f\x85\u2028\u202e\ud800" + "x" * 10_000
    with world(tmp_path) as here:
        for kind in KINDS:
            here.telemetry.emit(example(kind, text=junk))
        here.telemetry.tick()

        for output in (here.stream.getvalue(), here.path.read_text()):
            assert output.isascii()
            assert not any(character < " " or character == "\x7f" for character in output if character != "\n")
            assert max(map(len, output.splitlines())) <= 4_096
            assert all(json.loads(line) for line in output.splitlines())
        assert "x" * 2_100 not in here.everything()
        assert "x" * 300 not in here.path.read_text()


def test_the_secret_of_an_exception_is_in_no_output(tmp_path: Path):
    """Neither its message nor the locals of its frames, also when it was raised from another one."""

    def first(token: str) -> None:
        raise KeyError(f"no such token: {token}")

    def second(token: str) -> None:
        try:
            first(token)
        except KeyError as error:
            raise ValueError(token) from error

    with world(tmp_path) as here:
        try:
            second(CANARY)
        except ValueError as error:
            here.telemetry.emit(
                UnexpectedFailure(where="api", incident="id", error=type(error).__name__, frames=frames_of(error))
            )

        (line,) = here.logged("unexpected_failure")
        assert "second" in line["frames"]
        assert "KeyError" in line["frames"]
        assert CANARY not in here.everything()


def test_an_event_of_a_kind_that_nobody_counts_is_just_logged(tmp_path: Path):
    """Not every event is a metric."""
    with world(tmp_path) as here:
        before = here.metrics.render()[0].count(b"\n")

        here.telemetry.emit(MetadataLoaded(issuer="text", token_endpoint="https://as.example/token"))

        assert len(here.logged("metadata_loaded")) == 1
        assert here.metrics.render()[0].count(b"\n") == before


def test_several_tokens_make_a_record_and_a_line_each(tmp_path: Path):
    """As if each had been told of alone."""
    with world(tmp_path) as here:
        assert not here.telemetry.emit_served([(served(), pid) for pid in range(3)])

        assert [record["pid"] for record in here.audited("token_served")] == [0, 1, 2]
        assert [line["pid"] for line in here.logged("token_served")] == [0, 1, 2]


def test_of_several_tokens_those_without_a_record_are_named_and_not_logged_as_served(tmp_path: Path):
    """The others are."""
    with world(tmp_path) as here:
        here.telemetry.emit(served(pid=0))
        here.disk.room = len(here.path.read_bytes().splitlines()[-1]) + 1

        assert list(here.telemetry.emit_served([(served(), pid) for pid in range(1, 4)])) == [1, 2]

        assert [line["pid"] for line in here.logged("token_served")] == [0, 1]


def test_without_an_audit_log_several_tokens_are_served(tmp_path: Path):
    """The configuration says so; at a level that does not show them nothing is written."""
    with world(tmp_path, level="info") as here:
        telemetry = Telemetry(
            logs=open_logs(here.stream, "info", clock=here.clock), metrics=here.metrics, audit=None, clock=here.clock
        )

        assert not telemetry.emit_served([(served(), 1)])
        assert not here.logged("token_served")


@pytest.mark.parametrize(("on_failure", "refused_ones"), [("refuse", [0, 1]), ("serve", [])])
def test_a_bug_in_the_audit_log_refuses_several_tokens_or_serves_them(
    tmp_path: Path, on_failure: str, refused_ones: list[int]
):
    """As for one of them."""
    with world(tmp_path, on_failure=on_failure) as here, pytest.MonkeyPatch.context() as patched:

        def broken(*_: Any) -> None:
            raise ZeroDivisionError(CANARY)

        patched.setattr(here.audit, "write_all", broken)

        assert list(here.telemetry.emit_served([(served(), 1), (served(), 2)])) == refused_ones
        assert [line["where"] for line in here.logged("unexpected_failure")] == ["telemetry.audit"]
        assert CANARY not in here.everything()
