"""The schemas of bodies: each is used, and holds what the handlers make, member for member."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest

from broker.api import jwks, routes
from broker.api import serving as handing_out
from broker.api.answers import Answer
from broker.api.ops import OPS_ROUTES
from broker.api.routes import API_ROUTES
from broker.api.shapes import SHAPES
from broker.api.table import Route
from broker.api.world import PublicKeys
from broker.oauth.reasons import Reason
from broker.tokens.serving import TokenState, TokenStatus
from tests.unit.api.conformance import api_document, check_answer, check_body
from tests.unit.api.handlers import ROOT, call, world
from tests.unit.api.world import FakeTokens, serving


def test_every_shape_is_the_answer_of_a_route():
    """Or that of all errors."""
    routes: tuple[Route[Any], ...] = (*API_ROUTES, *OPS_ROUTES)

    used = {reply.shape for route in routes for reply in route.replies}

    assert set(SHAPES) == (used - {None}) | {"Error"}


def conforms(answer: Answer, template: str) -> None:
    headers = {name.lower(): value for name, value in answer.all_headers().items()}
    check_answer(api_document(), template, "GET", answer.status, headers, answer.body)


@pytest.mark.parametrize("plain_text", [False, True])
@pytest.mark.parametrize("binding", ["certificate", "none"])
async def test_a_served_token_has_the_documented_shape(binding: str, plain_text: bool):
    """Bound or not, as JSON or bare."""
    tokens = FakeTokens(answers={"directory": serving(binding=binding)})

    answer = await handing_out.get_token(world(tokens), call(plain_text=plain_text))

    conforms(answer, "/v1/tokens/{name}")


STATES = [
    TokenStatus(name="directory", state=TokenState.FRESH, required=True, expires_in=3),
    TokenStatus(
        name="directory",
        state=TokenState.UNAVAILABLE,
        required=True,
        reason=Reason.CONNECT_FAILED,
        hint="?",
        retry_in=0,
    ),
]


@pytest.mark.parametrize("status", STATES, ids=lambda status: status.state.value)
async def test_states_and_readiness_have_the_documented_shapes(status: TokenStatus):
    """Good and bad, with every member that there can be."""
    asking = world(FakeTokens(states={"directory": status}))
    asking.restart = lambda: ("listener",)
    asking.refused = lambda: True

    conforms(await routes.list_tokens(asking, call()), "/v1/tokens")
    conforms(await routes.ready(asking, call(peer=ROOT)), "/readyz")
    conforms(await routes.ready_one(asking, call()), "/readyz/{name}")


async def test_a_set_of_keys_has_the_documented_shape():
    """With members of every kind of key."""
    asking = world()
    key = {"kty": "RSA", "n": "n", "e": "AQAB", "kid": "k", "x5c": ["MIIB"], "x5t#S256": "t"}
    asking.clients = lambda: {"app": PublicKeys(keys=(key,))}

    conforms(await jwks.get_jwks(asking, call("app", peer=ROOT)), "/v1/jwks/{client}")


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"status":"fine"}', b'{"status":"ok","token":"x"}'])
def test_another_shape_is_noticed(body: bytes):
    """A missing member, another type, another value, a member too many."""
    document: dict[str, Any] = api_document()

    with pytest.raises(jsonschema_rs.ValidationError):
        check_body(document, document["components"]["schemas"]["Live"], body)
