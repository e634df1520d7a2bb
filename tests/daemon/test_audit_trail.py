"""A real log, and copies of it that somebody tampered with: nothing that was protected changes unseen."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from broker.telemetry.audit_verify import Report, verify
from tests.daemon.harness import BrokerProcess, broker_process, get, sandbox_process, wait_until

TAIL = b'{"seq":%d,"time":"2026-01-01T00:00:00.000000Z","event":"token_served"}\n'

BUDGET = 30.0
"""Seconds for all tampered copies: a bound for a machine that hangs, not a measurement."""

Files = list[list[bytes]]


@dataclass(frozen=True)
class Trail:
    """The lines of the files of a log, oldest first, and what they were made with."""

    files: Files
    key: bytes
    key_file: Path
    paths: list[Path]

    def check(self, files: Files, expect_seq: int | None = None) -> Report:
        named = ((str(number), [b"".join(lines)]) for number, lines in enumerate(files))
        return verify(named, key=self.key, expect_seq=expect_seq)

    def protected(self) -> Iterator[tuple[int, int]]:
        """Give file and line of every record up to the last checkpoint, that one included."""
        last = self.check(self.files).covered_seq
        assert last is not None
        for number, lines in enumerate(self.files):
            for line, raw in enumerate(lines):
                if json.loads(raw)["seq"] <= last:
                    yield number, line

    def with_lines(self, number: int, lines: list[bytes]) -> Files:
        return [*self.files[:number], lines, *self.files[number + 1 :]]


def use(broker: BrokerProcess) -> None:
    """Have some tokens served and some requests refused."""
    for _ in range(3):
        assert broker.token().status == 200
        assert get(broker.socket, "/v1/tokens/nobodys").status == 403


def seal(broker: BrokerProcess) -> None:
    """Wait until the last record is a checkpoint."""
    wait_until(lambda: broker.records()[-1]["event"] == "checkpoint", "a checkpoint")


@pytest.fixture(scope="module")
def trail(tmp_path_factory: pytest.TempPathFactory) -> Trail:
    """A log of served and refused requests, rotated, of two runs of the broker, with a tail of two records."""
    with sandbox_process(tmp_path_factory.mktemp("trail")) as sandbox, broker_process(sandbox) as broker:
        use(broker)
        rotated = broker.audit.with_suffix(".1")
        broker.audit.rename(rotated)
        broker.process.send_signal(signal.SIGHUP)  # type: ignore[union-attr]
        wait_until(lambda: broker.audit.exists() and bool(broker.audit.read_bytes()), "a new file")
        use(broker)
        assert broker.stop() == 0
        broker.up()
        use(broker)
        seal(broker)
        paths = [rotated, broker.audit]
        files = [path.read_bytes().splitlines(keepends=True) for path in paths]
        key_file = sandbox.home / "audit.key"
        key = key_file.read_bytes()
    last = json.loads(files[-1][-1])["seq"]
    files[-1] += [TAIL % (last + 1), TAIL % (last + 2)]
    return Trail(files=files, key=key, key_file=key_file, paths=paths)


def test_the_log_itself_is_good_and_its_tail_is_named(trail: Trail):
    """What the tampered copies are compared with."""
    report = trail.check(trail.files)

    events = {json.loads(line)["event"] for lines in trail.files for line in lines}
    assert report.findings == ()
    assert (report.tail_records, report.authenticated) == (2, True)
    assert events >= {"opened", "token_served", "request_refused", "checkpoint", "daemon_stopped"}


def test_every_edit_removal_swap_and_cut_of_a_protected_record_is_found(trail: Trail):
    """Each record is edited in its middle and at both ends, removed, doubled, swapped, and the log is cut there."""
    begin = time.monotonic()
    covered = trail.check(trail.files).covered_seq
    unseen = []
    for number, line in trail.protected():
        lines = trail.files[number]
        raw, rest = lines[line], lines[line + 1 :]
        copies = {
            "removed": trail.with_lines(number, lines[:line] + rest),
            "doubled": trail.with_lines(number, [*lines[: line + 1], *lines[line:]]),
            "cut": [*trail.files[:number], lines[:line]],
        }
        for at in (1, 8, len(raw) // 2, len(raw) - 2):
            edited = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
            copies[f"edited at {at}"] = trail.with_lines(number, [*lines[:line], edited, *rest])
        if rest:
            copies["swapped"] = trail.with_lines(number, [*lines[:line], rest[0], raw, *rest[1:]])
        unseen += [
            (number, line, kind) for kind, copy in copies.items() if trail.check(copy, expect_seq=covered).intact
        ]

    assert unseen == []
    assert time.monotonic() - begin < BUDGET


def test_a_file_that_is_missing_or_out_of_order_is_found(trail: Trail):
    """The files of a log name each other."""
    covered = trail.check(trail.files).covered_seq
    first, second = trail.files

    reports = [
        trail.check([first], expect_seq=covered),
        trail.check([second, first]),
        trail.check([first[:-1], second]),
    ]

    assert [report.intact for report in reports] == [False, False, False]
