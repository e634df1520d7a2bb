"""Landlock: what is given up, what is left, and what happens where the kernel has none."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from broker.hostenv.landlock import MAKE_CHAR, OF_FILES, READ, TRUNCATE, Confined, LinuxKernel, Places, confine

REFER = 1 << 13


class FakeKernel:
    """Takes note of what it is asked for."""

    def __init__(self, version: int = 7, failure: int = 0) -> None:
        self._version = version
        self.failure = failure
        self.taken = 0
        self.left: dict[str, int] = {}
        self.restricted = 0

    def version(self) -> int:
        if self.failure:
            raise OSError(self.failure, os.strerror(self.failure))
        return self._version

    def create(self, rights: int, /) -> int:
        self.taken = rights
        return os.open("/dev/null", os.O_RDONLY)

    def allow(self, ruleset: int, rights: int, place: int, /) -> None:
        self.left[str(Path(f"/proc/self/fd/{place}").readlink())] = rights

    def restrict(self, ruleset: int, /) -> None:
        self.restricted += 1


def test_what_was_named_is_left_and_all_else_is_taken_away(tmp_path: Path):
    """A directory that is not there yet is made in the one above it; a file has only the rights that files have."""
    (tmp_path / "state").mkdir()
    (tmp_path / "file").touch()
    kernel = FakeKernel()
    writes = (tmp_path / "state", tmp_path / "state" / "a" / "b", tmp_path / "file")

    confined = confine(Places(reads=(Path("/usr"), tmp_path / "absent"), writes=writes), kernel)

    assert confined == Confined(version=7)
    assert kernel.restricted == 1
    assert kernel.left["/usr"] == READ
    assert kernel.left[str(tmp_path / "state")] == kernel.taken & ~(MAKE_CHAR | 1 << 11)
    assert kernel.left[str(tmp_path / "file")] == OF_FILES
    assert len(kernel.left) == 3


@pytest.mark.parametrize(("version", "newer"), [(1, 0), (2, REFER), (3, REFER | TRUNCATE), (9, REFER | TRUNCATE)])
def test_an_older_kernel_is_asked_for_no_more_than_it_knows(version: int, newer: int):
    """It would refuse all of it."""
    kernel = FakeKernel(version)

    confine(Places(reads=(), writes=()), kernel)

    assert kernel.taken & (REFER | TRUNCATE) == newer
    assert kernel.taken & READ == READ


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM])
def test_without_landlock_nothing_changes_and_the_reason_is_told(number: int):
    """The kernel has none, is too old, or a filter forbids it."""
    kernel = FakeKernel(failure=number)

    confined = confine(Places(reads=(), writes=()), kernel)

    assert confined == Confined(version=0, reason=errno.errorcode[number])
    assert kernel.restricted == 0


def test_what_lies_outside_is_found_behind_links(tmp_path: Path):
    """The kernel judges where a path really leads, and what may be written may be read."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to("/usr")
    (tmp_path / "to-in").symlink_to(tmp_path / "in")
    held = Places(reads=(tmp_path / "in",), writes=(tmp_path / "state",))
    good = Places(reads=(tmp_path / "to-in" / "a", tmp_path / "state"), writes=(tmp_path / "state" / "b",))
    bad = Places(reads=(tmp_path / "in" / "link" / "c",), writes=(tmp_path / "in",))

    assert held.outside(good) == []
    assert held.outside(bad) == [tmp_path / "in" / "link" / "c", tmp_path / "in"]


PROGRAM = """
import sys
from pathlib import Path
from broker.hostenv.landlock import Places, confine
here = Path(sys.argv[1])
system = [Path(p).absolute() for p in (*sys.path, sys.prefix, sys.base_prefix, "/usr", "/lib", "/lib64", "/etc") if p]
assert confine(Places(reads=(*system, here / "read"), writes=(here / "write",))).version > 0
def attempt(what):
    try:
        what()
    except PermissionError:
        return "refused"
    return "done"
print(attempt(lambda: (here / "read" / "file").read_text()), attempt(lambda: (here / "read" / "new").touch()),
      attempt(lambda: (here / "write" / "new").write_text("x")), attempt(lambda: (here / "write" / "new").unlink()),
      attempt(lambda: (here / "secret").read_text()), attempt(lambda: list(here.iterdir())))
"""


def test_the_kernel_keeps_to_it(tmp_path: Path):
    """In a process of its own, which cannot take it back: also root is held."""
    try:
        LinuxKernel().version()
    except OSError as error:
        pytest.skip(f"the kernel has no Landlock ({error.errno})")
    for name in ("read", "write"):
        (tmp_path / name).mkdir()
    (tmp_path / "read" / "file").write_text("x")
    (tmp_path / "secret").write_text("x")

    done = subprocess.run([sys.executable, "-c", PROGRAM, tmp_path], capture_output=True, text=True, check=False)

    assert done.stdout.split() == ["done", "refused", "done", "done", "refused", "refused"], done.stderr
