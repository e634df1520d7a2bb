"""A sandbox as the whole business of a process: it runs until a signal asks it to end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeVar

from broker.sandbox.running import Sandbox

Served = TypeVar("Served")


def serve_until_signal(
    directory: Path,
    *,
    keep: bool,
    ports: Mapping[str, int],
    strict: bool,
    lifetime: int,
    announce: Callable[[Sandbox], None],
) -> None:
    """
    Run a sandbox until SIGINT or SIGTERM; *announce* is called once it answers.

    The other arguments and what is raised are those of ``Sandbox.start``.
    """
    run_until_signal(
        lambda: Sandbox.start(directory, keep=keep, ports=ports, strict=strict, lifetime=lifetime), announce
    )


def run_until_signal(
    start: Callable[[], AbstractAsyncContextManager[Served]], announce: Callable[[Served], None]
) -> None:
    """Run what *start* gives until SIGINT or SIGTERM; *announce* is called once it answers."""

    async def serve() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with start() as served:
            announce(served)
            await stop.wait()

    asyncio.run(serve())
