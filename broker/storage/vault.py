"""
One store file through its life: opened and judged, written to, replaced when its disk fails or it is damaged.

Synchronous and for one thread at a time; ``sqlite`` gives it a thread. The order of things is what counts
here: a file is never written to after it was found damaged, never synced again after a sync failed, and
removed only when its successor is on the disk.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from broker.errors import LocalError
from broker.events import Event, StoreMovedAside, StoreRecordSuspect, StoreRolledBack
from broker.storage.anchor import Anchor, Mark, contradiction
from broker.storage.database import MAX_LOG_BYTES, Database, Verdict, read_image, verdict_of, write_fresh
from broker.storage.files import Reserve, StoreFile, check_safe, move_aside, remove, store_files
from broker.storage.judging import Judgement, WrongKeyError, judge
from broker.storage.ledger import Ledger, Step
from broker.storage.sealer import MAC_BYTES, STORE_ID_BYTES, Sealer
from broker.storage.troubles import FULL, reason_of, unavailable, wrong_key
from broker.storage.values import Contents, Image
from broker.tokens.storing import Change, StoredRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """What is done to files, so that tests can let it fail."""

    read: Callable[[StoreFile], Image] = read_image
    fresh: Callable[[StoreFile, Contents], None] = write_fresh
    open: Callable[[StoreFile], Database] = Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """
    Where a store is and what it is opened with.

    *directory* is held by this process alone (``hostenv.state_dir``); *anchor* is a path on another volume or
    None; *wall* gives Unix time, for the names of files that are moved aside.
    """

    directory: Path
    sealer: Sealer
    anchor: Path | None = None
    wall: Callable[[], float]
    random_bytes: Callable[[int], bytes] = secrets.token_bytes
    disk: Disk = field(default_factory=Disk)


class Vault:
    """An open store. *happened* collects events until somebody takes them."""

    def __init__(self, place: Place, ledger: Ledger, file: StoreFile, head: bytes) -> None:
        self.rolled_back = False
        self.anchor_behind = False
        self.happened: list[Event] = []
        self._place = place
        self._ledger = ledger
        self._file = file
        self._head = head
        self._database: Database | None = None
        self._left: Database | None = None
        self._damaged = False
        self._anchor = Anchor(place.anchor, place.sealer) if place.anchor is not None else None
        self._reserve = Reserve(place.directory)

    def __len__(self) -> int:
        return len(self._ledger)

    @property
    def writable(self) -> bool:
        """Say whether there is a file that can be written to."""
        return self._database is not None

    def records(self, kind: str = "") -> Iterator[StoredRecord]:
        """Open every record whose name begins with *kind*."""
        return (StoredRecord(name=name, value=value, suspect=odd) for name, value, odd in self._ledger.values(kind))

    def commit(self, changes: Sequence[Change]) -> None:
        """
        Make *changes* durable, in one transaction; without any, show that it would work.

        Raises LocalError ``store_unavailable``.
        """
        step = self._ledger.step(changes, anchored=self._anchor is not None)
        try:
            self._persist(step)
        except (sqlite3.Error, OSError) as error:
            raise unavailable(self._place.directory, error) from error
        self._ledger.take(step)
        self._head = step.sealed_head
        self._keep_anchor()

    def hold_reserve(self) -> None:
        """See to it that the next commit succeeds even if the disk becomes full. Raises ``store_unavailable``."""
        try:
            try:
                self._reserve.hold()
            except OSError:
                self._shorten_log()  # it may be what takes the space
                self._reserve.hold()
        except OSError as error:
            raise unavailable(self._place.directory, error) from error

    def tidy(self) -> None:
        """Write the log into the file if it has become large; what goes wrong there concerns the next commit."""
        if self._file.log_bytes() > MAX_LOG_BYTES:
            self._shorten_log()

    def rekey(self, sealer: Sealer) -> None:
        """
        Seal everything with another key.

        Raises LocalError ``store_key_same``, or ``store_unavailable``: one of the keys is good.
        """
        if self._ledger.is_sealed_with(sealer):
            hint = "make another one: token-broker keygen store FILE"
            raise LocalError("store_key_same", "the new key of the store is the one that it has", hint=hint)
        ledger = self._ledger.resealed(sealer)
        step = ledger.step((), anchored=self._anchor is not None)
        database = self._database
        if database is None:
            raise unavailable(self._place.directory, OSError())
        try:
            database.replace(ledger.contents_after(step))
            ledger.take(step)
            self._ledger, self._head = ledger, step.sealed_head
            database.checkpoint()
        except sqlite3.Error as error:
            self._leave_if_lost(error)
            raise unavailable(self._place.directory, error) from error
        if self._anchor is not None:
            self._anchor = self._anchor.under(sealer)
            self._keep_anchor()

    def accept(self) -> None:
        """Take the store as it is for the newest. Raises LocalError ``store_anchor_failed``."""
        self.rolled_back = False
        self._keep_anchor()
        if self.anchor_behind:
            raise LocalError(
                "store_anchor_failed", "the anchor of the store cannot be written", hint="see its directory"
            )

    def close(self) -> None:
        """Let go of the files; twice does no harm."""
        for database in (self._database, self._left):
            if database is not None:
                with contextlib.suppress(sqlite3.Error):  # everything acknowledged is in the file or its log
                    database.close()
        self._database = self._left = None

    # --- opening ---

    def begin(self, judgement: Judgement) -> None:
        """Put a file to use that was there: as it is, or replaced by one with what can be believed of it."""
        self.happened += [
            StoreRecordSuspect(record=found.name, fault=found.fault.value, kept=found.kept)
            for found in judgement.findings
        ]
        self._look_at_anchor(was_anchored=judgement.was_anchored(anchor=self._anchor is not None))
        if judgement.whole:
            with contextlib.suppress(sqlite3.Error):  # the first commit tries again, with a new file
                self._database = self._place.disk.open(self._file)
            return
        self.replace_damaged()

    def replace_damaged(self) -> None:
        """Write what is believed to a new file and move the damaged one aside; if that fails, at the next commit."""
        self._damaged = True
        with contextlib.suppress(LocalError):
            self.commit(())

    def _look_at_anchor(self, *, was_anchored: bool) -> None:
        if self._anchor is None:
            return
        mark, present = self._anchor.read()
        empty = not len(self._ledger)  # there is nothing that an older copy could give back
        found = contradiction(mark, present=present, was_anchored=was_anchored, now=self._mark())
        self.rolled_back = found is not None and not empty
        if self.rolled_back and found is not None:
            number = mark.counter if mark else None
            self.happened.append(StoreRolledBack(reason=found.value, counter=self._ledger.counter, anchor=number))

    # --- writing ---

    def _shorten_log(self) -> None:
        if self._database is not None:
            try:
                self._database.checkpoint()
            except sqlite3.Error as error:
                self._leave_if_lost(error)

    def _persist(self, step: Step) -> None:
        if self._database is not None:
            try:
                self._apply(self._database, step)
            except sqlite3.Error as error:
                if not self._leave_if_lost(error):
                    raise
            else:
                return
        self._renew(step)

    def _apply(self, database: Database, step: Step) -> None:
        try:
            database.apply(step)
        except sqlite3.Error as error:
            if not self._made_room(step, error):
                raise
            database.apply(step)

    def _made_room(self, step: Step, error: sqlite3.Error | OSError) -> bool:
        """Give the reserve up for *step*, if a full disk is what it failed from; a mere proof is not worth it."""
        return bool(step.put or step.gone) and reason_of(error) == FULL and self._reserve.give_up()

    def _leave_if_lost(self, error: sqlite3.Error) -> bool:
        """Never touch the file again if *error* says that it cannot be relied on; say whether that is so."""
        verdict = verdict_of(error)
        if verdict is Verdict.REFUSED:
            return False
        self._damaged = self._damaged or verdict is Verdict.DAMAGED
        self._left, self._database = self._database, None
        return True

    def _renew(self, step: Step) -> None:
        """Write everything to a new file, and only then part with the old one."""
        old, new = self._file, self._file.next()
        contents = self._ledger.contents_after(step)
        try:
            self._place.disk.fresh(new, contents)
        except (sqlite3.Error, OSError) as error:
            if not self._made_room(step, error):
                raise
            self._place.disk.fresh(new, contents)
        self._file = new
        self._part_with(old)
        with contextlib.suppress(sqlite3.Error):  # it is durable; the next commit makes another file
            self._database = self._place.disk.open(new)

    def _part_with(self, old: StoreFile) -> None:
        """Move a damaged file aside, remove one that is merely out of date."""
        with contextlib.suppress(OSError):  # what is left over is moved aside at the next start
            if self._damaged:
                aside = move_aside(old, wall_now=self._place.wall())
                self.happened.append(StoreMovedAside(path=str(aside), records=len(self._ledger)))
            else:
                remove(old)
        self._damaged = False
        if self._left is not None:
            with contextlib.suppress(sqlite3.Error):
                self._left.close()  # its name is gone by now, so that SQLite syncs nothing
            self._left = None

    def _keep_anchor(self) -> None:
        if self._anchor is None or self.rolled_back:
            return
        try:
            self._anchor.write(self._mark())
            self.anchor_behind = False
        except OSError:
            self.anchor_behind = True

    def _mark(self) -> Mark:
        return Mark(
            store=self._ledger.store, counter=self._ledger.counter, head=self._head[-MAC_BYTES:].rjust(MAC_BYTES, b"\0")
        )


def open_vault(place: Place) -> Vault:
    """
    Open the store in *place*, or make one.

    Raises LocalError: ``store_key_wrong``, ``store_unsafe``, or ``store_unavailable`` where there is no store
    and none can be made, or what is there cannot even be looked at. Nothing is changed then.
    """
    try:
        files = store_files(place.directory)
        for file in files:
            check_safe(file)
        if not files:
            return _made(place)
        image = place.disk.read(files[-1])
    except (sqlite3.Error, OSError) as error:
        if isinstance(error, OSError) or verdict_of(error) is Verdict.REFUSED:
            raise unavailable(place.directory, error) from error
        image = Image(identities=(), rows=(), listings={}, head=None, whole=False)
    vault = _judged(place, files[-1], image)
    for leftover in files[:-1]:  # of a crash between writing a file and parting with the one before
        with contextlib.suppress(OSError):
            aside = move_aside(leftover, wall_now=place.wall())
            vault.happened.append(StoreMovedAside(path=str(aside), records=len(vault)))
    return vault


def _made(place: Place) -> Vault:
    vault = _empty(place, StoreFile(place.directory, 0))
    vault.hold_reserve()
    vault.commit(())
    return vault


def _empty(place: Place, file: StoreFile) -> Vault:
    store = place.random_bytes(STORE_ID_BYTES)
    return Vault(place, Ledger(store=store, sealer=place.sealer, counter=0, entries={}), file, b"")


def _judged(place: Place, file: StoreFile, image: Image) -> Vault:
    try:
        judgement = judge(image, place.sealer)
    except WrongKeyError:
        raise wrong_key(file.path) from None
    if judgement is None:
        vault = _empty(place, file)
        vault.replace_damaged()
        return vault
    vault = Vault(place, judgement.ledger, file, judgement.sealed_head)
    vault.begin(judgement)
    return vault
