"""
How one record follows from those before it: the rules of the chain, one line at a time.

Used twice: by the verifier for whole files, and at the start for the end of a file that is to be continued.
Pure, and total: any bytes may stand in any line.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from broker.telemetry.audit_format import FORMAT, ZERO_HEAD, AuditKeys, Record, advance, is_authentic, parse


class Damage(StrEnum):
    """What can be wrong with an audit log."""

    EDITED = "edited"
    """Bytes were changed, added or removed since the checkpoint before."""
    REMOVED = "removed"
    """Sequence numbers are missing."""
    REORDERED = "reordered"
    """A sequence number comes again, or too late."""
    CUT = "cut"
    """The log ends before the sequence number that was expected, or a file before the head that the next one names."""
    FORGED = "forged"
    """A checkpoint says that it was made with this key, and was not."""
    UNCOVERED = "uncovered"
    """The expected number is not covered by a good checkpoint, or a checkpoint was not made with this key."""
    RESTARTED = "restarted"
    """The chain begins anew: the broker could not follow what it found, or somebody joined two logs."""
    UNKNOWN_FORMAT = "unknown_format"
    """A later version wrote this file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """
    Where a reader stands: after record *seq*, with the hash *head*, *count* records into this file.

    *head* is None where it cannot be known until the next checkpoint, *seq* where any may come; *log* is the
    identifier of the log. *covered* is the sequence number of the last good checkpoint: with keys, of the last
    that is authentic.
    """

    seq: int | None = None
    head: bytes | None = None
    count: int = 0
    log: str | None = None
    covered: int | None = None


Step = tuple[Position, tuple[Damage, ...]]
"""The next position, and what is wrong with the line."""


def begin(at: Position) -> Position:
    """Stand at the beginning of the file that follows: its first record has to be ``opened``."""
    return replace(at, count=0)


def step(at: Position, line: bytes, following: bytes | None, keys: AuditKeys | None) -> Step:
    """
    Take in *line*; *following* is the line after it, which says of a torn line that it was torn.

    A torn line is part of the hash, but not a record: it has no sequence number of its own.
    """
    if is_fragment(line, following):
        return replace(at, head=_advanced(at.head, line)), ()
    record = parse(line)
    if record is None:
        return replace(at, head=_advanced(at.head, line)), (Damage.EDITED,)
    if record.event == "opened":
        return _opened(at, line, record)
    if record.event == "recovered" and record.text("chain") == "restarted":
        return _restarted(at, line, record)
    if at.count == 0:
        return _numbered(replace(at, head=None), record), (Damage.REMOVED,)
    if record.event == "checkpoint":
        return _checkpoint(at, line, record, keys)
    after = _numbered(replace(at, head=_advanced(at.head, line)), record)
    # ``head`` stands in checkpoints alone: one that was turned into something else is still seen.
    return after, (*_sequence(at, record), *((Damage.EDITED,) if "head" in record.members else ()))


def is_fragment(line: bytes, following: bytes | None) -> bool:
    """Say whether the next record says that this line is the torn one it closed."""
    if following is None or b'"recovered"' not in following:
        return False
    record = parse(following)
    return record is not None and record.event == "recovered" and record.number("torn_bytes") == len(line) - 1


def _advanced(head: bytes | None, line: bytes) -> bytes | None:
    return None if head is None else advance(head, line)


def _numbered(at: Position, record: Record) -> Position:
    """Count the record; after a number that came too late the highest one still counts."""
    return replace(at, seq=max(at.seq or 0, record.seq), count=at.count + 1)


def _sequence(at: Position, record: Record) -> tuple[Damage, ...]:
    if at.seq is None or record.seq == at.seq + 1:
        return ()
    return (Damage.REMOVED if record.seq > at.seq else Damage.REORDERED,)


def _opened(at: Position, line: bytes, record: Record) -> Step:
    """Begin a file: it names the head of the file before, and both have to be of one log."""
    damage = _sequence(at, record)
    previous, log = record.digest("previous"), record.text("log")
    if record.number("format") != FORMAT:
        damage += (Damage.UNKNOWN_FORMAT,)
    if previous is None or log is None:
        damage += (Damage.EDITED,)
    if at.seq is None and previous == ZERO_HEAD and record.seq != 1:
        damage += (Damage.REMOVED,)
    if at.count or (at.log is not None and log != at.log):
        damage += (Damage.RESTARTED,)
    elif at.head is not None and previous != at.head:
        damage += (Damage.CUT,)
    head = None if previous is None else advance(previous, line)
    return Position(seq=record.seq, head=head, count=1, log=log, covered=at.covered), damage


def _restarted(at: Position, line: bytes, record: Record) -> Step:
    after = replace(at, seq=record.seq, head=advance(ZERO_HEAD, line), count=1)
    return after, (*_sequence(at, record), Damage.RESTARTED)


def _checkpoint(at: Position, line: bytes, record: Record, keys: AuditKeys | None) -> Step:
    """Compare what the checkpoint says of everything before it; go on from what it says, so that one edit is one."""
    damage = _sequence(at, record)
    claimed = record.digest("head")
    ours = keys is not None and record.text("key") == keys.identifier
    if ours and keys is not None and not is_authentic(line, keys):
        damage += (Damage.FORGED,)
    agrees = at.head is None or (claimed == at.head and record.number("count") == at.count)
    if claimed is None or not agrees:
        damage += (Damage.EDITED,)
    after = _numbered(replace(at, head=None if claimed is None else advance(claimed, line)), record)
    after = replace(after, count=(record.number("count") or at.count) + 1)
    if Damage.FORGED not in damage and claimed is not None and (ours or keys is None):
        after = replace(after, covered=record.seq)
    return after, damage
