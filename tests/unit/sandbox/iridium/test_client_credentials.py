"""Tests of ``broker/sandbox/iridium/client_credentials.py``: IRI-11 in both settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest

from broker.sandbox.iridium.registry import CONFIDENTIAL, SINGLE_PAGE
from tests.unit.sandbox.iridium.talking import Visitor, basic, visiting

pytestmark = pytest.mark.real_time


async def with_form(visitor: Visitor, **fields: Any) -> Any:
    return await visitor.send("POST", "/oauth/token", data={"grant_type": "client_credentials", **fields})


async def test_observed_basic_is_good_and_there_is_a_refresh_token(tmp_path: Path):
    """IRI-11: the token is the application's."""
    async with visiting(tmp_path) as visitor:
        issued = await visitor.for_itself()
        whose = await visitor.me(issued.body["access_token"])

        assert "refresh_token" in issued.body
        assert (whose.body["kind"], whose.body["username"]) == ("application", CONFIDENTIAL)


async def test_observed_a_secret_in_the_form_is_not_enough(tmp_path: Path):
    """IRI-11: the right one is not looked at, and the stored hash leads nowhere, either."""
    async with visiting(tmp_path) as visitor:
        application = visitor.iridium.registry.applications[CONFIDENTIAL]
        right = await with_form(visitor, client_id=CONFIDENTIAL, client_secret=application.secret)
        stored = await with_form(visitor, client_id=CONFIDENTIAL, client_secret=application.secret_hash)
        unknown = await with_form(visitor, client_id="nobody", client_secret="x")
        nothing = await with_form(visitor)

        assert (right.status, right.body["message"]) == (401, "basic auth token blank")
        assert (stored.status, stored.body["error"]) == (400, "invalid_grant")
        assert (unknown.status, unknown.body["error"]) == (400, "invalid request")
        assert nothing.status == 401


@pytest.mark.parametrize(
    ("authorization", "status", "says"),
    [
        (basic(CONFIDENTIAL, "wrong"), 401, "invalid_client"),
        (basic(SINGLE_PAGE, ""), 400, "client credential request invalid format"),
        (basic(SINGLE_PAGE, "x"), 401, "invalid_client"),
        (basic("nobody", "x"), 400, "invalid_client"),
        (basic("a:b", "c"), 400, "client credential request invalid format"),
        ("Basic ???", 400, "Illegal base64 character"),
    ],
)
async def test_observed_each_mistake_has_a_refusal_of_its_own(
    tmp_path: Path, authorization: str, status: int, says: str
):
    """IRI-11."""
    async with visiting(tmp_path) as visitor:
        refused = await visitor.for_itself(headers={"Authorization": authorization})

        assert refused.status == status
        assert says in refused.body.values()


@pytest.mark.parametrize(("documented", "expected"), [((), (200, 401)), (("IRI-11",), (401, 200))])
async def test_the_header_is_raw_as_observed_and_form_encoded_as_documented(
    tmp_path: Path, documented: tuple[str, ...], expected: tuple[int, int]
):
    """IRI-11: it shows with a secret that has a plus and a percent sign in it."""
    async with visiting(tmp_path, documented=documented) as visitor:
        secret = "a+b%2Fc"
        visitor.iridium.set_application(CONFIDENTIAL, secret=secret)
        answers = [await visitor.for_itself(secret=shown) for shown in (secret, quote_plus(secret))]

        assert tuple(one.status for one in answers) == expected


async def test_documented_the_form_is_good_and_there_is_no_refresh_token(tmp_path: Path):
    """IRI-11: a public application has no secret, and so no token of its own."""
    async with visiting(tmp_path, documented=("IRI-11",)) as visitor:
        secret = visitor.iridium.registry.applications[CONFIDENTIAL].secret
        issued = await with_form(visitor, client_id=CONFIDENTIAL, client_secret=secret)
        public = await with_form(visitor, client_id=SINGLE_PAGE, client_secret="")

        assert (issued.status, "refresh_token" in issued.body) == (200, False)
        assert (public.status, public.body["error"]) == (401, "invalid_client")
