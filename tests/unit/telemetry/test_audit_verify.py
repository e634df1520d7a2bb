from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from broker.telemetry.audit_chain import Damage
from broker.telemetry.audit_format import (
    ZERO_HEAD,
    AuditKeys,
    advance,
    encode,
    encode_checkpoint,
    lines_of,
)
from broker.telemetry.audit_verify import END, MAX_FINDINGS, Finding, Report, verify
from tests.unit.telemetry.audit_logs import KEY, kill, open_log, sample, write_served
from tests.unit.telemetry.catalogue import served

TAIL = 1
"""Records of the sample after its last checkpoint."""


def check(log: bytes, *, key: bytes | None = KEY, expect_seq: int | None = None) -> Report:
    return verify([("audit.log", [log])], key=key, expect_seq=expect_seq)


def kinds(report: Report) -> set[Damage]:
    return {finding.damage for finding in report.findings}


def covered(log: bytes) -> int:
    """Give the number of bytes up to the end of the last checkpoint."""
    lines = list(lines_of([log]))
    return len(log) - sum(map(len, lines[-TAIL:]))


def last_checkpoint(log: bytes) -> int:
    """Give the sequence number of the last checkpoint."""
    numbers = [record["seq"] for record in map(json.loads, lines_of([log])) if record["event"] == "checkpoint"]
    return int(numbers[-1])


@pytest.mark.parametrize("key", [KEY, None], ids=["with key", "without key"])
def test_a_log_that_nobody_touched_is_intact(tmp_path: Path, key: bytes | None):
    """Its records are counted, and what is not protected is named."""
    log = sample(tmp_path / "audit.log", key=key)

    report = check(log, key=key)

    assert report.intact
    assert report.findings == ()
    assert report.authenticated == (key is not None)
    assert (report.records, report.checkpoints, report.last_seq, report.covered_seq) == (9, 2, 9, 8)
    assert (report.tail_records, report.tail_bytes, report.torn_bytes) == (1, len(log) - covered(log), 0)
    assert (report.lost, report.recovered) == (0, 0)


def test_every_edit_before_the_last_checkpoint_is_found(tmp_path: Path):
    """Each byte of each record, changed in two ways."""
    log = sample(tmp_path / "audit.log")

    for index in range(covered(log)):
        for bit in (0x01, 0x20):
            edited = log[:index] + bytes([log[index] ^ bit]) + log[index + 1 :]
            assert not check(edited).intact, (index, edited[index - 20 : index + 20])


def test_every_line_that_was_removed_is_found(tmp_path: Path):
    """Also the last checkpoint, if its number is known from elsewhere."""
    log = sample(tmp_path / "audit.log")
    lines = list(lines_of([log]))

    for index in range(len(lines) - TAIL):
        rest = b"".join(lines[:index] + lines[index + 1 :])
        assert not check(rest, expect_seq=last_checkpoint(log)).intact, lines[index]


def test_every_pair_that_was_swapped_is_found(tmp_path: Path):
    """Neighbors or not."""
    lines = list(lines_of([sample(tmp_path / "audit.log")]))

    for first in range(len(lines) - TAIL):
        for second in range(first + 1, len(lines) - TAIL):
            swapped = lines.copy()
            swapped[first], swapped[second] = swapped[second], swapped[first]
            assert not check(b"".join(swapped)).intact, (first, second)


def test_every_line_that_was_written_twice_is_found(tmp_path: Path):
    """A record that is repeated says that something happened which did not."""
    lines = list(lines_of([sample(tmp_path / "audit.log")]))

    for index in range(len(lines) - TAIL):
        for place in range(len(lines) - TAIL):
            assert not check(b"".join([*lines[:place], lines[index], *lines[place:]])).intact, (index, place)


def test_every_cut_before_the_last_checkpoint_is_found(tmp_path: Path):
    """Against a sequence number that is known from elsewhere."""
    log = sample(tmp_path / "audit.log")

    for length in range(covered(log)):
        report = check(log[:length], expect_seq=last_checkpoint(log))
        assert Damage.CUT in kinds(report), length


def test_a_cut_in_the_tail_is_not_damage(tmp_path: Path):
    """That is what unprotected means; the torn line is named."""
    log = sample(tmp_path / "audit.log")

    for length in range(covered(log), len(log)):
        report = check(log[:length], expect_seq=last_checkpoint(log))
        assert report.intact
        assert report.torn_bytes == length - covered(log)


def test_a_forger_without_the_key_is_found(tmp_path: Path):
    """He recomputes every hash and strips the HMACs, or keeps them: without a key it is consistent, with it, not."""
    forged = b""
    head, count = ZERO_HEAD, 0
    stripped = b""
    for line in lines_of([sample(tmp_path / "audit.log")]):
        record = json.loads(line)
        bare = line.replace(b'"token":"text"', b'"token":"harmless"')
        with_mac = bare
        if record["event"] == "checkpoint":
            bare = encode_checkpoint(record["seq"], 0.0, count=count, head=head, keys=None)
            with_mac = bare[:-2] + f',"key":"{record["key"]}","hmac":"{record["hmac"]}"}}\n'.encode()
        forged, stripped = forged + with_mac, stripped + bare
        head, count = advance(head, bare), count + 1

    assert check(stripped, key=None).intact
    assert kinds(check(stripped)) == {Damage.UNCOVERED}
    assert check(stripped).covered_seq is None
    assert Damage.FORGED in kinds(check(forged))


def test_a_checkpoint_of_another_key_covers_nothing(tmp_path: Path):
    """A log that is moved to the place of another one is not taken for it."""
    report = check(sample(tmp_path / "audit.log"), key=b"o" * 32)

    assert kinds(report) == {Damage.UNCOVERED}
    assert report.covered_seq is None
    assert report.tail_records == report.records


def test_a_log_that_got_its_key_late_is_protected_from_then_on(tmp_path: Path):
    """What came before can no longer be changed, but nobody vouches for how it came about: that is told."""
    path = tmp_path / "audit.log"
    first = open_log(path, key=None)
    write_served(first, 2)
    first.close()
    second = open_log(path)
    write_served(second, 2)
    second.close()

    log = path.read_bytes()

    report = check(log)
    assert kinds(report) == {Damage.UNCOVERED}
    assert [finding.line for finding in report.findings] == [4]
    assert (report.covered_seq, report.recovered) == (8, 4)
    assert Damage.EDITED in kinds(check(log.replace(b'"generation":0', b'"generation":9', 1)))


def test_what_comes_after_the_key_was_taken_away_is_not_covered(tmp_path: Path):
    """Otherwise whoever cannot make HMACs would simply leave them out."""
    path = tmp_path / "audit.log"
    first = open_log(path)
    write_served(first, 2)
    first.close()
    second = open_log(path, key=None)
    write_served(second, 2)
    second.close()

    report = check(path.read_bytes())

    assert kinds(report) == {Damage.UNCOVERED}
    assert report.covered_seq == 4


def test_damage_is_named_for_what_it_is(tmp_path: Path):
    """Where it was found, too: an edit at the next checkpoint, a missing or misplaced record at once."""
    lines = list(lines_of([sample(tmp_path / "audit.log")]))

    def found(*indexes: int) -> tuple[Finding, ...]:
        return check(b"".join(lines[index] for index in indexes)).findings

    edited = check(b"".join(lines).replace(b'"generation":1', b'"generation":8', 1)).findings
    removed = found(0, 1, 3, 4, 5, 6, 7, 8)
    swapped = found(0, 2, 1, 3, 4, 5, 6, 7, 8)

    assert edited == (Finding(damage=Damage.EDITED, file="audit.log", line=5),)
    assert removed[0] == Finding(damage=Damage.REMOVED, file="audit.log", line=3)
    assert [finding.damage for finding in swapped] == [Damage.REMOVED, Damage.REORDERED, Damage.EDITED]


def test_an_edit_is_found_once_and_not_at_every_checkpoint_after_it(tmp_path: Path):
    """The report says what is sound as well as what is not."""
    log = sample(tmp_path / "audit.log")

    report = check(log.replace(b'"generation":1', b'"generation":8', 1))

    assert report.damaged == 1
    assert report.covered_seq == 8


def test_an_expected_number_that_is_only_in_the_tail_is_not_vouched_for(tmp_path: Path):
    """It is there, but anybody may have written it."""
    log = sample(tmp_path / "audit.log")

    assert check(log, expect_seq=8).intact
    assert kinds(check(log, expect_seq=9)) == {Damage.UNCOVERED}
    assert kinds(check(log, expect_seq=10)) == {Damage.CUT}
    assert check(log, expect_seq=10).findings[-1].line == END


def rotated(directory: Path, files: int) -> list[tuple[str, list[bytes]]]:
    """Write a log of several files, as logrotate does."""
    path = directory / "audit.log"
    log = open_log(path)
    for number in range(files - 1):
        write_served(log, 2)
        path.rename(directory / f"audit.log.{number}")
        log.reopen()
    write_served(log, 2)
    log.close()
    names = [f"audit.log.{number}" for number in range(files - 1)] + ["audit.log"]
    return [(name, [(directory / name).read_bytes()]) for name in names]


def test_a_log_of_several_files_is_one_chain(tmp_path: Path):
    """From the first record to the last, and from any file on."""
    files = rotated(tmp_path, 3)

    assert verify(files, key=KEY).intact
    assert verify(files[1:], key=KEY).intact
    assert verify(files, key=KEY).records == verify(files, key=KEY).covered_seq


def test_a_file_that_is_missing_swapped_or_cut_is_found(tmp_path: Path):
    """The next one names the head at its end."""
    first, second, third = rotated(tmp_path, 3)
    lines = list(lines_of(second[1]))

    assert kinds(verify([first, third], key=KEY)) == {Damage.REMOVED, Damage.CUT}
    assert not verify([second, first, third], key=KEY).intact
    assert not verify([first, first, second, third], key=KEY).intact
    for kept in range(len(lines)):
        cut = (second[0], [b"".join(lines[:kept])])
        assert Damage.CUT in kinds(verify([first, cut, third], key=KEY)), kept


def test_files_of_two_logs_are_not_one(tmp_path: Path):
    """Even under the same key."""
    (tmp_path / "other").mkdir()
    first, _ = rotated(tmp_path, 2)
    _, second = rotated(tmp_path / "other", 2)

    swapped = (second[0], [second[1][0].replace(b'"log":"random-1"', b'"log":"another1"', 1)])

    assert Damage.RESTARTED in kinds(verify([first, swapped], key=KEY))


def test_a_record_that_a_later_version_adds_does_not_matter(tmp_path: Path):
    """New kinds of records and new members are part of the chain like any other."""
    path = tmp_path / "audit.log"
    log = open_log(path)
    log._append(encode(2, 0.0, "from_the_future", {"answer": 42}))
    log.close()

    assert check(path.read_bytes()).intact


def test_a_file_of_a_later_format_says_so():
    """It is not called damaged because we are old."""
    line = encode(1, 0.0, "opened", {"format": 2, "log": "x", "previous": ZERO_HEAD.hex()})

    assert kinds(check(line, key=None)) == {Damage.UNKNOWN_FORMAT}


def test_a_gap_is_counted_and_is_no_damage(tmp_path: Path):
    """The broker itself says how many records are missing."""
    path = tmp_path / "audit.log"
    log = open_log(path)
    log._put("gap", {"lost": 17, "refused": 3, "reason": "enospc"})
    log.close()

    report = check(path.read_bytes())

    assert report.intact
    assert report.lost == 17


@pytest.mark.parametrize("torn", [1, 40, -1], ids=["one byte", "some bytes", "all but the newline"])
def test_a_torn_line_that_was_closed_is_no_damage(tmp_path: Path, torn: int):
    """A crash is not an attack; the record after it says how long the torn line is."""
    path = tmp_path / "audit.log"
    log = open_log(path)
    write_served(log, 2)
    log.checkpoint()
    kill(log)
    with path.open("ab") as file:
        file.write(encode(5, 0.0, "token_served", {"token": "never"})[:torn])
    again = open_log(path)
    write_served(again, 1)
    again.close()

    report = check(path.read_bytes())

    assert report.intact
    assert report.tail_records == 0
    assert b'"event":"recovered","torn_bytes":' in path.read_bytes()


def test_a_line_that_is_called_torn_counts_only_with_its_length(tmp_path: Path):
    """Nobody hides a line in front of a ``recovered`` record; in the protected part nobody could anyway."""
    log = sample(tmp_path / "audit.log")
    hidden = b"anything\n"
    number = 10
    recovered = encode(number, 0.0, "recovered", {"torn_bytes": len(hidden) + 3, "unprotected": 0})

    assert kinds(check(log + hidden + recovered)) == {Damage.EDITED}


def test_a_chain_that_begins_anew_is_damage(tmp_path: Path):
    """Whatever was before it may have been anything."""
    path = tmp_path / "audit.log"
    log = sample(path)
    path.write_bytes(log[: covered(log)].replace(b'"checkpoint"', b'"checkpaint"') + b"junk\n")
    again = open_log(path)
    write_served(again, 2)
    again.close()

    assert Damage.RESTARTED in kinds(check(path.read_bytes()))


@pytest.mark.parametrize(
    "junk",
    [b"", b"\n", b"\n" * 50, b"{}\n" * 50, os.urandom(5_000), b"x" * 200_000, b"[" * 50_000 + b"\n"],
    ids=["empty", "newline", "newlines", "objects", "noise", "endless", "deep"],
)
def test_junk_is_damage_and_not_an_exception(tmp_path: Path, junk: bytes):
    """In a file of its own, in front of a log and in the middle of one."""
    log = sample(tmp_path / "audit.log")
    end = covered(log)

    assert not check(junk, expect_seq=1).intact
    if junk:
        assert not check(junk + log).intact
        assert not check(log[: end // 2] + junk + log[end // 2 :]).intact


def test_findings_are_bounded(tmp_path: Path):
    """A file of junk is counted, not listed."""
    report = check(b"junk\n" * (MAX_FINDINGS + 500))

    assert report.damaged >= MAX_FINDINGS + 500
    assert len(report.findings) == MAX_FINDINGS


def test_a_log_is_read_in_pieces_of_any_size(tmp_path: Path):
    """Byte by byte it is the same log."""
    log = sample(tmp_path / "audit.log")

    assert verify([("audit.log", (bytes([byte]) for byte in log))], key=KEY) == check(log)


def test_the_sample_is_what_it_is_taken_for(tmp_path: Path):
    """Nine records, of which one is the tail: the tests above count on it."""
    lines = list(lines_of([sample(tmp_path / "audit.log")]))
    names = [json.loads(line)["event"] for line in lines]

    assert names == ["opened", *["token_served"] * 3, "checkpoint", *["token_served"] * 2, "checkpoint", served().name]
    assert AuditKeys.derive(KEY).identifier in lines[-2].decode()
