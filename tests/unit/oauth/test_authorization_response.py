from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.oauth.authorization_response import Expected, read_authorization_response
from broker.oauth.checks import Check, CheckFailedError
from broker.oauth.reasons import Reason
from broker.oauth.secret import AuthorizationCode
from tests.unit.oauth.builders import ISSUER_URL

EXPECTED = Expected(issuer=ISSUER_URL, state="s-1", iss_required=True)
GOOD = (("code", "c-1"), ("state", "s-1"), ("iss", ISSUER_URL))


def failed(*pairs: tuple[str, str], expected: Expected = EXPECTED) -> Check:
    with pytest.raises(CheckFailedError) as raised:
        read_authorization_response(pairs, expected)
    shown = repr(raised.value) + str(raised.value)
    assert "canary" not in shown
    return raised.value.check


def changed(**changes: str | None) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in {**dict(GOOD), **changes}.items() if value is not None)


def test_a_good_response_gives_the_code():
    """Whatever else is in it is ignored (RFC 6749 section 4.1.2)."""
    assert read_authorization_response((*GOOD, ("session_state", "x")), EXPECTED) == AuthorizationCode("c-1")


@pytest.mark.parametrize("name", ["code", "state", "iss", "other"])
def test_a_parameter_that_occurs_twice_spoils_the_response(name: str):
    """AC-06: two readers could take two."""
    assert failed(*GOOD, (name, "canary"), (name, "canary")) is Check.REPEATED_PARAMETER


@pytest.mark.parametrize("iss", ["", "canary", f"{ISSUER_URL}/", ISSUER_URL.upper()])
def test_the_issuer_is_compared_before_anything_is_believed(iss: str):
    """AC-05: a mixed-up server's error is not even read."""
    assert failed(*changed(iss=iss, state="canary", code=None, error="access_denied")) is Check.ISS


def test_a_missing_issuer_is_fatal_where_it_was_promised():
    """Elsewhere it is not missed, but one that is there has to be right."""
    assert failed(*changed(iss=None)) is Check.ISS
    lenient = replace(EXPECTED, iss_required=False)
    assert read_authorization_response(changed(iss=None), lenient) == AuthorizationCode("c-1")
    assert failed(*changed(iss="canary"), expected=lenient) is Check.ISS


@pytest.mark.parametrize("state", [None, "", "canary", "s-1 ", "S-1", "ß"])
def test_the_state_is_that_of_the_transaction(state: str | None):
    """AC-03: before the error, before the code."""
    assert failed(*changed(state=state, error="access_denied")) is Check.STATE


@pytest.mark.parametrize("name", ["id_token", "access_token", "token_type"])
def test_tokens_in_the_front_channel_are_refused(name: str):
    """AC-06: nobody asked for them there."""
    assert failed(*GOOD, (name, "canary")) is Check.RESPONSE_TYPE


def test_a_signed_response_is_refused_where_none_was_asked_for():
    """AC-06."""
    assert failed(("response", "canary")) is Check.RESPONSE_MODE


@pytest.mark.parametrize(("error", "told"), [("access_denied", "access_denied"), ("canary", "unrecognized")])
def test_a_refusal_is_told_by_its_registered_code(error: str, told: str):
    """Free text may hold anything (R9 of the local API's errors)."""
    with pytest.raises(CheckFailedError) as raised:
        read_authorization_response((*changed(code=None), ("error", error), ("error_description", "canary")), EXPECTED)

    assert raised.value.code == Reason.AUTHORIZATION_REFUSED
    assert raised.value.server_error == told
    assert "canary" not in str(raised.value.__dict__)


def test_an_error_beside_a_code_is_an_error():
    """Nothing is redeemed that the server takes back in the same breath."""
    assert failed(*GOOD, ("error", "server_error")) is Check.ERROR


@pytest.mark.parametrize("code", [None, "", "a\nb", "ü", "x" * 4097])
def test_a_code_is_there_and_is_one(code: str | None):
    """RFC 6749 appendix A.11; whatever the names, a response without a code is a failure."""
    assert failed(*changed(code=code)) is Check.CODE


@settings(derandomize=True, max_examples=200, deadline=None, database=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["code", "state", "iss", "error", "response", "id_token", "x"]),
            st.text(max_size=5) | st.sampled_from(["s-1", ISSUER_URL, "c-1"]),
        ),
        max_size=5,
    )
)
def test_no_response_passes_but_one_with_the_right_state_and_issuer(pairs: list[tuple[str, str]]):
    """Whatever a browser brings."""
    try:
        read_authorization_response(pairs, EXPECTED)
    except CheckFailedError:
        return

    assert dict(pairs)["state"] == "s-1"
    assert dict(pairs)["iss"] == ISSUER_URL


@pytest.mark.parametrize(
    ("iss", "accepted"),
    [
        ("https://accounts.google.com", True),
        ("https://github.com/login/oauth", True),
        ("https://GitHub.com:443", True),
        ("https://port.example:8443", True),
        (ISSUER_URL, True),
        ("https://port.example", False),
        ("http://github.com", False),
        ("https://sub.github.com", False),
        ("https://github.com@canary.example", False),
        ("https://canary.example", False),
        ("", False),
    ],
)
def test_where_others_answer_for_the_server_iss_is_theirs(iss: str, accepted: bool):
    """RFC 9207 speaks of who answers; which hosts those may be stands in the dialect."""
    hosts = ("github.com", "accounts.google.com", "port.example:8443")
    expected = replace(EXPECTED, iss_required=False, provider_hosts=hosts)

    if accepted:
        assert read_authorization_response(changed(iss=iss), expected) == AuthorizationCode("c-1")
    else:
        assert failed(*changed(iss=iss), expected=expected) is Check.ISS
    assert (failed(*changed(iss=iss)) is Check.ISS) if iss != ISSUER_URL else True
