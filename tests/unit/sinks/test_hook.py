"""The program that is told of a new token, with real processes."""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.errors import LocalError
from broker.sinks.hook import Ended, Outcome, _wait, check_hook, run_hook
from broker.sinks.spec import Hook, Sink
from tests.unit.sinks.world import sink

IS_ROOT = os.geteuid() == 0
OWNER, GROUP = (40_001, 40_002) if IS_ROOT else (os.geteuid(), os.getegid())


def hooked() -> Sink:
    return sink(uid=OWNER, gid=GROUP)


def shell(script: str, timeout: float = 30.0) -> Hook:
    return Hook(argv=("/bin/sh", "-c", script, "sh", "an argument"), timeout=timeout)


@pytest.fixture
def out() -> Iterator[Path]:
    """A directory that the hook can write, and others can pass through."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        made = Path(directory, "out")
        made.mkdir()
        os.chown(made, OWNER, GROUP)
        yield made


@pytest.mark.real_time
@pytest.mark.parametrize(
    ("script", "ended"),
    [
        ("exit 0", Ended(outcome=Outcome.OK, status=0)),
        ("exit 7", Ended(outcome=Outcome.EXIT, status=7)),
        ("kill -TERM $$", Ended(outcome=Outcome.SIGNAL, status=15)),
        ('[ "$TOKEN_BROKER_SINK $TOKEN_BROKER_SINK_FILE $1" = "app /run/tokens/token an argument" ]', None),
        (
            "[ $(env | grep -vcE '^(PATH|LANG|PWD|OLDPWD|_|SHLVL|TOKEN_BROKER_SINK|TOKEN_BROKER_SINK_FILE)=') = 0 ]",
            None,
        ),
        ("grep -q 'NoNewPrivs:.1' /proc/self/status", None),
        ("grep -qE 'CapAmb:.0+$' /proc/self/status", None),
        (f'[ "$(id -u) $(id -g)" = "{OWNER} {GROUP}" ]', None),
        (f'[ "$(id -G)" = {GROUP} ] || [ {OWNER} = {os.geteuid()} ]', None),
        ('[ "$(readlink /proc/self/fd/0)" = /dev/null ]', None),
        ('[ "$(cut -d " " -f 5,6 /proc/$$/stat)" = "$$ $$" ]', None),
        ('[ "$(pwd)" = / ]', None),
    ],
)
async def test_a_hook_is_run_and_how_it_ended_is_told(script: str, ended: Ended | None) -> None:
    """With the names of sink and file, and with nothing of ours."""
    assert await run_hook(hooked(), shell(script)) == (ended or Ended(outcome=Outcome.OK, status=0))


def test_a_child_that_was_reaped_by_whoever_killed_it_has_ended() -> None:
    """Both look at the same time when its time is over; that one comes late is no bug to report."""
    child = subprocess.Popen(["/bin/true"])
    child.wait()

    _wait(child.pid)


@pytest.mark.real_time
async def test_no_descriptor_is_inherited(out: Path) -> None:
    """Not even one that was made to be."""
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    stdin = os.dup(0)
    os.dup2(reader, 0)
    try:
        ended = await run_hook(hooked(), shell(f"[ ! -e /proc/self/fd/{writer} ] && ls -l /proc/self/fd > {out}/fd"))
    finally:
        os.dup2(stdin, 0)
        os.close(stdin)
        os.close(reader)
        os.close(writer)

    assert ended.outcome is Outcome.OK
    assert "pipe:" not in (out / "fd").read_text()
    assert "socket:" not in (out / "fd").read_text()


@pytest.mark.real_time
async def test_what_it_gives_up_is_not_given_up_by_us() -> None:
    """The broker's own threads are what they were."""
    before = Path("/proc/self/status").read_text()
    await run_hook(hooked(), shell("true"))

    after = Path("/proc/self/status").read_text()
    assert [line for line in after.splitlines() if line.startswith(("NoNewPrivs", "Cap", "Uid"))] == [
        line for line in before.splitlines() if line.startswith(("NoNewPrivs", "Cap", "Uid"))
    ]


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


@pytest.mark.real_time
@pytest.mark.parametrize("end", ["sleep 300", "exit 0"])
async def test_what_is_left_of_its_group_ends_with_it(out: Path, end: str) -> None:
    """At the time-out as at its own end."""
    script = f"sleep 300 & echo $$ $! > {out}/pids; {end}"

    ended = await run_hook(hooked(), shell(script, timeout=1.0 if end.startswith("sleep") else 30.0))

    pids = [int(pid) for pid in (out / "pids").read_text().split()]
    assert ended.outcome is (Outcome.TIMEOUT if end.startswith("sleep") else Outcome.OK)
    assert len(pids) == 2
    async with asyncio.timeout(10):  # the kernel takes a moment for those that are not our own children
        while any(alive(pid) for pid in pids):
            await asyncio.sleep(0.01)


@pytest.mark.real_time
async def test_the_first_process_of_a_container_reaps_what_has_become_its_own(out: Path) -> None:
    """Whoever is the parent of all orphans would have one more dead process after each run."""
    subreaper = 36  # PR_SET_CHILD_SUBREAPER: orphans come to us, as they come to the first process
    library = ctypes.CDLL(None)
    library.prctl(subreaper, 1, 0, 0, 0)
    try:
        await run_hook(hooked(), shell(f"sleep 300 & echo $! > {out}/pid; exit 0"))
    finally:
        library.prctl(subreaper, 0, 0, 0, 0)

    assert not Path("/proc", (out / "pid").read_text().strip()).exists()


@pytest.mark.real_time
async def test_nothing_is_left_when_it_is_cancelled(out: Path) -> None:
    """The broker stops, or the section is gone."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(run_hook(hooked(), shell(f"echo $$ > {out}/new; mv {out}/new {out}/pid; sleep 300")))
        while not (out / "pid").exists():
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])

    assert task.cancelled()
    assert not Path("/proc", (out / "pid").read_text().strip()).exists()


@pytest.mark.real_time
async def test_a_program_that_cannot_be_run_is_told() -> None:
    """It was there at the start, and is not now."""
    assert await run_hook(hooked(), Hook(argv=("/no/such/program",), timeout=1.0)) == Ended(outcome=Outcome.NOT_STARTED)


@pytest.mark.real_time
async def test_a_program_that_others_can_change_by_now_is_not_run(out: Path) -> None:
    """It was good at the start."""
    program = out.parent / "hook"
    program.write_text(f"#!/bin/sh\ntouch {out}/ran\n")
    program.chmod(0o755)
    hook = Hook(argv=(str(program),), timeout=30.0)
    before = await run_hook(hooked(), hook)
    (out / "ran").unlink()
    program.chmod(0o777)

    after = await run_hook(hooked(), hook)

    assert before.outcome is Outcome.OK
    assert after.outcome is Outcome.NOT_STARTED
    assert not (out / "ran").exists()


def refused(wanted: Sink, program: Path) -> LocalError:
    with pytest.raises(LocalError) as caught:
        check_hook(wanted, Hook(argv=(str(program),), timeout=1.0))
    return caught.value


def test_a_program_that_only_root_and_we_can_change_is_good(tmp_path: Path) -> None:
    """By whatever link it is named."""
    program = tmp_path / "hook"
    program.touch()
    program.chmod(0o755)
    (tmp_path / "link").symlink_to(program)

    check_hook(hooked(), Hook(argv=(str(tmp_path / "link"),), timeout=1.0))
    check_hook(hooked(), shell("true"))


@pytest.mark.parametrize(("mode", "code"), [(0o757, "unsafe"), (0o644, "missing")])
def test_a_program_that_others_can_change_is_refused(tmp_path: Path, mode: int, code: str) -> None:
    """And one that nobody can run."""
    program = tmp_path / "hook"
    program.touch()
    program.chmod(mode)

    error = refused(hooked(), program)

    assert error.code == f"sink_hook_{code}"
    assert str(program) in error.message
    assert error.hint


def test_a_directory_above_that_others_can_write_is_refused(tmp_path: Path) -> None:
    """They could put another program there; and a directory is no program."""
    place = tmp_path / "open"
    place.mkdir()
    (place / "hook").touch(0o755)
    place.chmod(0o777)

    assert refused(hooked(), place / "hook").code == "sink_hook_unsafe"
    assert refused(hooked(), tmp_path).code == "sink_hook_missing"
    assert refused(hooked(), tmp_path / "nowhere").code == "sink_hook_missing"


@pytest.mark.skipif(not IS_ROOT, reason="only root gives files away")
def test_a_program_of_another_user_or_group_is_refused(tmp_path: Path) -> None:
    """Who owns it changes it."""
    program = tmp_path / "hook"
    program.touch()
    program.chmod(0o775)
    os.chown(program, 0, 40_001)
    by_group = refused(hooked(), program)
    os.chown(program, 40_001, 0)

    assert "can be changed by others" in by_group.message
    assert "belongs to another user" in refused(hooked(), program).message


@pytest.mark.skipif(not IS_ROOT, reason="only root would run it as root")
@pytest.mark.parametrize("owner", [{}, {"uid": 40_001}, {"gid": 40_001}, {"uid": 0, "gid": 40_001}])
def test_nothing_is_run_as_root(owner: dict[str, int]) -> None:
    """With the user and the group of the file, or not at all."""
    error = refused(sink(**owner), Path("/bin/sh"))

    assert error.code == "sink_hook_refused"
    assert error.hint
