"""Files come into being whole, are parted with last, and are never overwritten."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from broker.errors import LocalError
from broker.storage.files import (
    RESERVE_BYTES,
    Reserve,
    StoreFile,
    check_safe,
    coming,
    move_aside,
    remove,
    second_names,
    store_files,
)
from tests.unit.storage.places import wall


def made(directory: Path, number: int = 1, *, log: bool = True) -> StoreFile:
    file = StoreFile(directory, number)
    file.path.write_bytes(b"database")
    file.path.chmod(0o600)
    if log:
        file.log.write_bytes(b"log")
        file.log.chmod(0o600)
    return file


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_the_highest_number_counts(tmp_path: Path):
    """As a number, and other files do not."""
    for name in ("store.9.db", "store.10.db", "store.10.db-wal", "store.new", "store.x.db", "store.0.db", "lock"):
        (tmp_path / name).touch()

    assert [file.number for file in store_files(tmp_path)] == [9, 10]
    assert store_files(tmp_path)[-1].next().path.name == "store.11.db"


def test_a_file_is_there_when_it_is_complete(tmp_path: Path):
    """Readable by us alone, whatever the umask, and over nothing half written."""
    (tmp_path / "store.new").write_bytes(b"of a crash")
    before = os.umask(0)
    try:
        with coming(StoreFile(tmp_path, 1)) as path:
            path.write_bytes(b"whole")
            assert not (tmp_path / "store.1.db").exists()
    finally:
        os.umask(before)

    assert (tmp_path / "store.1.db").read_bytes() == b"whole"
    assert stat.S_IMODE((tmp_path / "store.1.db").stat().st_mode) == 0o600
    assert names(tmp_path) == {"store.1.db"}


def test_a_file_that_cannot_be_completed_never_was(tmp_path: Path):
    """What was there before stays."""
    made(tmp_path, log=False)

    with pytest.raises(IsADirectoryError), coming(StoreFile(tmp_path, 1)) as path:
        path.parent.write_bytes(b"fails")

    assert (tmp_path / "store.1.db").read_bytes() == b"database"
    assert names(tmp_path) == {"store.1.db"}


def test_a_damaged_file_is_kept_with_its_log_under_another_name(tmp_path: Path):
    """Twice in one second, too."""
    paths = [move_aside(made(tmp_path, log=log), wall_now=wall()) for log in (True, True, False)]

    assert [path.name for path in paths] == [
        "damaged-20260921T141320Z-store.1.db",
        "damaged-20260921T141320Z-store.1.db.1",
        "damaged-20260921T141320Z-store.1.db.2",
    ]
    assert names(tmp_path) == {path.name for path in paths} | {f"{path.name}-wal" for path in paths[:2]}
    assert {path.read_bytes() for path in paths} == {b"database"}


def test_second_names_are_the_same_file_for_a_while(tmp_path: Path):
    """What happens to a name happens to that name alone; those of a crash are replaced."""
    file = made(tmp_path)
    (tmp_path / "store.examined").write_bytes(b"of a crash")

    with second_names(file) as path:
        assert path != file.path
        assert path.samefile(file.path)
        assert Path(f"{path}-wal").samefile(file.log)
        path.unlink()

    assert names(tmp_path) == {"store.1.db", "store.1.db-wal"}


def test_a_file_without_a_log_gets_no_second_log(tmp_path: Path):
    """That would be another file."""
    with second_names(made(tmp_path, log=False)) as path:
        assert not Path(f"{path}-wal").exists()


def test_where_there_are_no_links_the_file_itself_is_given(tmp_path: Path):
    """Some volumes of Kubernetes have none. Another error is one."""

    def no_links(_: Path, __: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    real = made(tmp_path)
    with second_names(real, link=no_links) as path:
        assert path == real.path

    def broken(_: Path, __: Path) -> None:
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"), second_names(real, link=broken):
        pass


def test_a_replaced_file_is_removed_with_its_log(tmp_path: Path):
    """Twice does no harm."""
    file = made(tmp_path)
    assert file.log_bytes() == 3

    remove(file)
    remove(file)

    assert names(tmp_path) == set()
    assert file.log_bytes() == 0


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o700])
@pytest.mark.parametrize("which", ["store.1.db", "store.1.db-wal"])
def test_a_file_that_is_open_to_others_is_refused(tmp_path: Path, mode: int, which: str):
    """With the command that mends it."""
    file = made(tmp_path)
    check_safe(file)
    (tmp_path / which).chmod(mode)

    with pytest.raises(LocalError) as caught:
        check_safe(file)

    assert caught.value.code == "store_unsafe"
    assert caught.value.hint == f"chmod 0600 {tmp_path / which}"


def test_what_is_no_file_is_refused(tmp_path: Path):
    """A symlink could lead anywhere."""
    (tmp_path / "store.1.db").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(LocalError) as caught:
        check_safe(StoreFile(tmp_path, 1))

    assert caught.value.code == "store_unsafe"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_another_user_is_refused(tmp_path: Path):
    """It could be changed under us."""
    os.chown(made(tmp_path).path, 40_001, -1)

    with pytest.raises(LocalError) as caught:
        check_safe(StoreFile(tmp_path, 1))

    assert caught.value.code == "store_unsafe"


def test_space_is_held_back_and_given_up(tmp_path: Path):
    """Blocks, not only a length; held once."""
    reserve = Reserve(tmp_path)
    reserve.hold()
    reserve.hold()
    status = (tmp_path / "store.reserve").stat()

    assert status.st_size == RESERVE_BYTES
    assert status.st_blocks * 512 >= RESERVE_BYTES
    assert reserve.give_up()
    assert names(tmp_path) == set()
    assert not reserve.give_up()


def test_space_that_is_not_there_is_not_held(tmp_path: Path):
    """The error is the kernel's; nothing stays behind."""

    def full(_: int, __: int, ___: int) -> None:
        raise OSError(28, "No space left on device")

    reserve = Reserve(tmp_path, allocate=full)

    with pytest.raises(OSError, match="No space"):
        reserve.hold()

    assert not reserve.give_up()
    assert (tmp_path / "store.reserve").exists() is False
