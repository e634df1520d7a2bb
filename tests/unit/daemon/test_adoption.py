from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from broker.daemon.adoption import Adoption
from broker.daemon.rotation import Rotation
from broker.errors import LocalError
from broker.wiring import load_identities
from tests.unit.daemon.rotating import WITH_CERTIFICATE, Place
from tests.unit.keys.certificates import WALL

pytestmark = pytest.mark.real_time

DELAYED = WITH_CERTIFICATE.replace('alg = "ES256"', 'alg = "ES256"\nswitch_delay_seconds = 1')


async def test_a_key_that_is_the_same_is_not_closed_with_the_older_means(tmp_path: Path):
    """It signs for the newer ones; one that was replaced signs no more."""
    place = Place(tmp_path)
    adoption = Adoption(place.parts)
    rotation = Rotation(adoption)
    key = place.parts.identities.keys["k"]

    place.certificate()
    await rotation.rotate()
    await adoption.sweep()
    signed = await key.sign(None, {})
    place.key()
    await rotation.rotate()
    await adoption.sweep()

    assert signed
    with pytest.raises(LocalError, match="closed"):
        await key.sign(None, {})
    await adoption.close()
    place.parts.telemetry.close()


async def test_generations_are_counted_by_content(tmp_path: Path):
    """A reload of the same files is the same generation."""
    place = Place(tmp_path)
    adoption = Adoption(place.parts)
    generations = []
    for change in (False, True, False, True):
        if change:
            place.certificate()
        fresh = load_identities(place.settings, wall_now=WALL)
        async with adoption.turn:
            adoption.adopt(place.settings, adoption.prepare(place.settings, fresh))
        generations.append(place.parts.identities.certificates["x"].generation)
    await adoption.close()
    place.parts.telemetry.close()

    assert generations == [1, 2, 2, 3]


async def test_a_new_key_waits_and_then_signs(tmp_path: Path):
    """Published at once; when it is due a look is made though no file changed."""
    place = Place(tmp_path, DELAYED)
    adoption = Adoption(place.parts)
    rotation = Rotation(adoption)
    old = place.parts.identities.keys["k"]
    place.key()

    await rotation.rotate()
    waiting, due = place.parts.identities, adoption.is_due()
    public = [key["kid"] for key in place.parts.serving.public["c"].keys]
    await asyncio.sleep(1.1)
    is_due = adoption.is_due()
    await rotation.rotate()
    new = place.parts.identities.keys["k"]
    await adoption.close()
    place.parts.telemetry.close()

    assert (due, is_due) == (False, True)
    assert waiting.keys["k"] is old
    assert public == [old.kid, new.kid]
    assert new.kid != old.kid
    assert [event["kid"] for event in place.events("signing_key_published")] == [new.kid]
    assert [event["kid"] for event in place.events("signing_key_loaded")] == [new.kid]


async def test_a_key_that_waits_is_closed_at_the_end(tmp_path: Path):
    """As all others are."""
    place = Place(tmp_path, DELAYED)
    adoption = Adoption(place.parts)
    place.key()
    await Rotation(adoption).rotate()

    await adoption.close()
    place.parts.telemetry.close()

    with pytest.raises(LocalError, match="closed"):
        await place.parts.identities.keys["k"].sign(None, {})


async def test_a_compromised_key_is_dropped_while_its_successor_waits(tmp_path: Path):
    """Neither is anything signed with it, nor is it published."""
    place = Place(tmp_path, DELAYED)
    adoption = Adoption(place.parts)
    rotation = Rotation(adoption)
    old = place.parts.identities.keys["k"]
    place.key()
    await rotation.rotate()

    came = await rotation.rotate(["key.k"])
    public = [key["kid"] for key in place.parts.serving.public["c"].keys]
    await adoption.close()
    place.parts.telemetry.close()

    assert came.dropped == ("key.k",)
    assert public == [place.parts.identities.keys["k"].kid] != [old.kid]
