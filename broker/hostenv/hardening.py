"""
Ask the kernel to keep our memory to ourselves: no core dumps, no debugger, no files for others.

Called first thing in a process that will hold secrets, before the first is read. Against root, and against
a process with CAP_SYS_PTRACE, nothing here helps.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Callable

from broker.errors import LocalError

PR_SET_DUMPABLE = 4
"""<linux/prctl.h>"""

UMASK = 0o077
"""Files that we make are ours alone; who shares one says so when making it."""

Prctl = Callable[[int, int], int]
"""prctl(2) with one argument; gives 0, or an errno."""


def require_linux(platform: str = sys.platform) -> None:
    """Refuse every other system. Raises LocalError ``not_linux``."""
    if platform != "linux":
        hint = "run it in a container or a virtual machine with Linux"
        raise LocalError("not_linux", f"the token broker runs on Linux only, and this is {platform}", hint=hint)


def harden(call: Prctl | None = None) -> None:
    """
    Forbid core dumps and ptrace(2) by others of our uid, and set the umask.

    Also closes /proc/PID/mem, environ and fd to them (PR_SET_DUMPABLE in prctl(2), proc(5)). Lasts until
    the next execve(2), and is inherited by forks. Raises LocalError ``hardening_failed``.
    """
    number = (call or prctl)(PR_SET_DUMPABLE, 0)
    if number:
        message = f"the kernel does not let this process hide its memory (prctl: {os.strerror(number)})"
        raise LocalError("hardening_failed", message, hint="does a seccomp filter forbid prctl?")
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError) as error:
        raise LocalError("hardening_failed", "core dumps cannot be switched off (setrlimit)") from error
    os.umask(UMASK)


def prctl(option: int, value: int) -> int:
    """Ask the kernel for something that has one argument (prctl(2)); give 0, or an errno."""
    library = ctypes.CDLL(None, use_errno=True)
    # The unused arguments must be 0 and as wide as a register, or newer options misread them.
    arguments = (ctypes.c_ulong(number) for number in (value, 0, 0, 0))
    if library.prctl(option, *arguments) == 0:
        return 0
    return ctypes.get_errno()
