"""
The generations of transport certificates that are still needed: those in force, and earlier ones while tokens live.

A token is of use only with the certificate that it is bound to, so an earlier generation is kept until no token
in hand and no request under way has anything to do with it. Who makes connections with certificates of its own
(the egress) looks them up here by thumbprint, and is told when one is retired. Nothing here decides when that is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from broker.keys.identity import TransportCertificate

OnRetired = Callable[[TransportCertificate], None]
"""Hears of a generation that nothing is bound to any more; it must not raise."""


class Generations:
    """The certificates by thumbprint (``x5t#S256``); used on the loop only."""

    def __init__(self, certificates: Mapping[str, TransportCertificate]) -> None:
        self._in_force = _by_thumbprint(certificates)
        self._earlier: dict[str, TransportCertificate] = {}
        self._listeners: list[OnRetired] = []

    def get(self, thumbprint: str) -> TransportCertificate | None:
        """Give the certificate of *thumbprint*, in force or earlier; None for one that is not known or is retired."""
        return self._in_force.get(thumbprint) or self._earlier.get(thumbprint)

    def thumbprints(self) -> frozenset[str]:
        """Give all that ``get`` has something for."""
        return frozenset(self._in_force) | frozenset(self._earlier)

    def earlier(self) -> tuple[TransportCertificate, ...]:
        """Give those that are not in force any more, the oldest first."""
        return tuple(self._earlier.values())

    def on_retired(self, tell: OnRetired) -> None:
        """Have *tell* called, on the loop, with each certificate that is retired."""
        self._listeners.append(tell)

    def put_to_use(self, certificates: Mapping[str, TransportCertificate]) -> None:
        """Take in those that are in force from now on; the others become earlier ones."""
        after = _by_thumbprint(certificates)
        gone = {thumbprint: old for thumbprint, old in self._in_force.items() if thumbprint not in after}
        self._earlier = {
            thumbprint: old for thumbprint, old in (self._earlier | gone).items() if thumbprint not in after
        }
        self._in_force = after

    def retire(self, needed: Collection[str | None]) -> tuple[TransportCertificate, ...]:
        """Give up the earlier ones whose thumbprints are not *needed*; gives them, when all were told."""
        retired = tuple(old for thumbprint, old in self._earlier.items() if thumbprint not in needed)
        for old in retired:
            del self._earlier[old.thumbprint]
        for old in retired:
            for tell in self._listeners:
                tell(old)
        return retired


def _by_thumbprint(certificates: Mapping[str, TransportCertificate]) -> dict[str, TransportCertificate]:
    return {one.thumbprint: one for one in certificates.values()}
