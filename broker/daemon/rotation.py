"""
Watches the files that the configuration names, and puts new ones to use: the one owner of rotation (rules.md R8).

Every ten seconds their content is compared with what is in use, off the loop. What changed is put to use when it
has been the same for a second and passes every check that a start makes; what does not pass changes nothing, is
told once, and tried again at every look, so that a pair of which one half is still on its way, or a certificate
that is not valid yet, needs nobody to do anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import NoReturn

from broker.api.rotated import RefusedItem, Rotated
from broker.daemon.adoption import Adoption
from broker.daemon.expiry import Expiry
from broker.errors import LocalError, frames_of
from broker.events import FilesRotated, RotationMended, RotationRefused, UnexpectedFailure
from broker.wiring.renewing import Renewal, renewed
from broker.wiring.watched import CERTIFICATE, KEY, contents_of

LOOK_INTERVAL = 10.0
"""Seconds between two looks at the files (rules.md R8)."""

SETTLE = 1.0
"""Seconds for which what changed has to stay the same: certificate and key are often written one after the other."""

SWEEP_INTERVAL = 1.0
"""Seconds between looks at what older means are still needed: their connections are not kept longer than that."""


class Rotation:
    """Looks at the files now and then, and when asked."""

    def __init__(
        self, adoption: Adoption, *, look_interval: float = LOOK_INTERVAL, sweep_interval: float = SWEEP_INTERVAL
    ) -> None:
        """Take how many seconds are between two looks, and between two sweeps."""
        self._look_interval = look_interval
        self._sweep_interval = sweep_interval
        self._adoption = adoption
        self._parts = adoption.parts
        self._expiry = Expiry(adoption.parts)
        self._seen: Mapping[str, tuple[str, ...]] = {}
        self._said: dict[str, tuple[str, tuple[str, ...]]] = {}

    async def run(self) -> NoReturn:
        """Look and sweep, until cancelled."""
        clock = self._parts.clock
        due_at = clock.boot() + self._look_interval
        self._expiry.look()
        while True:
            await asyncio.sleep(self._sweep_interval)
            try:
                await self._adoption.sweep()
                if clock.boot() >= due_at:
                    settling = await self._look()
                    due_at = clock.boot() + (min(SETTLE, self._look_interval) if settling else self._look_interval)
                    self._expiry.look()
            except Exception as error:  # noqa: BLE001 - the boundary: a bug in a look must not stop the daemon
                name, frames = type(error).__name__, frames_of(error)
                self._parts.emit(UnexpectedFailure(where="rotation", incident="", error=name, frames=frames))
                due_at = clock.boot() + self._look_interval

    def sections(self) -> tuple[str, ...]:
        """Name the sections of which an older generation may be compromised."""
        settings = self._parts.settings
        return (
            *(f"{CERTIFICATE}.{name}" for name in settings.certificates),
            *(f"{KEY}.{name}" for name in settings.keys),
        )

    async def rotate(self, compromised: Collection[str] = ()) -> Rotated:
        """
        Look at the files now, and say what came of it.

        Of the sections *compromised* (``certificate.NAME``, ``key.NAME``) nothing older is used from then on. They
        are configured ones.
        """
        async with self._adoption.turn:
            return await self._renew(compromised)

    async def _look(self) -> bool:
        """Put to use what changed and settled; gives whether something changed that is still to settle."""
        async with self._adoption.turn:
            parts = self._parts
            contents = await asyncio.to_thread(contents_of, parts.settings)
            is_changed = contents != parts.identities.contents
            if is_changed and contents != self._seen:
                self._seen = contents
                return True
            if is_changed or self._said or self._adoption.is_due():
                await self._renew(())
            return False

    async def _renew(self, compromised: Collection[str]) -> Rotated:
        """Load what changed, and put it to use; whoever calls it holds the turn."""
        adoption, parts = self._adoption, self._parts
        before, settings = parts.identities, parts.settings
        renewal = await asyncio.to_thread(renewed, settings, before, wall_now=parts.clock.wall())
        refused = dict(renewal.refused)
        rotated: tuple[str, ...] = ()
        dropped: tuple[str, ...] = ()
        adopted = True
        if renewal.items or compromised or adoption.is_due():
            try:
                prepared = await asyncio.to_thread(
                    adoption.prepare, settings, renewal.identities, compromised=compromised
                )
            except LocalError as error:  # a file was taken away between the two
                refused |= dict.fromkeys((*renewal.items, *compromised), error)
                adopted = False
            else:
                rotated = renewal.items
                dropped = adoption.adopt(settings, prepared, compromised=compromised)
                if rotated:
                    parts.emit(FilesRotated(items=",".join(rotated)))
                adoption.announce(before)
        self._tell(refused, renewal)
        problems = tuple(
            RefusedItem(item=item, reason=str(error.code), problem=_said(error)) for item, error in refused.items()
        )
        return Rotated(rotated=rotated, refused=problems, dropped=dropped, adopted=adopted)

    def _tell(self, refused: Mapping[str, LocalError], renewal: Renewal) -> None:
        """Say what is refused, once for each content of its files, and what is refused no more."""
        for item in tuple(self._said):
            if item not in refused:
                del self._said[item]
                self._parts.emit(RotationMended(item=item))
        for item, error in refused.items():
            known = (str(error.code), renewal.contents.get(item, ()))
            if self._said.get(item) != known:
                self._said[item] = known
                self._parts.emit(RotationRefused(item=item, reason=str(error.code), problem=_said(error)))


def _said(error: LocalError) -> str:
    return error.message + ("" if error.hint is None else f"; {error.hint}")
