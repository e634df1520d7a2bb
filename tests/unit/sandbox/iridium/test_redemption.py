"""Tests of ``broker/sandbox/iridium/redemption.py``: IRI-04, IRI-06 and IRI-12, in both settings."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from broker.sandbox.iridium.registry import CONFIDENTIAL, NATIVE
from tests.unit.sandbox.iridium.talking import CHALLENGE, STATE, VERIFIER, basic, visiting

pytestmark = pytest.mark.real_time


async def test_a_code_becomes_a_token_of_who_logged_in(tmp_path: Path):
    """The same person is somebody else at the other provider."""
    async with visiting(tmp_path) as visitor:
        subjects = []
        for person, provider in (("ada", "github"), ("bob", "github"), ("ada", "google")):
            body = await visitor.granted(person=person, provider=provider)
            subjects.append((await visitor.me(body["access_token"])).body["subject"])

        assert subjects[0] == visitor.iridium.subject_of("ada", "github")
        assert len(set(subjects)) == 3


async def test_observed_the_state_is_needed(tmp_path: Path):
    """IRI-04: without it, or with another, the code is taken for one of the local flow."""
    async with visiting(tmp_path) as visitor:
        code = await visitor.code()
        refused = [await visitor.redeem(code, state=state) for state in (None, "another")]
        good = await visitor.redeem(code)

        assert [one.body for one in refused] == [{"error": "invalid authorization code", "error_description": ""}] * 2
        assert good.status == 200


async def test_observed_the_state_is_good_once(tmp_path: Path):
    """IRI-04: the row is gone after success."""
    async with visiting(tmp_path) as visitor:
        code = await visitor.code()
        await visitor.redeem(code)

        assert (await visitor.redeem(code)).body["error"] == "invalid authorization code"


async def test_observed_a_state_that_is_used_twice_breaks_the_lookup(tmp_path: Path):
    """IRI-04."""
    async with visiting(tmp_path) as visitor:
        code = await visitor.code()
        await visitor.external()

        assert (await visitor.redeem(code)).status == 500


async def test_observed_the_verifier_has_the_name_of_the_standard(tmp_path: Path):
    """IRI-04: the page's spelling is not read."""
    async with visiting(tmp_path) as visitor:
        refused = await visitor.redeem(await visitor.code(), code_verifier=None)

        assert (refused.status, refused.body["error"]) == (400, "code_verifier is blank")


async def test_documented_the_state_is_ignored(tmp_path: Path):
    """IRI-04: none, or any."""
    async with visiting(tmp_path, documented=("IRI-04",)) as visitor:
        for state in (None, "another"):
            assert (await visitor.redeem(await visitor.code(), state=state)).status == 200


async def test_documented_the_state_is_ignored_by_iridiums_own_codes_too(tmp_path: Path):
    """IRI-04 together with IRI-03."""
    async with visiting(tmp_path, documented=("IRI-03", "IRI-04")) as visitor:
        assert (await visitor.redeem(await visitor.code(), state=None)).status == 200


async def test_documented_the_verifier_is_spelled_as_on_the_page(tmp_path: Path):
    """IRI-04: and read from nowhere else."""
    async with visiting(tmp_path, documented=("IRI-04",)) as visitor:
        code = await visitor.code()
        refused = await visitor.redeem(code, code_verfier=None)
        good = await visitor.redeem(code, code_verifier=None)

        assert (refused.status, good.status) == (400, 200)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"client_id": None}, "invalid_request"),
        ({"client_id": "nobody"}, "invalid request"),
        ({"redirect_uri": "https://evil.example/"}, "redirect_uri is not valid"),
        ({"code": None}, "authorization code is blank"),
        ({"code_verifier": " "}, "code_verifier is blank"),
        ({"grant_type": None}, "grant_type must not be blank"),
        ({"grant_type": "password"}, "invalid_grant"),
    ],
)
async def test_what_is_wrong_is_refused_with_a_free_text(tmp_path: Path, changes: dict[str, Any], error: str):
    """And the code is still good."""
    async with visiting(tmp_path) as visitor:
        code = await visitor.code()
        refused = await visitor.redeem(code, **changes)

        assert (refused.status, refused.body) == (400, {"error": error, "error_description": ""})
        assert (await visitor.redeem(code, redirect_uri=None)).status == 200


async def test_observed_a_wrong_verifier_is_an_empty_200_and_spends_the_code(tmp_path: Path):
    """IRI-06."""
    async with visiting(tmp_path) as visitor:
        code = await visitor.local_code()
        wrong = await visitor.redeem(code, code_verifier=VERIFIER[::-1], state=None)
        right = await visitor.redeem(code, state=None)

        assert (wrong.status, wrong.raw) == (200, b"")
        assert (right.status, right.body["error"]) == (400, "invalid authorization code")


async def test_documented_a_wrong_verifier_is_an_invalid_grant_and_spends_the_code(tmp_path: Path):
    """IRI-06."""
    async with visiting(tmp_path, documented=("IRI-06", "IRI-09")) as visitor:
        code = await visitor.local_code()
        wrong = await visitor.redeem(code, code_verifier=VERIFIER[::-1], state=None)
        right = await visitor.redeem(code, state=None)

        assert [(one.status, one.body["error"]) for one in (wrong, right)] == [(400, "invalid_grant")] * 2


async def test_observed_a_local_code_never_ends_and_is_anybodys(tmp_path: Path):
    """IRI-06."""
    now = [time.clock_gettime(time.CLOCK_REALTIME)]
    async with visiting(tmp_path, wall=lambda: now[0]) as visitor:
        code = await visitor.local_code()
        now[0] += 86_400

        assert (await visitor.redeem(code, state=None, client_id=NATIVE)).status == 200


@pytest.mark.parametrize(("client_id", "later"), [(NATIVE, 0), (None, 61)])
async def test_documented_a_local_code_is_for_its_application_and_a_minute(
    tmp_path: Path, client_id: str | None, later: int
):
    """IRI-06."""
    now = [time.clock_gettime(time.CLOCK_REALTIME)]
    async with visiting(tmp_path, documented=("IRI-06",), wall=lambda: now[0]) as visitor:
        code = await visitor.local_code()
        now[0] += later
        changes = {} if client_id is None else {"client_id": client_id}

        assert (await visitor.redeem(code, state=None, **changes)).body["error"] == "invalid authorization code"


async def test_observed_the_right_secret_is_refused_like_any_other(tmp_path: Path):
    """IRI-12: it is compared with its own hash."""
    async with visiting(tmp_path) as visitor:
        code = await visitor.code(client_id=CONFIDENTIAL)
        secret = visitor.iridium.registry.applications[CONFIDENTIAL].secret
        answers = [
            await visitor.redeem(code, client_id=CONFIDENTIAL, client_secret=shown, headers=headers)
            for shown, headers in (
                (secret, {}),
                ("wrong", {}),
                (None, {"Authorization": basic(CONFIDENTIAL, secret)}),
            )
        ]

        assert [(one.status, one.body["error"]) for one in answers] == [(400, "application secret not found")] * 3


async def test_documented_the_right_secret_is_good_in_either_place(tmp_path: Path):
    """IRI-12: with Basic the client id need not be there again."""
    async with visiting(tmp_path, documented=("IRI-12",)) as visitor:
        secret = visitor.iridium.registry.applications[CONFIDENTIAL].secret
        form = await visitor.redeem(
            await visitor.code(client_id=CONFIDENTIAL), client_id=CONFIDENTIAL, client_secret=secret
        )
        headers = {"Authorization": basic(CONFIDENTIAL, secret)}
        header = await visitor.redeem(await visitor.code(client_id=CONFIDENTIAL), client_id=None, headers=headers)
        wrong = await visitor.redeem("any", client_id=CONFIDENTIAL, client_secret="wrong")

        assert [one.status for one in (form, header, wrong)] == [200, 200, 401]
        assert wrong.body["error"] == "invalid_client"


async def test_the_whole_page_works_as_documented(tmp_path: Path):
    """Everything as documented: the verifier as the page spells it, and a body that is no JSON."""
    async with visiting(tmp_path, documented=("IRI",)) as visitor:
        code = await visitor.code(code_challenge=CHALLENGE, redirect_uri=None)
        issued = await visitor.redeem(code, state=None, code_verifier=None, redirect_uri=None)

        assert issued.status == 200
        assert issued.raw.endswith(b",\n}")
        assert visitor.iridium.journal.places_of(STATE)[-1].endpoint != "token"
