"""
Landlock (landlock(7)): this process gives up, for good, every file that it has no business with.

Whatever is made of it later, it reads only below some directories and writes only below fewer. It holds for threads
and children that begin afterwards, and not for what is open already. The kernel is asked by system call: the C library
has no names for these.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from broker.hostenv.hardening import prctl

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""System calls: the same numbers on every architecture but Alpha."""

VERSION = 1
"""LANDLOCK_CREATE_RULESET_VERSION: asks for the version instead of making a ruleset."""

PATH_BENEATH = 1
"""LANDLOCK_RULE_PATH_BENEATH."""

PR_SET_NO_NEW_PRIVS = 38
"""<linux/prctl.h>; restricting oneself wants it."""

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
MAKE_CHAR, MAKE_BLOCK = 1 << 6, 1 << 11
REFER, TRUNCATE = 1 << 13, 1 << 14
"""LANDLOCK_ACCESS_FS_* of <linux/landlock.h>; those between are removing and making, one bit for each kind."""

FIRST_RIGHTS = REFER - 1
"""What the first version of Landlock knows; the second added REFER, the third TRUNCATE."""

READ = EXECUTE | READ_FILE | READ_DIR
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE
"""What a rule for a single file may hold; more is refused."""

NEVER = MAKE_CHAR | MAKE_BLOCK
"""Devices: nobody here makes one."""

RULESET = struct.Struct("=Q")
RULE = struct.Struct("=Qi")
"""``struct landlock_ruleset_attr`` (its first version) and the packed ``struct landlock_path_beneath_attr``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """The files and directories below which something may be read, and those below which it may be written."""

    reads: tuple[Path, ...]
    writes: tuple[Path, ...]

    def outside(self, wanted: Places) -> list[Path]:
        """Give what of *wanted* these do not allow, as the kernel would see it: behind all symbolic links."""
        readable = [_real(path) for path in (*self.reads, *self.writes)]
        writable = [_real(path) for path in self.writes]
        missed = [path for path in wanted.reads if not _is_below(_real(path), readable)]
        return missed + [path for path in wanted.writes if not _is_below(_real(path), writable)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Confined:
    """What came of it: the *version* of the kernel's Landlock, or 0 and the system's *reason*, an errno."""

    version: int
    reason: str = ""


class Kernel(Protocol):
    """The three calls. All raise OSError."""

    def version(self) -> int:
        """Give the version of Landlock."""

    def create(self, rights: int, /) -> int:
        """Give a descriptor of a ruleset that takes away *rights*."""

    def allow(self, ruleset: int, rights: int, place: int, /) -> None:
        """Leave *rights* below the open directory (or file) *place*."""

    def restrict(self, ruleset: int, /) -> None:
        """Put it in force for this thread and what it begins."""


def confine(places: Places, kernel: Kernel | None = None) -> Confined:
    """
    Keep to *places* from now on; to be called before the first thread begins.

    A directory to be written that is not there yet stands for the nearest one above it that is: in it, it will be made.
    Without Landlock in the kernel nothing is changed.
    """
    kernel = kernel or LinuxKernel()
    try:
        version = kernel.version()
        rights = FIRST_RIGHTS | (REFER if version >= 2 else 0) | (TRUNCATE if version >= 3 else 0)
        ruleset = kernel.create(rights)
        try:
            for path in places.reads:
                _allow(kernel, ruleset, READ, path)
            for path in places.writes:
                _allow(kernel, ruleset, rights & ~NEVER, _nearest(path))
            kernel.restrict(ruleset)
        finally:
            os.close(ruleset)
    except OSError as error:
        return Confined(version=0, reason=errno.errorcode.get(error.errno or 0, "unknown"))
    return Confined(version=version)


def _allow(kernel: Kernel, ruleset: int, rights: int, path: Path) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return  # nobody can use what is not there, or what we may not reach anyway
    try:
        is_directory = stat.S_ISDIR(os.fstat(place).st_mode)
        kernel.allow(ruleset, rights if is_directory else rights & OF_FILES, place)
    finally:
        os.close(place)


def _nearest(path: Path) -> Path:
    return next(one for one in (path, *path.parents) if one.exists())


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _is_below(path: Path, directories: Iterable[Path]) -> bool:
    return any(path.is_relative_to(directory) for directory in directories)


class LinuxKernel:
    """The kernel that we run on."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None, use_errno=True)
        self._library.syscall.restype = ctypes.c_long

    def version(self) -> int:
        """Ask it."""
        return self._call(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(VERSION))

    def create(self, rights: int, /) -> int:
        """Ask it."""
        attribute = ctypes.create_string_buffer(RULESET.pack(rights), RULESET.size)
        return self._call(CREATE_RULESET, attribute, ctypes.c_size_t(RULESET.size), ctypes.c_uint32(0))

    def allow(self, ruleset: int, rights: int, place: int, /) -> None:
        """Ask it."""
        attribute = ctypes.create_string_buffer(RULE.pack(rights, place), RULE.size)
        self._call(ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(PATH_BENEATH), attribute, ctypes.c_uint32(0))

    def restrict(self, ruleset: int, /) -> None:
        """Ask it; without new privileges, which it wants to be promised first."""
        number = prctl(PR_SET_NO_NEW_PRIVS, 1)
        if number:
            raise OSError(number, "prctl")
        self._call(RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))

    def _call(self, number: int, *arguments: object) -> int:
        given = int(self._library.syscall(ctypes.c_long(number), *arguments))
        if given < 0:
            raise OSError(ctypes.get_errno(), "landlock")
        return given
