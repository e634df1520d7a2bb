from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker.errors import LocalError
from broker.telemetry.audit_file import TAIL, AppendFailedError, AuditFile, SystemDisk, open_file
from tests.unit.telemetry.audit_logs import FailingDisk


@contextmanager
def opened(path: Path, disk: SystemDisk | None = None) -> Iterator[AuditFile]:
    file = open_file(path, disk=disk or SystemDisk())
    try:
        yield file
    finally:
        file.close()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def refusal(path: Path) -> LocalError:
    with pytest.raises(LocalError) as caught:
        open_file(path, disk=SystemDisk())
    assert str(path) in caught.value.message
    return caught.value


def test_a_new_file_is_ours_alone(tmp_path: Path):
    """Whatever the umask says."""
    before = os.umask(0)
    try:
        with opened(tmp_path / "audit.log"):
            assert (tmp_path / "audit.log").stat().st_mode & 0o7777 == 0o600
    finally:
        os.umask(before)


def test_a_symbolic_link_is_not_followed(tmp_path: Path):
    """Whoever may put a link there must not choose what we append to."""
    (tmp_path / "target").touch(mode=0o600)
    (tmp_path / "audit.log").symlink_to(tmp_path / "target")

    error = refusal(tmp_path / "audit.log")

    assert error.code == "audit_unopened"
    assert "link" in (error.hint or "")


def test_a_link_on_the_way_that_others_could_change_is_not_followed(tmp_path: Path):
    """It is refused before a file is made anywhere; one that only we could change is followed."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "link").symlink_to("logs")
    with opened(tmp_path / "link" / "audit.log"):
        pass
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "link").symlink_to("../logs")
    (tmp_path / "open").chmod(0o777)

    error = refusal(tmp_path / "open" / "link" / "other.log")

    assert error.code == "audit_directory_unsafe"
    assert str(tmp_path / "open") in error.message
    assert not (tmp_path / "logs" / "other.log").exists()


def test_a_hard_link_is_not_appended_to(tmp_path: Path):
    """It may be another name of a file that somebody else wants us to fill."""
    (tmp_path / "target").touch(mode=0o600)
    (tmp_path / "audit.log").hardlink_to(tmp_path / "target")

    assert refusal(tmp_path / "audit.log").code == "audit_linked"
    assert (tmp_path / "target").read_bytes() == b""


def test_what_is_not_a_regular_file_is_refused(tmp_path: Path):
    """A FIFO does not stall the start, either."""
    os.mkfifo(tmp_path / "fifo", mode=0o600)
    (tmp_path / "directory").mkdir()

    assert refusal(tmp_path / "fifo").code == "audit_not_a_file"
    assert refusal(tmp_path / "directory").code == "audit_unopened"
    assert refusal(Path("/dev/full")).code in {"audit_not_a_file", "audit_unopened"}


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_is_refused(tmp_path: Path, mode: int):
    """With the command that mends it."""
    (tmp_path / "audit.log").touch()
    (tmp_path / "audit.log").chmod(mode)

    error = refusal(tmp_path / "audit.log")

    assert error.code == "audit_permissions"
    assert error.hint is not None
    assert error.hint.startswith("chmod go-w")


def test_a_file_that_others_may_read_is_accepted(tmp_path: Path):
    """A group of auditors is the operator's business."""
    (tmp_path / "audit.log").touch()
    (tmp_path / "audit.log").chmod(0o640)

    with opened(tmp_path / "audit.log") as file:
        assert file.length == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_somebody_else_is_refused(tmp_path: Path):
    """Its owner could change its mode at any time."""
    (tmp_path / "audit.log").touch(mode=0o600)
    os.chown(tmp_path / "audit.log", 12_345, -1)

    assert refusal(tmp_path / "audit.log").code == "audit_owner"


def test_a_missing_directory_is_refused_with_what_to_do(tmp_path: Path):
    """Directories are not created: nobody has said who should own them."""
    error = refusal(tmp_path / "missing" / "audit.log")

    assert error.code == "audit_unopened"
    assert "directory" in (error.hint or "")


def test_two_brokers_do_not_share_a_file(tmp_path: Path):
    """The lock lasts as long as the file is open."""
    with opened(tmp_path / "audit.log"):
        assert refusal(tmp_path / "audit.log").code == "audit_locked"

    with opened(tmp_path / "audit.log") as file:
        assert file.length == 0


def test_a_refused_file_leaves_no_descriptor_open(tmp_path: Path):
    """A reload that is tried again and again must not run out of them."""
    (tmp_path / "audit.log").touch()
    (tmp_path / "audit.log").chmod(0o666)
    before = descriptors()

    refusal(tmp_path / "audit.log")

    assert descriptors() == before


def test_a_line_is_in_the_file_when_append_returns(tmp_path: Path):
    """Nothing is buffered."""
    with opened(tmp_path / "audit.log") as file:
        file.append(b"one\n")
        file.append(b"two\n")
        file.sync()

        assert (tmp_path / "audit.log").read_bytes() == b"one\ntwo\n"
        assert file.length == 8


def test_a_line_is_one_call(tmp_path: Path):
    """So that no reader sees half of it."""
    disk = FailingDisk()
    with opened(tmp_path / "audit.log", disk) as file:
        file.append(b"x" * 4_000 + b"\n")

        assert disk.calls == [4_001]


def test_half_a_line_is_taken_back(tmp_path: Path):
    """A disk that fills up in the middle of a line leaves whole lines."""
    disk = FailingDisk(room=6)
    with opened(tmp_path / "audit.log", disk) as file:
        file.append(b"one\n")
        with pytest.raises(AppendFailedError, match="short_write"):
            file.append(b"two\n")

        assert (tmp_path / "audit.log").read_bytes() == b"one\n"
        assert (file.length, file.fragment) == (4, b"")


def test_a_real_limit_of_the_system_leaves_whole_lines(tmp_path: Path):
    """The same with the kernel's own short write, by a limit on the size of files."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with opened(tmp_path / "audit.log") as file:
        file.append(b"one\n")
        resource.setrlimit(resource.RLIMIT_FSIZE, (6, limits[1]))
        try:
            with pytest.raises(AppendFailedError, match="short_write"):
                file.append(b"two\n")
            file.append(b"2\n")
            with pytest.raises(AppendFailedError, match="efbig"):
                file.append(b"three\n")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

        assert (tmp_path / "audit.log").read_bytes() == b"one\n2\n"


def test_half_a_line_that_cannot_be_taken_back_is_remembered(tmp_path: Path):
    """In an append-only file it stays, and whoever writes next has to end it."""
    disk = FailingDisk(room=6, rigid=True)
    with opened(tmp_path / "audit.log", disk) as file:
        file.append(b"one\n")
        with pytest.raises(AppendFailedError):
            file.append(b"two\n")

        assert (tmp_path / "audit.log").read_bytes() == b"one\ntw"
        assert (file.length, file.fragment) == (6, b"tw")


def test_what_somebody_else_appended_is_not_cut_off(tmp_path: Path):
    """Nor is a line of ours, because of what somebody else appended before it."""
    disk = FailingDisk()
    with opened(tmp_path / "audit.log", disk) as file:
        with (tmp_path / "audit.log").open("ab") as other:
            other.write(b"foreign\n")
        file.append(b"ours\n")
        disk.room = 2
        with pytest.raises(AppendFailedError):
            file.append(b"lost\n")

        assert (tmp_path / "audit.log").read_bytes() == b"foreign\nours\n"


def test_an_error_has_the_name_that_the_system_gives_it(tmp_path: Path):
    """A closed set, so it may be a field of anything."""
    with (
        opened(tmp_path / "audit.log", FailingDisk(room=0)) as file,
        pytest.raises(AppendFailedError, match=r"^enospc$"),
    ):
        file.append(b"one\n")


def test_a_failed_sync_is_an_error(tmp_path: Path):
    """The bytes may be gone: it is not passed over."""
    with (
        opened(tmp_path / "audit.log", FailingDisk(broken_sync=True)) as file,
        pytest.raises(AppendFailedError, match="eio"),
    ):
        file.sync()


def test_a_closed_file_takes_nothing(tmp_path: Path):
    """Its descriptor may be somebody else's by now."""
    with opened(tmp_path / "audit.log") as file:
        file.close()
        with (tmp_path / "other").open("wb"), pytest.raises(AppendFailedError):
            file.append(b"one\n")

        assert (tmp_path / "other").read_bytes() == b""


def test_a_file_knows_whether_its_path_leads_to_it(tmp_path: Path):
    """After a rename it does not, and after a removal the file has no name at all."""
    path = tmp_path / "audit.log"
    with opened(path) as file:
        assert (file.is_current(), file.damage()) == (True, None)

        path.rename(tmp_path / "audit.log.1")
        assert (file.is_current(), file.damage()) == (False, None)

        path.touch()
        assert (file.is_current(), file.damage()) == (False, None)

        (tmp_path / "audit.log.1").unlink()
        assert (file.is_current(), file.damage()) == (False, "removed")


def test_a_file_that_was_cut_is_noticed_once(tmp_path: Path):
    """And what is written next stands at its new end."""
    with opened(tmp_path / "audit.log") as file:
        file.append(b"one\n")
        assert file.damage() is None

        os.truncate(tmp_path / "audit.log", 0)

        assert file.damage() == "cut"
        assert file.damage() is None
        assert file.length == 0


def test_only_the_end_of_a_large_file_is_read(tmp_path: Path):
    """Starting takes no longer with a year of history."""
    path = tmp_path / "audit.log"
    path.touch(mode=0o600)
    os.truncate(path, 10 * TAIL)
    with path.open("r+b") as large:
        large.write(b"first\n")
        large.seek(-5, os.SEEK_END)
        large.write(b"last\n")

    with opened(path) as file:
        tail, whole = file.tail()

        assert (len(tail), whole) == (TAIL, False)
        assert tail.endswith(b"last\n")
        assert file.first_line() == b"first\n"


def test_a_small_file_is_read_whole(tmp_path: Path):
    """Also an empty one, and one without a whole line."""
    for content in (b"", b"half", b"one\ntwo\n"):
        (tmp_path / "audit.log").write_bytes(content)
        (tmp_path / "audit.log").chmod(0o600)

        with opened(tmp_path / "audit.log") as file:
            assert file.tail() == (content, True)
            assert file.first_line() == content.split(b"\n")[0] + (b"\n" if b"\n" in content else b"")
