"""
SIGHUP: load the configuration again, off the loop, and put all of it to use or nothing.

What is wrong is reported in one event and changes nothing. What only a start can change stays as it was, and the
event of the load names it. How it is put to use, and what becomes of the older one, is in ``adoption``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from broker.config.problems import ConfigurationError
from broker.config.settings import Settings
from broker.daemon.adoption import Adoption, Prepared, certificate_loaded, signing_key_loaded
from broker.errors import LocalError, frames_of
from broker.events import (
    ConfigurationDoubted,
    ConfigurationLoaded,
    ConfigurationRefused,
    Emit,
    UnexpectedFailure,
)
from broker.hostenv.notify import Notifier
from broker.wiring import Identities, load_identities
from broker.wiring.sinking import unsafe_sinks

Load = Callable[[Path], Settings]
"""Reads settings from a file. Raises LocalError, ConfigurationError among them; blocks."""

SEPARATOR = "\n"
"""Between problems: `jq -r .problems` shows them as ``check`` does."""

FIXED = ("listeners", "ops", "audit", "store", "daemon", "log_level")
"""The fields of Settings that only a start puts to use."""

SECTIONS = {"listeners": "listener", "log_level": "log"}
"""How the sections of those are called in the file, where it is not the same."""


class _RefusedError(Exception):
    """What the event says: *reason* is a code, *problems* are all of them."""

    def __init__(self, reason: str, problems: tuple[str, ...]) -> None:
        super().__init__(reason)
        self.reason = reason
        self.problems = problems


class Reloader:
    """Reloads when asked, one at a time."""

    def __init__(self, adoption: Adoption, load: Load, notifier: Notifier) -> None:
        self._adoption = adoption
        self._parts = adoption.parts
        self._load = load
        self._notifier = notifier
        self._keys = _contents(adoption.parts.identities)
        self.generation = 1

    async def run(self, asked: asyncio.Event) -> NoReturn:
        """Reload whenever *asked* is set, until cancelled; asked again meanwhile, once more."""
        while True:
            await asked.wait()
            asked.clear()
            self._notifier.reloading(self._parts.clock.awake())
            try:
                async with self._adoption.turn:
                    await self._reload()
            except Exception as error:  # noqa: BLE001 - the boundary: a bug in a reload must not stop the daemon
                name, frames = type(error).__name__, frames_of(error)
                self._parts.emit(UnexpectedFailure(where="reload", incident="", error=name, frames=frames))
            self._notifier.ready(self.standing())

    def standing(self) -> str:
        """Say for people which configuration is in force, and whether the last one was refused."""
        if self._parts.serving.refused:
            return f"Serving with configuration {self.generation}; the last reload was refused: see the log"
        waiting = ", ".join(self._parts.serving.restart)
        return f"Serving with configuration {self.generation}" + (
            f"; a restart waits for: {waiting}" if waiting else ""
        )

    async def _reload(self) -> None:
        parts = self._parts
        path = parts.settings.path
        try:
            settings, prepared = await asyncio.to_thread(self._prepare, path)
        except _RefusedError as refused:
            parts.serving.refused = True
            parts.emit(
                ConfigurationRefused(
                    path=str(path),
                    reason=refused.reason,
                    problems=SEPARATOR.join(refused.problems),
                    found=len(refused.problems),
                )
            )
            return
        self.generation += 1
        waiting = self._waiting(settings, prepared.means.identities)
        self._adoption.adopt(_with_fixed(settings, parts.settings), prepared, restart=waiting)
        parts.serving.refused = False
        announce(parts.emit, settings, parts.identities, generation=self.generation, restart=waiting)
        self._adoption.announce_waiting()

    def _prepare(self, path: Path) -> tuple[Settings, Prepared]:
        """Load everything and build the means; in a thread. Raises _RefusedError."""
        errors: list[LocalError] = []
        try:
            settings = self._load(path)
            self._check_store(settings)
            identities = load_identities(settings, wall_now=self._parts.clock.wall(), on_error=errors.append)
            errors += unsafe_sinks(settings)
            if errors:
                raise _RefusedError("files_unusable", tuple(map(_said, errors)))
            return settings, self._adoption.prepare(settings, identities)
        except ConfigurationError as error:
            raise _RefusedError(error.code, tuple(map(str, error.problems)) or (_said(error),)) from None
        except LocalError as error:
            raise _RefusedError(error.code, (_said(error),)) from None

    def _check_store(self, settings: Settings) -> None:
        """
        Refuse tokens of people while there is no store: it is opened at a start, under the lock.

        Raises _RefusedError. Their refresh tokens would be in memory alone.
        """
        asking = [spec.name for spec in settings.tokens if spec.consent is not None]
        if asking and self._parts.settings.store is None:
            said = f"token.{asking[0]}.grant_type: needs the store, which only a start opens; restart the broker"
            raise _RefusedError("restart_required", (said,))

    def _waiting(self, settings: Settings, identities: Identities) -> tuple[str, ...]:
        """Name the sections whose changes wait for a restart; a file of another content is a change, too."""
        keys = _contents(identities)
        before = self._parts.settings
        changed = (
            name
            for name in FIXED
            if getattr(before, name) != getattr(settings, name) or keys.get(name) != self._keys.get(name)
        )
        return tuple(SECTIONS.get(name, name) for name in changed)


def _contents(identities: Identities) -> Mapping[str, bytes | None]:
    """Give by what to know the keys again that only a start takes in; the sealing key shows nothing of itself."""
    sealing = identities.store_key
    return {"audit": identities.audit_key, "store": None if sealing is None else sealing.check_value(b"reload")}


def announce(
    emit: Emit, settings: Settings, identities: Identities, *, generation: int, restart: Sequence[str] = ()
) -> None:
    """Report a configuration that is in force now, with what looks wrong in it, and its certificates and keys."""
    path, waiting = str(settings.path), ",".join(restart)
    emit(ConfigurationLoaded(path=path, sha256=settings.sha256, generation=generation, restart=waiting))
    if settings.warnings:
        said = SEPARATOR.join(map(str, settings.warnings))
        emit(ConfigurationDoubted(path=path, problems=said, found=len(settings.warnings)))
    for certificate in identities.certificates.values():
        emit(certificate_loaded(certificate))
    for key in identities.keys.values():
        emit(signing_key_loaded(key))


def _with_fixed(after: Settings, before: Settings) -> Settings:
    """
    Keep what only a start changes.

    A workload is not recognized at a listener whose name means another socket in the file than it does here:
    who may open the one need not be who may open the other.
    """
    places = {listener.name: listener.place for listener in before.listeners}
    moved = {one.name for one in after.listeners if one.name in places and one.place != places[one.name]}
    workloads = tuple(
        replace(one, listeners=one.listeners - moved)
        for one in after.workloads
        if not one.listeners or one.listeners - moved
    )
    return replace(after, workloads=workloads, **{name: getattr(before, name) for name in FIXED})


def _said(error: LocalError) -> str:
    return f"{error.message} [{error.code}]" + ("" if error.hint is None else f"; {error.hint}")
