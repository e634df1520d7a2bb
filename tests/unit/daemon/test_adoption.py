from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from broker.daemon.adoption import Adoption
from broker.daemon.rotation import Rotation
from broker.errors import LocalError
from broker.wiring import load_identities
from tests.unit.daemon.rotating import WITH_CERTIFICATE, WITH_DPOP_KEY, Place
from tests.unit.keys.certificates import DAY, NOW, WALL, issue, key_pem, p256, written

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


CERTIFIED = WITH_CERTIFICATE.replace('file = "k.pem"', 'file = "k.pem"\ncert_file = "k.crt"')


async def test_a_new_certificate_of_the_same_signing_key_is_told(tmp_path: Path):
    """Its end is another one: what the log, the audit and the metrics say of it has to move on."""
    key = p256()
    written(tmp_path / "k.crt", issue(key=key, signs=True, end=NOW + DAY).cert_pem())
    place = Place(tmp_path, CERTIFIED, key=key)
    adoption = Adoption(place.parts)
    written(tmp_path / "k.crt", issue(key=key, signs=True, end=NOW + 9 * DAY).cert_pem())

    await Rotation(adoption).rotate()
    loaded = place.events("signing_key_loaded")
    await adoption.close()
    place.parts.telemetry.close()

    assert [event["not_after"] for event in loaded] == [place.parts.identities.keys["k"].not_after]
    assert loaded[0]["not_after"] == (NOW + 9 * DAY).timestamp()


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


async def test_a_compromised_dpop_key_proves_nothing_any_more(tmp_path: Path):
    """Neither the one that was in use last, nor one before that; by older means neither."""
    place = Place(tmp_path, WITH_DPOP_KEY)
    adoption = Adoption(place.parts)
    rotation = Rotation(adoption)
    means = [place.parts.means]
    for compromised in ([], ["key.d"]):
        place.proof_key()
        came = await rotation.rotate(compromised)
        await adoption.sweep()
        means.append(place.parts.means)
    again = await rotation.rotate(["key.d", "key.k"])
    found = [proofs for one in means if (proofs := one.registrations["c"].exchange.proofs) is not None]
    await adoption.close()
    place.parts.telemetry.close()

    assert (came.rotated, came.dropped, again.dropped) == (("key.d",), ("key.d",), ())
    assert [found[-1].knows(one.jkt) for one in found] == [False, False, True]
    assert [one.knows(one.jkt) for one in found] == [False, False, True]


SHARED = f"""{WITH_DPOP_KEY}
[key.e]
file = "e.pem"
alg = "ES256"
[client.e]
issuer = "nobody"
client_id = "e"
client_auth_method = "private_key_jwt"
signing_keys = ["k"]
sender_constraint = "dpop"
dpop_key = "e"
"""


async def test_a_compromised_key_that_another_section_has_still_is_used_there(tmp_path: Path):
    """It was moved there: whoever did means it, or has to say so of that one, too."""
    written(tmp_path / "e.pem", key_pem(p256()))
    place = Place(tmp_path, SHARED)
    adoption = Adoption(place.parts)
    rotation = Rotation(adoption)
    first = place.parts.identities.proof_keys["d"]
    place.proof_key()
    await rotation.rotate()
    moved = (tmp_path / "d.pem").read_bytes()
    written(tmp_path / "e.pem", moved)
    place.proof_key()

    await rotation.rotate(["key.d"])
    c, e = (place.parts.means.registrations[name].exchange.proofs for name in "ce")
    assert c is not None
    assert e is not None
    await e.for_server("POST", "https://localhost:1/token", jkt=e.jkt)
    await adoption.close()
    place.parts.telemetry.close()

    assert not c.knows(first.jkt)


async def test_a_key_that_signed_before_it_proved_is_dropped_as_well(tmp_path: Path):
    """A section may have had another purpose before a reload."""
    place = Place(tmp_path, WITH_DPOP_KEY)
    adoption = Adoption(place.parts)
    identities = place.parts.identities
    swapped = replace(identities, keys={**identities.keys, "d": identities.keys["k"]})
    place.parts.means = replace(place.parts.means, identities=swapped)

    came = await Rotation(adoption).rotate(["key.d"])
    await adoption.close()
    place.parts.telemetry.close()

    assert came.dropped == ("key.d",)
