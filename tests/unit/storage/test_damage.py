"""
A store file with any byte changed or cut at any length: nothing altered is believed, and the rest survives.

Every byte that is not zero, and some of the others (free space of pages, mostly).
"""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from broker.storage.database import read_image
from broker.storage.files import StoreFile
from broker.storage.judging import judge
from broker.storage.vault import open_vault
from broker.tokens.storing import Delete
from tests.unit.storage.places import KEY, contents, place, put

NAMES = tuple(f"grant/{letter}" for letter in "abcdef")

HISTORY: tuple[dict[str, bytes], ...] = (
    {},
    {name: name.encode() + b" first" for name in NAMES},
    {name: name.encode() + (b" second" if name in NAMES[:2] else b" first") for name in NAMES[:5]},
    {name: name.encode() + (b" third" if name == NAMES[0] else b" first") for name in (NAMES[0], *NAMES[2:5])},
)
"""What the store held after each write; one record is deleted with each."""

LAST = HISTORY[-1]
EVER = {(name, value) for state in HISTORY for name, value in state.items()}
Found = dict[str, tuple[bytes, bool]]
Record = Callable[[str, object], None]

SPARSE = 32
"""Of bytes that are zero, one in so many is changed."""

WHOLE_OPENINGS = 61
"""Of the runs, one in so many goes through the whole opening, with its syncs."""


def made(directory: Path, *, log: bool) -> dict[str, bytes]:
    """Give the files of a small store: all in the database, or as a crash leaves it, most in the log."""
    vault = open_vault(place(directory))
    for before, after in itertools.pairwise(HISTORY):
        changed = [put(name, value) for name, value in after.items() if before.get(name) != value]
        vault.commit([*changed, *(Delete(name=name) for name in before if name not in after)])
    if not log:
        vault.close()
    files = {path.name: path.read_bytes() for path in directory.iterdir() if path.name != "store.reserve"}
    vault.close()
    return files


def positions(content: bytes) -> Iterator[int]:
    return (at for at, byte in enumerate(content) if byte or at % SPARSE == 0)


def turned(content: bytes, at: int) -> bytes:
    """Give *content* with one bit turned, another one at each place."""
    return content[:at] + bytes([content[at] ^ (1 << at % 8)]) + content[at + 1 :]


@dataclass
class Bench:
    """Opens damaged files and counts what came of them."""

    directory: Path
    files: dict[str, bytes]
    runs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.directory.mkdir(mode=0o700)
        self._lay_out(self.directory, self.files)

    def turned(self, name: str, at: int) -> Found:
        """Change one bit of a file, judge it, and take it back."""
        changed = turned(self.files[name], at)
        with (self.directory / name).open("r+b", buffering=0) as file:
            file.seek(at)
            file.write(changed[at : at + 1])
            found = self._judged()
            file.seek(at)
            file.write(self.files[name][at : at + 1])
        if self.runs % WHOLE_OPENINGS == 0:
            self.open_whole(name, changed)
        return found

    def cut(self, name: str, length: int) -> Found:
        """Cut a file, to less than it had, and judge it."""
        os.truncate(self.directory / name, length)
        found = self._judged()
        if self.runs % WHOLE_OPENINGS == 0 or length < 3:
            self.open_whole(name, self.files[name][:length])
        return found

    def _judged(self) -> Found:
        """Read the damaged files. Whatever is not suspect has to be true; nothing is known of an unreadable one."""
        self.runs += 1
        try:
            image = read_image(StoreFile(self.directory, 1))
        except sqlite3.Error:
            image = None
        judgement = judge(image, KEY) if image else None
        if judgement is None:
            self.outcomes["files unreadable"] += 1
            return {}
        found = {name: (value, suspect) for name, value, suspect in judgement.ledger.values()}
        if judgement.whole:
            self.outcomes["files without a fault that matters"] += 1
            assert {name: value for name, (value, _) in found.items()} in HISTORY
            assert not any(suspect for _, suspect in found.values())
        assert {(name, value) for name, (value, _) in found.items()} <= EVER
        self.outcomes["records good"] += sum(not suspect for _, suspect in found.values())
        self.outcomes["records suspect"] += sum(suspect for _, suspect in found.values())
        return found

    def open_whole(self, name: str, content: bytes) -> None:
        """Open it as the broker does: what was there is kept byte for byte, or used as it is."""
        files = self.files | {name: content}
        directory = self.directory.parent / f"opened-{self.runs}"
        directory.mkdir(mode=0o700)
        self._lay_out(directory, files)
        where = place(directory)
        vault = open_vault(where)
        found = contents(vault)
        kept = {path.name.partition("Z-")[2]: path.read_bytes() for path in directory.glob("damaged-*")}
        vault.close()

        assert kept in ({}, files)
        self.outcomes["files moved aside (of those opened to write)"] += bool(kept)
        again = open_vault(where)
        assert contents(again) == found
        assert again.happened == []
        again.close()

    def _lay_out(self, directory: Path, files: dict[str, bytes]) -> None:
        for name, content in files.items():
            (directory / name).write_bytes(content)
            (directory / name).chmod(0o600)

    def table(self) -> str:
        return "\n".join((f"{self.runs:>7} damaged files", *(f"{n:>7} {what}" for what, n in self.outcomes.items())))


def good(found: Found) -> dict[str, bytes]:
    return {name: value for name, (value, suspect) in found.items() if not suspect}


def test_no_changed_byte_of_the_database_is_believed(tmp_path: Path, record_property: Record):
    """What is good is the last that was written; a byte of one record costs no other one."""
    bench = Bench(tmp_path / "damaged", made(tmp_path / "state", log=False))
    content = bench.files["store.1.db"]
    sealed = {row.name: row.sealed for row in read_image(StoreFile(tmp_path / "state", 1)).rows}
    places = {name: range(start := content.index(item), start + len(item)) for name, item in sealed.items()}

    for at in positions(content):
        found = good(bench.turned("store.1.db", at))

        assert found.items() <= LAST.items()
        hit = {name for name, occupied in places.items() if at in occupied}
        assert not hit or found.keys() == LAST.keys() - hit

    assert bench.runs > 1_500
    assert bench.outcomes["records good"] > bench.runs * len(LAST) // 2
    record_property("table", bench.table())


def test_no_changed_byte_of_the_log_is_believed(tmp_path: Path, record_property: Record):
    """A damaged log ends before the damage: the store is then as it once was, as a whole."""
    bench = Bench(tmp_path / "damaged", made(tmp_path / "state", log=True))

    for at in positions(bench.files["store.1.db-wal"]):
        bench.turned("store.1.db-wal", at)

    assert bench.runs > 2_000
    record_property("table", bench.table())


@pytest.mark.parametrize("which", ["store.1.db", "store.1.db-wal"])
def test_no_file_that_was_cut_is_believed(tmp_path: Path, record_property: Record, which: str):
    """At each length where something ends or begins, and some of the others."""
    bench = Bench(tmp_path / "damaged", made(tmp_path / "state", log=which.endswith("-wal")))
    ends = {0, 1, 31, 32, 33, 511, 512, 513, 4_095}

    for length in reversed(range(len(bench.files[which]))):
        if length % (SPARSE // 2) == 0 or length % 4_096 in ends:
            found = bench.cut(which, length)
            assert which.endswith("-wal") or good(found).items() <= LAST.items()

    assert bench.runs > 500
    record_property("table", bench.table())


def test_what_stands_before_the_cut_survives(tmp_path: Path):
    """In a larger store half of the file is half of the records, and not nothing."""
    vault = open_vault(place(tmp_path / "state"))
    vault.commit([put(f"grant/{number:03}", str(number) * 200) for number in range(200)])
    vault.close()
    path = tmp_path / "state" / "store.1.db"
    os.truncate(path, path.stat().st_size // 2)

    vault = open_vault(place(tmp_path / "state"))

    found = contents(vault)
    vault.close()
    assert 50 < len(found) < 200
    assert all(value == str(int(name[6:])).encode() * 200 for name, (value, _) in found.items())
