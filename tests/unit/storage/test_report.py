"""Whoever only looks sees what the broker would see, and changes nothing."""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from broker.errors import LocalError
from broker.storage.anchor import Contradiction
from broker.storage.files import StoreFile
from broker.storage.judging import Fault, Finding
from broker.storage.report import Report, examine
from broker.storage.values import Image
from broker.storage.vault import Disk, Place
from tests.unit.storage.places import OTHER_KEY, place, put, write


@pytest.fixture
def where(tmp_path: Path) -> Place:
    (tmp_path / "elsewhere").mkdir()
    made = place(tmp_path / "state", anchor=tmp_path / "elsewhere" / "anchor")
    write(made, [put("grant/a", "1"), put("grant/b", "1")])
    return made


def looked_at(where: Place) -> Report:
    """Examine, and see that nothing was changed by it."""
    before = {path.name: path.read_bytes() for path in where.directory.iterdir()}
    report = examine(where)
    assert {path.name: path.read_bytes() for path in where.directory.iterdir()} == before
    return report


def edit(where: Place, statement: str) -> None:
    connection = sqlite3.connect(where.directory / "store.1.db", isolation_level=None)
    connection.execute(statement)
    connection.close()


def code_of(where: Place) -> str:
    with pytest.raises(LocalError) as caught:
        looked_at(where)
    return caught.value.code


def test_a_good_store_is_whole(where: Place):
    """With how much is in it."""
    assert looked_at(where) == Report(
        path=where.directory / "store.1.db",
        records=2,
        suspects=(),
        findings=(),
        counter=2,
        whole=True,
        contradiction=None,
    )


def test_each_fault_is_named(where: Place):
    """One record removed, and the head damaged."""
    edit(where, "DELETE FROM record WHERE name = 'grant/a'")
    assert looked_at(where).findings == (Finding(name="grant/a", fault=Fault.MISSING, kept=False),)

    edit(where, "UPDATE listing SET content = x'' WHERE bucket = -1")
    report = looked_at(where)

    assert (report.records, report.suspects, report.whole) == (1, ("grant/b",), False)
    assert report.contradiction is Contradiction.LATER


@pytest.mark.parametrize("content", [b"", b"junk" * 2_000])
def test_an_unreadable_file_is_not_whole(where: Place, content: bytes):
    """Nothing is known of its records."""
    (where.directory / "store.1.db").write_bytes(content)

    report = looked_at(where)

    assert (report.records, report.whole, report.findings) == (0, False, ())


def test_an_anchor_that_cannot_be_read_contradicts_a_store_that_is_whole(where: Place):
    """The store is not called unavailable for it: its records are as good as they were."""
    assert where.anchor
    where.anchor.unlink()
    where.anchor.mkdir()

    report = looked_at(where)

    assert (report.whole, report.records, report.contradiction) == (True, 2, Contradiction.UNREADABLE)


def test_an_older_copy_is_seen_by_its_anchor(where: Place, tmp_path: Path):
    """And not without one."""
    shutil.copytree(where.directory, tmp_path / "old")
    write(where, [put("grant/a", "2")])
    old = replace(where, directory=tmp_path / "old")

    assert looked_at(old).contradiction is Contradiction.LATER
    assert looked_at(replace(old, anchor=None)).sound
    assert looked_at(where).sound


def test_what_keeps_from_looking_is_said(where: Place, tmp_path: Path):
    """No store, another key, rights, another program, a broken disk."""
    assert code_of(place(tmp_path / "empty")) == "store_missing"
    assert code_of(replace(where, sealer=OTHER_KEY)) == "store_key_wrong"
    (where.directory / "store.1.db").chmod(0o644)
    assert code_of(where) == "store_unsafe"
    (where.directory / "store.1.db").chmod(0o600)

    def busy(_: StoreFile) -> Image:
        error = sqlite3.OperationalError()
        error.sqlite_errorcode = sqlite3.SQLITE_BUSY
        raise error

    assert code_of(replace(where, disk=Disk(read=busy))) == "store_unavailable"


def test_a_disk_that_fails_leaves_nothing_to_see(where: Place):
    """The broker would go on without the file."""

    def failing(_: StoreFile) -> Image:
        error = sqlite3.OperationalError()
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
        raise error

    assert not looked_at(replace(where, disk=Disk(read=failing))).whole
