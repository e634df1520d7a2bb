from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.telemetry.audit_format import ZERO_HEAD, AuditKeys, advance, encode, encode_checkpoint, lines_of
from broker.telemetry.audit_resume import MAX_SEQ, resume
from tests.unit.telemetry.audit_logs import KEY, open_log, sample

KEYS = AuditKeys.derive(KEY)


def head_of(log: bytes) -> bytes:
    head = ZERO_HEAD
    for line in lines_of([log]):
        head = advance(head, line)
    return head


@pytest.fixture
def log(tmp_path: Path) -> bytes:
    return sample(tmp_path / "audit.log")


def test_a_log_is_continued_where_it_ends(log: bytes):
    """With the head of all of it, though only what follows the last checkpoint is followed."""
    found = resume(log, whole=True, keys=KEYS)

    assert (found.seq, found.count, found.unprotected, found.torn, found.restarted) == (9, 9, 1, b"", False)
    assert found.head == head_of(log)


def test_the_end_is_enough(log: bytes):
    """Whatever stands before the last checkpoint, and wherever the reading begins."""
    end = log.index(b'{"seq":8,')

    for start in range(1, end):
        found = resume(log[start:], whole=False, keys=KEYS)
        assert (found.seq, found.head, found.restarted) == (9, head_of(log), False), start


def test_a_log_that_was_closed_has_nothing_unprotected(tmp_path: Path):
    """So that its continuation has nothing to say about it."""
    audit = open_log(tmp_path / "audit.log")
    audit.close()

    found = resume((tmp_path / "audit.log").read_bytes(), whole=True, keys=KEYS)

    assert (found.seq, found.unprotected, found.torn, found.restarted) == (2, 0, b"", False)


def test_a_log_without_a_checkpoint_is_followed_from_its_beginning(log: bytes):
    """A process that was killed in its first second."""
    start = log[: log.index(b'{"seq":3,')]

    found = resume(start, whole=True, keys=KEYS)

    assert (found.seq, found.unprotected, found.restarted) == (2, 2, False)
    assert found.head == head_of(start)


def test_a_torn_line_is_set_apart(log: bytes):
    """Of any length; it has no number."""
    line = encode(10, 0.0, "token_served", {"token": "never"})

    for length in range(1, len(line)):
        found = resume(log + line[:length], whole=True, keys=KEYS)
        assert (found.seq, found.torn, found.restarted) == (9, line[:length], False)


def test_a_torn_line_that_was_closed_earlier_does_not_matter(log: bytes):
    """A process that was killed twice."""
    torn = log + b'{"seq":10,"ti\n' + encode(10, 0.0, "recovered", {"torn_bytes": 13, "chain": "continued"})

    found = resume(torn, whole=True, keys=KEYS)

    assert (found.seq, found.restarted) == (10, False)
    assert found.head == head_of(torn)


@pytest.mark.parametrize(
    ("keys", "unprotected"), [(None, 1), (AuditKeys.derive(b"o" * 32), 9)], ids=["no key", "another key"]
)
def test_a_log_is_continued_under_another_key(log: bytes, keys: AuditKeys | None, unprotected: int):
    """Keys are replaced; with one, whatever it does not vouch for is told to be unprotected."""
    found = resume(log, whole=True, keys=keys)

    assert (found.seq, found.restarted, found.unprotected) == (9, False, unprotected)


def test_a_checkpoint_without_our_key_is_not_gone_on_from(log: bytes):
    """Whoever can write the file while nobody runs cannot have a made-up history sealed in silence."""
    forged = b"".join(line for line in log.splitlines(keepends=True) if b'"checkpoint"' not in line)
    records = [line for line in forged.splitlines(keepends=True) if b"token_served" not in line]
    history, head = b"", ZERO_HEAD
    for number, line in enumerate(records, start=1):
        renumbered = re.sub(rb'"seq":[0-9]+', b'"seq":%d' % number, line, count=1)
        history, head = history + renumbered, advance(head, renumbered)
    history += encode_checkpoint(len(records) + 1, 0.0, count=len(records), head=head, keys=None)

    found = resume(history, whole=True, keys=KEYS)

    assert found.unprotected == len(records) + 1
    assert resume(history, whole=False, keys=KEYS).restarted


def test_a_checkpoint_that_lies_is_not_continued_from(log: bytes):
    """It claims our key, and was not made with it."""
    edited = log.replace(b'"count":7', b'"count":6')

    found = resume(edited, whole=True, keys=KEYS)

    assert (found.seq, found.head, found.count, found.restarted) == (9, None, 0, True)


@pytest.mark.parametrize(
    "change",
    [
        (b'"seq":9,', b'"seq":11,'),
        (b'{"seq":9,', b"junk\n{"),
        (b'"event":"checkpoint"', b'"event":"checkpaint"'),
        (b'"head":"', b'"head":"x'),
    ],
    ids=["missing number", "junk", "checkpoints gone", "no head"],
)
def test_what_cannot_be_followed_begins_anew(log: bytes, change: tuple[bytes, bytes]):
    """History never keeps the broker from starting; numbers go on growing."""
    damaged = log.replace(*change)[1:]

    found = resume(damaged, whole=False, keys=None)

    assert found.restarted
    assert found.head is None
    assert found.seq in {8, 9, 11}


def test_a_number_beyond_all_measure_is_not_gone_on_from(log: bytes):
    """A forger cannot use up the numbers."""
    huge = encode(MAX_SEQ - 1, 0.0, "gap", {})

    assert resume(log + huge.replace(str(MAX_SEQ - 1).encode(), b"9" * 300), whole=True, keys=KEYS).seq == 9
    checkpoint = encode_checkpoint(MAX_SEQ, 0.0, count=0, head=ZERO_HEAD, keys=None)
    assert resume(log + checkpoint, whole=True, keys=KEYS).seq == 9


@given(st.binary(max_size=2_000), st.booleans())
def test_any_bytes_can_be_continued(tail: bytes, whole: bool):
    """The start of the broker does not depend on what is in the file."""
    found = resume(tail, whole=whole, keys=KEYS)

    assert found.restarted
    assert found.torn == tail.rpartition(b"\n")[2]
