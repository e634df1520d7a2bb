"""
Where an audit file can be continued: found from its end, without reading all of it.

The end of a file is taken over on trust up to the last checkpoint, and a ``recovered`` record says how much
that was; what cannot be followed begins a new chain. History never keeps the broker from starting: the
verifier names every such place (``audit_verify``). Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from broker.telemetry.audit_chain import Damage, Position, step
from broker.telemetry.audit_format import AuditKeys, is_authentic, parse

MAX_SEQ = 2**53
"""Above it a number is not exact in every reader of JSON; one that is found is not gone on from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption:
    """
    The end of a file: after which *seq* it goes on, with which *head* and *count*.

    *torn* are the bytes of an unfinished last line, *unprotected* the whole records after the last checkpoint;
    *restarted* says that the chain has to begin anew.
    """

    seq: int
    head: bytes | None
    count: int
    torn: bytes = field(repr=False)
    unprotected: int
    restarted: bool


def resume(tail: bytes, *, whole: bool, keys: AuditKeys | None) -> Resumption:
    """
    Follow the records from the last checkpoint in *tail* to its end; *whole* says that *tail* is the whole file.

    With *keys* only a checkpoint that is authentic under them is gone on from: whoever can write the file while
    no broker runs could otherwise make up its history, end it with a checkpoint without a key, and have us seal
    it. What comes after the last authentic one is counted as unprotected, however many other checkpoints are in
    it. So a key that was replaced shows as one ``recovered`` record.
    """
    complete, _, torn = tail.rpartition(b"\n")
    lines = [line + b"\n" for line in complete.split(b"\n")] if complete else []
    if not whole:
        del lines[:1]
    start = _last_checkpoint(lines, keys)
    if start is None and not whole:
        return _restart(lines, torn)
    at = Position() if start is None else Position(count=1)
    unprotected = -1 if start is not None else 0
    damage: tuple[Damage, ...] = ()
    for index in range(start or 0, len(lines)):
        following = lines[index + 1] if index + 1 < len(lines) else None
        counted = at.seq
        at, found = step(at, lines[index], following, keys)
        damage += found
        unprotected += at.seq != counted
    if damage or at.seq is None or at.head is None or at.seq >= MAX_SEQ:
        return _restart(lines, torn)
    return Resumption(seq=at.seq, head=at.head, count=at.count, torn=torn, unprotected=unprotected, restarted=False)


def _last_checkpoint(lines: list[bytes], keys: AuditKeys | None) -> int | None:
    for index in range(len(lines) - 1, -1, -1):
        if b'"checkpoint"' in lines[index]:
            record = parse(lines[index])
            if (
                record is not None
                and record.event == "checkpoint"
                and (keys is None or (record.text("key") == keys.identifier and is_authentic(lines[index], keys)))
            ):
                return index
    return None


def _restart(lines: list[bytes], torn: bytes) -> Resumption:
    """Begin anew after the highest sequence number in sight, so that numbers go on growing."""
    numbers = [record.seq for line in lines if (record := parse(line)) is not None and record.seq < MAX_SEQ]
    return Resumption(
        seq=max(numbers, default=0), head=None, count=0, torn=torn, unprotected=len(numbers), restarted=True
    )
