from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest
from joserfc.jwk import import_key

from broker.errors import LocalError
from broker.keys.compact import CompactSigner
from broker.oauth.jose import jws_header
from tests.unit.keys.certificates import p256, rsa_key
from tests.unit.keys.verifying import claims_of

pytestmark = pytest.mark.real_time  # RSA signs in a thread


def signer(key: Any = None, alg: str = "ES256") -> CompactSigner:
    return CompactSigner(what="test key", name="k", alg=alg, key=key or p256())


@pytest.mark.parametrize(("key", "alg"), [(p256(), "ES256"), (rsa_key(), "PS256")])
async def test_the_header_is_that_of_whoever_signs_and_the_algorithm_the_key_s(key: Any, alg: str):
    """A public key in it is content, and not what the signature is checked with."""
    ours = signer(key, alg)
    header = {"typ": "x", "jwk": ours.public_members()}

    signed = await ours.sign(header, {"a": 1})
    ours.close()

    assert jws_header(signed) == {"alg": alg, **header}
    assert claims_of(signed, alg) == {"a": 1}


async def test_who_gives_up_while_rsa_signs_leaves_the_key_to_the_others():
    """Its signature is made and thrown away; the loop was not held meanwhile."""
    ours = signer(rsa_key(), "PS256")
    header = {"jwk": ours.public_members()}
    first = asyncio.create_task(ours.sign(header, {"a": 1}))
    second = asyncio.create_task(ours.sign(header, {"a": 2}))
    await asyncio.sleep(0)
    assert not first.done()  # it is in a thread of its own
    first.cancel()

    with pytest.raises(asyncio.CancelledError):
        await first
    assert claims_of(await second, "PS256") == {"a": 2}
    assert claims_of(await ours.sign(header, {"a": 3}), "PS256") == {"a": 3}
    ours.close()


def test_what_is_public_has_nothing_private():
    """Neither the members nor the thumbprint."""
    ours = signer()

    assert sorted(ours.public_members()) == ["crv", "kty", "x", "y"]
    assert import_key(ours.public_members()).thumbprint() == ours.thumbprint()


async def test_what_is_closed_signs_no_more():
    """And what is no JSON is not quoted."""
    ours = signer()
    with pytest.raises(LocalError) as refused:
        await ours.sign({}, {"secret": {"canary"}})
    assert "canary" not in str(refused.value.message)
    assert refused.value.__cause__ is None
    ours.close()

    with pytest.raises(LocalError, match="test key k: cannot sign: it is closed"):
        await ours.sign({}, {})


def test_a_key_is_not_serialized():
    """It would leave the process."""
    with pytest.raises(TypeError):
        pickle.dumps(signer())
