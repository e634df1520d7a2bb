"""SQLite does what the store relies on, and reading a file changes nothing in it."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from broker.storage.database import SCHEMA, Database, Verdict, read_image, verdict_of, write_fresh
from broker.storage.files import StoreFile
from broker.storage.ledger import Ledger
from broker.tokens.storing import Change, Delete
from tests.unit.storage.places import put
from tests.unit.storage.plain import PlainSealer

STORE = b"s" * 16


def ledger() -> Ledger:
    return Ledger(store=STORE, sealer=PlainSealer(), counter=0, entries={})


def fresh(directory: Path, known: Ledger, *changes: Change) -> StoreFile:
    file = StoreFile(directory, 1)
    step = known.step(changes, anchored=False)
    write_fresh(file, known.contents_after(step))
    known.take(step)
    return file


def apply(database: Database, known: Ledger, *changes: Change) -> None:
    step = known.step(changes, anchored=False)
    database.apply(step)
    known.take(step)


def stored(file: StoreFile) -> dict[str, bytes]:
    return {row.name: row.sealed[:-16] for row in read_image(file).rows}


def bytes_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def damage(path: Path, at: int, content: bytes) -> None:
    changed = bytearray(path.read_bytes())
    changed[at : at + len(content)] = content
    path.write_bytes(changed)


def test_what_was_written_is_read(tmp_path: Path):
    """From a fresh file, from the log, and after the log was written back."""
    known = ledger()
    file = fresh(tmp_path, known, put("grant/a", "1"), put("grant/b", "2"))
    assert stored(file) == {"grant/a": b"1", "grant/b": b"2"}
    database = Database(file)

    apply(database, known, put("grant/a", "3"), Delete(name="grant/b"), put("grant/c", "4"))
    database.checkpoint()
    assert file.log_bytes() == 0
    apply(database, known, put("grant/d", "5"))
    assert file.log_bytes() > 0
    database.close()

    assert stored(file) == {"grant/a": b"3", "grant/c": b"4", "grant/d": b"5"}
    image = read_image(file)
    assert image.whole
    assert len(image.identities) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"store.1.db"}


def test_settings_that_the_store_relies_on(tmp_path: Path):
    """A silent change of a default would cost durability."""
    database = Database(fresh(tmp_path, ledger()))
    ask = database._connection.execute

    with contextlib.closing(database):
        settings = {
            name: ask(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "locking_mode", "secure_delete", "wal_autocheckpoint")
        }

    assert settings == {
        "journal_mode": b"wal",
        "synchronous": 2,
        "locking_mode": b"exclusive",
        "secure_delete": 1,
        "wal_autocheckpoint": 0,
    }


def test_a_new_file_has_a_log_from_the_start(tmp_path: Path):
    """Opening it to write changes nothing in it, and needs no journal."""
    file = fresh(tmp_path, ledger(), put("grant/a", "1"))
    before = file.path.read_bytes()

    database = Database(file)
    during = {path.name for path in tmp_path.iterdir()}
    unchanged = file.path.read_bytes() == before
    database.close()

    assert unchanged
    assert during <= {"store.1.db", "store.1.db-wal"}
    assert read_image(file).whole


def test_reading_changes_nothing(tmp_path: Path):
    """Neither a good file with a log, as a crash leaves it, nor a damaged one."""
    known = ledger()
    (tmp_path / "live").mkdir()
    database = Database(fresh(tmp_path / "live", known))
    apply(database, known, *(put(f"grant/{number}", bytes(500)) for number in range(50)))
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    for name, content in bytes_of(tmp_path / "live").items():
        (crashed / name).write_bytes(content)
    database.close()
    before = bytes_of(crashed)
    assert set(before) == {"store.1.db", "store.1.db-wal"}

    image = read_image(StoreFile(crashed, 1))

    assert image.whole
    assert len(image.rows) == 50
    assert bytes_of(crashed) == before
    damage(crashed / "store.1.db", 4_096, b"\xff" * 64)
    before = bytes_of(crashed)
    read_image(StoreFile(crashed, 1))
    assert bytes_of(crashed) == before


def test_rows_on_both_sides_of_a_damaged_page_are_read(tmp_path: Path):
    """From the front, from the back, and between two damaged pages one by one."""
    file = fresh(tmp_path, ledger(), *(put(f"grant/{number}", bytes([number]) * 1_000) for number in range(40)))
    content = file.path.read_bytes()
    pages = [
        at for at in range(0, len(content), 4_096) if content[at] == 13 and content.count(b"grant/", at, at + 4_096) > 2
    ]
    assert len(pages) > 8
    for page in (pages[2], pages[-3]):
        damage(file.path, page, b"\0" * 100)

    image = read_image(file)

    assert not image.whole
    assert 40 - 10 <= len(image.rows) < 40
    assert all(row.sealed[:-16] == bytes([int(row.name[6:])]) * 1_000 for row in image.rows)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER more AFTER INSERT ON record BEGIN DELETE FROM record; END",
        "CREATE VIEW more AS SELECT 1",
        "DROP TABLE listing",
        "DROP TABLE record",
        "ALTER TABLE record ADD COLUMN more TEXT",
    ],
)
def test_another_schema_is_damage(tmp_path: Path, statement: str):
    """What is not ours would run when we write."""
    file = fresh(tmp_path, ledger(), put("grant/a", "1"))
    with contextlib.closing(sqlite3.connect(file.path, isolation_level=None)) as connection:
        connection.execute(statement)

    image = read_image(file)

    assert not image.whole
    assert len(image.rows) == (statement != "DROP TABLE record")


def test_rows_of_another_type_are_read_as_nothing(tmp_path: Path):
    """Whoever can write the file can write anything."""
    file = fresh(tmp_path, ledger())
    with contextlib.closing(sqlite3.connect(file.path, isolation_level=None)) as connection:
        connection.execute("INSERT INTO record VALUES (1, CAST(x'ff' AS TEXT), NULL, NULL)")
        connection.execute("PRAGMA writable_schema = ON")
        for table in ("record", "listing", "identity"):
            statement = f"UPDATE sqlite_master SET sql = replace(sql, ' STRICT', '') WHERE name = '{table}'"
            connection.execute(statement)
    with contextlib.closing(sqlite3.connect(file.path, isolation_level=None)) as connection:
        connection.execute("INSERT INTO record VALUES (2, 5, 'x', 6)")
        connection.execute("INSERT OR REPLACE INTO listing VALUES (-1, 5), (3, 6)")
        connection.execute("INSERT INTO identity VALUES (2, 7)")

    image = read_image(file)

    assert not image.whole
    assert {(row.generation, row.sealed) for row in image.rows} == {(-1, b"")}
    assert image.head is None
    assert 3 not in image.listings
    assert len(image.identities) == 2


def test_a_file_that_another_program_has_open_is_not_damaged(tmp_path: Path):
    """It is refused, and may be there again in a moment."""
    file = fresh(tmp_path, ledger())
    with contextlib.closing(sqlite3.connect(file.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")

        with pytest.raises(sqlite3.Error) as caught:
            read_image(file)
        assert verdict_of(caught.value) is Verdict.REFUSED
        with pytest.raises(sqlite3.Error):
            Database(file)

    assert {path.name for path in tmp_path.iterdir()} == {"store.1.db"}


def test_a_step_that_fails_is_undone(tmp_path: Path):
    """No room for all of it: nothing of it is there, and the file goes on being used."""
    known = ledger()
    file = fresh(tmp_path, known, put("grant/a", "1"))
    database = Database(file)
    pages = database._connection.execute("PRAGMA page_count").fetchone()[0]
    database._connection.execute(f"PRAGMA max_page_count = {pages + 3}")

    with pytest.raises(sqlite3.Error) as caught:
        apply(database, known, put("grant/a", "2"), put("grant/b", bytes(50_000)))
    apply(database, known, put("grant/c", "3"))
    with pytest.raises(sqlite3.Error):
        database.replace(known.contents_after(known.step([put("grant/d", bytes(50_000))], anchored=False)))
    database.close()

    assert verdict_of(caught.value) is Verdict.REFUSED
    assert stored(file) == {"grant/a": b"1", "grant/c": b"3"}


def test_everything_is_exchanged_in_one_transaction(tmp_path: Path):
    """And nothing of what was there stands in the file or its log afterwards."""
    known = ledger()
    file = fresh(tmp_path, known, put("grant/a", "former-value"))
    database = Database(file)
    other = known.resealed(PlainSealer(b"other"))
    step = other.step([put("grant/a", "present-value")], anchored=False)

    database.replace(other.contents_after(step))
    database.checkpoint()
    on_disk = b"".join(bytes_of(tmp_path).values())
    database.close()

    assert b"present-value" in on_disk
    assert b"former-value" not in on_disk
    assert read_image(file).whole


def test_a_deleted_value_leaves_the_file(tmp_path: Path):
    """secure_delete and a cut log: not even what was sealed stays."""
    known = ledger()
    file = fresh(tmp_path, known, put("grant/a", "former-value"), put("grant/b", b"b" * 5_000))
    database = Database(file)

    apply(database, known, Delete(name="grant/a"), put("grant/b", "1"))
    database.checkpoint()
    on_disk = b"".join(bytes_of(tmp_path).values())
    database.close()

    assert b"former-value" not in on_disk
    assert b"b" * 100 not in on_disk


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (sqlite3.SQLITE_FULL, Verdict.REFUSED),
        (sqlite3.SQLITE_READONLY_DBMOVED, Verdict.REFUSED),
        (sqlite3.SQLITE_BUSY, Verdict.REFUSED),
        (sqlite3.SQLITE_CANTOPEN, Verdict.REFUSED),
        (sqlite3.SQLITE_IOERR_FSYNC, Verdict.FAILED),
        (sqlite3.SQLITE_IOERR_WRITE, Verdict.FAILED),
        (sqlite3.SQLITE_CORRUPT, Verdict.DAMAGED),
        (sqlite3.SQLITE_NOTADB, Verdict.DAMAGED),
        (sqlite3.SQLITE_ERROR, Verdict.DAMAGED),
        (None, Verdict.DAMAGED),
    ],
)
def test_an_error_says_what_becomes_of_the_file(code: int | None, verdict: Verdict):
    """By its code, extended or not."""
    error = sqlite3.OperationalError()
    if code is not None:
        error.sqlite_errorcode = code

    assert verdict_of(error) is verdict


def test_the_schema_is_the_one_that_is_checked():
    """In the order of names, as it is compared."""
    names = [statement.split()[2] for statement in SCHEMA]

    assert names == sorted(names)
