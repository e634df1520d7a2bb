from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from broker.daemon.expiry import Expiry, steps_of
from broker.events import CertificateExpiring, SigningKeyExpiring, TokenEndsWithCertificate
from broker.keys.identity import TransportCertificate, load_transport_certificate
from broker.keys.signer import SigningKey
from broker.tokens.spec import IssuedToken
from broker.wiring import Identities, Parts
from tests.fakes import WALL_AT_BOOT, Events, HandClock
from tests.unit.keys.certificates import WALL, client, p256, written
from tests.unit.tokens.tokens import issued

HOUR, DAY = 3_600.0, 86_400.0


def certificate(tmp_path: Path, *, life: float, name: str = "x") -> TransportCertificate:
    pair = client()
    made = load_transport_certificate(
        name=name,
        cert_file=written(tmp_path / "x.pem", pair.cert_pem()),
        key_file=written(tmp_path / "x.key", pair.key_pem()),
        generation=1,
        wall_now=WALL,
    )
    return replace(made, not_before=WALL_AT_BOOT, not_after=WALL_AT_BOOT + life)


@dataclass
class World:
    """What is in force, and tokens in hand."""

    identities: Identities
    clock: HandClock = field(default_factory=lambda: HandClock(now=0.0))
    emit: Events = field(default_factory=Events)
    tokens: dict[str, IssuedToken] = field(default_factory=dict)

    @property
    def life(self) -> Any:
        return SimpleNamespace(in_hand=self._in_hand)

    def _in_hand(self) -> Iterator[tuple[str, IssuedToken]]:
        yield from self.tokens.items()

    def expiry(self) -> Expiry:
        return Expiry(cast("Parts", self))


def after(world: World, expiry: Expiry, *moments: float) -> list[float]:
    """Look at these moments, and give how much was left in each warning."""
    for moment in moments:
        world.clock.now = moment
        expiry.look()
    return [event.expires_in for event in world.emit.of(CertificateExpiring)]


def test_each_warning_is_given_once_and_again_after_a_restart(tmp_path: Path):
    """A year of life: 30 days, 7 days, a day and an hour ahead, and at its end."""
    end = 365 * DAY
    world = World(Identities(certificates={"x": certificate(tmp_path, life=end)}, keys={}))
    expiry = world.expiry()

    early = after(world, expiry, 0.0, end - 31 * DAY)
    said = after(world, expiry, *(end - left for left in (30 * DAY, 29 * DAY, 7 * DAY, DAY, 2 * HOUR, HOUR, 60.0)))
    again = after(world, world.expiry(), end - 60.0)

    assert early == []
    assert said == [30 * DAY, 7 * DAY, DAY, HOUR]
    assert again == [*said, 60.0]


@pytest.mark.parametrize(
    ("life", "steps"),
    [
        (365 * DAY, (30 * DAY, 7 * DAY, DAY, HOUR)),
        (90 * DAY, (7 * DAY, DAY, HOUR)),
        (DAY, (HOUR,)),
        (HOUR, (360.0,)),
    ],
)
def test_a_certificate_of_a_short_life_is_not_warned_about_while_all_is_well(
    tmp_path: Path, life: float, steps: tuple[float, ...]
):
    """What is renewed after two thirds of its life has a third left then."""
    assert steps_of(certificate(tmp_path, life=life)) == steps


def test_another_certificate_is_warned_about_anew(tmp_path: Path):
    """And nothing more is said of the one before."""
    first, second = certificate(tmp_path, life=80 * DAY), certificate(tmp_path, life=90 * DAY)
    world = World(Identities(certificates={"x": first}, keys={}))
    expiry = world.expiry()

    after(world, expiry, 74 * DAY)
    world.identities = Identities(certificates={"x": second}, keys={})
    said = after(world, expiry, 75 * DAY, 84 * DAY)

    assert said == [6 * DAY, 6 * DAY]


def test_the_certificate_of_a_signing_key_is_watched_too():
    """A key without one has no end."""
    keys = {
        "k": SigningKey(name="k", alg="ES256", kid="one", not_after=WALL_AT_BOOT + 40 * DAY, key=p256()),
        "bare": SigningKey(name="bare", alg="ES256", kid=None, not_after=None, key=p256()),
    }
    world = World(Identities(certificates={}, keys=keys))
    expiry = world.expiry()

    after(world, expiry, 0.0, 10 * DAY, 11 * DAY, 33 * DAY)

    assert [(one.key, one.kid, one.expires_in) for one in world.emit.of(SigningKeyExpiring)] == [
        ("k", "one", 30 * DAY),
        ("k", "one", 7 * DAY),
    ]


def test_a_token_that_its_certificate_cuts_short_is_named_once(tmp_path: Path):
    """In the last day of the certificate; not one that ends before it, or is bound to another."""
    made = certificate(tmp_path, life=10 * DAY)
    bound = replace(issued(at=0.0), certificate_thumbprint=made.thumbprint, certificate_not_after=made.not_after)
    world = World(Identities(certificates={"x": made}, keys={}))
    world.tokens = {
        "cut": replace(bound, expires_at_wall=made.not_after),
        "short": replace(bound, expires_at_wall=made.not_after - 1.0),
        "foreign": replace(bound, certificate_thumbprint="other", expires_at_wall=made.not_after),
        "bearer": replace(bound, certificate_thumbprint=None, certificate_not_after=None),
    }
    expiry = world.expiry()

    after(world, expiry, 8 * DAY)
    before = world.emit.of(TokenEndsWithCertificate)
    after(world, expiry, 9.5 * DAY, 9.6 * DAY)

    assert before == []
    assert [(one.token, one.certificate) for one in world.emit.of(TokenEndsWithCertificate)] == [("cut", "x")]
