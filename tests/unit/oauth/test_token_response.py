"""token_response: an access token that passed every check, or a definite reason."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.errors import Outcome, RemoteError
from broker.oauth.client import Client, SenderConstraint
from broker.oauth.messages import Response
from broker.oauth.reasons import Reason
from broker.oauth.secret import AccessToken, IdToken, RefreshToken
from broker.oauth.token_response import LONGEST_LIFETIME, TokenResponse, read_token_response, refresh_token_of
from tests.unit.oauth.builders import NOW, OURS, THEIRS, a_client, a_jwt, an_answer

BOUND = a_jwt({"cnf": {"x5t#S256": OURS}})
BEARER = a_client(sender_constraint=SenderConstraint.NONE, presents_certificate=False)


def a_body(**changes: Any) -> dict[str, Any]:
    return {"access_token": BOUND, "token_type": "Bearer", "expires_in": 300, **changes}


def read(
    answer: Response | object,
    *,
    client: Client | None = None,
    asked: tuple[str, ...] = (),
    ours: str | None = OURS,
) -> TokenResponse:
    return read_token_response(
        answer if isinstance(answer, Response) else an_answer(answer),
        client=client or a_client(),
        asked_scope=asked,
        certificate_thumbprint=ours,
        wall_now=NOW,
    )


def refused(answer: Response | object, **how: Any) -> RemoteError:
    with pytest.raises(RemoteError) as caught:
        read(answer, **how)
    return caught.value


def test_a_sound_answer_becomes_a_token() -> None:
    """Members that we do not know are passed over."""
    answer = read(a_body(scope="accounts", other={"a": 1}))

    assert answer == TokenResponse(
        access_token=AccessToken(BOUND),
        token_type="Bearer",
        expires_in=300.0,
        scope=("accounts",),
        binding="certificate",
        certificate_thumbprint=OURS,
    )


def test_a_refresh_token_is_not_kept() -> None:
    """Client credentials have none to give (rules.md R2.9); not even a broken one matters."""
    answer = read(a_body(refresh_token="canary", cnf={"x5t#S256": THEIRS}))

    assert answer == read(a_body())
    assert read(a_body(refresh_token=7)) == answer


def test_the_token_is_not_printed() -> None:
    """A value that is logged by mistake shows a digest."""
    assert BOUND not in repr(read(a_body()))


@pytest.mark.parametrize("token_type", ["bearer", "bEARER", "BEARER", "Bearer"])
def test_the_token_type_is_compared_without_case(token_type: str) -> None:
    """And comes out in its registered spelling."""
    assert read(a_body(token_type=token_type)).token_type == "Bearer"


@pytest.mark.parametrize("token_type", ["DPoP", "dpop", "dPoP"])
def test_a_token_that_is_bound_by_dpop_says_so_by_its_type(token_type: str) -> None:
    """In whatever case; to which key is that of our proof, whether it can be seen in the token or not."""
    client = a_client(sender_constraint=SenderConstraint.DPOP)
    for token in (a_jwt({"cnf": {"jkt": "our-key"}}), "opaque"):
        response = an_answer(a_body(access_token=token, token_type=token_type))

        answer = read_token_response(
            response, client=client, asked_scope=(), certificate_thumbprint=OURS, wall_now=NOW, jkt="our-key"
        )

        assert (answer.token_type, answer.jkt, answer.certificate_thumbprint) == ("DPoP", "our-key", None)


def test_a_token_that_is_bound_to_a_key_and_a_certificate_is_remembered_with_both() -> None:
    """It is of no use on a connection with another certificate, however right the proof is."""
    both = a_jwt({"cnf": {"jkt": "our-key", "x5t#S256": OURS}})

    answer = read_token_response(
        an_answer(a_body(access_token=both, token_type="DPoP")),
        client=a_client(sender_constraint=SenderConstraint.DPOP),
        asked_scope=(),
        certificate_thumbprint=OURS,
        wall_now=NOW,
        jkt="our-key",
    )

    assert (answer.binding, answer.jkt, answer.certificate_thumbprint) == ("dpop", "our-key", OURS)


def test_a_bearer_token_where_dpop_was_asked_for_is_a_downgrade() -> None:
    """It would work for whoever finds it (rules.md R7)."""
    error = refused(a_body(access_token="opaque"), client=a_client(sender_constraint=SenderConstraint.DPOP))

    assert (error.code, error.outcome) == (Reason.DOWNGRADED, Outcome.ANSWERED)
    assert error.hint is not None
    assert "DPoP" in error.hint


@pytest.mark.parametrize("token_type", ["DPoP", "N_A", "mac", "", " Bearer", "Bearer ", "pop"])
@pytest.mark.parametrize("client", [a_client(), BEARER])
def test_another_token_type_is_a_downgrade(token_type: str, client: Client) -> None:
    """It is not what was asked for, and nobody here could use it."""
    error = refused(a_body(token_type=token_type), client=client)

    assert (error.code, error.outcome) == (Reason.DOWNGRADED, Outcome.ANSWERED)


@pytest.mark.parametrize(
    "changes",
    [
        {"access_token": None},
        {"access_token": ""},
        {"access_token": 7},
        {"access_token": ["x"]},
        {"access_token": "two words"},
        {"access_token": "line\nend"},
        {"access_token": "nul\x00"},
        {"access_token": "del\x7f"},
        {"access_token": "caf\u00e9"},
        {"access_token": "x" * 65_537},
        {"token_type": None},
        {"token_type": 1},
        {"expires_in": None},
        {"expires_in": True},
        {"expires_in": False},
        {"expires_in": 0},
        {"expires_in": -1},
        {"expires_in": 0.0},
        {"expires_in": LONGEST_LIFETIME + 1},
        {"expires_in": 2**63},
        {"expires_in": 1_790_000_300_000},
        {"expires_in": "0"},
        {"expires_in": "-300"},
        {"expires_in": ""},
        {"expires_in": "soon"},
        {"expires_in": "NaN"},
        {"expires_in": "Infinity"},
        {"expires_in": "1e3"},
        {"expires_in": " 300"},
        {"expires_in": "300\n"},
        {"expires_in": "\u0663\u0660\u0660"},
        {"expires_in": "9" * 12},
        {"expires_in": "9" * 400},
        {"expires_in": [300]},
        {"expires_in": {}},
        {"scope": None},
        {"scope": ["accounts"]},
        {"scope": "a\tb"},
        {"scope": 'a"b'},
        {"scope": "a\\b"},
        {"scope": "caf\u00e9"},
    ],
)
def test_a_member_that_makes_no_sense_is_an_invalid_response(changes: dict[str, Any]) -> None:
    """The request was processed; nothing of the answer is used."""
    error = refused(a_body(**changes))

    assert (error.code, error.outcome, error.status) == (Reason.INVALID_RESPONSE, Outcome.ANSWERED, 200)


@pytest.mark.parametrize("missing", ["access_token", "token_type"])
def test_the_required_members_are_required(missing: str) -> None:
    """RFC 6749 section 5.1."""
    body = a_body()
    del body[missing]

    assert refused(body).code == Reason.INVALID_RESPONSE


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 30])
def test_a_lifetime_that_is_no_number_is_malformed(text: str) -> None:
    """These are not even strict JSON."""
    body = json.dumps(a_body(expires_in="X")).replace('"X"', text).encode()

    assert refused(an_answer(body)).code == Reason.MALFORMED


@pytest.mark.parametrize(
    ("expires_in", "seconds"),
    [
        (300, 300.0),
        (1, 1.0),
        (0.5, 0.5),
        (59.94, 59.94),
        ("300", 300.0),
        ("300.5", 300.5),
        (LONGEST_LIFETIME, LONGEST_LIFETIME),
    ],
)
def test_a_lifetime_is_a_positive_number_of_seconds(expires_in: Any, seconds: float) -> None:
    """Whole or not, and as a string too, because some servers write it so."""
    assert read(a_body(expires_in=expires_in)).expires_in == seconds


def test_lifetime_and_scope_may_be_left_out() -> None:
    """Then the configuration says how long, and the scope is as asked."""
    body = a_body()
    del body["expires_in"]

    answer = read(body, asked=("accounts",))

    assert (answer.expires_in, answer.scope) == (None, None)


@pytest.mark.parametrize(
    ("asked", "scope", "granted"),
    [
        (("a", "b"), "a b", ("a", "b")),
        (("a", "b"), "b a", ("b", "a")),
        (("a", "b"), "a", ("a",)),
        (("a", "b"), "", ()),
        (("a", "b"), " a  a ", ("a",)),
        ((), "anything at all", ("anything", "at", "all")),
        (("a b",), "b a", ("b", "a")),
    ],
)
def test_the_granted_scope_may_be_narrower(asked: tuple[str, ...], scope: str, granted: tuple[str, ...]) -> None:
    """Where nothing was asked for, the server decides (RFC 6749 section 3.3)."""
    assert read(a_body(scope=scope), asked=asked).scope == granted


@pytest.mark.parametrize("scope", ["a b c", "A", "ab", "a admin"])
def test_a_wider_scope_is_refused(scope: str) -> None:
    """A token that can do more than was asked for is not handed to a workload (TE-03)."""
    error = refused(a_body(scope=scope), asked=("a", "b"))

    assert (error.code, error.outcome) == (Reason.WIDER_SCOPE, Outcome.ANSWERED)
    assert "admin" not in f"{error} {error.hint}"


@pytest.mark.parametrize("token", ["$2a$10$N9qo8uLOickgx2ZMRZoMye/IjZAgcfl7p92ldGxad68LJZdL17lhW", "!~", "x" * 65_536])
def test_an_opaque_token_is_served_with_a_remark(token: str) -> None:
    """Any visible characters will do; nobody can see what it is bound to."""
    answer = read(a_body(access_token=token))

    assert (answer.access_token.reveal(), answer.binding, answer.certificate_thumbprint) == (token, "unverified", OURS)


def test_a_bearer_token_is_bound_to_nothing() -> None:
    """As asked."""
    answer = read(a_body(access_token="opaque"), client=BEARER, ours=None)

    assert (answer.binding, answer.certificate_thumbprint) == ("none", None)


@pytest.mark.parametrize(
    ("token", "reason"),
    [(a_jwt({"cnf": {"x5t#S256": THEIRS}}), Reason.WRONG_BINDING), (a_jwt({}), Reason.DOWNGRADED)],
)
def test_a_token_of_another_binding_is_refused(token: str, reason: Reason) -> None:
    """MT-01."""
    error = refused(a_body(access_token=token))

    assert (error.code, error.outcome) == (reason, Outcome.ANSWERED)


def test_an_error_in_a_200_is_not_a_token() -> None:
    """Nor is it the OAuth error that the same JSON would be with a 400."""
    error = refused({"error": "invalid_grant"})

    assert (error.code, error.outcome, error.server_error) == (Reason.INVALID_RESPONSE, Outcome.ANSWERED, None)


@pytest.mark.parametrize(
    ("answer", "reason", "outcome"),
    [
        (an_answer({"error": "invalid_client"}, status=401), Reason.SERVER_REFUSED, Outcome.REFUSED),
        (an_answer(b"", status=503, headers={"retry-after": "9"}), Reason.RATE_LIMITED, Outcome.REFUSED),
        (an_answer(b"", status=502), Reason.SERVER_FAILED, Outcome.UNKNOWN),
        (an_answer(b"<html>", content_type="text/html"), Reason.NOT_JSON, Outcome.UNKNOWN),
        (an_answer(b""), Reason.MALFORMED, Outcome.UNKNOWN),
        (an_answer(b"null"), Reason.MALFORMED, Outcome.UNKNOWN),
        (an_answer(json.dumps(a_body()).encode()[:-9]), Reason.MALFORMED, Outcome.UNKNOWN),
        (an_answer(b"", status=302, headers={"location": "https://x"}), Reason.REDIRECTED, Outcome.UNKNOWN),
        (an_answer(a_body(), status=201), Reason.UNEXPECTED_STATUS, Outcome.UNKNOWN),
    ],
)
def test_what_is_no_token_response_has_the_outcome_of_any_answer(
    answer: Response, reason: Reason, outcome: Outcome
) -> None:
    """A few rows of the table in ``answers``."""
    error = refused(answer)

    assert (error.code, error.outcome) == (reason, outcome)


VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10)
    | st.sampled_from(["Bearer", BOUND, "a.b.c", "1e3", "300"])
    | st.lists(st.none(), max_size=1)
)
ANSWERS = st.binary(max_size=40) | st.fixed_dictionaries(
    {"access_token": VALUES | st.sampled_from([BOUND, "opaque"]), "token_type": st.just("Bearer") | VALUES},
    optional={"expires_in": VALUES, "scope": VALUES | st.just("a"), "error": VALUES, "error_description": VALUES},
)


def token_or_error(answer: Response, client: Client) -> TokenResponse | RemoteError:
    """Read *answer*; every exception but RemoteError passes through."""
    try:
        return read(answer, client=client, asked=("a",))
    except RemoteError as error:
        return error


@settings(derandomize=True, max_examples=200, deadline=None, database=None)
@given(
    ANSWERS,
    st.sampled_from([200, 200, 200, 201, 302, 400, 401, 429, 500, 503, 999]),
    st.sampled_from(["application/json", "application/json", "text/html", "", None]),
    st.dictionaries(st.just("retry-after"), st.text(max_size=12)),
    st.sampled_from([a_client(), BEARER]),
)
@example(a_body(), 200, "application/json", {}, a_client())
def test_any_answer_is_a_token_or_a_remote_error(
    body: object, status: int, content_type: str | None, headers: dict[str, str], client: Client
) -> None:
    """Whatever comes back, no other exception, a closed code, and no token that breaks a rule."""
    came = token_or_error(an_answer(body, status=status, content_type=content_type, headers=headers), client)

    if isinstance(came, RemoteError):
        assert came.code in set(Reason)
        assert came.retry_after is None or 0 <= came.retry_after <= 86_400
    else:
        assert (status, content_type) == (200, "application/json")
        assert came.access_token.reveal().isprintable()
        assert came.expires_in is None or 0 < came.expires_in <= LONGEST_LIFETIME
        assert came.scope in {None, (), ("a",)}


# --- what a person's grant brings beside the access token ---


@pytest.mark.parametrize(
    "answer",
    [
        an_answer({"refresh_token": "rt"}),
        an_answer({"refresh_token": "rt", "error": "server_error", "access_token": 5, "token_type": None}),
        an_answer({"refresh_token": "rt"}, content_type="text/html"),
        an_answer({"refresh_token": "rt"}, content_type=None),
    ],
)
def test_a_refresh_token_is_taken_from_any_answer_that_has_one(answer: Response) -> None:
    """R2.2: nothing else has to be right, because the old one may be spent already."""
    assert refresh_token_of(answer) == RefreshToken("rt")


@pytest.mark.parametrize(
    "answer",
    [
        an_answer({"refresh_token": "rt"}, status=400),
        an_answer({"refresh_token": "rt"}, status=201),
        an_answer(b'{"refresh_token":"rt"'),
        an_answer(b'{"refresh_token":"a","refresh_token":"b"}'),
        an_answer({"refresh_token": ""}),
        an_answer({"refresh_token": 5}),
        an_answer(["refresh_token"]),
        an_answer({}),
    ],
)
def test_what_is_none_is_not_taken_for_one(answer: Response) -> None:
    """A guess would be sent instead of the one that works."""
    assert refresh_token_of(answer) is None


def test_an_id_token_comes_out_unverified() -> None:
    """It is checked apart, because that needs the server's keys."""
    answer = read(a_body(id_token="h.c.s"))

    assert answer.id_token == IdToken("h.c.s")
    assert "h.c.s" not in repr(answer)
    assert read(a_body(id_token=None)).id_token is None


@pytest.mark.parametrize("value", [5, "", "a b", "x" * 65_537, ["h.c.s"]])
def test_an_id_token_that_is_none_spoils_the_answer(value: object) -> None:
    """Somebody meant to say who the person is, and did not."""
    assert refused(a_body(id_token=value)).code == Reason.INVALID_RESPONSE


@pytest.mark.parametrize(
    ("members", "seconds"),
    [
        ({"refresh_token_expires_in": 86_400}, 86_400.0),
        ({"refresh_expires_in": 1800}, 1800.0),
        ({"refresh_expires_in": 0}, None),
        ({"refresh_expires_in": True}, None),
        ({"refresh_expires_in": "1800"}, None),
        ({"refresh_expires_in": 1e12}, None),
        ({}, None),
    ],
)
def test_what_servers_say_of_the_life_of_a_refresh_token(members: dict[str, Any], seconds: float | None) -> None:
    """No standard has it; what makes no sense is as if it were absent."""
    assert read(a_body(**members)).refresh_expires_in == seconds
