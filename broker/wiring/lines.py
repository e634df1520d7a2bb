"""
The connections to APIs: for each upstream one line for each certificate that a token may be bound to.

A new configuration brings new lines, also for earlier certificates, for as long as tokens are bound to those
(``generations`` says when that is over): CAs, proxies and time-outs are those of now, whatever the certificate.
One that is replaced ends when its calls are over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from broker.transport.upstream import UpstreamLine

LAST_CALLS = 60.0
"""Seconds that calls may go on for on connections that were replaced: a large body takes its time."""


class UpstreamLines:
    """Implements ``tokens.calls.Lines``; used on the loop only, but for ``shown``."""

    def __init__(self, lines: Mapping[str, UpstreamLine]) -> None:
        self._newest = dict(lines)
        self._all = {(name, line.thumbprint): line for name, line in lines.items()}
        self._ending: dict[asyncio.Task[None], UpstreamLine] = {}

    def line(self, upstream: str, thumbprint: str | None) -> UpstreamLine | None:
        """Give the line: see ``tokens.calls.Lines``."""
        return self._newest.get(upstream) if thumbprint is None else self._all.get((upstream, thumbprint))

    def shown(self) -> dict[str, tuple[str, ...]]:
        """Give by upstream the thumbprints of the certificates that there are lines with; any thread may ask."""
        keys = tuple(self._all)  # which is replaced and never changed
        names = {name for name, _ in keys}
        return {name: tuple(shown for one, shown in keys if one == name and shown is not None) for name in names}

    def adopt(self, lines: Mapping[str, UpstreamLine], earlier: Iterable[tuple[str, UpstreamLine]] = ()) -> None:
        """
        Go on with the lines of another configuration; those before end.

        Of those with *earlier* certificates, by upstream, one that was retired meanwhile does not come back.
        """
        again = {(name, line.thumbprint): line for name, line in earlier}
        after = {key: line for key, line in again.items() if key in self._all}
        after |= {(name, line.thumbprint): line for name, line in lines.items()}
        self._end(key for key, line in self._all.items() if after.get(key) is not line)
        self._newest, self._all = dict(lines), after

    def retire(self, thumbprint: str) -> None:
        """End the lines that present a certificate to which no token is bound any more."""
        gone = [key for key, line in self._all.items() if key[1] == thumbprint and self._newest.get(key[0]) is not line]
        self._end(gone)
        self._all = {key: line for key, line in self._all.items() if key not in gone}

    async def close(self) -> None:
        """Close everything, when nobody calls any more. When it returns, no socket is open."""
        for line in (*self._all.values(), *self._ending.values()):
            await line.close()
        for task in tuple(self._ending):
            task.cancel()
        if self._ending:
            await asyncio.wait(tuple(self._ending))

    def _end(self, keys: Iterable[tuple[str, str | None]]) -> None:
        for key in keys:
            self._begin(self._all[key], seconds=LAST_CALLS)

    def _begin(self, line: UpstreamLine, *, seconds: float) -> None:
        task = asyncio.get_running_loop().create_task(_ended(line, seconds), name="retire upstream line")
        self._ending[task] = line
        task.add_done_callback(self._ending.pop)


async def _ended(line: UpstreamLine, seconds: float) -> None:
    await line.drained(seconds)
    await line.close()
