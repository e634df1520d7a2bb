"""
The life of one sink: the file holds the token that a caller would get, and nothing where a caller would get nothing.

It looks whenever there is news of the token, and every second: at the time, and at whether the file is still there. A
token leaves the file a few seconds before its end: whoever reads it then could not use it any more.
"""

from __future__ import annotations

import asyncio
import errno
from dataclasses import dataclass
from typing import NoReturn

from broker.errors import LocalError, frames_of
from broker.events import (
    Emit,
    SinkFileRemoved,
    SinkHookEnded,
    SinkHookFailed,
    SinkWriteFailed,
    SinkWritten,
    TokenFiled,
    UnexpectedFailure,
)
from broker.sinks.content import content_of
from broker.sinks.files import Files, Found, Identity, Mark
from broker.sinks.hook import Outcome, RunHook
from broker.sinks.spec import Hook, Sink
from broker.tokens.ports import Clock, Randomness, TokenSource
from broker.tokens.schedule import DEFAULT_MIN_VALID, backoff, min_valid_of
from broker.tokens.served import MIN_SERVED
from broker.tokens.serving import ConsentRequiredError, Serving, TokenUnavailableError
from broker.tokens.spec import IssuedToken

LOOK = 1.0
"""Seconds between two looks without news: a grant that is new has none, nor has a file that somebody removed."""

LAST_SHARE = 0.1
"""Of the lifetime: a token that is short-lived is refreshed when half of it is left, and is in the file until then."""

CLOCK_SET = 2
"""Seconds by which the end of a token may differ from what is in the file: more, and the wall clock was set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """
    What is in the file: the token of *etag*, None where an earlier run wrote it.

    *expires_at* in Unix seconds as it is in the file; from *spent_at*, by the boot clock, it must not be there.
    """

    etag: str | None
    expires_at: int
    spent_at: float
    identity: Identity


@dataclass(slots=True)
class _Attempts:
    """When something that failed may be tried again."""

    failures: int = 0
    not_before: float = 0.0


class Keeper:
    """Keeps the file of one sink; *held* is what a keeper before it left in the same file."""

    def __init__(
        self,
        sink: Sink,
        *,
        tokens: TokenSource,
        files: Files,
        run_hook: RunHook,
        clock: Clock,
        randomness: Randomness,
        emit: Emit,
        held: Held | None = None,
    ) -> None:
        self.sink = sink
        self.held = held
        self._tokens = tokens
        self._files = files
        self._run_hook = run_hook
        self._clock = clock
        self._randomness = randomness
        self._emit = emit
        self._writing, self._removing = _Attempts(), _Attempts()
        self._written = asyncio.Event()
        self._new = held is None

    async def run(self) -> NoReturn:
        """Keep the file until cancelled; it stays as it is then, and no hook is left running."""
        async with asyncio.TaskGroup() as group:
            if self.sink.hook is not None:
                group.create_task(self._tell(self.sink.hook), name=f"hook {self.sink.name}")
            while True:
                try:
                    await self._turn()
                except Exception as error:  # noqa: BLE001 - the boundary: a bug here must not stop the daemon
                    self._report(error)
                    await asyncio.sleep(LOOK)
        raise AssertionError("the loop above never ends")

    async def discard(self) -> None:
        """Remove the file, when nothing runs any more: the sink is not configured, or has another path."""
        await self._drop("unconfigured")

    async def _turn(self) -> None:
        """Look once, and wait until there is a reason to look again."""
        if self._new:
            await self._take_over()
        try:
            with self._tokens.watch(self.sink.token) as watch:
                wait = await self._look()
                await asyncio.wait([watch.news], timeout=wait)
        except ConsentRequiredError:
            if self.held is not None:
                await self._drop("consent_required")
            await asyncio.sleep(LOOK)
        except KeyError:  # a reload has dropped the token, and will replace us
            await asyncio.sleep(LOOK)

    async def _look(self) -> float:
        """Bring the file up to date; give the seconds until the next look. Raises ConsentRequiredError, KeyError."""
        serving = await self._servable()
        if serving is not None and not await self._has(serving):
            await self._put(serving)
        held, now = self.held, self._clock.boot()
        if held is not None and now >= held.spent_at:
            await self._drop("expired")
        elif held is not None and serving is None and held.etag is not None:
            await self._drop("withdrawn")
        now = self._clock.boot()
        until = LOOK if self.held is None else max(self.held.spent_at - now, 0.0)
        if self._writing.failures:
            until = min(until, max(self._writing.not_before - now, 0.0))
        # Never at once: what could not be removed would be tried in a circle.
        return min(LOOK, max(until, LOOK / 20))

    async def _servable(self) -> Serving | None:
        """Give the token if enough is left of it to be of use."""
        try:
            serving = await self._tokens.get(self.sink.token, min_valid=0.0, wait=0.0)
        except TokenUnavailableError:
            return None
        return serving if self._left(serving.token) > 0 else None

    def _left(self, token: IssuedToken) -> float:
        """Give the seconds for which it may be in the file."""
        left = token.left(boot=self._clock.boot(), wall=self._clock.wall())
        return left - _ahead(min_valid_of(token, None), token.lifetime)

    async def _has(self, serving: Serving) -> bool:
        """Say whether the file has this very token, with the right end, and is still there."""
        held = self.held
        if held is None or held.etag != serving.token.etag or abs(held.expires_at - serving.expires_at) > CLOCK_SET:
            return False
        found = await self._found()
        return found is not None and found.identity == held.identity

    async def _found(self) -> Found | None:
        try:
            return await self._files.find(self.sink)
        except (OSError, LocalError):
            return None  # writing says what is wrong with the place

    async def _take_over(self) -> None:
        """
        Keep what an earlier run left while it is good, so that a restart disturbs nobody, or remove it.

        A file that says nothing of itself, or that is another token's, or from the future, is not trusted.
        """
        try:
            found = await self._files.find(self.sink)
        except (OSError, LocalError):
            self._new = False  # writing says what is wrong with the place
            return
        self._new = False
        if found is None:
            return
        mark, wall = found.mark, self._clock.wall()
        left = 0.0
        if mark is not None:
            left = mark.ends_at - wall - _ahead(DEFAULT_MIN_VALID, mark.ends_at - mark.written_at)
        self.held = Held(
            etag=None,
            expires_at=0 if mark is None else mark.ends_at,
            spent_at=self._clock.boot() + left,
            identity=found.identity,
        )
        if mark is None or mark.token != self.sink.token or mark.written_at > wall or left <= 0:
            await self._drop("outdated")

    async def _put(self, serving: Serving) -> None:
        """Write the token, after its record; what fails is tried again, and the old file stays."""
        now, sink, token = self._clock.boot(), self.sink, serving.token
        if now < self._writing.not_before:
            return
        mark = Mark(token=sink.token, written_at=int(self._clock.wall()), ends_at=serving.expires_at)
        spent_at = now + self._left(token)
        try:
            self._record(serving)
            identity = await self._files.write(sink, content_of(serving, sink.format), mark)
        except (OSError, LocalError) as error:
            self._failed(self._writing, error)
            return
        self._writing = _Attempts()
        self.held = Held(etag=token.etag, expires_at=serving.expires_at, spent_at=spent_at, identity=identity)
        self._emit(
            SinkWritten(sink=sink.name, token=sink.token, path=str(sink.path), expires_at=float(serving.expires_at))
        )
        self._written.set()

    def _record(self, serving: Serving) -> None:
        """Report the token before it leaves. Raises AuditUnavailableError: then it stays (rules.md R9)."""
        self._emit(
            TokenFiled(
                sink=self.sink.name,
                token=self.sink.token,
                grant=self._tokens.grant_of(self.sink.token),
                path=str(self.sink.path),
                fingerprint=serving.token.fingerprint,
                generation=serving.token.generation,
                expires_at=float(serving.expires_at),
            )
        )

    async def _drop(self, reason: str) -> None:
        """Remove the file."""
        if self._clock.boot() < self._removing.not_before:
            return
        try:
            removed = await self._files.remove(self.sink)
        except (OSError, LocalError) as error:
            self._failed(self._removing, error)
            return
        self._removing = _Attempts()
        self.held = None
        if removed:
            sink = self.sink
            self._emit(SinkFileRemoved(sink=sink.name, token=sink.token, path=str(sink.path), reason=reason))

    def _failed(self, attempts: _Attempts, error: OSError | LocalError) -> None:
        now = self._clock.boot()
        attempts.failures += 1
        retry_in = backoff(attempts.failures, self._randomness.uniform())
        attempts.not_before = now + retry_in
        self._emit(
            SinkWriteFailed(
                sink=self.sink.name,
                token=self.sink.token,
                path=str(self.sink.path),
                reason=_reason(error),
                retry_in=retry_in,
                serving=self.held is not None and now < self.held.spent_at,
            )
        )

    async def _tell(self, hook: Hook) -> NoReturn:
        """Run the hook after each write, one at a time; for all that is written meanwhile, once."""
        while True:
            await self._written.wait()
            self._written.clear()
            begun = self._clock.boot()
            try:
                ended = await self._run_hook(self.sink, hook)
            except Exception as error:  # noqa: BLE001 - the boundary: a bug here must not stop the daemon
                self._report(error)
                continue
            duration = self._clock.boot() - begun
            if ended.outcome is Outcome.OK:
                self._emit(SinkHookEnded(sink=self.sink.name, duration=duration))
            else:
                self._emit(
                    SinkHookFailed(
                        sink=self.sink.name, reason=ended.outcome.value, status=ended.status, duration=duration
                    )
                )

    def _report(self, error: Exception) -> None:
        name = type(error).__name__
        self._emit(UnexpectedFailure(where="sink", incident="", error=name, frames=frames_of(error)))


def _ahead(usual: float, lifetime: float) -> float:
    """Give how many seconds before its end a token leaves the file."""
    return max(min(usual, lifetime * LAST_SHARE), MIN_SERVED)


def _reason(error: OSError | LocalError) -> str:
    if isinstance(error, LocalError):
        return error.code
    return errno.errorcode.get(error.errno or 0, "unknown").lower()
