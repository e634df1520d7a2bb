"""
Whether an audit log is what the broker wrote: pure, for files of any size, with any bytes in them.

Without the key a log can be consistent, but whoever was able to write it was able to make it so. With the key
everything up to the last checkpoint is what the broker wrote; what comes after it is unprotected, and the report
says how much that is. A cut at a checkpoint leaves a good log: only a number known from elsewhere (*expect_seq*),
or the file that follows, shows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from broker.telemetry.audit_chain import Damage, Position, begin, is_fragment, step
from broker.telemetry.audit_format import AuditKeys, lines_of, parse

MAX_FINDINGS = 1_000
"""Findings that are kept: the first ones say what there is to say, and a file of junk must not fill the memory."""


END = 0
"""The line of a finding about the end of a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """*damage* at *line* of *file*, counted from 1; 0 means its end."""

    damage: Damage
    file: str
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """
    What was found in a log.

    *covered_seq*: everything up to this number is covered by a checkpoint (with a key: an authentic one), None
    if nothing is. *tail_records* and *tail_bytes* come after it, *torn_bytes* of them are an unfinished last
    line. *recovered*, *lost*: what the broker itself says it took over unprotected, and could not write.
    *findings* are at most ``MAX_FINDINGS``; *damaged* counts all.
    """

    authenticated: bool
    records: int
    checkpoints: int
    last_seq: int | None
    covered_seq: int | None
    tail_records: int
    tail_bytes: int
    torn_bytes: int
    recovered: int
    lost: int
    damaged: int
    findings: tuple[Finding, ...]

    @property
    def intact(self) -> bool:
        """Say whether nothing was found; there may still be an unprotected tail."""
        return not self.damaged


def verify(
    files: Iterable[tuple[str, Iterable[bytes]]], *, key: bytes | None = None, expect_seq: int | None = None
) -> Report:
    """
    Check the *files* of one log, oldest first, each a name and its bytes in chunks of any size.

    The first file may be one from the middle of a log. *expect_seq* is a sequence number that is known to have
    been written.
    """
    keys = None if key is None else AuditKeys.derive(key)
    check = _Check(keys)
    name = ""
    for name, chunks in files:
        check.file(name, chunks)
    return check.conclude(name, expect_seq)


@dataclass(slots=True)
class _Tally:
    """What is counted on the way; the names are those of ``Report``."""

    records: int = 0
    checkpoints: int = 0
    tail_checkpoints: int = 0
    tail_records: int = 0
    tail_bytes: int = 0
    torn_bytes: int = 0
    recovered: int = 0
    lost: int = 0
    damaged: int = 0

    def add(self, line: bytes) -> None:
        """Count a whole line."""
        self.tail_bytes += len(line)
        record = parse(line)
        if record is None:
            return
        self.records += 1
        self.tail_records += 1
        if record.event == "checkpoint":
            self.checkpoints += 1
            self.tail_checkpoints += 1
        elif record.event == "recovered":
            self.recovered += record.number("unprotected") or 0
        elif record.event == "gap":
            self.lost += record.number("lost") or 0


class _Check:
    """The state of a verification."""

    def __init__(self, keys: AuditKeys | None) -> None:
        self._keys = keys
        self._at = Position()
        self._tally = _Tally()
        self._findings: list[Finding] = []

    def file(self, name: str, chunks: Iterable[bytes]) -> None:
        """Check the next file."""
        self._at = begin(self._at)
        self._tally.torn_bytes = 0
        number = 0
        for number, (line, following) in enumerate(_with_next(lines_of(chunks)), start=1):
            if following is None and not line.endswith(b"\n"):
                # An unfinished last line is in no hash until the broker has closed it.
                self._tally.torn_bytes = len(line)
                self._tally.tail_bytes += len(line)
            else:
                self._line(name, number, line, following)
        if number == 0:
            self._find(name, 1, (Damage.CUT,))

    def _line(self, name: str, number: int, line: bytes, following: bytes | None) -> None:
        before = self._at
        self._at, damage = step(before, line, following, self._keys)
        self._find(name, number, damage)
        if is_fragment(line, following):
            self._tally.tail_bytes += len(line)
        else:
            self._tally.add(line)
        if self._at.covered != before.covered:
            self._tally.tail_records = self._tally.tail_bytes = self._tally.tail_checkpoints = 0
        elif self._tally.tail_checkpoints == 1 and _is_checkpoint(line) and Damage.FORGED not in damage:
            # An authentic one that follows does not make it good: it may have been put there to be gone on from.
            self._find(name, number, (Damage.UNCOVERED,))

    def _find(self, name: str, line: int, damage: tuple[Damage, ...]) -> None:
        self._tally.damaged += len(damage)
        room = MAX_FINDINGS - len(self._findings)
        self._findings += [Finding(damage=kind, file=name, line=line) for kind in damage[:room]]

    def conclude(self, name: str, expect_seq: int | None) -> Report:
        """Compare the end with what was expected."""
        at, tally = self._at, self._tally
        if expect_seq is not None and (at.seq or 0) < expect_seq:
            self._find(name, END, (Damage.CUT,))
        elif expect_seq is not None and (at.covered or 0) < expect_seq:
            self._find(name, END, (Damage.UNCOVERED,))
        return Report(
            authenticated=self._keys is not None,
            records=tally.records,
            checkpoints=tally.checkpoints,
            last_seq=at.seq,
            covered_seq=at.covered,
            tail_records=tally.tail_records,
            tail_bytes=tally.tail_bytes,
            torn_bytes=tally.torn_bytes,
            recovered=tally.recovered,
            lost=tally.lost,
            damaged=tally.damaged,
            findings=tuple(self._findings),
        )


def _is_checkpoint(line: bytes) -> bool:
    record = parse(line)
    return record is not None and record.event == "checkpoint"


def _with_next(lines: Iterator[bytes]) -> Iterator[tuple[bytes, bytes | None]]:
    """Pair each line with the one after it."""
    line = next(lines, None)
    while line is not None:
        following = next(lines, None)
        yield line, following
        line = following
