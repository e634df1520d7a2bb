"""
The process from start to stop: open, serve, drain, close.

All root tasks live in one group, by name; when one of them ends unexpectedly all end, and the process exits
with a failure for its supervisor to see. Nothing is printed here: it reports through telemetry, or raises.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from typing import NoReturn, TextIO

from broker import __version__
from broker.config.settings import Settings
from broker.errors import LocalError, frames_of
from broker.events import (
    CertificateLoaded,
    ConfigurationLoaded,
    DaemonStarted,
    DaemonStopped,
    DaemonStopping,
    SigningKeyLoaded,
    UnexpectedFailure,
)
from broker.telemetry.foreign import foreign_reports, loop_exception_handler
from broker.wiring import Identities, Parts, build

DONE = 0
FAILED = 1

TELEMETRY_INTERVAL = 1.0
"""Seconds between checkpoints of the audit log (rules.md R9)."""


def run_daemon(settings: Settings, identities: Identities, *, log_stream: TextIO) -> int:
    """
    Run until SIGTERM or SIGINT; give the exit code.

    Raises LocalError when the daemon cannot start: a socket in use, an audit file that is not safe.
    """
    with asyncio.Runner() as runner:
        return runner.run(_run(settings, identities, log_stream))


async def _run(settings: Settings, identities: Identities, log_stream: TextIO) -> int:
    loop = asyncio.get_running_loop()
    parts = build(settings, identities, log_stream=log_stream)
    loop.set_exception_handler(loop_exception_handler(parts.emit))
    with foreign_reports(parts.emit, loop):
        try:
            async with AsyncExitStack() as stack:
                stack.callback(parts.telemetry.close)
                await _serve(parts, stack)
                parts.emit(DaemonStopped())
        except BaseExceptionGroup as group:
            # Only bugs get here: what can be expected of a root task is dealt with in it.
            _report(parts, group)
            return FAILED
    return DONE


async def _serve(parts: Parts, stack: AsyncExitStack) -> None:
    """Open everything, work until a signal, take everything down again."""
    stopping = _stop_signals(parts)
    for session in parts.sessions:
        stack.push_async_callback(session.close)
    for key in parts.identities.keys.values():
        stack.callback(key.close)
    _announce_identities(parts)
    parts.api.open()
    stack.push_async_callback(parts.api.drain, 0.0)
    if parts.ops is not None:
        parts.ops.open()
        stack.push_async_callback(parts.ops.drain, 0.0)
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(parts.registry.run(), name="tokens"),
            group.create_task(_tick(parts), name="telemetry"),
            group.create_task(parts.api.run(), name="api"),
        ]
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
        parts.emit(DaemonStopping(reason=await stopping))
        await parts.api.drain(parts.settings.daemon.drain_seconds)
        for task in tasks:
            task.cancel()


def _stop_signals(parts: Parts) -> asyncio.Future[str]:
    """Give a future that the first SIGTERM or SIGINT resolves; let SIGHUP reopen the audit file."""
    loop = asyncio.get_running_loop()
    stopping: asyncio.Future[str] = loop.create_future()

    def stop(number: signal.Signals) -> None:
        if not stopping.done():
            stopping.set_result(number.name)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    loop.add_signal_handler(signal.SIGHUP, parts.reopen_logs)
    return stopping


async def _tick(parts: Parts) -> NoReturn:
    while True:
        await asyncio.sleep(TELEMETRY_INTERVAL)
        parts.telemetry.tick()


def _announce_identities(parts: Parts) -> None:
    parts.emit(ConfigurationLoaded(path=str(parts.settings.path), sha256=parts.settings.sha256))
    for certificate in parts.identities.certificates.values():
        parts.emit(
            CertificateLoaded(
                certificate=certificate.name,
                generation=certificate.generation,
                thumbprint=certificate.thumbprint,
                not_after=certificate.not_after,
            )
        )
    for key in parts.identities.keys.values():
        parts.emit(SigningKeyLoaded(key=key.name, alg=key.alg, kid=key.kid, not_after=key.not_after))


def _report(parts: Parts, group: BaseExceptionGroup[BaseException]) -> None:
    for error in group.exceptions:
        if isinstance(error, LocalError):
            raise error
        parts.emit(UnexpectedFailure(where="daemon", incident="", error=type(error).__name__, frames=frames_of(error)))
