"""
A process that is killed at any moment, and a disk that fails under it: what was acknowledged is there.

The kernel is real, and what it says is what strace(1) makes it say.
"""

from __future__ import annotations

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

MOMENTS = 3
"""Of each of them, at how many moments the process is killed; first and last are among them."""

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


def count_calls(directory: Path) -> Counter[str]:
    """Count the system calls of an undisturbed run."""
    trace = directory / "trace"
    command = [*STRACE, "-o", str(trace), "-e", f"trace={','.join(SYSCALLS)}"]
    program = [sys.executable, "-m", "tests.unit.storage.crashing", str(directory / "counted"), str(WRITES)]
    subprocess.run([*command, *program], cwd=ROOT, capture_output=True, check=True, timeout=60)
    return Counter(re.findall(r"^\d+ +(\w+)\(", trace.read_text(), re.MULTILINE))


def test_a_process_killed_at_any_time_loses_nothing_acknowledged(store: Store, record_property: Record):
    """Again and again, on the same store."""
    dice = random.Random(SEED)

    for _ in range(8):
        store.run_and_kill(dice.uniform(0.0, 0.1))
        store.check()

    assert store.kinds["acknowledged"] > 8
    record_property("table", f"killed 8 times, {store.kinds['acknowledged']} writes acknowledged, none lost")


@needs_strace
def test_a_process_killed_at_a_system_call_loses_nothing_acknowledged(
    store: Store, tmp_path: Path, record_property: Record
):
    """First and last call of each kind, and some between them: a new store each time, and the same one again."""
    counts = count_calls(tmp_path)
    runs: Counter[str] = Counter()
    for call, count in counts.items():
        for moment in sorted({1 + (count - 1) * step // (MOMENTS - 1) for step in range(MOMENTS)}):
            fresh = Store(tmp_path / f"{call}-{moment}")
            fresh.run(f"{call}:signal=KILL:when={moment}")
            assert "closed 0" not in fresh.said, (call, moment)
            fresh.check()
            runs[call] += 1

    assert runs.keys() >= {"pwrite64", "fsync", "fdatasync", "rename"}
    record_property("table", f"killed at {dict(counts)}: {runs.total()} moments, {dict(runs)}")


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


def test_a_file_that_may_not_grow_is_refused_and_goes_on_afterwards(store: Store):
    """As with a quota: nothing is acknowledged meanwhile, and nothing lost."""
    store.run()

    said = store.run(writes=40, file_bytes=8_000)

    assert any(line.startswith("refused") for line in said)
    assert said[-1] == "closed 0"
    store.check()
