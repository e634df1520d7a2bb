"""A sandbox as the whole business of a process: it runs until a signal asks it to end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

from broker.sandbox.running import Sandbox


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

    async def serve() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with Sandbox.start(directory, keep=keep, ports=ports, strict=strict, lifetime=lifetime) as sandbox:
            announce(sandbox)
            await stop.wait()

    asyncio.run(serve())
