"""
The program that is told of a new token: run with nothing of the broker but the name of the file.

It has no descriptor, no environment and no privilege of ours (threat T36): a session of its own, standard streams at
/dev/null, ``PR_SET_NO_NEW_PRIVS``, no ambient capability, and where the broker is root the user and group of the sink.
It cannot read our memory, for we are not dumpable (``hostenv.hardening``). When it ends, or its time is over, whatever
is left of its process group is killed.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import stat
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

from broker.errors import LocalError
from broker.paths import weakness_above
from broker.sinks.files import to_the_end
from broker.sinks.spec import Hook, Sink

PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
"""<linux/prctl.h>; the first two hold for the calling thread, and for what it starts."""

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""What a program finds others by: the system's own directories, whatever ours was."""

REAP_TIME = 5.0
"""Seconds that killed processes may take to be gone: only one that hangs in the kernel takes any."""

REAP_STEP = 0.01
"""Seconds between two looks whether they are."""


class Outcome(StrEnum):
    """How it ended."""

    OK = "ok"
    EXIT = "exit"
    """With another code than 0."""
    SIGNAL = "signal"
    TIMEOUT = "timeout"
    NOT_STARTED = "not_started"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a run of the hook ended; *status* is the exit code, or the number of the signal."""

    outcome: Outcome
    status: int | None = None


RunHook = Callable[[Sink, Hook], Awaitable[Ended]]
"""Runs the hook of a sink; cancelled, it leaves nothing running."""


def check_hook(sink: Sink, hook: Hook) -> None:
    """
    Judge the program: nobody but root and we may be able to replace it, and as root nothing is run.

    Raises LocalError ``sink_hook_refused``, ``sink_hook_unsafe``, ``sink_hook_missing``.
    """
    if os.geteuid() == 0 and not (sink.uid and sink.gid):
        raise LocalError(
            "sink_hook_refused",
            f"sink {sink.name}: the broker runs as root, and so would the hook",
            hint="add owner and group, both not root's; better, run the broker as a user of its own",
        )
    program = Path(hook.argv[0])
    try:
        weakness = weakness_above(program)
        found = program.stat()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else "unknown error"
        message = f"sink {sink.name}: the hook {program} cannot be looked at: {reason}"
        raise LocalError("sink_hook_missing", message, hint="correct the path, or install the program") from error
    if weakness is not None:
        message = f"sink {sink.name}: on the way to the hook {program}, {weakness.path} {weakness.what}"
        raise LocalError("sink_hook_unsafe", message, hint=weakness.fix)
    if not stat.S_ISREG(found.st_mode) or not found.st_mode & 0o111:
        message = f"sink {sink.name}: the hook {program} is not a program"
        raise LocalError("sink_hook_missing", message, hint=f"chmod +x {program}, or correct the path")
    if found.st_uid not in (0, os.geteuid()):
        message = f"sink {sink.name}: the hook {program} belongs to another user, who could change it"
        raise LocalError("sink_hook_unsafe", message, hint="chown it to root")
    if found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and found.st_gid not in (0, os.getegid())):
        message = f"sink {sink.name}: the hook {program} can be changed by others"
        raise LocalError("sink_hook_unsafe", message, hint=f"chmod go-w {program}")


async def run_hook(sink: Sink, hook: Hook) -> Ended:
    """Run *hook*, and leave nothing of it: implements ``RunHook``."""
    loop = asyncio.get_running_loop()
    thread = ThreadPoolExecutor(1, thread_name_prefix=f"hook {sink.name}")  # its own: it gives up privileges for good
    starting = loop.run_in_executor(thread, _start, sink, hook)
    try:
        await asyncio.wait([starting])
        if isinstance(starting.exception(), (OSError, LocalError)):
            return Ended(outcome=Outcome.NOT_STARTED)
        child = starting.result()
        exited = loop.run_in_executor(thread, _wait, child.pid)
        done, _ = await asyncio.wait([exited], timeout=hook.timeout)
    finally:
        await asyncio.wait([starting])
        if starting.exception() is None:
            await to_the_end(partial(_end, starting.result()))
        thread.shutdown(wait=False)
    return _ended(child.returncode) if done else Ended(outcome=Outcome.TIMEOUT)


def _ended(code: int | None) -> Ended:
    if code is None or code < 0:
        return Ended(outcome=Outcome.SIGNAL, status=None if code is None else -code)
    return Ended(outcome=Outcome.EXIT if code else Outcome.OK, status=code)


def _start(sink: Sink, hook: Hook) -> subprocess.Popen[bytes]:
    """Start it; in a thread that does nothing else afterwards. Raises LocalError, OSError."""
    check_hook(sink, hook)
    _give_up_privileges()
    rights: Mapping[str, Any] = {}
    if os.geteuid() == 0:
        rights = {"user": sink.uid, "group": sink.gid, "extra_groups": []}
    return subprocess.Popen(  # noqa: S603 - the program is the operator's, checked above, and no shell reads it
        hook.argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        close_fds=True,
        cwd="/",
        env={
            "PATH": SEARCH_PATH,
            "LANG": "C.UTF-8",
            "TOKEN_BROKER_SINK": sink.name,
            "TOKEN_BROKER_SINK_FILE": str(sink.path),
        },
        start_new_session=True,
        **rights,
    )


def _give_up_privileges() -> None:
    """Have the kernel grant nothing to what this thread starts. Raises OSError."""
    library = ctypes.CDLL(None, use_errno=True)
    for option, value in ((PR_SET_NO_NEW_PRIVS, 1), (PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)):
        if library.prctl(option, *(ctypes.c_ulong(number) for number in (value, 0, 0, 0))):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def _wait(pid: int) -> None:
    """Wait for its end, and leave it there: its number, and that of its group, is not given to another before."""
    with suppress(ChildProcessError):  # its time was over, and whoever killed it has reaped it before we looked
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kill what is left of its group, and reap it; also what became our child because its parent is gone. Blocks."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        child.wait(REAP_TIME)
    for _ in range(round(REAP_TIME / REAP_STEP)):
        try:
            pid, _status = os.waitpid(-child.pid, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            time.sleep(REAP_STEP)
