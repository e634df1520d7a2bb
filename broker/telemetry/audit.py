"""
The audit log: every record is in the file before ``write`` returns (rules.md R9).

What happens when it cannot be is the operator's choice: ``refuse`` keeps a token from being served without
its record, ``serve`` goes on. Either way the loss is a gap that is alarmed when it opens and when it closes, and
the file itself says how many records are missing. Every later write, and every ``checkpoint``, tries again.

Blocking, but only for the time of one write(2) to the page cache, which is what a record before an answer costs.
Not for use from several threads.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from broker.errors import LocalError
from broker.events import (
    AuditGap,
    AuditOpened,
    AuditRecovered,
    AuditReopenFailed,
    AuditUnavailableError,
    Emit,
    Event,
    TokenServed,
    one_by_one,
)
from broker.telemetry.audit_file import AppendFailedError, AuditFile, Disk, SystemDisk, open_file
from broker.telemetry.audit_format import (
    CHECKPOINT_EVERY,
    FORMAT,
    ZERO_HEAD,
    AuditKeys,
    Primitive,
    advance,
    encode,
    encode_checkpoint,
    members_of,
    parse,
)
from broker.telemetry.audit_lines import Lines
from broker.telemetry.audit_resume import resume
from broker.tokens.ports import Clock, Randomness

LOG_ID_BYTES = 9
"""Random bytes of a log's identifier: 12 characters that tell logs apart, no secret."""

EPHEMERAL_KEY_BYTES = 32
"""Random bytes of the fingerprint key of a log without a key: fingerprints are comparable within one process."""

MIN_KEY_BYTES = 32
"""Bytes of an audit key: the strength of HMAC-SHA256, so that it cannot be found by trying."""

FINGERPRINT_LENGTH = 16
"""Hexadecimal characters (64 bits): enough to tell tokens apart, useless to search for one without the key."""

PATH_LOOK_INTERVAL = 5.0
"""Seconds between two looks whether the path still leads to our file; logrotate sends SIGHUP within less."""

SYSTEM_DISK = SystemDisk()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gap:
    """Records that are not in the file: *lost* happened unrecorded, *refused* did not happen for want of a record."""

    reason: str
    lost: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recovery:
    """What a ``recovered`` record has to say."""

    torn_bytes: int = 0
    unprotected: int = 0
    restarted: bool = False


class AuditLog:
    """
    An open audit log; made by ``open_audit``.

    *healthy* is False while records cannot be written.
    """

    def __init__(
        self, file: AuditFile, *, keys: AuditKeys | None, refuse: bool, clock: Clock, randomness: Randomness, emit: Emit
    ) -> None:
        self.refuses = refuse
        self._file = file
        self._keys = keys
        self._clock = clock
        self._emit = emit
        self._fingerprint_key = keys.fingerprint if keys else randomness.token(EPHEMERAL_KEY_BYTES).encode()
        self._log = randomness.token(LOG_ID_BYTES)
        self._seq = 0
        self._head = ZERO_HEAD
        self._count = 0
        self._since_checkpoint = 0
        self._gap: _Gap | None = None
        self._recovery: _Recovery | None = None
        self._removed = False
        self._elsewhere = False
        self._stuck = False
        self._look_at_path_after = clock.boot() + PATH_LOOK_INTERVAL
        self._closed = False
        self._lines = Lines()

    @property
    def takes_records(self) -> bool:
        """Say whether what may not happen unrecorded may be begun."""
        return self.healthy or not self.refuses

    @property
    def healthy(self) -> bool:
        """Say whether the last attempt to write succeeded."""
        return self._gap is None

    def fingerprint(self, secret: str) -> str:
        """Give a keyed digest of *secret* for logs and records: 16 hexadecimal characters."""
        digest = hmac.digest(self._fingerprint_key, secret.encode("utf-8", "surrogatepass"), "sha256")
        return digest.hex()[:FINGERPRINT_LENGTH]

    def write(self, event: Event) -> None:
        """Record *event*. Raises AuditUnavailableError for one that must not go unrecorded."""
        try:
            if event.indispensable:
                self._look_after_file()  # a record in a file that is gone would be no record
            self._prepare()
            self._put(event.name, members_of(event))
        except AppendFailedError as failure:
            refused = self.refuses and event.indispensable
            if refused:
                self._failed(failure.reason, refused=1)
                raise AuditUnavailableError from None
            self._failed(failure.reason, lost=1)
            return
        if self._since_checkpoint >= CHECKPOINT_EVERY:
            self.checkpoint()

    def write_all(self, served: Sequence[tuple[TokenServed, int | None]]) -> Collection[int]:
        """
        Record several events by one write: see ``EmitServed``.

        What cannot be written together is written one by one, so that as few as possible are lost.
        """
        if self._since_checkpoint + len(served) > CHECKPOINT_EVERY:
            self.checkpoint()
        before = self._seq
        try:
            self._look_after_file()
            self._prepare()
            before = self._seq
            self._append_all(served)
        except AppendFailedError:
            done = self._seq - before
            return [done + place for place in one_by_one(self.write)(served[done:])]
        return ()

    def checkpoint(self) -> None:
        """
        Seal what was written since the last checkpoint, if anything was; try to close a gap.

        To be called every second. Also notices a file that somebody removed or truncated, and goes on in a
        new one.
        """
        try:
            self._look_after_file()
            self._prepare()
            self._seal()
        except AppendFailedError as failure:
            self._failed(failure.reason)

    def _seal(self) -> None:
        """Write a checkpoint, if there is anything to seal. Raises AppendFailedError."""
        if self._since_checkpoint:
            checkpoint = encode_checkpoint(
                self._seq + 1, self._clock.wall(), count=self._count, head=self._head, keys=self._keys
            )
            self._append(checkpoint)
            self._since_checkpoint = 0

    def reopen(self) -> None:
        """
        Go on in a new file if the path no longer leads to the old one (logrotate), else only write a checkpoint.

        If the new file cannot be opened that is reported, and the old one is written to as before.
        """
        self.checkpoint()
        self._stuck = False  # whoever asks is told, again if need be
        if not self._file.is_current() and self._go_on_at_path():
            self.checkpoint()

    def close(self) -> None:
        """Write the last checkpoint and close the file. A gap that is still open is reported once more."""
        if self._closed:
            return
        self._closed = True
        self.checkpoint()
        self._retire_file()
        if self._gap is not None:
            self._emit(AuditGap(lost=self._gap.lost, closed=False, reason=self._gap.reason))

    # --- records ---

    def _append_all(self, served: Sequence[tuple[TokenServed, int | None]]) -> None:
        """Write the lines of *served* by one call, and count those that are in the file. Raises AppendFailedError."""
        lines = self._lines.lines(self._seq + 1, self._clock.wall(), served)
        try:
            self._file.append(b"".join(lines))
        except AppendFailedError:
            whole = []
            for line in lines:  # what could not be cut off again may begin with some that are whole
                if not self._file.fragment.startswith(line):
                    break
                self._file.fragment = self._file.fragment[len(line) :]
                whole.append(line)
            self._count_in(whole)
            raise
        self._count_in(lines)

    def _put(self, event: str, members: dict[str, Primitive]) -> None:
        self._append(encode(self._seq + 1, self._clock.wall(), event, members))

    def _append(self, line: bytes) -> None:
        """Write a line and, only when it is in the file, count it."""
        self._file.append(line)
        self._count_in((line,))

    def _count_in(self, lines: Sequence[bytes]) -> None:
        self._seq += len(lines)
        self._count += len(lines)
        self._since_checkpoint += len(lines)
        self._head = advance(self._head, *lines)

    def _prepare(self) -> None:
        """Write what has to stand before the next record, each step once. Raises AppendFailedError."""
        if self._removed:
            self._replace_removed()
        if self._file.fragment:
            self._close_fragment()
        if self._file.length == 0:
            self._count = 0
            self._put("opened", {"format": FORMAT, "log": self._log, "previous": self._head.hex()})
        if self._recovery is not None:
            self._put_recovered(self._recovery)
        if self._gap is not None:
            self._close_gap(self._gap)

    def _close_fragment(self) -> None:
        """End the torn line, so that it is a line; it belongs to the hash and is no record."""
        torn = self._file.fragment
        self._file.append(b"\n")
        self._file.fragment = b""
        self._head = advance(self._head, torn + b"\n")
        self._recovery = replace(self._recovery or _Recovery(), torn_bytes=len(torn))

    def _put_recovered(self, recovery: _Recovery) -> None:
        if recovery.restarted:
            self._head, self._count = ZERO_HEAD, 0
        self._put(
            "recovered",
            {
                "torn_bytes": recovery.torn_bytes,
                "unprotected": recovery.unprotected,
                "chain": "restarted" if recovery.restarted else "continued",
            },
        )
        self._recovery = None

    # --- gaps ---

    def _failed(self, reason: str, *, lost: int = 0, refused: int = 0) -> None:
        """Open a gap, or widen the open one."""
        gap = self._gap
        if gap is None:
            self._gap = _Gap(reason=reason, lost=lost, refused=refused)
            self._emit(AuditGap(lost=lost, closed=False, reason=reason))
        else:
            self._gap = replace(gap, lost=gap.lost + lost, refused=gap.refused + refused)

    def _close_gap(self, gap: _Gap) -> None:
        self._put("gap", {"lost": gap.lost, "refused": gap.refused, "reason": gap.reason})
        self._gap = None
        self._emit(AuditGap(lost=gap.lost, closed=True, reason=gap.reason))

    # --- files ---

    def start(self) -> None:
        """Continue what is in the file, or begin it; once, before anything is written."""
        if self._file.length:
            self._continue()
        try:
            self._prepare()
        except AppendFailedError as failure:
            self._failed(failure.reason)
        self._emit(AuditOpened(path=str(self._file.path), seq=self._seq, authenticated=self._keys is not None))

    def _continue(self) -> None:
        """Take over the end of a file that an earlier process wrote."""
        tail, whole = self._file.tail()
        found = resume(tail, whole=whole, keys=self._keys)
        first = parse(self._file.first_line())
        self._log = (first and first.text("log")) or self._log
        self._seq, self._count = found.seq, found.count
        self._head = found.head or ZERO_HEAD
        self._file.fragment = found.torn
        if found.restarted or found.unprotected or found.torn:
            self._owe_recovery(found.torn, found.unprotected, restarted=found.restarted)

    def _owe_recovery(self, torn: bytes, unprotected: int, *, restarted: bool) -> None:
        self._recovery = _Recovery(torn_bytes=len(torn), unprotected=unprotected, restarted=restarted)
        self._emit(
            AuditRecovered(
                path=str(self._file.path), torn_bytes=len(torn), unprotected=unprotected, restarted=restarted
            )
        )

    def _look_after_file(self) -> None:
        """Notice that the file was removed or cut under us."""
        if self._removed:
            return
        damage = self._file.damage()
        if damage is None:
            if self._clock.boot() >= self._look_at_path_after:
                self._follow_path()
        elif damage == "removed":
            self._removed = True
            self._failed("removed", lost=self._count)
        else:
            self._failed("cut", lost=self._count)
            self._adopt()

    def _follow_path(self) -> None:
        """
        Go on in a new file when the path has led elsewhere for a while, as if SIGHUP had not been forgotten.

        Raises AppendFailedError if the old file cannot be sealed.
        """
        self._look_at_path_after = self._clock.boot() + PATH_LOOK_INTERVAL
        if self._file.is_current():
            self._elsewhere = False
        elif not self._elsewhere:
            self._elsewhere = True
        else:
            self._elsewhere = False
            self._seal()
            self._go_on_at_path()

    def _adopt(self) -> None:
        """Go on in a file with contents that are not what we wrote: under our own numbers, with a new chain."""
        if self._file.length:
            tail, _ = self._file.tail()
            self._file.fragment = tail.rpartition(b"\n")[2]
            self._owe_recovery(self._file.fragment, 0, restarted=True)

    def _go_on_at_path(self) -> bool:
        """Leave the old file for the one at the path, or go on in the old one and say why, once an outage."""
        try:
            self._replace_file()
        except LocalError as error:
            if not self._stuck:
                self._stuck = True
                self._emit(AuditReopenFailed(path=str(self._file.path), reason=error.code, hint=error.hint))
            return False
        return True

    def _replace_removed(self) -> None:
        try:
            self._replace_file()
        except LocalError:
            raise AppendFailedError("removed") from None

    def _replace_file(self) -> None:
        """Open the path anew and leave the old file. Raises LocalError, and then nothing has changed."""
        new = open_file(self._file.path, disk=self._file.disk)
        self._retire_file()
        self._file, self._removed, self._stuck, self._count = new, False, False, 0
        self._adopt()
        self._emit(AuditOpened(path=str(new.path), seq=self._seq, authenticated=self._keys is not None))

    def _retire_file(self) -> None:
        try:
            self._file.sync()
        except AppendFailedError as failure:
            self._failed(failure.reason)
        self._file.close()


def checked_key(key: bytes, name: str = "the audit key") -> bytes:
    """Give *key* back if it is long enough. Raises LocalError ``audit_key_short``, which calls it *name*."""
    if len(key) < MIN_KEY_BYTES:
        raise LocalError(
            "audit_key_short",
            f"{name} is too short for an audit key: {len(key)} byte(s)",
            hint=f"at least {MIN_KEY_BYTES} random ones: token-broker keygen audit FILE",
        )
    return key


def open_audit(
    path: Path,
    *,
    key: bytes | None,
    on_failure: str,
    clock: Clock,
    randomness: Randomness,
    emit: Emit,
    disk: Disk = SYSTEM_DISK,
) -> AuditLog:
    """
    Open or create the audit log at *path*, and continue its chain.

    *key* authenticates checkpoints and fingerprints; without it the log is only consistent. *on_failure* is
    ``serve`` or ``refuse``. *emit* gets the log's own events and must not lead back to this log. Raises
    LocalError if the file cannot be opened safely (a link, another's, writable by others, in use); a full disk
    is a gap, not an error.
    """
    keys = None if key is None else AuditKeys.derive(checked_key(key))
    file = open_file(path, disk=disk)
    log = AuditLog(file, keys=keys, refuse=on_failure != "serve", clock=clock, randomness=randomness, emit=emit)
    log.start()
    return log
