"""
The process from start to stop: open, serve, drain, close.

All root tasks live in one group, by name; when one of them ends unexpectedly all end, and the process exits
with a failure for its supervisor to see. Nothing is printed here: it reports through telemetry, or raises.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn, TextIO

from broker import __version__
from broker.config.load import load_settings
from broker.config.settings import Settings
from broker.daemon.adoption import Adoption
from broker.daemon.reload import Load, Reloader, announce
from broker.daemon.rotation import Rotation
from broker.errors import frames_of
from broker.events import (
    DaemonStarted,
    DaemonStopped,
    DaemonStopping,
    UnexpectedFailure,
)
from broker.hostenv.clock import SYSTEM_CLOCK
from broker.hostenv.clock_watch import Clocks
from broker.hostenv.notify import Notifier
from broker.hostenv.state_dir import START_PATIENCE, held
from broker.hostenv.supervision import UNSUPERVISED, Supervision
from broker.hostenv.watchdog import Checks, Pulse, feed
from broker.telemetry.foreign import foreign_reports, loop_exception_handler
from broker.wiring import Identities, Parts, build
from broker.wiring.confinement import confine_to

DONE = 0
FAILED = 1

HANDLED = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})

TICK = 1.0
"""Seconds between checkpoints of the audit log (rules.md R9), and between looks at the clocks."""

CLOSING = 20.0
"""Seconds behind a drain: refreshes that are waited for have 15, and the store is written last."""


def run_daemon(
    settings: Settings,
    identities: Identities,
    *,
    log_stream: TextIO,
    credentials_directory: Path | None = None,
    clock: Clocks = SYSTEM_CLOCK,
    supervision: Supervision = UNSUPERVISED,
    inherited: Mapping[str, socket.socket] = MappingProxyType({}),
) -> int:
    """
    Run until SIGTERM or SIGINT; give the exit code.

    *credentials_directory* is where a reload looks for credentials, as the first load did. *supervision* says whom to
    tell how we are, *inherited* are the sockets that were opened for us, by the listeners' names.

    Raises LocalError when the daemon cannot start: a socket in use, an audit file that is not safe.
    StateDirInUseError among them when another broker holds the state directory.
    """
    state_dir = settings.daemon.state_dir
    with held(state_dir, patience=START_PATIENCE), asyncio.Runner(loop_factory=_Loop) as runner:
        confinement = confine_to(settings)  # before the store has its thread, which would be left out
        load = partial(load_settings, credentials_directory=credentials_directory)
        parts = build(settings, identities, log_stream=log_stream, clock=clock, inherited=inherited)
        if confinement.event is not None:
            parts.emit(confinement.event)
        parts.life.restore()
        # What is there now stays. Looking through it for garbage would stop the loop for a tenth of a second, again
        # and again, where there are ten thousand tokens or grants.
        gc.freeze()
        try:
            return runner.run(run(parts, partial(confinement.load, load), supervision))
        finally:
            hold_signals()  # what comes now changes nothing any more
            gc.unfreeze()


class _Loop(asyncio.SelectorEventLoop):
    """
    A loop that has signals ignored once it is closed.

    Others give them back to the system, and then one more would end the process with another exit code, in the very
    moment in which all is done. It is not enough to put them off in the thread that we are: another one, on its last
    way out, would be handed them.
    """

    def remove_signal_handler(self, sig: int) -> bool:
        """Have *sig* ignored from now on."""
        signal.signal(sig, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)  # which the loop has closed
        return True


def hold_signals() -> None:
    """
    Put the signals that the daemon handles off until it can.

    Without this, SIGHUP would end a process that is still loading its keys, and as the first process of a
    container it would not hear SIGTERM at all.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)


async def run(parts: Parts, load: Load, supervision: Supervision = UNSUPERVISED) -> int:
    """Put *parts* to work until a signal, and take them down; as ``run_daemon``. *load* reads settings again."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(loop_exception_handler(parts.emit))
    code = DONE
    with foreign_reports(parts.emit, loop):
        async with AsyncExitStack() as stack:
            stack.callback(parts.telemetry.close)
            stack.push_async_callback(parts.store.close)
            stack.push_async_callback(parts.life.close)
            try:
                await _serve(parts, stack, load, supervision)
            except BaseExceptionGroup as group:
                # Only bugs get here: what can be expected of a root task is dealt with in it.
                _report(parts, group)
                code = FAILED
            parts.telemetry.flush()  # so that this is the last record
            parts.emit(DaemonStopped())
    return code


async def _serve(parts: Parts, stack: AsyncExitStack, load: Load, supervision: Supervision) -> None:
    """Open everything, work until a signal, take everything down again."""
    adoption = Adoption(parts)
    stack.push_async_callback(adoption.close)
    stack.push_async_callback(parts.lines.close)
    notifier = Notifier(supervision.notify_socket, parts.emit)
    reloader, rotation = Reloader(adoption, load, notifier), Rotation(adoption)
    parts.serving.rotate = rotation
    hangups = asyncio.Event()
    signals = _stop_signals(parts, hangups)
    announce(parts.emit, parts.settings, parts.identities, generation=reloader.generation)
    parts.api.open()
    stack.push_async_callback(parts.api.drain, 0.0)
    if parts.ops is not None:
        parts.ops.open()
        stack.push_async_callback(parts.ops.drain, 0.0)
    parts.sinks.open()  # after the listeners, which may have made the directories
    pulse = Pulse(parts.clock)
    async with asyncio.TaskGroup() as group:
        tasks = [
            *(group.create_task(run(), name=name) for name, run in parts.life.runs().items()),
            group.create_task(_tick(parts, pulse), name="tick"),
            group.create_task(parts.api.run(), name="api"),
            group.create_task(parts.sinks.run(), name="sinks"),
        ]
        changing = (
            group.create_task(reloader.run(hangups), name="reload"),
            group.create_task(rotation.run(), name="rotation"),
        )
        if parts.ops is not None:
            tasks.append(group.create_task(parts.ops.run(), name="ops"))
        parts.emit(
            DaemonStarted(
                version=__version__,
                tokens=len(parts.settings.tokens),
                listeners=len(parts.settings.listeners),
                pid=os.getpid(),
            )
        )
        if supervision.watchdog_seconds is not None:
            checks = _checks(parts, pulse, tuple(tasks))
            tasks.append(group.create_task(feed(notifier, supervision.watchdog_seconds, checks, parts.emit)))
        notifier.ready(reloader.standing())
        parts.emit(DaemonStopping(reason=await signals.get()))
        notifier.stopping(parts.settings.daemon.drain_seconds + CLOSING)
        for change in changing:
            change.cancel()  # from here on nothing is begun
        draining = group.create_task(parts.api.drain(parts.settings.daemon.drain_seconds), name="drain")
        hurry = group.create_task(signals.get(), name="second signal")
        await asyncio.wait([draining, hurry], return_when=asyncio.FIRST_COMPLETED)
        for task in (*tasks, draining, hurry):
            task.cancel()


def _stop_signals(parts: Parts, hangups: asyncio.Event) -> asyncio.Queue[str]:
    """Give a queue of the signals that ask us to stop; let SIGHUP reopen the audit file and set *hangups*."""
    loop = asyncio.get_running_loop()
    signals: asyncio.Queue[str] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.put_nowait, number.name)

    def hang_up() -> None:
        hangups.set()
        parts.reopen_logs()

    loop.add_signal_handler(signal.SIGHUP, hang_up)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)  # what came while we started is dealt with now
    return signals


def _checks(parts: Parts, pulse: Pulse, tasks: Sequence[asyncio.Task[Any]]) -> Checks:
    """Say what has to be well for the watchdog to be fed."""
    return {
        "tasks": lambda: not any(task.done() for task in tasks),
        "tick": pulse.is_on_time,
        "store": parts.store_works,
    }


async def _tick(parts: Parts, pulse: Pulse) -> NoReturn:
    while True:
        await asyncio.sleep(TICK)
        pulse.beat()
        parts.telemetry.tick()
        if parts.clock_watch.look():
            parts.life.reconsider()


def _report(parts: Parts, group: BaseExceptionGroup[BaseException]) -> None:
    """Say what went wrong in which root task: each error itself, and not the groups that it came in."""
    parts.emit(DaemonStopping(reason="failure"))
    waiting: list[BaseException] = [group]
    while waiting:
        error = waiting.pop()
        if isinstance(error, BaseExceptionGroup):
            waiting.extend(error.exceptions)
            continue
        parts.emit(UnexpectedFailure(where="daemon", incident="", error=type(error).__name__, frames=frames_of(error)))
