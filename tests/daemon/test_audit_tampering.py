"""
A real log whose broker was killed, and every copy of it that somebody may have made: all that was sealed is safe.

For each protected record, not for samples of them: every member edited, bytes flipped, the record removed,
doubled, swapped, replaced, others put before it, the log cut there. What comes after the last checkpoint is not
protected; that the command says so, with its numbers, is tested as well.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.cli import main
from broker.telemetry.audit_format import ZERO_HEAD, AuditKeys, advance, encode_checkpoint
from broker.telemetry.audit_verify import Report, verify
from tests.daemon.harness import PATIENCE, BrokerProcess, broker_process, get, sandbox_process, wait_until

FLIP_EVERY = 9
"""Of the bytes of each record; together with the members, every kind of place is met many times."""

Lines = list[bytes]

Files = list[Lines]

Change = tuple[str, Files]
"""What was done, and the log after it."""


@dataclass(frozen=True)
class Trail:
    """The lines of the files of a log, oldest first; *other* is a good log of the same broker with the same key."""

    files: Files
    other: Lines
    key: bytes
    key_file: Path

    def check(self, files: Files, expect_seq: int | None = None) -> Report:
        named = ((str(number), [b"".join(lines)]) for number, lines in enumerate(files))
        return verify(named, key=self.key, expect_seq=expect_seq)

    @property
    def covered(self) -> int:
        covered = self.check(self.files).covered_seq
        assert covered is not None
        return covered

    @property
    def last(self) -> int:
        return int(json.loads(self.files[-1][-1])["seq"])

    def protected(self) -> list[tuple[int, int]]:
        """Give file and line of every record up to the last checkpoint, that one included."""
        covered = self.covered
        return [
            (number, line)
            for number, lines in enumerate(self.files)
            for line, raw in enumerate(lines)
            if json.loads(raw)["seq"] <= covered
        ]

    def put(self, at: tuple[int, int], new: Lines, *, instead_of: int = 1) -> Files:
        """Give the log with the lines *new* at a place, in the place of as many."""
        number, line = at
        lines = self.files[number]
        changed = [*lines[:line], *new, *lines[line + instead_of :]]
        return [*self.files[:number], changed, *self.files[number + 1 :]]

    def line(self, at: tuple[int, int]) -> bytes:
        return self.files[at[0]][at[1]]


def use(broker: BrokerProcess) -> None:
    """Have tokens served and requests refused."""
    for _ in range(3):
        assert broker.token().status == 200
        assert get(broker.socket, "/v1/tokens/nobodys").status == 403


def sealed(broker: BrokerProcess) -> None:
    """Wait until the last record is a checkpoint."""
    wait_until(lambda: broker.records()[-1]["event"] == "checkpoint", "a checkpoint")


def kill_with_a_tail(broker: BrokerProcess) -> None:
    """Kill it between some records and their checkpoint: again, should the checkpoint have been quicker."""
    for _ in range(10):
        sealed(broker)
        use(broker)
        broker.stop(signal.SIGKILL)
        if broker.records()[-1]["event"] != "checkpoint":
            return
        broker.up()
    raise AssertionError("every time there was a checkpoint at once")


@pytest.fixture(scope="module")
def trail(tmp_path_factory: pytest.TempPathFactory) -> Trail:
    """Two files of three runs, one stopped and two killed, and the tail of the last; and another log of the broker."""
    with sandbox_process(tmp_path_factory.mktemp("tampering")) as sandbox, broker_process(sandbox) as broker:
        use(broker)
        sealed(broker)
        assert broker.stop() == 0
        other = broker.audit.rename(sandbox.home / "other.log")
        broker.up()
        use(broker)
        sealed(broker)
        rotated = broker.audit.rename(sandbox.home / "audit.log.1")
        broker.process.send_signal(signal.SIGHUP)  # type: ignore[union-attr]
        wait_until(lambda: broker.audit.exists() and bool(broker.audit.read_bytes()), "a new file")
        use(broker)
        assert broker.stop() == 0
        for _ in range(2):
            broker.up()
            kill_with_a_tail(broker)
        paths = [rotated, broker.audit]
        files = [path.read_bytes().splitlines(keepends=True) for path in paths]
        return Trail(
            files=files,
            other=other.read_bytes().splitlines(keepends=True),
            key=(sandbox.home / "audit.key").read_bytes(),
            key_file=sandbox.home / "audit.key",
        )


# --- what somebody may do to a log ---


def dump(members: dict[str, Any]) -> bytes:
    return json.dumps(members, separators=(",", ":")).encode() + b"\n"


def edited(value: Any) -> list[Any]:
    """Give other values of a member, of the same type where there is one."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, (int, float)):
        return [value + 1, 0 if value else 2]
    if isinstance(value, str):
        return [f"{value}x", value[:-1], f"{'0' if value[:1] != '0' else '1'}{value[1:]}"]
    return ["x", 0]


def edits(trail: Trail) -> Iterator[Change]:
    for at in trail.protected():
        members = json.loads(trail.line(at))
        for name, value in members.items():
            for other in edited(value):
                yield "a member edited", trail.put(at, [dump(members | {name: other})])
            yield "a member removed", trail.put(at, [dump({k: v for k, v in members.items() if k != name})])
        yield "a member added", trail.put(at, [dump(members | {"note": "x"})])
        yield "members in another order", trail.put(at, [dump(dict(reversed(members.items())))])


def flips(trail: Trail) -> Iterator[Change]:
    for at in trail.protected():
        raw = trail.line(at)
        for place in range(0, len(raw), FLIP_EVERY):
            for bit in (1, 0x20):
                flipped = raw[:place] + bytes([raw[place] ^ bit]) + raw[place + 1 :]
                yield "a bit flipped", trail.put(at, [flipped])
        yield "a space put in", trail.put(at, [raw.replace(b",", b", ", 1)])
        yield "the newline doubled", trail.put(at, [raw, b"\n"])


def removals(trail: Trail) -> Iterator[Change]:
    places = trail.protected()
    for at in places:
        kind = "a checkpoint removed" if b'"event":"checkpoint"' in trail.line(at) else "a record removed"
        yield kind, trail.put(at, [])
        yield "a record doubled", trail.put(at, [trail.line(at)] * 2)
    for at, after in pairwise(places):
        if at[0] == after[0]:
            yield "two records removed", trail.put(at, [], instead_of=2)
            yield "neighbors swapped", trail.put(at, [trail.line(after), trail.line(at)], instead_of=2)
        else:
            files = trail.put(at, [trail.line(after)])
            files[after[0]] = [trail.line(at), *files[after[0]][1:]]
            yield "neighbors swapped", files
    for number, line in places:
        moved = trail.put((number, line), [])
        moved[-1] = [*moved[-1], trail.line((number, line))]
        yield "a record moved to the end", moved


def renumbered(lines: Sequence[bytes], by: int) -> Lines:
    return [dump(members | {"seq": members["seq"] + by}) for members in map(json.loads, lines)]


def insertions(trail: Trail) -> Iterator[Change]:
    made = {"time": "2026-01-01T00:00:00.000000Z", "event": "token_served", "uid": 0, "token": "demo", "outcome": "ok"}
    for number, line in trail.protected():
        at, lines = (number, line), trail.files[number]
        new = dump({"seq": json.loads(lines[line])["seq"], **made})
        yield "a record inserted", trail.put(at, [new], instead_of=0)
        rest = [renumbered(lines[line:], 1), *(renumbered(later, 1) for later in trail.files[number + 1 :])]
        yield (
            "a record inserted, the rest renumbered",
            [*trail.files[:number], [*lines[:line], new, *rest[0]], *rest[1:]],
        )
        for other in trail.other[line % 3 :: 3]:
            yield "a record of another log inserted", trail.put(at, [other], instead_of=0)
            yield "a record of another log in its place", trail.put(at, [other])
        if (number, line) == (0, 0):
            continue  # that would be the other log, which is a good one: it is told by where it was found
        yield (
            "the end of another log spliced on",
            [*trail.files[:number], [*lines[:line], *trail.other[min(line, len(trail.other) - 2) :]]],
        )


def forgeries(trail: Trail) -> Iterator[Change]:
    """Edit or remove a record, and compute all that follows anew, as somebody who knows the format and not the key."""
    stranger = AuditKeys.derive(b"stranger" * 4)
    posing = AuditKeys(
        checkpoint=stranger.checkpoint,
        fingerprint=stranger.fingerprint,
        identifier=AuditKeys.derive(trail.key).identifier,
    )
    for at in trail.protected():
        if b'"event":"opened"' in trail.line(at):
            continue
        members = json.loads(trail.line(at))
        for name, keys in (("under another key", stranger), ("under a key that poses as ours", posing)):
            yield f"edited, and the chain made anew {name}", chained(trail.put(at, [dump(members | {"x": 1})]), keys)
            yield f"removed, and the chain made anew {name}", chained(trail.put(at, []), keys)
        yield "edited, and the chain made anew without a key", chained(trail.put(at, [dump(members | {"x": 1})]), None)


def chained(files: Files, keys: AuditKeys | None) -> Files:
    """Number all records of *files* anew and make their heads and checkpoints right, but for the key."""
    made: Files = []
    seq, head = 0, ZERO_HEAD
    for lines in files:
        made.append([])
        for raw in lines:
            seq += 1
            members = json.loads(raw) | {"seq": seq}
            if members["event"] == "opened":
                members["previous"] = head.hex()
            line = dump(members)
            if members["event"] == "checkpoint":
                line = encode_checkpoint(seq, 1.0, count=len(made[-1]), head=head, keys=keys)
            head = advance(head, line)
            made[-1].append(line)
    return made


def cuts(trail: Trail) -> Iterator[Change]:
    for number, line in trail.protected():
        before, lines = trail.files[:number], trail.files[number]
        yield "cut before a record", [*before, lines[:line]]
        for length in (1, len(lines[line]) // 2, len(lines[line]) - 1):
            yield "cut within a record", [*before, [*lines[:line], lines[line][:length]]]
    yield "the last file removed", trail.files[:-1]
    yield "the files swapped", trail.files[::-1]
    yield "all files emptied", [[] for _ in trail.files]


# --- that it is found ---

ALIKE = (edits, flips, removals, insertions, forgeries)


def test_the_log_itself_is_good_and_ends_with_what_the_kill_left(trail: Trail):
    """What all the copies are compared with."""
    report = trail.check(trail.files)

    events = {json.loads(line)["event"] for lines in trail.files for line in lines}
    assert report.intact
    assert report.checkpoints >= 4
    assert report.tail_records == trail.last - trail.covered > 0
    assert report.torn_bytes == 0
    assert trail.check([trail.other]).intact
    assert report.recovered > 0
    assert events >= {"opened", "token_served", "request_refused", "token_refreshed", "daemon_started"}
    assert events >= {"daemon_stopped", "checkpoint", "recovered"}


def test_every_change_of_a_protected_record_is_found(trail: Trail, record_property: Callable[[str, str], None]):
    """All of them, for every record; a cut at its end by the number that is known to have been written."""
    counted: Counter[str] = Counter()
    unseen: list[str] = []
    for kind, files in (change for changes in ALIKE for change in changes(trail)):
        if files == trail.files:
            continue
        counted[kind] += 1
        if trail.check(files).intact and not proves_nothing(trail.check(files)):
            unseen.append(kind)
    for kind, files in cuts(trail):
        counted[kind] += 1
        if trail.check(files, expect_seq=trail.covered).intact:
            unseen.append(kind)

    lines = [f"{'what was done to a copy of the log':66} copies  found"]
    lines += [f"{kind:66} {count:6} {count - unseen.count(kind):6}" for kind, count in sorted(counted.items())]
    record_property("table", "\n".join(lines))
    assert Counter(unseen) == Counter()
    assert min(counted.values()) >= 1
    assert counted["a bit flipped"] > 1_000


def proves_nothing(report: Report) -> bool:
    """The command fails a log in which no checkpoint was made with the key."""
    return report.covered_seq is None


def told(files: Files, trail: Trail, directory: Path, *arguments: str) -> list[str]:
    """Write a copy of the log; give the arguments that the command needs to check it."""
    paths = []
    for number, lines in enumerate(files):
        path = directory / f"{number}.log"
        path.write_bytes(b"".join(lines))
        paths.append(str(path))
    return ["audit", "verify", "--key", str(trail.key_file), *arguments, *paths]


def test_the_command_finds_one_of_each_kind(trail: Trail, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Exit code 1, where it is, and a verdict in the last line; for a record in the middle of the log."""
    expected = ["--expect-seq", str(trail.covered)]
    copies: dict[str, list[tuple[Files, list[str]]]] = {}
    for changes, more in (*((one, []) for one in ALIKE), (cuts, expected)):
        for kind, files in changes(trail):
            copies.setdefault(kind, []).append((files, more))

    silent = []
    for kind, made in copies.items():
        files, more = made[len(made) // 2]
        code = main(told(files, trail, tmp_path, *more))
        said = capsys.readouterr()
        verdict = said.out.splitlines()[-1]
        if code != 1 or not verdict.startswith(("DAMAGED: ", "NOT PROVEN: ")):
            silent.append((kind, code, verdict))

    assert silent == []


def run_command(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "broker", *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def test_the_command_says_where_a_swap_and_a_cut_are(trail: Trail, tmp_path: Path):
    """As a process of its own, as an auditor runs it."""
    at = trail.protected()[3]
    (tmp_path / "swap").mkdir()
    (tmp_path / "cut").mkdir()
    swapped = trail.put(at, [trail.line((at[0], at[1] + 1)), trail.line(at)], instead_of=2)

    swap = run_command(told(swapped, trail, tmp_path / "swap"))
    cut = run_command(
        told(trail.files[:-1], trail, tmp_path / "cut", "--expect-seq", str(trail.covered)),
    )

    assert (swap.returncode, cut.returncode) == (1, 1)
    assert f"{tmp_path}/swap/0.log:4: removed: " in swap.stderr
    assert f"{tmp_path}/swap/0.log:5: reordered: " in swap.stderr
    assert f"{tmp_path}/cut/0.log, its end: cut: " in cut.stderr


def test_the_command_names_the_unprotected_tail(trail: Trail, tmp_path: Path):
    """With its size and its numbers; whatever is done to the tail, it never says more than it knows."""
    records, size = trail.last - trail.covered, sum(map(len, trail.files[-1][-(trail.last - trail.covered) :]))
    wanted = f"unprotected tail: {records} record(s), {size} byte(s), after number {trail.covered}, up to {trail.last}"

    done = run_command(told(trail.files, trail, tmp_path))

    assert done.returncode == 0
    assert wanted.replace("up to ", "up to number ") in done.stdout.splitlines()
    assert done.stdout.splitlines()[-1] == f"authentic up to number {trail.covered}"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_bytes_in_the_place_of_any_part_of_it_are_found(trail: Trail, data: st.DataObject):
    """Not only what somebody thought of: any stretch of the protected part is replaced by anything."""
    whole = b"".join(trail.files[-1])
    end = len(whole) - sum(map(len, trail.files[-1][-(trail.last - trail.covered) :]))
    begin = data.draw(st.integers(0, end - 1))
    length = data.draw(st.integers(0, min(400, end - begin)))
    new = data.draw(st.binary(max_size=60) | st.sampled_from([*trail.files[0], *trail.other]))
    changed = whole[:begin] + new + whole[begin + length :]

    report = trail.check([*trail.files[:-1], [changed]], expect_seq=trail.covered)

    assert changed == whole or not report.intact


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_is_done_to_the_tail_no_more_than_the_rest_is_called_authentic(trail: Trail, data: st.DataObject):
    """The tail may be anything; the claim stays what it was."""
    tail = trail.last - trail.covered
    sealed_lines = trail.files[-1][:-tail]
    new = data.draw(st.binary(max_size=200) | st.permutations(trail.files[-1][-tail:]).map(b"".join))

    report = trail.check([*trail.files[:-1], [*sealed_lines, new]])

    assert report.covered_seq == trail.covered
    assert report.tail_bytes == len(new)
