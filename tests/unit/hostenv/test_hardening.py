"""hardening: what the kernel was asked for, looked at from outside in a child process."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import broker
from broker.errors import LocalError
from broker.hostenv.hardening import PR_SET_DUMPABLE, UMASK, harden, require_linux

REPOSITORY = Path(broker.__file__).parents[1]

CHILD = """
import ctypes, os, resource, sys
resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
os.umask(0o022)
if sys.argv[1] == "hardened":
    from broker.hostenv.hardening import harden
    harden()
PR_GET_DUMPABLE = 3
print(ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), flush=True)
sys.stdin.read()
"""


def look_at(mode: str) -> dict[str, str]:
    """Start a child and read in /proc, while it lives, what the kernel thinks of it."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        dumpable = child.stdout.readline().strip()
        process = Path("/proc", str(child.pid))
        status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        limits = (process / "limits").read_text().splitlines()
        core = next(line.split()[4:6] for line in limits if line.startswith("Max core file size"))
        owner = (process / "environ").stat().st_uid
        child.stdin.close()
    assert child.returncode == 0
    return {"dumpable": dumpable, "umask": status["Umask"].strip(), "core": " ".join(core), "owner": str(owner)}


def test_a_hardened_process_is_closed_to_others() -> None:
    """Not dumpable, no core file even if the limit is raised again, no files for others; /proc/PID is root's."""
    seen = look_at("hardened")

    assert seen == {"dumpable": "0", "umask": "0077", "core": "0 0", "owner": "0"}


def test_a_process_is_not_closed_by_itself() -> None:
    """So the test above can fail."""
    seen = look_at("plain")

    assert seen["dumpable"] == "1"
    assert seen["umask"] == "0022"
    assert seen["owner"] == str(os.geteuid())


def test_a_kernel_that_refuses_stops_the_start() -> None:
    """A daemon that only seems to be hardened is worse; limits and umask are left alone then."""
    before = resource.getrlimit(resource.RLIMIT_CORE)
    asked: list[tuple[int, int]] = []

    def refusing(option: int, value: int) -> int:
        asked.append((option, value))
        return errno.EPERM

    with pytest.raises(LocalError) as caught:
        harden(refusing)

    assert caught.value.code == "hardening_failed"
    assert os.strerror(errno.EPERM) in caught.value.message
    assert asked == [(PR_SET_DUMPABLE, 0)]
    assert resource.getrlimit(resource.RLIMIT_CORE) == before


def test_the_umask_leaves_nothing_for_others() -> None:
    """As a number, because everything that is made later depends on it."""
    assert UMASK == 0o077


def test_linux_is_accepted() -> None:
    """Whichever machine this test runs on."""
    require_linux("linux")


@pytest.mark.parametrize("platform", ["darwin", "win32", "freebsd14", "cygwin"])
def test_every_other_system_is_refused_by_name(platform: str) -> None:
    """Peer credentials, memfd and /proc are not there, or not the same."""
    with pytest.raises(LocalError) as caught:
        require_linux(platform)

    assert caught.value.code == "not_linux"
    assert platform in caught.value.message
    assert caught.value.hint
