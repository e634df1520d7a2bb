from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import pytest

from broker.errors import RemoteError
from broker.oauth.jwks import JwkSet
from broker.oauth.messages import Response
from broker.oauth.metadata import AuthorizationServer
from broker.oauth.reasons import Reason
from broker.transport.jwks import FAILED_TTL, FETCH_DEADLINE, KEYS_TTL, MISS_COOLDOWN, STALE_CAP, KeySource
from tests.fakes import Dice, LoopClock
from tests.jumping import advance, loop_time
from tests.unit.oauth.keys import server_key
from tests.unit.transport.scripted import ISSUER, ScriptedSession, failure

REFUSED = failure(Reason.SERVER_CERTIFICATE_REFUSED)


@dataclass
class Told:
    """Metadata that says where the keys are, or does not."""

    jwks_uri: str | None = f"{ISSUER}/jwks"

    async def get(self) -> AuthorizationServer:
        return AuthorizationServer(issuer=ISSUER, token_endpoint=f"{ISSUER}/token", jwks_uri=self.jwks_uri)

    def doubt(self) -> None:
        raise AssertionError("keys say nothing about the metadata")


def keys(*kids: str) -> Response:
    body: dict[str, Any] = {"keys": [server_key("ES256", kid).jwk() for kid in kids]}
    return Response(status=200, headers={"content-type": "application/json"}, body=json.dumps(body).encode())


def source(
    *script: Response | RemoteError, delay: float = 0.0, told: Told | None = None
) -> tuple[KeySource, ScriptedSession]:
    session = ScriptedSession(list(script), delay=delay)
    made = KeySource(metadata=told or Told(), session=session, clock=LoopClock(), randomness=Dice())
    return made, session


def kids(found: JwkSet | None) -> list[str | None]:
    return [] if found is None else [key.kid for key in found.keys]


async def test_keys_are_fetched_once_for_all_who_want_them_and_kept():
    """Twenty people who log in together cause one request."""
    here, session = source(keys("a"), keys("b"), delay=1.0)

    found = await asyncio.gather(*(here.get() for _ in range(20)))
    advance(KEYS_TTL - 2)
    again = await here.get()
    advance(2)
    later = await here.get()

    assert {id(each) for each in found} == {id(again)}
    assert kids(later) == ["b"]
    assert [request.url for request in session.sent] == [f"{ISSUER}/jwks"] * 2


async def test_a_missing_key_is_fetched_at_once_and_then_not_for_a_while():
    """JWKS-03: a key that was rotated just before it signed is found; a flood of made-up names is not asked for."""
    here, session = source(keys("a"), keys("b"), keys("c"))
    first = await here.get()

    second = await here.get_newer(first)
    assert kids(second) == ["b"]
    assert second is not None
    assert await here.get_newer(second) is None
    advance(MISS_COOLDOWN)
    assert kids(await here.get_newer(second)) == ["c"]
    assert len(session.sent) == 3


async def test_who_missed_a_key_in_an_older_set_is_given_the_newer_one():
    """Ten logins under way at a rotation cause one fetch."""
    here, session = source(keys("a"), keys("b"), delay=1.0)
    first = await here.get()

    found = await asyncio.gather(*(here.get_newer(first) for _ in range(10)))

    assert [kids(each) for each in found] == [["b"]] * 10
    assert len(session.sent) == 2


async def test_keys_are_used_on_when_no_newer_ones_can_be_had():
    """JWKS-05: for a day, and the server is not asked by everybody."""
    here, session = source(keys("a"), *[REFUSED] * 9)
    first = await here.get()
    advance(KEYS_TTL)

    assert await here.get() is first
    assert await here.get() is first
    assert len(session.sent) == 2
    advance(FAILED_TTL)
    assert await here.get() is first
    assert len(session.sent) == 3
    assert await here.get_newer(first) is None
    advance(STALE_CAP)
    with pytest.raises(RemoteError) as raised:
        await here.get()

    assert raised.value.code == Reason.KEYS_UNAVAILABLE
    assert "server_certificate_refused" in str(raised.value.hint)


@pytest.mark.parametrize("script", [REFUSED, Response(status=404, headers={}, body=b"")])
async def test_without_any_keys_nothing_can_be_verified(script: Response | RemoteError):
    """And it is said so; who asks a little later tries anew."""
    here, session = source(script, keys("a"))

    with pytest.raises(RemoteError) as raised:
        await here.get()

    assert raised.value.code == Reason.KEYS_UNAVAILABLE
    advance(FAILED_TTL)
    assert kids(await here.get()) == ["a"]
    assert len(session.sent) == 2


async def test_a_server_that_names_no_keys_has_none():
    """Its metadata has no ``jwks_uri``."""
    here, session = source(told=Told(jwks_uri=None))

    with pytest.raises(RemoteError) as raised:
        await here.get()

    assert raised.value.code == Reason.KEYS_UNAVAILABLE
    assert session.sent == []


async def test_another_session_takes_over_and_the_keys_stay():
    """A reload may have changed the CA of the issuer."""
    here, _ = source(keys("a"))
    first = await here.get()
    other = ScriptedSession([keys("b")])

    here.renew(other)

    assert await here.get() is first
    assert kids(await here.get_newer(first)) == ["b"]
    assert len(other.sent) == 1


async def test_without_keys_a_failure_is_remembered_too():
    """Twenty checks do not wait for one fetch after the other; each hears why."""
    here, session = source(REFUSED, keys("a"), delay=5.0)
    began = loop_time()

    failures = await asyncio.gather(*(here.get() for _ in range(20)), return_exceptions=True)
    took = loop_time() - began
    advance(FAILED_TTL)
    found = await here.get()

    assert took == 5.0
    assert {getattr(error, "code", None) for error in failures} == {Reason.KEYS_UNAVAILABLE}
    assert {getattr(error, "hint", None) for error in failures} == {f"the request for them failed: {REFUSED.code}"}
    assert (kids(found), len(session.sent)) == (["a"], 2)


async def test_a_fetch_that_hangs_is_given_up():
    """With every try, whatever it hangs at."""
    here, session = source(keys("a"), delay=1_000.0)
    began = loop_time()

    with pytest.raises(RemoteError) as caught:
        await here.get()

    assert loop_time() - began == FETCH_DEADLINE
    assert (caught.value.code, caught.value.hint) == (
        Reason.KEYS_UNAVAILABLE,
        f"the request for them failed: {Reason.TIMED_OUT}",
    )
    assert len(session.sent) == 1
