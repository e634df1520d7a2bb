from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from broker.errors import LocalError
from broker.hostenv.state_dir import LOCK, START_PATIENCE, StateDirInUseError, examine, held, quiet


def test_it_is_made_for_us_alone_and_names_its_holder(tmp_path: Path):
    """Whatever the umask: nobody else looks into it."""
    before = os.umask(0)
    try:
        with held(tmp_path / "state"):
            content = (tmp_path / "state" / LOCK).read_text()
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "state" / LOCK).stat().st_mode) == 0o600
    assert content == f"{os.getpid()}\n"


def test_a_second_holder_is_told_who_the_first_is(tmp_path: Path):
    """The kernel's lock decides; after the first has let go, the second may."""
    path = tmp_path / "state"
    with held(path), pytest.raises(StateDirInUseError) as caught, held(path):
        raise AssertionError("held twice")

    assert str(os.getpid()) in caught.value.message
    with held(path):
        pass


def test_what_a_dead_process_left_is_no_obstacle(tmp_path: Path):
    """A process id in the file locks nothing."""
    path = tmp_path / "state"
    path.mkdir(0o700)
    (path / LOCK).write_text("1\n" * 50)

    with held(path):
        assert (path / LOCK).read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize("mode", [0o750, 0o701, 0o777, 0o1700])
def test_one_that_is_open_to_others_is_refused(tmp_path: Path, mode: int):
    """With the command that mends it; it is not mended unasked."""
    path = tmp_path / "state"
    path.mkdir()
    path.chmod(mode)

    with pytest.raises(LocalError) as caught, held(path):
        pass

    assert caught.value.code == "state_dir_unsafe"
    assert caught.value.hint == f"chmod 0700 {path}"
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_one_of_another_user_is_refused(tmp_path: Path):
    """Its owner could read and replace everything in it."""
    path = tmp_path / "state"
    path.mkdir(0o700)
    os.chown(path, 40_001, -1)

    with pytest.raises(LocalError) as caught, held(path):
        pass

    assert caught.value.code == "state_dir_unsafe"


@pytest.mark.parametrize("look", [lambda path: held(path).__enter__(), lambda path: quiet(path).__enter__(), examine])
def test_a_link_that_only_we_could_change_is_followed(tmp_path: Path, look: Callable[[Path], None]):
    """systemd leaves one at StateDirectory= of a unit with DynamicUser=; what it leads to is judged as ever."""
    path = tmp_path / "state"
    (tmp_path / "elsewhere").mkdir(0o700)
    path.symlink_to(tmp_path / "elsewhere")

    with held(path):
        assert (tmp_path / "elsewhere" / LOCK).exists()
    (tmp_path / "elsewhere").chmod(0o755)

    with pytest.raises(LocalError) as caught:
        look(path)

    assert caught.value.code == "state_dir_unsafe"


@pytest.mark.parametrize("look", [lambda path: held(path).__enter__(), lambda path: quiet(path).__enter__(), examine])
def test_a_link_that_others_could_change_is_refused(tmp_path: Path, look: Callable[[Path], None]):
    """It stands where anybody may put another."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "elsewhere").mkdir(0o700)
    (tmp_path / "open" / "state").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(LocalError) as caught:
        look(tmp_path / "open" / "state")

    assert caught.value.code == "state_dir_unsafe"
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("look", [lambda path: held(path).__enter__(), lambda path: quiet(path).__enter__(), examine])
def test_what_is_no_directory_is_refused(tmp_path: Path, look: Callable[[Path], None]):
    """A file in its place is left alone."""
    path = tmp_path / "state"
    path.write_text("")

    with pytest.raises(LocalError) as caught:
        look(path)

    assert caught.value.code == "state_dir_unsafe"


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path):
    """Nothing outside is truncated."""
    path = tmp_path / "state"
    path.mkdir(0o700)
    (tmp_path / "precious").write_text("content")
    (path / LOCK).symlink_to(tmp_path / "precious")

    with pytest.raises(LocalError) as caught, held(path):
        pass

    assert caught.value.code == "state_dir_failed"
    assert (tmp_path / "precious").read_text() == "content"


def test_only_one_level_is_made(tmp_path: Path):
    """A typing error makes no tree."""
    with pytest.raises(LocalError) as caught, held(tmp_path / "no" / "state"):
        pass

    assert caught.value.code == "state_dir_failed"
    assert not (tmp_path / "no").exists()


def test_without_one_nothing_is_held(tmp_path: Path):
    """There is no state to hold."""
    with held(None), held(None):
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("look", [lambda path: held(path).__enter__(), lambda path: quiet(path).__enter__(), examine])
def test_a_directory_above_that_others_can_write_is_refused(tmp_path: Path, look: Callable[[Path], None]):
    """Whoever can rename it can put another in its place; nothing is made."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)

    with pytest.raises(LocalError) as caught:
        look(tmp_path / "open" / "state")

    assert caught.value.code == "state_dir_unsafe"
    assert str(tmp_path / "open") in caught.value.message
    assert list((tmp_path / "open").iterdir()) == []


def test_looking_finds_what_holding_finds_and_makes_nothing(tmp_path: Path):
    """For ``check``: a directory that is missing may be made at the start."""
    examine(None)
    examine(tmp_path / "missing")
    (tmp_path / "file").write_text("")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o755)

    for name in ("file", "shared"):
        with pytest.raises(LocalError) as caught:
            examine(tmp_path / name)
        assert caught.value.code == "state_dir_unsafe"
    assert not (tmp_path / "missing").exists()


def test_a_broker_waits_for_somebody_who_only_reads(tmp_path: Path):
    """A service manager would not start it again."""
    path = tmp_path / "state"
    reader = ExitStack()
    with held(path):
        pass
    reader.enter_context(quiet(path))
    waits = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            reader.close()

    with held(path, patience=START_PATIENCE, sleep=sleep):
        assert (path / LOCK).read_text() == f"{os.getpid()}\n"
    assert len(waits) == 3


def test_a_second_broker_waits_and_is_refused_all_the_same(tmp_path: Path):
    """The first does not go away."""
    path = tmp_path / "state"
    waits: list[float] = []

    with held(path), pytest.raises(StateDirInUseError) as caught, held(path, patience=3, sleep=waits.append):
        raise AssertionError("held twice")

    assert sum(waits) == pytest.approx(3)
    assert f"process {os.getpid()}" in caught.value.message


def test_who_only_reads_makes_and_writes_nothing(tmp_path: Path):
    """Neither a directory nor a lock, nor its process id into one that is there."""
    path = tmp_path / "state"
    with quiet(path):
        made = path.exists()
    path.mkdir(0o700)
    with quiet(path):
        locked = (path / LOCK).exists()
    (path / LOCK).write_text("4711\n")
    (path / LOCK).chmod(0o400)
    with quiet(path), quiet(path):
        content = (path / LOCK).read_text()

    assert (made, locked, content) == (False, False, "4711\n")


def test_who_only_reads_is_told_who_holds_it(tmp_path: Path):
    """A broker changes what it would read."""
    path = tmp_path / "state"

    with held(path), pytest.raises(StateDirInUseError) as caught, quiet(path):
        raise AssertionError("read while it is held")

    assert f"process {os.getpid()}" in caught.value.message


def test_who_only_reads_follows_no_lock_that_is_a_link(tmp_path: Path):
    """Nor waits for one that is a FIFO."""
    path = tmp_path / "state"
    path.mkdir(0o700)
    os.mkfifo(path / LOCK)
    with quiet(path):
        (path / LOCK).unlink()
    (path / LOCK).symlink_to(tmp_path)

    with pytest.raises(LocalError) as caught, quiet(path):
        pass

    assert caught.value.code == "state_dir_failed"
