"""
SQLite, and nothing but its statements: a file read without being touched, one written whole, one written to.

Only here is SQLite spoken. Its errors pass through to ``vault``, which decides with ``verdict_of`` what is to
be done. No checkpoint happens unasked: SQLite drops an error of its own checkpoints and syncs again next
time, and a disk that has failed one sync reports success for the next without having written anything.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from enum import Enum
from pathlib import Path
from typing import Any

from broker.storage.files import StoreFile, coming, second_names
from broker.storage.ledger import Step
from broker.storage.values import Contents, Image, Row

HEAD = -1
IDENTITY = -2
"""Rows of the table of listings that hold no listing."""

MAX_LOG_BYTES = 4 * 1024 * 1024
"""SQLite's own measure: 1,000 pages. Then the log is written into the file and begins anew."""

MAX_PROBES = 200_000
"""Rows that are tried one by one between two damaged places: ten times what a large store has."""

VERSIONS_AT = 18
WITH_LOG = b"\x02\x02"
"""
Where and how a database says that it has a write-ahead log (SQLite's file format, section 1.3.3). Written by us, so
that SQLite need not do it in a file that counts, with a journal that would be one more file to look after.
"""

SCHEMA = (
    "CREATE TABLE identity (id INTEGER PRIMARY KEY, content BLOB NOT NULL) STRICT",
    "CREATE TABLE listing (bucket INTEGER PRIMARY KEY, content BLOB NOT NULL) STRICT",
    "CREATE TABLE record (id INTEGER PRIMARY KEY, name TEXT NOT NULL, generation INTEGER, sealed BLOB) STRICT",
)
_ROWS = "SELECT id, name, generation, sealed FROM record"
_PUT = "INSERT OR REPLACE INTO record (id, name, generation, sealed) VALUES (?, ?, ?, ?)"
_LIST = "INSERT OR REPLACE INTO listing (bucket, content) VALUES (?, ?)"


class Verdict(Enum):
    """What an error of SQLite means for its file."""

    REFUSED = "refused"
    """The transaction did not happen, and the file is as it was: no room, no permission, in use."""
    FAILED = "failed"
    """The disk failed: what the file holds is not known, and it is not to be synced again."""
    DAMAGED = "damaged"
    """The file is not what was written to it."""


_REFUSED = frozenset(
    {
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
    }
)


def verdict_of(error: sqlite3.Error) -> Verdict:
    """Say what *error* means."""
    code = primary_code(error)
    if code in _REFUSED:
        return Verdict.REFUSED
    return Verdict.FAILED if code == sqlite3.SQLITE_IOERR else Verdict.DAMAGED


def primary_code(error: sqlite3.Error) -> int:
    """Give the result code without its extension; SQLITE_ERROR where there is none."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


# --- a file as it is ---


def read_image(file: StoreFile) -> Image:
    """
    Read what can be read of *file*, and change nothing.

    Raises OSError, and sqlite3.Error where the file could not even be looked at (``Verdict.REFUSED``).
    """
    with second_names(file) as path, _readable_errors(), closing(_connect(path)) as connection:
        try:
            return _image(connection)
        finally:
            if path != file.path:
                path.unlink()  # so that closing it changes neither the file nor its log


@contextlib.contextmanager
def _readable_errors() -> Iterator[None]:
    """Turn the error that Python raises when SQLite quotes a damaged file into one of SQLite."""
    try:
        yield
    except UnicodeDecodeError:
        raise sqlite3.DatabaseError("the file is damaged") from None


def _image(connection: sqlite3.Connection) -> Image:
    whole = _sound(connection)
    if not whole:
        # Lets SQLite read also what its header or its schema contradicts; nothing is written here.
        _tolerated(connection, "PRAGMA writable_schema = ON")
    identities = [row[1] for row in _tolerated(connection, "SELECT id, content FROM identity")]
    listings = {row[0]: row[1] for row in _tolerated(connection, "SELECT bucket, content FROM listing")}
    second = listings.pop(IDENTITY, None)
    head = listings.pop(HEAD, None)
    rows = _tolerated(connection, f"{_ROWS} ORDER BY id")
    if not whole:
        rows = _salvaged(connection, rows)
    return Image(
        identities=tuple(item for item in (*identities, second) if isinstance(item, bytes)),
        rows=tuple(_row(row) for row in rows),
        listings={bucket: item for bucket, item in listings.items() if isinstance(item, bytes)},
        head=head if isinstance(head, bytes) else None,
        whole=whole,
    )


def _sound(connection: sqlite3.Connection) -> bool:
    """Say whether SQLite finds its structures in order, and only ours among them. Raises what is no damage."""
    try:
        schema = connection.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall()
        checked = connection.execute("PRAGMA quick_check(1)").fetchall()
    except UnicodeDecodeError:
        return False
    except sqlite3.Error as error:
        if verdict_of(error) is Verdict.REFUSED:
            raise
        return False
    return checked == [(b"ok",)] and schema == [(statement.encode(),) for statement in SCHEMA]


def _tolerated(connection: sqlite3.Connection, query: str, *values: int) -> list[tuple[Any, ...]]:
    """Give the rows up to the first that cannot be read."""
    found: list[tuple[Any, ...]] = []
    with contextlib.suppress(sqlite3.Error, UnicodeDecodeError):
        found.extend(connection.execute(query, values))
    return found


def _salvaged(connection: sqlite3.Connection, found: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Give also the rows behind a damaged place: from the other end, and then one by one."""
    rows = {row[0]: row for row in found}
    first_gap = max(rows, default=0) + 1
    behind = _tolerated(connection, f"{_ROWS} ORDER BY id DESC")
    end = min((row[0] for row in behind), default=first_gap)
    rows.update((row[0], row) for row in behind)
    for number in range(first_gap, min(end, first_gap + MAX_PROBES)):
        rows.update((row[0], row) for row in _tolerated(connection, f"{_ROWS} WHERE id = ?", number))
    return list(rows.values())


def _row(row: tuple[Any, ...]) -> Row:
    """Give a row with the types it should have: a damaged one may hold anything."""
    number, name, generation, sealed = row
    return Row(
        row=number,
        name=name.decode("ascii", "replace") if isinstance(name, bytes) else "",
        generation=generation if isinstance(generation, int) else -1,
        sealed=sealed if isinstance(sealed, bytes) else b"",
    )


# --- a new file ---


def write_fresh(file: StoreFile, contents: Contents) -> None:
    """Write *file* as a whole, synced and then renamed to its name. Raises OSError, sqlite3.Error."""
    with coming(file) as path:
        with closing(_connect(path)) as connection:
            # No journal and no syncs of SQLite's: nobody sees the file before it is complete and synced.
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("BEGIN")
            for statement in SCHEMA:
                connection.execute(statement)
            _fill(connection, contents)
            connection.execute("COMMIT")
        with path.open("r+b") as new:
            new.seek(VERSIONS_AT)
            new.write(WITH_LOG)


def _fill(connection: sqlite3.Connection, contents: Contents) -> None:
    connection.execute("INSERT INTO identity (id, content) VALUES (1, ?)", (contents.identity,))
    connection.executemany(_LIST, [(IDENTITY, contents.identity), (HEAD, contents.head), *contents.listings.items()])
    connection.executemany(_PUT, _values(contents.rows))


# --- a file that is written to ---


class Database:
    """A store file that is open for writing. Used by one thread at a time. All methods raise sqlite3.Error."""

    def __init__(self, file: StoreFile) -> None:
        self.file = file
        self._connection = _connect(file.path)
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA wal_autocheckpoint = 0")
            self._connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            self._connection.close()
            raise

    def apply(self, step: Step) -> None:
        """Do *step* in one transaction; it is durable when this returns, and undone where that is still possible."""
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("DELETE FROM record WHERE id = ?", [(entry.row,) for entry in step.gone.values()])
            connection.executemany(_PUT, _values(step.rows()))
            empty = [(bucket,) for bucket, listing in step.listings.items() if listing is None]
            connection.executemany("DELETE FROM listing WHERE bucket = ?", empty)
            full = [(bucket, listing) for bucket, listing in step.listings.items() if listing is not None]
            connection.executemany(_LIST, [*full, (HEAD, step.sealed_head)])
            connection.execute("COMMIT")
        except BaseException:
            self._undo()
            raise

    def replace(self, contents: Contents) -> None:
        """Exchange all that is in the file in one transaction; a checkpoint leaves nothing of it in the log."""
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            for table in ("identity", "listing", "record"):
                connection.execute(f"DELETE FROM {table}")  # noqa: S608 - three names of our own
            _fill(connection, contents)
            connection.execute("COMMIT")
        except BaseException:
            self._undo()
            raise

    def checkpoint(self) -> None:
        """Write the log into the file and cut it to nothing."""
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Write the log into the file, unless that was renamed or removed, and let go of both."""
        self._connection.close()

    def _undo(self) -> None:
        if self._connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):  # the first error is the one that decides
                self._connection.execute("ROLLBACK")


def _values(rows: Iterator[Row] | tuple[Row, ...]) -> Iterator[tuple[int, str, int, bytes]]:
    return ((row.row, row.name, row.generation, row.sealed) for row in rows)


def _connect(path: Path) -> sqlite3.Connection:
    """Open *path*, which has to exist, as the only ones."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=0.0, check_same_thread=False
    )
    try:
        connection.text_factory = bytes
        # Exclusive: no second process, and no shared memory that a full disk could turn into a SIGBUS.
        for setting in ("locking_mode = EXCLUSIVE", "trusted_schema = OFF", "secure_delete = ON", "mmap_size = 0"):
            connection.execute(f"PRAGMA {setting}").fetchall()
        connection.execute("PRAGMA cell_size_check = ON")
    except BaseException:
        connection.close()
        raise
    return connection
