"""The file of a sink on a real disk."""

from __future__ import annotations

import asyncio
import os
import stat
import tempfile
import threading
from pathlib import Path

import pytest

from broker.errors import LocalError
from broker.sinks import files
from broker.sinks.files import MARK, Mark, SystemFiles, find, remove, to_the_end, write
from broker.sinks.place import beside
from tests.unit.keys.privileges import STRANGER, without_privileges
from tests.unit.sinks.world import sink

MARKED = Mark(token="directory", written_at=1_790_000_000, ends_at=1_790_000_300)


def marks(directory: Path) -> bool:
    """Say whether the file system of the tests has extended attributes."""
    probe = directory / "probe"
    probe.touch()
    try:
        os.setxattr(probe, MARK, b"x")
    except OSError:
        return False
    finally:
        probe.unlink()
    return True


def test_a_file_has_its_content_its_mode_and_nothing_beside_it(tmp_path: Path) -> None:
    """Whatever the umask."""
    before = os.umask(0o777)
    try:
        write(sink(path=tmp_path / "token", mode=0o440, gid=os.getegid()), b"a-token", MARKED)
    finally:
        os.umask(before)

    (found,) = tmp_path.iterdir()
    assert found.read_bytes() == b"a-token"
    assert stat.S_IMODE(found.stat().st_mode) == 0o440


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
def test_owner_and_group_get_it(tmp_path: Path) -> None:
    """And may be given another one after it."""
    wanted = sink(path=tmp_path / "token", uid=40_001, gid=40_002)

    write(wanted, b"a-token", MARKED)
    write(wanted, b"another", MARKED)

    found = wanted.path.stat()
    assert (found.st_uid, found.st_gid) == (40_001, 40_002)
    assert wanted.path.read_bytes() == b"another"


def test_a_file_is_replaced_and_not_written_into(tmp_path: Path) -> None:
    """Who has the old one open reads it to its end."""
    wanted = sink(path=tmp_path / "token")
    write(wanted, b"the old one", MARKED)
    with wanted.path.open("rb") as reader:
        identity = write(wanted, b"new", MARKED)

        assert reader.read() == b"the old one"
    assert wanted.path.read_bytes() == b"new"
    found = find(wanted)
    assert found is not None
    assert found.identity == identity


def test_a_file_says_what_is_in_it_where_the_file_system_can(tmp_path: Path) -> None:
    """So that another process knows whether it is good; where it cannot, nothing is known."""
    wanted = sink(path=tmp_path / "token")
    write(wanted, b"a-token", MARKED)

    found = find(wanted)

    assert found is not None
    assert found.mark == (MARKED if marks(tmp_path) else None)


def test_a_file_that_says_nothing_of_itself_is_found_without_a_mark(tmp_path: Path) -> None:
    """It may be a token of an earlier version, or of somebody else."""
    wanted = sink(path=tmp_path / "token")
    nothing = find(wanted)
    wanted.path.write_text("a-token")
    if marks(tmp_path):
        os.setxattr(wanted.path, MARK, b"directory soon later")

    found = find(wanted)

    assert nothing is None
    assert found is not None
    assert found.mark is None


def test_what_could_not_be_written_leaves_the_old_file_and_nothing_beside_it() -> None:
    """Here the system refuses the owner, when the content is written already."""
    with tempfile.TemporaryDirectory() as directory:
        if os.geteuid() == 0:
            os.chown(directory, STRANGER, -1)
        wanted = sink(path=Path(directory, "token"))
        with without_privileges():
            write(wanted, b"the old one", MARKED)
            with pytest.raises(LocalError) as caught:
                write(sink(path=wanted.path, uid=STRANGER + 1), b"new", MARKED)
            left = {one.name: one.read_bytes() for one in Path(directory).iterdir()}

    assert caught.value.code == "sink_owner_refused"
    assert left == {"token": b"the old one"}


def test_a_link_that_was_put_in_the_way_is_not_followed(tmp_path: Path) -> None:
    """Neither at the path nor beside it."""
    wanted, victim = sink(path=tmp_path / "token"), tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / beside(wanted)).symlink_to(victim)
    write(wanted, b"new", MARKED)
    wanted.path.unlink()
    wanted.path.symlink_to(victim)

    with pytest.raises(LocalError) as caught:
        write(wanted, b"newer", MARKED)

    assert caught.value.code == "sink_occupied"
    assert victim.read_text() == "precious"


def test_a_file_is_removed_with_what_is_beside_it_and_only_if_it_holds_a_token(tmp_path: Path) -> None:
    """A directory that is gone is as good."""
    wanted = sink(path=tmp_path / "token")
    write(wanted, b"a-token", MARKED)
    (tmp_path / beside(wanted)).write_text("half")
    foreign = sink(path=tmp_path / "hosts")
    foreign.path.write_text("127.0.0.1 localhost\n")

    assert remove(wanted)
    assert not remove(wanted)
    assert not remove(sink(path=tmp_path / "gone" / "token"))
    with pytest.raises(LocalError):
        remove(foreign)
    assert list(tmp_path.iterdir()) == [foreign.path]


def test_a_long_token_is_written_whole(tmp_path: Path) -> None:
    """However little the system takes at a time."""
    reader, writer = os.pipe()
    os.set_blocking(writer, True)
    content = b"x" * 200_000
    pieces: list[bytes] = []

    def read() -> None:
        while piece := os.read(reader, 65_536):
            pieces.append(piece)

    thread = threading.Thread(target=read)
    thread.start()
    files._write_all(writer, content)
    os.close(writer)
    thread.join()
    os.close(reader)

    assert b"".join(pieces) == content


@pytest.mark.real_time
async def test_what_was_begun_is_waited_for_also_when_cancelled() -> None:
    """A write that goes on behind our back could bring back a file that was removed."""
    begun, go_on = threading.Event(), threading.Event()
    done: list[str] = []

    def act() -> None:
        begun.set()
        go_on.wait(10)
        done.append("written")

    async with asyncio.TaskGroup() as group:
        task = group.create_task(to_the_end(act))
        await asyncio.to_thread(begun.wait, 10)
        task.cancel()
        await asyncio.sleep(0)
        unfinished = list(done)
        go_on.set()
        await asyncio.wait([task])

    assert unfinished == []
    assert done == ["written"]
    assert task.cancelled()


@pytest.mark.real_time
async def test_the_port_does_what_the_functions_do(tmp_path: Path) -> None:
    """In threads."""
    port, wanted = SystemFiles(), sink(path=tmp_path / "token")

    identity = await port.write(wanted, b"a-token", MARKED)
    found = await port.find(wanted)

    assert found is not None
    assert found.identity == identity
    assert await port.remove(wanted)
