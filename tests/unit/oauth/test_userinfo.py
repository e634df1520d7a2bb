from __future__ import annotations

import pytest

from broker.errors import RemoteError
from broker.oauth.checks import Check, CheckFailedError
from broker.oauth.dialect import IRIDIUM, Dialect
from broker.oauth.messages import Request
from broker.oauth.metadata import AuthorizationServer
from broker.oauth.reasons import Reason
from broker.oauth.userinfo import LONGEST_SUBJECT, check_userinfo, subject_of, userinfo_request
from tests.unit.oauth.builders import ISSUER_URL, NOW, a_client, an_answer, an_issuer

SERVER = AuthorizationServer(
    issuer=ISSUER_URL, token_endpoint=f"{ISSUER_URL}/token", userinfo_endpoint=f"{ISSUER_URL}/me"
)


def test_the_endpoint_of_the_metadata_is_asked():
    """The access token is added by whoever sends it, with a proof where it is bound."""
    request = userinfo_request(SERVER, an_issuer(), a_client())

    assert request == Request(method="GET", url=f"{ISSUER_URL}/me", headers={"accept": "application/json"})


def test_a_server_without_the_endpoint_is_told_apart():
    """It is a matter of the configuration, which asks for it."""
    server = AuthorizationServer(issuer=ISSUER_URL, token_endpoint=f"{ISSUER_URL}/token")

    with pytest.raises(RemoteError) as raised:
        userinfo_request(server, an_issuer(), a_client())

    assert raised.value.code == Reason.METADATA_INSUFFICIENT


def test_it_is_about_the_person_of_the_id_token():
    """IDT-11."""
    check_userinfo(an_answer({"sub": "alice", "name": "x"}), subject="alice", wall_now=NOW)
    for body in ({"sub": "bob"}, {}, {"sub": None}, {"sub": ["alice"]}):
        with pytest.raises(CheckFailedError) as raised:
            check_userinfo(an_answer(body), subject="alice", wall_now=NOW)
        assert raised.value.check is Check.USERINFO_SUB


@pytest.mark.parametrize(("body", "status"), [(b"", 200), ({"error": "invalid_token"}, 401), (b"<html>", 200)])
def test_an_answer_that_is_none_is_told_as_such(body: bytes | object, status: int):
    """Nothing is concluded from it about the person."""
    with pytest.raises(RemoteError) as raised:
        check_userinfo(an_answer(body, status=status), subject="alice", wall_now=NOW)

    assert not isinstance(raised.value, CheckFailedError)


# --- whose a token is, where nothing else tells ---

NESTED = an_issuer(dialect=Dialect(subject_member="data.id"))


def test_a_dialect_says_what_it_takes():
    """IRI-15: its media type, at the endpoint of the server."""
    request = userinfo_request(SERVER, an_issuer(dialect=IRIDIUM), a_client())

    assert request.headers == {"accept": "application/vnd.iridium.id.identity-response.1+json"}


def test_the_media_type_of_a_dialect_is_json():
    """What is asked for may come back as its own type."""
    answer = an_answer({"data": {"id": "7"}}, content_type="application/vnd.iridium.id.identity-response.1+json")

    assert subject_of(answer, an_issuer(dialect=IRIDIUM), wall_now=NOW) == "7"


@pytest.mark.parametrize(
    ("found", "subject"),
    [
        ("alice", "alice"),
        (7, "7"),
        (0, "0"),
        (-1, "-1"),
        (2**63, "9223372036854775808"),
        (" ", " "),
        ("ü", "ü"),
        ("x" * LONGEST_SUBJECT, "x" * LONGEST_SUBJECT),
    ],
)
def test_the_identifier_is_text_or_a_number(found: object, subject: str):
    """A number is taken for its digits, text as it is."""
    assert subject_of(an_answer({"data": {"id": found}}), NESTED, wall_now=NOW) == subject


@pytest.mark.parametrize("found", ["", "x" * (LONGEST_SUBJECT + 1), True, False, None, 1.0, ["alice"], {"id": "alice"}])
def test_anything_else_is_about_nobody(found: object):
    """It is not guessed, and not in the error; the hint says where to look."""
    with pytest.raises(CheckFailedError) as raised:
        subject_of(an_answer({"data": {"id": found}}), NESTED, wall_now=NOW)

    error = raised.value
    assert (error.code, error.check) == (Reason.USERINFO_INVALID, Check.USERINFO_SUB)
    assert "alice" not in f"{error}{error.hint}"
    assert "[issuer.as.dialect]: subject_member" in str(error.hint)


@pytest.mark.parametrize("body", [{}, {"data": None}, {"data": [{"id": "a"}]}, {"data": "id"}, {"data.id": "a"}])
def test_a_path_that_leads_nowhere_is_about_nobody(body: object):
    """Each name is one of an object, and a dot is no part of a name."""
    with pytest.raises(CheckFailedError):
        subject_of(an_answer(body), NESTED, wall_now=NOW)


def test_without_a_dialect_the_identifier_is_sub():
    """OpenID Connect Core section 5.3.2."""
    assert subject_of(an_answer({"sub": "alice"}), an_issuer(), wall_now=NOW) == "alice"


@pytest.mark.parametrize(("body", "status"), [(b"", 200), ({"error": "invalid_token"}, 401), (b"[]", 200)])
def test_an_answer_that_is_none_names_nobody_else(body: bytes | object, status: int):
    """The look-up failed, which is not the same as a person that is unknown."""
    with pytest.raises(RemoteError) as raised:
        subject_of(an_answer(body, status=status), NESTED, wall_now=NOW)

    assert not isinstance(raised.value, CheckFailedError)
