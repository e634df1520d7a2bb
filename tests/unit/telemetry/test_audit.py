from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from broker.errors import LocalError
from broker.events import (
    AuditGap,
    AuditOpened,
    AuditRecovered,
    AuditReopenFailed,
    AuditUnavailableError,
    DaemonStopped,
)
from broker.telemetry.audit import AuditLog
from broker.telemetry.audit_chain import Damage
from broker.telemetry.audit_format import CHECKPOINT_EVERY, parse
from broker.telemetry.audit_verify import Report, verify
from tests.fakes import Dice, Events, HandClock
from tests.unit.telemetry.audit_logs import KEY, FailingDisk, kill, open_log, sample, write_served
from tests.unit.telemetry.catalogue import KINDS, example, served


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def names(path: Path) -> list[str]:
    return [str(record["event"]) for record in records(path)]


def check(*paths: Path, key: bytes | None = KEY) -> Report:
    return verify([(path.name, [path.read_bytes()]) for path in paths], key=key)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


def test_a_record_is_in_the_file_when_write_returns(path: Path):
    """Before the answer that it is about is sent."""
    log = open_log(path)

    log.write(served(token="directory"))

    assert records(path)[-1]["token"] == "directory"
    assert records(path)[-1]["seq"] == 2
    kill(log)


def test_every_audited_event_can_be_written(path: Path):
    """With numbers that go on one by one."""
    log = open_log(path)

    for kind in KINDS:
        log.write(example(kind))
    log.close()

    assert [record["seq"] for record in records(path)] == list(range(1, len(KINDS) + 3))
    assert check(path).intact


def test_a_log_begins_with_its_format_and_says_that_nothing_came_before(path: Path):
    """And the daemon's log says whether checkpoints are authentic."""
    events = Events()
    log = open_log(path, key=None, emit=events)
    kill(log)

    first = records(path)[0]

    assert (first["event"], first["format"], first["previous"]) == ("opened", 1, "0" * 64)
    assert events.seen == [AuditOpened(path=str(path), seq=1, authenticated=False)]


def test_a_checkpoint_is_written_only_if_there_is_something_to_seal(path: Path):
    """An idle broker does not fill the disk."""
    log = open_log(path)

    log.checkpoint()
    log.checkpoint()
    log.write(served())
    log.checkpoint()
    log.checkpoint()

    assert names(path) == ["opened", "checkpoint", "token_served", "checkpoint"]
    kill(log)


def test_a_checkpoint_comes_after_a_thousand_records_by_itself(path: Path):
    """So that the unprotected tail is bounded even if nobody keeps the time."""
    log = open_log(path)

    write_served(log, CHECKPOINT_EVERY)
    kill(log)

    assert names(path).index("checkpoint") == CHECKPOINT_EVERY
    assert check(path).tail_records == 1


def test_closing_leaves_nothing_unprotected(path: Path):
    """And twice does no harm."""
    log = open_log(path)
    write_served(log, 3)

    log.close()
    log.close()

    assert names(path)[-1] == "checkpoint"
    assert check(path).tail_bytes == 0


# --- starting again ---


def test_a_log_that_was_closed_is_continued_without_a_word(path: Path):
    """Same log, same chain, next number."""
    first = open_log(path)
    write_served(first, 2)
    first.close()
    events = Events()

    second = open_log(path, emit=events)
    write_served(second, 1)
    second.close()

    assert names(path)[4:] == ["token_served", "checkpoint"]
    assert [record["seq"] for record in records(path)] == [1, 2, 3, 4, 5, 6]
    assert events.seen == [AuditOpened(path=str(path), seq=4, authenticated=True)]
    assert check(path).intact


def test_after_a_crash_the_log_says_what_was_unprotected(path: Path):
    """Whoever could write the file in the meantime could have added to that part."""
    sample(path)
    events = Events()

    log = open_log(path, emit=events)
    log.close()

    recovered = records(path)[-2]
    assert (recovered["event"], recovered["torn_bytes"], recovered["unprotected"]) == ("recovered", 0, 1)
    assert recovered["chain"] == "continued"
    assert events.of(AuditRecovered) == [
        AuditRecovered(path=str(path), torn_bytes=0, unprotected=1, restarted=False),
    ]
    assert check(path).intact
    assert check(path).recovered == 1


def test_a_log_is_continued_after_a_crash_at_any_byte(path: Path):
    """Torn anywhere: nothing that a checkpoint covers is lost, and the result is a good log."""
    whole = sample(path)
    start = whole.index(b"\n") + 1

    for length in range(start, len(whole)):
        path.write_bytes(whole[:length])
        log = open_log(path)
        write_served(log, 1)
        log.close()

        report = check(path)
        assert report.intact, (length, report)
        assert report.tail_bytes == 0


def test_a_crash_in_the_very_first_record_is_survived(path: Path):
    """The verifier says that the chain begins anew there; the broker starts."""
    whole = sample(path)

    for length in range(1, whole.index(b"\n") + 1):
        path.write_bytes(whole[:length])
        log = open_log(path)
        write_served(log, 1)
        log.close()

        assert {finding.damage for finding in check(path).findings} == {Damage.RESTARTED}, length


def test_history_never_keeps_the_broker_from_starting(path: Path):
    """Whatever is in the file; what is written from now on is protected again."""
    events = Events()
    for junk in (b"junk", b"junk\n", b"\0" * 10_000, b"\n\n\n", os.urandom(9_000)):
        path.write_bytes(junk)
        path.chmod(0o600)

        log = open_log(path, emit=events)
        write_served(log, 1)
        log.close()

        report = check(path)
        assert (report.covered_seq, report.tail_bytes) == (3, 0)
        assert Damage.RESTARTED in {finding.damage for finding in report.findings}
        assert events.of(AuditRecovered)[-1].restarted
        assert path.read_bytes().startswith(junk)


def test_only_the_end_of_a_long_log_is_read_at_the_start(path: Path):
    """Damage in old records is for the verifier to find."""
    log = open_log(path)
    write_served(log, 3_000)
    log.close()
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"generation":7', b'"generation":8', 1))

    again = open_log(path)
    again.close()

    assert path.read_bytes()[len(content) :] == b""
    assert {finding.damage for finding in check(path).findings} == {Damage.EDITED}


def test_two_brokers_do_not_write_to_one_log(path: Path):
    """Their records would make one chain impossible."""
    log = open_log(path)

    with pytest.raises(LocalError) as caught:
        open_log(path)

    assert caught.value.code == "audit_locked"
    kill(log)


def test_a_killed_process_leaves_a_log_that_is_continued(path: Path):
    """With a real process and a real SIGKILL: every record that it reported is there."""
    script = textwrap.dedent(
        """
        import sys, pathlib
        from tests.unit.telemetry.audit_logs import open_log, served
        log = open_log(pathlib.Path(sys.argv[1]))
        for number in range(10**9):
            log.write(served(generation=number))
            print(number, flush=True)
        """
    )
    with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        last = [int(process.stdout.readline()) for _ in range(50)][-1]
        process.kill()

    log = open_log(path)
    log.close()

    assert check(path).intact
    assert last in [record.get("generation") for record in records(path)]


def test_a_short_key_is_refused(path: Path):
    """It could be found by trying."""
    with pytest.raises(LocalError) as caught:
        open_log(path, key=b"short")

    assert caught.value.code == "audit_key_short"
    assert not path.exists()


# --- when it cannot be written ---


def test_a_token_is_not_served_without_its_record(path: Path):
    """The default: the caller gets a 503."""
    disk, events = FailingDisk(), Events()
    log = open_log(path, disk=disk, emit=events)
    disk.room = 0

    with pytest.raises(AuditUnavailableError):
        log.write(served())

    assert not log.healthy
    assert events.of(AuditGap) == [AuditGap(lost=0, closed=False, reason="enospc")]
    kill(log)


def test_other_events_are_counted_as_lost(path: Path):
    """They have happened; there is nobody to refuse."""
    disk, events = FailingDisk(), Events()
    log = open_log(path, disk=disk, emit=events)
    disk.room = 0

    for _ in range(3):
        log.write(DaemonStopped())
    log.close()

    assert [gap.lost for gap in events.of(AuditGap)] == [1, 3]


def test_a_gap_is_alarmed_once_and_again_when_it_closes(path: Path):
    """With the number of records that are missing, in the alarm and in the file."""
    disk, events = FailingDisk(), Events()
    log = open_log(path, disk=disk, emit=events, on_failure="serve")
    write_served(log, 1)
    disk.room = 0
    write_served(log, 5)
    disk.room = None

    log.write(served(token="after"))
    log.close()

    assert events.of(AuditGap) == [
        AuditGap(lost=1, closed=False, reason="enospc"),
        AuditGap(lost=5, closed=True, reason="enospc"),
    ]
    assert log.healthy
    assert names(path) == ["opened", "token_served", "gap", "token_served", "checkpoint"]
    assert (records(path)[2]["lost"], records(path)[2]["refused"]) == (5, 0)
    assert (check(path).intact, check(path).lost) == (True, 5)


def test_what_was_refused_is_not_called_lost(path: Path):
    """It did not happen; the file tells the two apart."""
    disk = FailingDisk()
    log = open_log(path, disk=disk)
    disk.room = 0
    for _ in range(4):
        with pytest.raises(AuditUnavailableError):
            log.write(served())
    log.write(DaemonStopped())
    disk.room = None

    log.write(served())
    log.close()

    gap = records(path)[1]
    assert (gap["lost"], gap["refused"]) == (1, 4)


def test_a_gap_closes_without_a_caller(path: Path):
    """The checkpoint of every second tries, so that readiness does not depend on somebody asking."""
    disk, events = FailingDisk(), Events()
    log = open_log(path, disk=disk, emit=events)
    disk.room = 0
    with pytest.raises(AuditUnavailableError):
        log.write(served())
    log.checkpoint()
    healthy = [log.healthy]

    disk.room = None
    log.checkpoint()
    healthy.append(log.healthy)

    assert healthy == [False, True]
    assert names(path) == ["opened", "gap", "checkpoint"]
    kill(log)


def test_a_failed_checkpoint_is_a_gap_too(path: Path):
    """Nothing is lost yet, but the operator has to know."""
    disk, events = FailingDisk(), Events()
    log = open_log(path, disk=disk, emit=events)
    disk.room = 0

    log.checkpoint()

    assert not log.healthy
    assert events.of(AuditGap) == [AuditGap(lost=0, closed=False, reason="enospc")]
    kill(log)


@pytest.mark.parametrize("rigid", [False, True], ids=["ordinary file", "append-only file"])
def test_a_disk_that_fills_up_at_any_byte_leaves_a_good_log(path: Path, rigid: bool):
    """Half a line is taken back, or, where that is impossible, ended and called torn."""
    size = len(sample(path)) - path.read_bytes().index(b"\n")
    for room in range(0, size, 5):
        path.unlink()
        disk = FailingDisk(rigid=rigid)
        log = open_log(path, disk=disk, on_failure="serve")
        disk.room = room
        write_served(log, 3)
        log.checkpoint()
        write_served(log, 3)
        disk.room = None
        write_served(log, 1)
        log.close()

        report = check(path)
        assert report.intact, (room, report, path.read_bytes())
        assert report.tail_bytes == 0
        whole = [line for line in path.read_bytes().splitlines() if line.endswith(b'"outcome":"ok"}')]
        assert report.lost + len(whole) >= 7
        if not rigid:
            assert report.lost + len(whole) == 7


def test_a_full_disk_at_the_start_is_a_gap_and_not_the_end(path: Path):
    """The broker starts, says so, and goes on when there is room."""
    disk, events = FailingDisk(room=0), Events()
    log = open_log(path, disk=disk, emit=events)
    assert not log.healthy
    with pytest.raises(AuditUnavailableError):
        log.write(served())

    disk.room = None
    log.write(served())
    log.close()

    assert names(path) == ["opened", "gap", "token_served", "checkpoint"]
    assert check(path).intact


def test_a_failed_sync_at_the_end_is_said(path: Path):
    """The last records may not be on the medium."""
    disk, events = FailingDisk(broken_sync=True), Events()
    log = open_log(path, disk=disk, emit=events)

    log.close()

    assert events.of(AuditGap)[0].reason == "eio"


# --- rotation ---


def rotate(path: Path, number: int) -> Path:
    old = path.with_name(f"{path.name}.{number}")
    path.rename(old)
    return old


def test_a_rotated_log_goes_on_in_a_new_file(path: Path):
    """The new one names the end of the old one, which ends with a checkpoint."""
    events = Events()
    log = open_log(path, emit=events)
    write_served(log, 2)
    old = rotate(path, 1)
    write_served(log, 1)

    log.reopen()
    write_served(log, 1)
    log.close()

    assert names(old) == ["opened", *["token_served"] * 3, "checkpoint"]
    assert names(path) == ["opened", "checkpoint", "token_served", "checkpoint"]
    assert [event.seq for event in events.of(AuditOpened)] == [1, 5]
    assert check(old, path).intact
    assert (path.stat().st_mode & 0o777) == 0o600


def test_reopening_without_a_rotation_goes_on_in_the_same_file(path: Path):
    """SIGHUP is sent for other reasons too."""
    log = open_log(path)
    write_served(log, 1)

    log.reopen()
    write_served(log, 1)
    log.close()

    assert names(path) == ["opened", "token_served", "checkpoint", "token_served", "checkpoint"]
    assert check(path).intact


def test_a_new_file_that_logrotate_made_is_taken(path: Path):
    """``create 0600`` in its configuration."""
    log = open_log(path)
    old = rotate(path, 1)
    path.touch(mode=0o600)

    log.reopen()
    log.close()

    assert check(old, path).intact


def test_if_the_new_file_cannot_be_opened_the_old_one_is_written_to(path: Path):
    """Nothing is lost, and whoever asked for the rotation is told why not, each time."""
    events = Events()
    log = open_log(path, emit=events)
    old = rotate(path, 1)
    path.touch()
    path.chmod(0o666)

    log.reopen()
    log.reopen()
    write_served(log, 2)
    log.close()

    told = events.of(AuditReopenFailed)
    assert [event.reason for event in told] == ["audit_permissions"] * 2
    assert "chmod go-w" in str(told[0].hint)
    assert log.healthy
    assert names(old) == ["opened", "checkpoint", "token_served", "token_served", "checkpoint"]


def test_a_rotation_onto_a_full_disk_is_a_gap(path: Path):
    """The new file still begins as it has to, once there is room."""
    disk, events = FailingDisk(), Events()
    log = open_log(path, disk=disk, emit=events, on_failure="serve")
    write_served(log, 1)
    log.checkpoint()
    old = rotate(path, 1)
    disk.room = 0
    log.reopen()
    write_served(log, 2)

    disk.room = None
    log.checkpoint()
    log.close()

    assert names(path) == ["opened", "gap", "checkpoint"]
    assert check(old, path).intact
    assert check(old, path).lost == 2


def test_a_file_that_was_removed_is_replaced(path: Path):
    """At the next checkpoint: what is written to a file without a name is gone."""
    log = open_log(path)
    write_served(log, 2)
    path.unlink()

    log.checkpoint()
    write_served(log, 1)
    log.close()

    assert names(path)[0] == "opened"
    assert records(path)[0]["seq"] == 4
    assert check(path).intact


def test_no_token_is_served_into_a_file_that_is_gone(path: Path):
    """Between two checkpoints, too: the record goes into a new file, and the loss of the old one is alarmed."""
    events = Events()
    log = open_log(path, emit=events)
    write_served(log, 2)
    path.unlink()

    write_served(log, 1)
    log.close()

    assert names(path) == ["opened", "gap", "token_served", "checkpoint"]
    assert [(gap.closed, gap.reason, gap.lost) for gap in events.of(AuditGap)] == [
        (False, "removed", 3),
        (True, "removed", 3),
    ]


def test_a_path_that_leads_elsewhere_for_long_is_followed(path: Path):
    """logrotate without SIGHUP: ten seconds later the log goes on where operators look for it."""
    clock = HandClock()
    log = open_log(path, clock=clock)
    write_served(log, 1)
    path.rename(path.with_name("old"))
    for _ in range(12):
        clock.now += 1
        log.checkpoint()
    write_served(log, 1)
    log.close()

    assert names(path) == ["opened", "checkpoint", "token_served", "checkpoint"]
    assert check(path.with_name("old"), path).intact


def test_a_path_that_cannot_be_followed_is_told_once_and_tokens_are_served(path: Path):
    """The old file is still as good as it was; when the path is mended the log goes on there."""
    clock, events = HandClock(), Events()
    log = open_log(path, clock=clock, emit=events)
    old = rotate(path, 1)
    path.touch()
    path.chmod(0o666)
    for _ in range(40):
        clock.now += 1
        write_served(log, 1)
        log.checkpoint()
    told = len(events.of(AuditReopenFailed))

    path.chmod(0o600)
    for _ in range(12):
        clock.now += 1
        log.checkpoint()
    write_served(log, 1)
    log.close()

    assert told == 1
    assert events.of(AuditGap) == []
    assert names(old).count("token_served") == 40
    assert names(path) == ["opened", "checkpoint", "token_served", "checkpoint"]
    assert check(old, path).intact


def test_a_removed_file_that_cannot_be_replaced_refuses_tokens(tmp_path: Path):
    """Writing to the file without a name succeeds, and is worth nothing."""
    directory = tmp_path / "logs"
    directory.mkdir()
    log = open_log(directory / "audit.log")
    (directory / "audit.log").unlink()
    directory.rmdir()
    log.checkpoint()

    with pytest.raises(AuditUnavailableError):
        log.write(served())

    directory.mkdir()
    log.write(served())
    log.close()
    assert names(directory / "audit.log") == ["opened", "gap", "token_served", "checkpoint"]


def test_a_log_that_was_emptied_in_place_begins_again(path: Path):
    """logrotate's ``copytruncate``: the copy and what follows are one chain; and it is alarmed, for who knows."""
    events = Events()
    log = open_log(path, emit=events)
    write_served(log, 2)
    log.checkpoint()
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    os.truncate(path, 0)

    log.checkpoint()
    write_served(log, 1)
    log.close()

    assert names(path) == ["opened", "gap", "checkpoint", "token_served", "checkpoint"]
    assert check(copy, path).intact
    assert [(gap.closed, gap.reason, gap.lost) for gap in events.of(AuditGap)] == [(False, "cut", 4), (True, "cut", 4)]


def test_a_log_that_was_cut_in_place_says_so(path: Path):
    """Its chain begins anew, and the verifier finds the place."""
    events = Events()
    log = open_log(path, emit=events)
    write_served(log, 5)
    log.checkpoint()
    os.truncate(path, len(path.read_bytes()) // 2)

    log.checkpoint()
    write_served(log, 1)
    log.close()

    report = check(path)
    assert Damage.RESTARTED in {finding.damage for finding in report.findings}
    assert report.tail_bytes == 0
    assert events.of(AuditRecovered)[0].restarted


# --- fingerprints ---


def test_a_fingerprint_depends_on_the_key_and_tells_nothing_else(path: Path):
    """Sixteen hexadecimal digits, the same in every process that has the key."""
    log = open_log(path)
    again = open_log(path.with_name("other"))
    other = open_log(path.with_name("third"), key=b"o" * 32)

    assert log.fingerprint("token") == again.fingerprint("token")
    assert log.fingerprint("token") != other.fingerprint("token")
    assert log.fingerprint("token") != log.fingerprint("token2")
    assert len(log.fingerprint("token")) == 16
    assert int(log.fingerprint("\udcff"), 16) >= 0
    for each in (log, again, other):
        kill(each)


def test_without_a_key_fingerprints_are_of_this_process(path: Path):
    """A random key: nobody can search for a token by its fingerprint."""
    first = open_log(path, key=None, randomness=Dice(count=0))
    second = open_log(path.with_name("other"), key=None, randomness=Dice(count=100))

    assert first.fingerprint("token") != second.fingerprint("token")
    kill(first)
    kill(second)


def test_a_closed_log_takes_nothing(path: Path):
    """A token after the end is refused, not served unrecorded."""
    log: AuditLog = open_log(path, clock=HandClock())
    log.close()
    size = path.stat().st_size

    with pytest.raises(AuditUnavailableError):
        log.write(served())

    assert path.stat().st_size == size


# --- several at once ---


def test_several_records_are_written_by_one_call(path: Path):
    """They are the records that as many calls would have made."""
    disk, clock = FailingDisk(), HandClock()
    log = open_log(path, disk=disk, clock=clock)
    before = len(disk.calls)
    tokens = [served(pid=pid) for pid in range(5)]

    assert not log.write_all([(served(pid=99), token.pid) for token in tokens])

    assert len(disk.calls) == before + 1
    for token in tokens:
        log.write(token)
    log.close()
    lines = [record for record in records(path) if record["event"] == "token_served"]
    once, again = lines[:5], lines[5:]
    assert [line["seq"] for line in lines] == list(range(lines[0]["seq"], lines[0]["seq"] + 10))
    assert [{**line, "seq": 0} for line in once] == [{**line, "seq": 0} for line in again]
    assert check(path).intact


def test_never_more_than_a_thousand_records_are_unprotected(path: Path):
    """Also where the thousandth is in the middle of those that are written together."""
    log = open_log(path)
    for _ in range(50):
        log.write_all([(served(), 1)] * 64)
    log.close()

    since = 0
    for name in names(path):
        since = 0 if name == "checkpoint" else since + 1
        assert since <= CHECKPOINT_EVERY
    assert names(path).count("token_served") == 50 * 64


@pytest.mark.parametrize("on_failure", ["refuse", "serve"])
@pytest.mark.parametrize("rigid", [False, True], ids=["ordinary file", "append-only file"])
def test_of_several_those_are_refused_that_are_not_in_the_file(path: Path, rigid: bool, on_failure: str):
    """Wherever the disk is full, and whatever of them is there already."""
    size = len(sample(path)) - path.read_bytes().index(b"\n")
    for room in range(0, size, 5):
        path.unlink()
        disk = FailingDisk(rigid=rigid)
        log = open_log(path, disk=disk, on_failure=on_failure)
        disk.room = room
        refused = set(log.write_all([(served(), pid) for pid in range(1, 5)]))
        disk.room = None
        assert not log.write_all([(served(), 5)])
        log.close()

        report = check(path)
        assert report.intact, (room, report, path.read_bytes())
        whole = [record for line in path.read_bytes().splitlines(keepends=True) if (record := parse(line))]
        written = [record.number("pid") for record in whole if record.event == "token_served"]
        served_pids = [pid for pid in range(1, 6) if pid - 1 not in refused]
        if on_failure == "refuse":
            assert [pid for pid in written if pid in served_pids] == served_pids, (room, refused)
        else:
            assert not refused
        missing = 0 if on_failure == "refuse" else report.lost
        expected = len(served_pids) - missing
        assert len(written) in ((expected, expected + 1) if rigid else (expected,))  # a line but for its end gets it


def test_several_are_not_served_into_a_file_that_is_gone(path: Path):
    """They are in the one that takes its place."""
    log = open_log(path)
    log.write_all([(served(), 1)])
    path.unlink()

    assert not log.write_all([(served(), 1)] * 3)

    log.close()
    assert names(path).count("token_served") == 3


def test_of_several_that_cannot_be_recorded_each_is_counted(path: Path):
    """The gap says how many were refused."""
    disk = FailingDisk()
    log = open_log(path, disk=disk)
    disk.room = 0
    assert list(log.write_all([(served(), 1)] * 3)) == [0, 1, 2]
    disk.room = None
    log.close()

    (gap,) = [record for record in records(path) if record["event"] == "gap"]
    assert (gap["lost"], gap["refused"]) == (0, 3)
