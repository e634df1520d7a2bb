"""A store survives what happens to its file, in the right order: first the new one, then the old one goes."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from broker.errors import LocalError
from broker.events import StoreMovedAside, StoreRecordSuspect, StoreRolledBack
from broker.storage.database import Database, read_image, write_fresh
from broker.storage.files import Reserve, StoreFile
from broker.storage.ledger import Step
from broker.storage.values import Contents, Image
from broker.storage.vault import Disk, Place, Vault, open_vault
from broker.tokens.storing import Delete
from tests.unit.storage.places import KEY, OTHER_KEY, contents, good, place, put, read, write


def names(where: Place) -> set[str]:
    return {path.name for path in where.directory.iterdir()} - {"store.reserve"}


def sqlite_error(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("scripted")
    error.sqlite_errorcode = code
    return error


class Faults:
    """A disk that fails as it is told: each list has what the next calls raise, None for one that succeeds."""

    def __init__(self) -> None:
        self.apply: list[Exception | None] = []
        self.after_apply: list[Exception | None] = []
        self.checkpoint: list[Exception | None] = []
        self.fresh: list[Exception | None] = []
        self.open: list[Exception | None] = []
        self.read: list[Exception | None] = []
        self.applied = 0

    def disk(self) -> Disk:
        return Disk(read=self._read, fresh=self._fresh, open=self._open)

    def raise_next(self, script: list[Exception | None]) -> None:
        if script and (error := script.pop(0)) is not None:
            raise error

    def _read(self, file: StoreFile) -> Image:
        self.raise_next(self.read)
        return read_image(file)

    def _fresh(self, file: StoreFile, content: Contents) -> None:
        self.raise_next(self.fresh)
        write_fresh(file, content)

    def _open(self, file: StoreFile) -> Database:
        self.raise_next(self.open)
        return _FaultyDatabase(file, self)


class _FaultyDatabase(Database):
    def __init__(self, file: StoreFile, faults: Faults) -> None:
        super().__init__(file)
        self._faults = faults

    def apply(self, step: Step) -> None:
        self._faults.applied += 1
        self._faults.raise_next(self._faults.apply)
        super().apply(step)
        self._faults.raise_next(self._faults.after_apply)

    def checkpoint(self) -> None:
        self._faults.raise_next(self._faults.checkpoint)
        super().checkpoint()


def refused(work: Callable[[], None]) -> str:
    with pytest.raises(LocalError) as caught:
        work()
    return caught.value.code


def writable(vault: Vault) -> bool:
    return vault.writable


def rolled_back(vault: Vault) -> bool:
    return vault.rolled_back


# --- opening ---


def test_what_was_committed_is_there_at_the_next_start(tmp_path: Path):
    """After a close, and after a crash that left everything as it was."""
    where = place(tmp_path / "state")
    vault = open_vault(where)
    vault.commit([put("grant/a", "1"), put("grant/b", "1")])
    vault.commit([put("grant/a", "2"), Delete(name="grant/b")])
    shutil.copytree(tmp_path / "state", tmp_path / "crashed")
    vault.close()
    vault.close()

    assert read(where) == read(place(tmp_path / "crashed")) == good(a="2")
    assert names(where) == {"store.1.db"}
    assert (where.directory / "store.1.db").stat().st_mode & 0o777 == 0o600


def test_a_wrong_key_changes_nothing(tmp_path: Path):
    """The file, and a log beside it as of a crash, stay byte for byte; the right key opens it."""
    where = place(tmp_path / "state")
    vault = open_vault(where)
    vault.commit([put("grant/a", "1")])
    crashed = tmp_path / "crashed"
    shutil.copytree(where.directory, crashed)
    vault.close()
    before = {path.name: path.read_bytes() for path in crashed.iterdir()}

    code = refused(lambda: open_vault(place(crashed, sealer=OTHER_KEY)).close())

    assert code == "store_key_wrong"
    assert {path.name: path.read_bytes() for path in crashed.iterdir()} == before
    assert read(place(crashed)) == good(a="1")


@pytest.mark.parametrize("content", [b"", b"x" * 10_000, b"SQLite format 3\0" + bytes(5_000)])
def test_an_unreadable_file_is_kept_and_another_one_is_used(tmp_path: Path, content: bytes):
    """The broker starts, with nothing; and a restart finds what was written since."""
    where = place(tmp_path / "state")
    (where.directory / "store.3.db").write_bytes(content)
    (where.directory / "store.3.db").chmod(0o600)

    vault = open_vault(where)

    aside = where.directory / "damaged-20260921T141320Z-store.3.db"
    assert vault.happened == [StoreMovedAside(path=str(aside), records=0)]
    assert aside.read_bytes() == content
    assert contents(vault) == {}
    vault.commit([put("grant/a", "1")])
    vault.close()
    assert read(where) == good(a="1")
    assert names(where) == {aside.name, "store.4.db"}


def test_a_tampered_record_is_suspect_and_the_file_is_kept(tmp_path: Path):
    """An old row put back into the table: the others live on, and a restart remembers the suspicion."""
    where = place(tmp_path / "state")
    write(where, [put("grant/a", "1"), put("grant/b", "1")])
    old = sqlite3.connect(where.directory / "store.1.db").execute("SELECT * FROM record WHERE name = 'grant/a'")
    row = old.fetchone()
    old.connection.close()
    write(where, [put("grant/a", "2")])
    connection = sqlite3.connect(where.directory / "store.1.db", isolation_level=None)
    connection.execute("INSERT OR REPLACE INTO record VALUES (?, ?, ?, ?)", row)
    connection.close()

    vault = open_vault(where)

    kept = {"grant/a": (b"1", True), "grant/b": (b"1", False)}
    assert contents(vault) == kept
    aside = where.directory / "damaged-20260921T141320Z-store.1.db"
    assert vault.happened == [
        StoreRecordSuspect(record="grant/a", fault="older", kept=True),
        StoreMovedAside(path=str(aside), records=2),
    ]
    vault.close()
    assert read(where) == kept
    assert names(where) == {aside.name, "store.2.db"}


@pytest.mark.parametrize("code", [sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR_READ])
def test_a_file_that_cannot_be_read_at_all_is_moved_aside(tmp_path: Path, code: int):
    """Whether it is no database or the disk fails."""
    where = place(tmp_path / "state")
    write(where, [put("grant/a", "1")])
    faults = Faults()
    faults.read = [sqlite_error(code)]

    assert read(replace(where, disk=faults.disk())) == {}
    assert names(where) == {"damaged-20260921T141320Z-store.1.db", "store.2.db"}


@pytest.mark.parametrize("error", [sqlite_error(sqlite3.SQLITE_BUSY), OSError(13, "Permission denied")])
def test_a_file_that_may_not_be_read_now_is_left_alone(tmp_path: Path, error: Exception):
    """It is in order, for all we know."""
    where = place(tmp_path / "state")
    write(where, [put("grant/a", "1")])
    faults = Faults()
    faults.read = [error]

    assert refused(lambda: open_vault(replace(where, disk=faults.disk())).close()) == "store_unavailable"
    assert read(where) == good(a="1")
    assert names(where) == {"store.1.db"}


def test_a_store_that_cannot_be_made_is_refused(tmp_path: Path):
    """At the first start somebody is looking."""
    faults = Faults()
    faults.fresh = [OSError(28, "full"), sqlite_error(sqlite3.SQLITE_FULL)]
    where = place(tmp_path / "state", disk=faults.disk())

    assert refused(lambda: open_vault(where).close()) == "store_unavailable"
    assert refused(lambda: open_vault(where).close()) == "store_unavailable"
    assert names(where) == set()
    assert refused(lambda: open_vault(replace(where, directory=tmp_path / "missing")).close()) == "store_unavailable"


def test_a_damaged_file_stays_until_there_is_another(tmp_path: Path):
    """With a full disk the broker starts, serves what it could read, and goes on by itself later."""
    where = place(tmp_path / "state")
    write(where, [put("grant/a", "1")])
    with (where.directory / "store.1.db").open("ab") as file:
        file.write(b"more")
    faults = Faults()
    faults.fresh = [sqlite_error(sqlite3.SQLITE_FULL)]
    connection = sqlite3.connect(where.directory / "store.1.db", isolation_level=None)
    connection.execute("UPDATE record SET generation = 0")
    connection.close()

    vault = open_vault(replace(where, disk=faults.disk()))

    assert contents(vault) == {"grant/a": (b"1", True)}
    assert not writable(vault)
    assert names(where) == {"store.1.db"}
    vault.commit([put("grant/a", "2")])
    assert writable(vault)
    vault.close()
    assert read(where) == good(a="2")
    assert names(where) == {"damaged-20260921T141320Z-store.1.db", "store.2.db"}


def test_what_a_crash_left_beside_the_newest_file_is_moved_aside(tmp_path: Path):
    """It has been replaced, but it is not for us to throw away."""
    where = place(tmp_path / "state")
    write(where, [put("grant/a", "old")])
    shutil.copy(where.directory / "store.1.db", where.directory / "store.0.copy")
    faults = Faults()
    vault = open_vault(replace(where, disk=faults.disk()))
    faults.apply = [sqlite_error(sqlite3.SQLITE_IOERR_FSYNC)]
    vault.commit([put("grant/a", "new")])
    vault.close()
    (where.directory / "store.0.copy").rename(where.directory / "store.1.db")

    vault = open_vault(where)

    assert contents(vault) == good(a="new")
    assert [type(event) for event in vault.happened] == [StoreMovedAside]
    vault.close()
    assert names(where) == {"damaged-20260921T141320Z-store.1.db", "store.2.db"}


def test_a_file_that_is_open_to_others_is_refused(tmp_path: Path):
    """And left as it is."""
    where = place(tmp_path / "state")
    write(where, [put("grant/a", "1")])
    (where.directory / "store.1.db").chmod(0o644)

    assert refused(lambda: open_vault(where).close()) == "store_unsafe"


def test_a_good_file_that_cannot_be_opened_for_writing_is_served(tmp_path: Path):
    """The next write makes another one."""
    where = place(tmp_path / "state")
    write(where, [put("grant/a", "1")])
    faults = Faults()
    faults.open = [sqlite_error(sqlite3.SQLITE_CANTOPEN)]

    vault = open_vault(replace(where, disk=faults.disk()))

    assert not writable(vault)
    assert contents(vault) == good(a="1")
    vault.commit([put("grant/b", "2")])
    vault.close()
    assert read(where) == good(a="1", b="2")
    assert names(where) == {"store.2.db"}


# --- writing ---


@pytest.mark.parametrize("late", [False, True])
def test_after_a_failed_sync_everything_goes_to_a_new_file(tmp_path: Path, late: bool):
    """The change that failed too; the old file is not written to again, and gone when the new one is there."""
    faults = Faults()
    where = place(tmp_path / "state", disk=faults.disk())
    vault = open_vault(where)
    vault.commit([put("grant/a", "1"), put("grant/b", "1")])
    applied = faults.applied
    (faults.after_apply if late else faults.apply).append(sqlite_error(sqlite3.SQLITE_IOERR_FSYNC))

    vault.commit([put("grant/a", "2"), Delete(name="grant/b")])

    assert faults.applied == applied + 1
    assert contents(vault) == good(a="2")
    assert {name for name in names(where) if not name.endswith("-wal")} == {"store.2.db"}
    vault.commit([put("grant/c", "3")])
    vault.close()
    assert read(where) == good(a="2", c="3")


def test_while_no_new_file_can_be_written_nothing_is_acknowledged(tmp_path: Path):
    """Each attempt begins a new file; the first that succeeds has everything."""
    faults = Faults()
    where = place(tmp_path / "state", disk=faults.disk())
    vault = open_vault(where)
    vault.commit([put("grant/a", "1")])
    faults.apply = [sqlite_error(sqlite3.SQLITE_IOERR_FSYNC)]
    faults.fresh = [OSError(5, "Input/output error"), sqlite_error(sqlite3.SQLITE_IOERR_WRITE)]
    applied = faults.applied

    assert refused(lambda: vault.commit([put("grant/a", "2")])) == "store_unavailable"
    assert refused(lambda: vault.commit([put("grant/a", "2")])) == "store_unavailable"
    assert contents(vault) == good(a="1")
    vault.commit([put("grant/a", "2")])

    assert faults.applied == applied + 1
    vault.close()
    assert read(where) == good(a="2")


def test_a_file_that_is_damaged_under_us_is_kept(tmp_path: Path):
    """Its successor is written from memory."""
    faults = Faults()
    where = place(tmp_path / "state", disk=faults.disk())
    vault = open_vault(where)
    vault.commit([put("grant/a", "1")])
    faults.apply = [sqlite_error(sqlite3.SQLITE_CORRUPT)]

    vault.commit([put("grant/b", "2")])

    aside = where.directory / "damaged-20260921T141320Z-store.1.db"
    assert vault.happened == [StoreMovedAside(path=str(aside), records=1)]
    assert aside.exists()
    vault.close()
    assert read(where) == good(a="1", b="2")


def test_a_full_disk_takes_what_the_reserve_has_room_for(tmp_path: Path):
    """An answer of a server is written; only then is the store not writable."""
    faults = Faults()
    where = place(tmp_path / "state", disk=faults.disk())
    vault = open_vault(where)
    faults.apply = [sqlite_error(sqlite3.SQLITE_FULL), None, sqlite_error(sqlite3.SQLITE_FULL)]

    vault.commit([put("grant/a", "1")])

    assert not (where.directory / "store.reserve").exists()
    assert refused(lambda: vault.commit([put("grant/a", "2")])) == "store_unavailable"
    assert contents(vault) == good(a="1")
    vault.hold_reserve()
    assert (where.directory / "store.reserve").exists()
    vault.commit([put("grant/a", "3")])
    vault.close()
    assert read(where) == good(a="3")
    assert "store.1.db" in names(where)


def test_a_proof_does_not_use_the_reserve_up(tmp_path: Path):
    """It is for answers."""
    faults = Faults()
    vault = open_vault(place(tmp_path / "state", disk=faults.disk()))
    faults.apply = [sqlite_error(sqlite3.SQLITE_FULL)]

    assert refused(lambda: vault.commit(())) == "store_unavailable"
    assert (tmp_path / "state" / "store.reserve").exists()
    faults.apply = [sqlite_error(sqlite3.SQLITE_IOERR_WRITE)]
    faults.fresh = [sqlite_error(sqlite3.SQLITE_FULL)]
    assert refused(lambda: vault.commit(())) == "store_unavailable"
    assert (tmp_path / "state" / "store.reserve").exists()
    faults.fresh = [sqlite_error(sqlite3.SQLITE_FULL)]
    vault.commit([put("grant/a", "1")])
    assert not (tmp_path / "state" / "store.reserve").exists()
    vault.close()


def test_a_reserve_that_cannot_be_held_says_so(tmp_path: Path):
    """R2: then no refresh token is spent."""
    vault = open_vault(place(tmp_path / "state"))
    (tmp_path / "state" / "store.reserve").unlink()
    (tmp_path / "state" / "store.reserve").mkdir()
    vault._reserve._held = False

    assert refused(vault.hold_reserve) == "store_unavailable"
    vault.close()


def test_the_log_gives_way_to_the_reserve(tmp_path: Path):
    """On a disk that is nearly full the log may have what is missing."""
    where = place(tmp_path / "state")
    write(where)
    vault = open_vault(where)
    vault.commit([put("grant/a", "1")])
    log = where.directory / "store.1.db-wal"
    sizes = []

    def scarce(descriptor: int, at: int, length: int) -> None:
        sizes.append(log.stat().st_size)
        if sizes[-1] > 0:
            raise OSError(28, "No space left on device")

    vault._reserve = Reserve(where.directory, allocate=scarce)
    vault.hold_reserve()

    assert sizes[0] > sizes[1] == 0
    vault.close()


def test_a_new_file_that_cannot_be_opened_is_durable_nevertheless(tmp_path: Path):
    """The next commit makes another."""
    faults = Faults()
    where = place(tmp_path / "state", disk=faults.disk())
    vault = open_vault(where)
    faults.apply = [sqlite_error(sqlite3.SQLITE_IOERR_FSYNC)]
    faults.open = [sqlite_error(sqlite3.SQLITE_IOERR)]

    vault.commit([put("grant/a", "1")])

    assert not writable(vault)
    assert read(place(tmp_path / "state")) == good(a="1")
    vault.commit([put("grant/b", "2")])
    vault.close()
    assert read(where) == good(a="1", b="2")


def test_a_large_log_is_written_back(tmp_path: Path):
    """And one that cannot be is not tried again: the next commit goes to a new file."""
    faults = Faults()
    where = place(tmp_path / "state", disk=faults.disk())
    vault = open_vault(where)
    large = [put(f"grant/{number}", os.urandom(1_000_000)) for number in range(5)]
    vault.commit(large)
    vault.tidy()
    assert (where.directory / "store.1.db-wal").stat().st_size == 0
    vault.tidy()
    vault.commit(large)
    faults.checkpoint = [sqlite_error(sqlite3.SQLITE_FULL)]
    vault.tidy()
    assert writable(vault)
    faults.checkpoint = [sqlite_error(sqlite3.SQLITE_IOERR_FSYNC)]

    vault.tidy()

    assert not writable(vault)
    vault.tidy()
    vault.commit([put("grant/a", "1")])
    vault.close()
    assert len(read(where)) == 6
    assert names(where) == {"store.2.db"}


# --- another key ---


def test_rekeying_leaves_nothing_of_the_old_key(tmp_path: Path):
    """All records under the new one, none of the old ciphertext, and the old key is refused."""
    where = place(tmp_path / "state")
    vault = open_vault(where)
    vault.commit([put("grant/a", "1"), put("grant/b", bytes(9_000))])
    old = [row.sealed[40:80] for row in read_image(StoreFile(copied(where, tmp_path / "copy"), 1)).rows]

    vault.rekey(OTHER_KEY)

    assert contents(vault) == {"grant/a": (b"1", False), "grant/b": (bytes(9_000), False)}
    on_disk = b"".join(path.read_bytes() for path in where.directory.iterdir())
    assert len(old) == 2
    assert not any(part in on_disk for part in old)
    vault.commit([put("grant/c", "3")])
    vault.close()
    assert refused(lambda: open_vault(where).close()) == "store_key_wrong"
    assert set(read(place(tmp_path / "state", sealer=OTHER_KEY))) == {"grant/a", "grant/b", "grant/c"}


def copied(where: Place, to: Path) -> Path:
    shutil.copytree(where.directory, to)
    return to


def test_rekeying_that_fails_leaves_a_store_of_one_key(tmp_path: Path):
    """Not half of each."""
    faults = Faults()
    where = place(tmp_path / "state", disk=faults.disk())
    vault = open_vault(where)
    vault.commit([put("grant/a", "1")])
    faults.checkpoint = [sqlite_error(sqlite3.SQLITE_IOERR_FSYNC)]

    assert refused(lambda: vault.rekey(OTHER_KEY)) == "store_unavailable"
    assert refused(lambda: vault.rekey(KEY)) == "store_unavailable"
    vault.close()
    assert read(place(tmp_path / "state", sealer=OTHER_KEY)) == good(a="1")


# --- the anchor ---


def anchored(tmp_path: Path) -> Place:
    (tmp_path / "elsewhere").mkdir(exist_ok=True)
    return place(tmp_path / "state", anchor=tmp_path / "elsewhere" / "anchor")


def test_an_older_copy_is_found_by_its_anchor(tmp_path: Path):
    """And only so; it stays found over restarts until somebody accepts it."""
    where = anchored(tmp_path)
    write(where, [put("grant/a", "1")])
    copied(where, tmp_path / "old")
    write(where, [put("grant/a", "2")])
    assert read(place(tmp_path / "old")) == good(a="1")
    old = replace(anchored(tmp_path), directory=tmp_path / "old")

    vault = open_vault(old)
    assert rolled_back(vault)
    assert [type(event) for event in vault.happened] == [StoreRolledBack]
    vault.commit([put("grant/b", "2")])
    vault.close()
    vault = open_vault(old)
    assert rolled_back(vault)
    vault.accept()
    assert not rolled_back(vault)
    vault.close()

    vault = open_vault(old)
    assert not rolled_back(vault)
    vault.close()


def test_an_undisturbed_store_agrees_with_its_anchor(tmp_path: Path):
    """Also when a crash came between the two, and after another key."""
    where = anchored(tmp_path)
    write(where, [put("grant/a", "1")])
    before = where.anchor.read_bytes() if where.anchor else b""
    write(where, [put("grant/a", "2")])
    assert where.anchor
    where.anchor.write_bytes(before)

    vault = open_vault(where)
    assert not rolled_back(vault)
    vault.rekey(OTHER_KEY)
    vault.close()

    vault = open_vault(replace(where, sealer=OTHER_KEY))
    assert not rolled_back(vault)
    vault.close()


@pytest.mark.parametrize("how", ["removed", "unreadable", "garbage"])
def test_an_anchor_that_is_gone_or_damaged_is_noticed(tmp_path: Path, how: str):
    """Else removing it would be enough to go unnoticed."""
    where = anchored(tmp_path)
    write(where, [put("grant/a", "1")])
    assert where.anchor
    where.anchor.unlink()
    if how == "unreadable":
        where.anchor.mkdir()
    elif how == "garbage":
        where.anchor.write_bytes(b"garbage")

    vault = open_vault(where)

    assert rolled_back(vault)
    reason = "missing" if how == "removed" else "unreadable"
    assert vault.happened == [StoreRolledBack(reason=reason, counter=2, anchor=None)]
    if how == "unreadable":
        assert refused(vault.accept) == "store_anchor_failed"
        assert vault.anchor_behind
    vault.close()


def test_a_store_without_records_needs_no_acceptance(tmp_path: Path):
    """There is nothing in it that could be older; but its anchor knows the file that it replaced."""
    where = anchored(tmp_path)
    write(where, [put("grant/a", "1")])
    (where.directory / "store.1.db").rename(tmp_path / "former.db")

    vault = open_vault(where)
    assert not rolled_back(vault)
    vault.close()

    (tmp_path / "former.db").rename(where.directory / "store.2.db")
    vault = open_vault(where)
    assert rolled_back(vault)
    vault.close()


def test_a_new_anchor_for_an_old_store_begins_with_it(tmp_path: Path):
    """It was configured today."""
    write(place(tmp_path / "state"), [put("grant/a", "1")])
    where = anchored(tmp_path)

    vault = open_vault(where)

    assert not rolled_back(vault)
    vault.commit([put("grant/a", "2")])
    assert where.anchor
    assert where.anchor.exists()
    vault.accept()
    vault.close()


def test_a_vault_without_an_anchor_has_nothing_to_accept(tmp_path: Path):
    """No harm is done."""
    vault = open_vault(place(tmp_path / "state"))
    vault.accept()
    vault.close()

    assert not rolled_back(vault)


def test_an_anchor_survives_damage_of_the_head(tmp_path: Path):
    """Without a head nobody knows how far the store had got: that is a reason to ask."""
    where = anchored(tmp_path)
    write(where, [put("grant/a", "1")], [put("grant/b", "1")], [Delete(name="grant/b")])
    connection = sqlite3.connect(where.directory / "store.1.db", isolation_level=None)
    connection.execute("UPDATE listing SET content = x'00' WHERE bucket = -1")
    connection.close()

    vault = open_vault(where)

    assert rolled_back(vault)
    assert contents(vault) == {"grant/a": (b"1", True)}
    assert isinstance(vault, Vault)
    vault.close()
