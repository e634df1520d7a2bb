"""
A process that is killed at any moment, and a disk that fails under it: what was acknowledged is there.

The kernel is real, and what it says is what strace(1) makes it say. With ALL_MOMENTS=1 in the environment a process
is killed at each system call that changes anything on the disk; without it at a few of them, always the same.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from broker.storage.vault import open_vault
from tests.unit.storage.crashing import state, where

ROOT = Path(__file__).parents[3]
SEED = 20_260_921
WRITES = 8

SYSCALLS = ("pwrite64", "fdatasync", "fsync", "rename", "ftruncate", "unlink", "fallocate")
"""By which the store changes anything on a disk."""

MOMENTS = 8
"""At how many of all calls in a story the process is killed."""

Record = Callable[[str, object], None]

STRACE = ("strace", "-f", "-qq")

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


@dataclass
class Store:
    """A store that processes write to, one after the other, and what they said."""

    directory: Path
    said: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)

    def run(self, *inject: str, writes: int = WRITES, file_bytes: int | None = None) -> list[str]:
        """Let a process write to its end, with faults injected; give what it said."""
        command = [sys.executable, "-m", "tests.unit.storage.crashing", str(self.directory), str(writes)]
        if file_bytes is not None:
            command.append(str(file_bytes))
        if inject:
            options = [part for item in inject for part in ("-e", f"inject={item}")]
            calls = ",".join(item.partition(":")[0] for item in inject)
            command = [*STRACE, "-o", "/dev/null", "-e", f"trace={calls}", *options, *command]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode in {0, -9, 137}, done.stderr
        return self._heard(done.stdout.splitlines())

    def run_and_kill(self, after: float) -> list[str]:
        """Kill a process some seconds after its first acknowledgement."""
        command = [sys.executable, "-m", "tests.unit.storage.crashing", str(self.directory), "1000000"]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            time.sleep(after)
            process.kill()
            return self._heard([first.strip(), *process.stdout.read().splitlines()])

    def _heard(self, lines: Sequence[str]) -> list[str]:
        self.said += lines
        self.kinds.update(line.split()[0] for line in lines)
        return list(lines)

    @property
    def acknowledged(self) -> int:
        """The last write of which somebody was told that it is durable."""
        return max(
            (int(line.split()[1]) for line in self.said if line.startswith(("acknowledged", "begun"))), default=0
        )

    def check(self) -> None:
        """See that everything acknowledged is there, at most one write more, and nothing else to be said."""
        vault = open_vault(where(self.directory))
        found = {record.name: record.value for record in vault.records()}
        suspect = [record.name for record in vault.records() if record.suspect]
        happened = [type(event).__name__ for event in vault.happened]
        vault.close()

        assert found in (state(self.acknowledged), state(self.acknowledged + 1))
        assert suspect == []
        assert set(happened) <= {"StoreMovedAside"}  # what a crash left over
        self.said = [f"begun {max((int(value.split()[0]) for value in found.values()), default=0)}"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state")


def calls_of(store: Store, *inject: str) -> list[tuple[str, int]]:
    """Give the system calls of a run that nobody kills, each with its number among those of its kind."""
    trace = store.directory.with_name("trace")
    options = [part for item in inject for part in ("-e", f"inject={item}")]
    command = [*STRACE, "-o", str(trace), "-e", f"trace={','.join(SYSCALLS)}", *options]
    program = [sys.executable, "-m", "tests.unit.storage.crashing", str(store.directory), str(WRITES)]
    subprocess.run([*command, *program], cwd=ROOT, capture_output=True, check=True, timeout=60)
    counts: Counter[str] = Counter(re.findall(r"^\d+ +(\w+)\(", trace.read_text(), re.MULTILINE))
    return [(call, number) for call, count in counts.items() for number in range(1, count + 1)]


def test_a_process_killed_at_any_time_loses_nothing_acknowledged(store: Store, record_property: Record):
    """Again and again, on the same store."""
    dice = random.Random(SEED)

    for _ in range(8):
        store.run_and_kill(dice.uniform(0.0, 0.1))
        store.check()

    assert store.kinds["acknowledged"] > 8
    record_property("table", f"killed 8 times, {store.kinds['acknowledged']} writes acknowledged, none lost")


STORIES: dict[str, tuple[int, tuple[str, ...]]] = {
    "a new store": (0, ()),
    "one that was there": (1, ()),
    "one whose disk fails a sync": (1, ("fdatasync:error=EIO:when=3",)),
}
"""How many runs there were before, and what fails beside the kill."""


@needs_strace
@pytest.mark.parametrize("story", STORIES)
def test_a_process_killed_at_a_system_call_loses_nothing_acknowledged(
    tmp_path: Path, record_property: Record, story: str
):
    """Wherever something on the disk changes: before it does."""
    runs, inject = STORIES[story]
    template = Store(tmp_path / "template" / "state")
    template.directory.parent.mkdir()
    for _ in range(runs):
        template.run()
    before = tmp_path / "before"
    if runs:
        shutil.copytree(template.directory, before)
    moments = [moment for moment in calls_of(template, *inject) if moment[0] not in "".join(inject)]
    chosen = moments if os.environ.get("ALL_MOMENTS") else random.Random(SEED).sample(moments, MOMENTS)

    for call, number in chosen:
        store = Store(tmp_path / f"{call}-{number}")
        if runs:
            shutil.copytree(before, store.directory)
            store.said = [f"begun {WRITES}"]
        store.run(f"{call}:signal=KILL:when={number}", *inject)
        assert "closed 0" not in store.said, (call, number)
        store.check()

    record_property("table", f"{story}: killed at {len(chosen)} of {len(moments)} calls")


@needs_strace
@pytest.mark.parametrize(
    "inject",
    [
        ("fdatasync:error=EIO:when=3",),
        ("fdatasync:error=EIO:when=2+2",),
        ("pwrite64:error=EIO:when=40",),
        ("pwrite64:error=EIO:when=40+7",),
        ("pwrite64:error=ENOSPC:when=40",),
        ("pwrite64:error=ENOSPC:when=40..60",),
        ("fallocate:error=ENOSPC:when=1",),
        ("rename:error=EROFS:when=2..4", "fdatasync:error=EIO:when=3"),
        ("fsync:error=EIO:when=3..6", "fdatasync:error=EIO:when=3"),
        ("fdatasync:error=EIO:when=3", "rename:signal=KILL:when=2"),
        ("fdatasync:error=EIO:when=3", "unlink:signal=KILL:when=8"),
    ],
    ids=" ".join,
)
def test_a_failing_disk_loses_nothing_acknowledged(store: Store, inject: tuple[str, ...]):
    """Sync, write, space and rename fail once or several times, alone and together, or with a kill on top."""
    store.run()
    store.check()

    said = store.run(*inject)

    store.check()
    assert said[-1] == "closed 0" or any("KILL" in item for item in inject)
    store.run()
    store.check()


@needs_strace
def test_after_a_failed_sync_no_descriptor_is_synced_again(store: Store, tmp_path: Path):
    """The next success would be a lie: what could not be written is marked as written."""
    store.run()
    trace = tmp_path / "trace"
    inject = ["-e", "inject=fdatasync:error=EIO:when=3"]
    calls = "trace=fsync,fdatasync,rename,unlink,pwrite64"
    command = [*STRACE, "-y", "-o", str(trace), "-e", calls, *inject]
    program = [sys.executable, "-m", "tests.unit.storage.crashing", str(store.directory), str(WRITES)]

    subprocess.run([*command, *program], cwd=ROOT, capture_output=True, check=True, timeout=60)

    lines = trace.read_text().splitlines()
    failed = next(number for number, line in enumerate(lines) if "EIO" in line)
    log = re.search(r"fdatasync\(\d+<(.*)>\)", lines[failed])
    assert log is not None
    assert log[1].endswith("store.1.db-wal")
    later = [line for line in lines[failed + 1 :] if "sync(" in line or "pwrite64(" in line]
    assert any("store.2.db" in line for line in later)
    assert not [line for line in later if "store.1.db" in line]


@needs_strace
@pytest.mark.parametrize("inject", [(), ("fdatasync:error=EIO:when=6",)], ids=["a good disk", "one that fails a sync"])
def test_nothing_is_acknowledged_before_it_is_synced(store: Store, inject: tuple[str, ...]):
    """Not even a name in the directory: a machine that loses its power loses what the kernel still had to write."""
    trace = store.directory.with_name("trace")
    options = [part for item in inject for part in ("-e", f"inject={item}")]
    calls = "trace=pwrite64,write,ftruncate,rename,fsync,fdatasync"
    command = [*STRACE, "-y", "-o", str(trace), "-e", calls, *options]
    program = [sys.executable, "-m", "tests.unit.storage.crashing", str(store.directory), "40"]

    subprocess.run([*command, *program], cwd=ROOT, capture_output=True, check=True, timeout=60)

    unsynced: set[str] = set()
    acknowledged = 0
    for line in trace.read_text().splitlines():
        call, path = _call_on(line, store.directory)
        if call in {"pwrite64", "write", "ftruncate"} and path:
            unsynced.add(path)
        elif call == "rename" and path:
            unsynced.discard(path)
            unsynced.add(str(store.directory))
        elif call in {"fsync", "fdatasync"} and path and "EIO" not in line:
            unsynced.discard(path)
        elif "EIO" in line:
            unsynced.clear()  # that file is given up: what counts from here on is the new one
        elif call == "write" and "acknowledged" in line:
            acknowledged += 1
            assert unsynced == set(), line
    assert acknowledged == 40


def _call_on(line: str, directory: Path) -> tuple[str, str | None]:
    """Give the system call of a line and the file in *directory* that it concerns, if there is one."""
    call = re.search(r"^\d+ +(\w+)\(", line)
    path = re.search(rf'[<"]({re.escape(str(directory))}(?:/[^>"]*)?)[>"]', line)
    return call[1] if call else "", path[1] if path else None


def test_a_file_that_may_not_grow_is_refused_and_goes_on_afterwards(store: Store):
    """As with a quota: nothing is acknowledged meanwhile, and nothing lost."""
    store.run()

    said = store.run(writes=40, file_bytes=8_000)

    assert any(line.startswith("refused") for line in said)
    assert said[-1] == "closed 0"
    store.check()
