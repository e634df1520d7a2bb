"""answers: status, type and OAuth error decide reason and outcome."""

from __future__ import annotations

import re

import pytest

from broker.errors import Outcome, RemoteError
from broker.oauth.answers import (
    SERVER_ERRORS,
    UNRECOGNIZED,
    invalid,
    json_object,
    oauth_error,
    registered,
    understood,
)
from broker.oauth.dialect import IRIDIUM, STANDARD, Dialect
from broker.oauth.messages import Response
from broker.oauth.reasons import Reason
from tests.unit.oauth.builders import NOW, an_answer

HTML = b"<html>log in, please</html>"
LATER = {"retry-after": "30"}


def html(status: int) -> Response:
    return an_answer(HTML, status=status, content_type="text/html; charset=utf-8")


@pytest.mark.parametrize(
    ("answer", "reason", "outcome"),
    [
        # definite: the request was not processed
        (an_answer({"error": "invalid_client"}, status=401), Reason.SERVER_REFUSED, Outcome.REFUSED),
        (an_answer({"error": "invalid_scope"}, status=400), Reason.SERVER_REFUSED, Outcome.REFUSED),
        (an_answer({"error": "who knows"}, status=403), Reason.SERVER_REFUSED, Outcome.REFUSED),
        (an_answer(b"", status=429), Reason.RATE_LIMITED, Outcome.REFUSED),
        (an_answer({"error": "slow_down"}, status=429), Reason.RATE_LIMITED, Outcome.REFUSED),
        (an_answer(b"", status=503, headers=LATER), Reason.RATE_LIMITED, Outcome.REFUSED),
        # a server that failed may have processed it before
        (an_answer(b"", status=500), Reason.SERVER_FAILED, Outcome.UNKNOWN),
        (an_answer({"error": "server_error"}, status=500), Reason.SERVER_FAILED, Outcome.UNKNOWN),
        (an_answer(b"", status=500, headers=LATER), Reason.SERVER_FAILED, Outcome.UNKNOWN),
        (html(502), Reason.SERVER_FAILED, Outcome.UNKNOWN),
        (html(504), Reason.SERVER_FAILED, Outcome.UNKNOWN),
        (an_answer(b"", status=503), Reason.SERVER_FAILED, Outcome.UNKNOWN),
        (an_answer(b"", status=503, headers={"retry-after": "soon"}), Reason.SERVER_FAILED, Outcome.UNKNOWN),
        (an_answer({"error": "temporarily_unavailable"}, status=503), Reason.SERVER_FAILED, Outcome.UNKNOWN),
        # not followed, not understood
        *((html(status), Reason.REDIRECTED, Outcome.UNKNOWN) for status in (301, 302, 303, 307, 308)),
        (html(304), Reason.UNEXPECTED_STATUS, Outcome.UNKNOWN),
        (html(404), Reason.UNEXPECTED_STATUS, Outcome.UNKNOWN),
        (html(401), Reason.UNEXPECTED_STATUS, Outcome.UNKNOWN),
        (an_answer(b"", status=401), Reason.UNEXPECTED_STATUS, Outcome.UNKNOWN),
        (an_answer({"code": "401", "message": "no"}, status=401), Reason.UNEXPECTED_STATUS, Outcome.UNKNOWN),
        (an_answer({"error": ""}, status=400), Reason.UNEXPECTED_STATUS, Outcome.UNKNOWN),
        (an_answer({"error": {"code": 1}}, status=400), Reason.UNEXPECTED_STATUS, Outcome.UNKNOWN),
        (an_answer(["error"], status=400), Reason.UNEXPECTED_STATUS, Outcome.UNKNOWN),
        (an_answer(b'{"error": "invalid_cl', status=400), Reason.UNEXPECTED_STATUS, Outcome.UNKNOWN),
        (
            an_answer({"error": "invalid_client"}, status=401, content_type="text/plain"),
            Reason.UNEXPECTED_STATUS,
            Outcome.UNKNOWN,
        ),
        *(
            (an_answer({"access_token": "x"}, status=status), Reason.UNEXPECTED_STATUS, Outcome.UNKNOWN)
            for status in (100, 201, 202, 204, 206, 299)
        ),
        (an_answer({"error": "invalid_grant"}, status=201), Reason.UNEXPECTED_STATUS, Outcome.UNKNOWN),
        # a 200 that cannot be read
        (html(200), Reason.NOT_JSON, Outcome.UNKNOWN),
        (an_answer({}, content_type=None), Reason.NOT_JSON, Outcome.UNKNOWN),
        (an_answer({}, content_type="text/json"), Reason.NOT_JSON, Outcome.UNKNOWN),
        (an_answer({}, content_type="application/jsonp"), Reason.NOT_JSON, Outcome.UNKNOWN),
        (an_answer({}, content_type="application/json, text/html"), Reason.NOT_JSON, Outcome.UNKNOWN),
        (an_answer({}, content_type="application/j\u017fon"), Reason.NOT_JSON, Outcome.UNKNOWN),
        (an_answer(b""), Reason.MALFORMED, Outcome.UNKNOWN),
        (an_answer(b"null"), Reason.MALFORMED, Outcome.UNKNOWN),
        (an_answer(b"[]"), Reason.MALFORMED, Outcome.UNKNOWN),
        (an_answer(b'{"a":'), Reason.MALFORMED, Outcome.UNKNOWN),
        (an_answer(b'{"a": 1, "a": 2}'), Reason.MALFORMED, Outcome.UNKNOWN),
        (an_answer(HTML), Reason.MALFORMED, Outcome.UNKNOWN),
    ],
)
def test_every_answer_has_a_reason_and_an_outcome(answer: Response, reason: Reason, outcome: Outcome) -> None:
    """The table of rules.md R1: refused only where the server definitely did nothing."""
    with pytest.raises(RemoteError) as caught:
        json_object(answer, wall_now=NOW)

    assert (caught.value.code, caught.value.outcome, caught.value.status) == (reason, outcome, answer.status)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "application/json;charset=UTF-8",
        "application/json ; charset=utf-8",
        "application/jwk-set+json",
        "application/vnd.example.v1+json",
        " application/json ",
    ],
)
def test_json_goes_by_many_names(content_type: str) -> None:
    """Parameters and structured suffixes (RFC 6839) do not matter."""
    assert json_object(an_answer({"a": 1}, content_type=content_type), wall_now=NOW) == {"a": 1}


@pytest.mark.parametrize(
    ("status", "value", "wall_now", "seconds"),
    [
        (429, "30", NOW, 30.0),
        (429, "Mon, 21 Sep 2026 14:14:20 GMT", NOW, 60.0),
        (429, "30", None, 30.0),
        (429, "Mon, 21 Sep 2026 14:14:20 GMT", None, None),
        (429, "soon", NOW, None),
        (503, "30", NOW, 30.0),
        (503, "999999", NOW, 86_400.0),
        (503, "999999", None, 86_400.0),
        (503, "Mon, 21 Sep 2026 14:14:20 GMT", None, None),
        (500, "30", NOW, None),
        (400, "30", NOW, None),
    ],
)
def test_retry_after_counts_where_the_server_means_it(
    status: int, value: str, wall_now: float | None, seconds: float | None
) -> None:
    """With 429 and 503, and without a clock only in seconds."""
    with pytest.raises(RemoteError) as caught:
        json_object(an_answer(b"", status=status, headers={"retry-after": value}), wall_now=wall_now)

    assert caught.value.retry_after == seconds


@pytest.mark.parametrize("status", [400, 401, 429, 500, 503])
def test_a_registered_error_is_kept_whatever_the_status(status: int) -> None:
    """It tells the operator more than the status does."""
    with pytest.raises(RemoteError) as caught:
        json_object(an_answer({"error": "invalid_client"}, status=status), wall_now=NOW)

    assert caught.value.server_error == "invalid_client"
    assert caught.value.hint
    assert "client_id" in caught.value.hint


@pytest.mark.parametrize("answer", [html(200), html(302)])
def test_an_answer_from_somewhere_else_comes_with_a_hint(answer: Response) -> None:
    """A login page or a proxy: a look at it by hand tells at once."""
    with pytest.raises(RemoteError) as caught:
        json_object(answer, wall_now=NOW)

    assert "by hand" in (caught.value.hint or "")


def test_free_text_of_a_server_gets_nowhere() -> None:
    """A server is known to write the refresh token into its error; it must not come out by any field."""
    body = {
        "error": "invalid refresh token: canary-1",
        "error_description": "canary-2",
        "error_uri": "https://as.example/canary-3",
    }

    with pytest.raises(RemoteError) as caught:
        json_object(an_answer(body, status=400, headers={"www-authenticate": "canary-4"}), wall_now=NOW)

    assert caught.value.server_error == "unrecognized"
    assert "canary" not in repr(vars(caught.value)) + str(caught.value)


def test_only_registered_codes_pass() -> None:
    """To the letter: a code in another case is another word."""
    assert registered("invalid_grant") == "invalid_grant"
    assert registered("use_dpop_nonce") == "use_dpop_nonce"
    assert registered("Invalid_Grant") == registered("invalid_grant ") == registered("") == "unrecognized"


def test_the_registered_codes_are_plain_words() -> None:
    """They become labels and fields of logs."""
    assert all(re.fullmatch(r"[a-z_]{4,40}", code) for code in SERVER_ERRORS)
    assert "unrecognized" not in SERVER_ERRORS


def test_a_failed_check_of_a_readable_answer_is_answered() -> None:
    """The server has done its part; asking again may get the same."""
    error = invalid("no", reason=Reason.WIDER_SCOPE, hint="do")

    assert (error.code, error.outcome, error.status) == (Reason.WIDER_SCOPE, Outcome.ANSWERED, 200)
    assert (error.hint, error.server_error, error.retry_after) == ("do", None, None)


# --- what a dialect makes of an error answer ---

CANARY = "invalid refresh token: s3cr3t-canary"
TEXTS = Dialect(
    error_members=("error", "message", "code"),
    error_codes=(("invalid refresh token", "invalid_grant"), ("invalid", "invalid_request"), ("NOT", "invalid_token")),
)


def judged(answer: Response, dialect: Dialect = TEXTS) -> RemoteError:
    with pytest.raises(RemoteError) as caught:
        json_object(understood(answer, dialect), wall_now=NOW)
    return caught.value


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"error": CANARY, "error_description": ""}, "invalid_grant"),
        ({"code": "401", "message": "NOT AUTHORIZED"}, "invalid_token"),
        ({"error": None, "message": CANARY}, "invalid_grant"),
        ({"error": "", "message": CANARY}, "invalid_grant"),
        ({"error": {"a": 1}, "message": CANARY}, "invalid_grant"),
        ({"error": "who knows", "message": CANARY}, "invalid_grant"),
        ({"error": "invalid_client"}, "invalid_request"),  # what the dialect says comes before what is registered
        ({"error": "slow_down"}, "slow_down"),
        ({"error": "s3cr3t-canary"}, "unrecognized"),
        ({"code": "400 BAD_REQUEST", "message": None}, "unrecognized"),
    ],
)
def test_a_dialect_says_what_free_text_means(body: object, error: str) -> None:
    """IRI-09: how it begins, in the first member that says something known."""
    found = judged(an_answer(body, status=400))

    assert found.server_error == error
    assert (found.code, found.outcome) == (Reason.SERVER_REFUSED, Outcome.REFUSED)


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", None])
def test_nothing_that_a_server_wrote_comes_out(content_type: str | None) -> None:
    """IRI-10: the refresh token stands in the error; what comes out is a registered code and nothing beside it."""
    body = {"error": CANARY, "error_description": CANARY, "other": CANARY}
    answer = an_answer(body, status=400, content_type=content_type, headers={"retry-after": "30"})

    made = understood(answer, TEXTS)

    assert made.body == b'{"error": "invalid_grant"}'
    assert made.headers == {"content-type": "application/json", "retry-after": "30"}
    assert "canary" not in f"{made}{judged(answer)!r}{judged(answer).hint}"


def test_texts_of_the_standard_member_are_compared_too() -> None:
    """A dialect may have nothing else than texts of its own."""
    dialect = Dialect(error_codes=(("bad refresh", "invalid_grant"),))

    assert judged(an_answer({"error": "bad refresh token"}, status=400), dialect).server_error == "invalid_grant"


@pytest.mark.parametrize(
    "answer",
    [
        html(401),
        an_answer(b"", status=401),
        an_answer([CANARY], status=400),
        an_answer({"other": CANARY}, status=400),
        an_answer({"error": 1, "message": [CANARY]}, status=400),
        an_answer({"error": CANARY}, status=200),
        an_answer({"error": CANARY}, status=302),
    ],
)
def test_what_says_nothing_or_is_no_error_stays_as_it_is(answer: Response) -> None:
    """Success is read by those whose it is; a page is judged as one."""
    assert understood(answer, TEXTS) is answer


def test_without_a_dialect_nothing_is_changed() -> None:
    """The standard's answers are understood already."""
    answer = an_answer({"error": "who knows"}, status=400)

    assert understood(answer, STANDARD) is answer


@pytest.mark.parametrize(
    ("status", "outcome"), [(429, Outcome.REFUSED), (500, Outcome.UNKNOWN), (503, Outcome.UNKNOWN)]
)
def test_the_status_judges_as_before(status: int, outcome: Outcome) -> None:
    """A server that failed may have processed it, whatever it says."""
    assert judged(an_answer({"message": CANARY}, status=status)).outcome is outcome


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, {"error": "invalid authorization code", "error_description": ""}, "invalid_grant"),
        (400, {"error": CANARY, "error_description": ""}, "invalid_grant"),
        (400, {"error": "invalid request", "error_description": ""}, "invalid_request"),
        (400, {"error": "application secret not found", "error_description": ""}, "invalid_client"),
        (401, {"error": "invalid_client"}, "invalid_client"),
        (401, {"code": "401", "message": "NOT AUTHORIZED"}, "invalid_token"),
        (
            401,
            {"code": "401 UNAUTHORIZED", "message": "Only confidential clients are allowed to refresh tokens."},
            "unauthorized_client",
        ),
        (400, {"code": "400 BAD_REQUEST", "message": None}, "unrecognized"),
    ],
)
def test_the_errors_of_iridium_are_understood(status: int, body: object, error: str) -> None:
    """IRI-09, as its source writes them."""
    assert judged(an_answer(body, status=status), IRIDIUM).server_error == error


def test_an_empty_200_is_told_apart_from_a_page() -> None:
    """IRI-06: it is what a failed PKCE check looks like; a code may be spent for it."""
    with pytest.raises(RemoteError) as caught:
        json_object(an_answer(b"", content_type=None), wall_now=NOW)

    assert (caught.value.code, caught.value.outcome) == (Reason.MALFORMED, Outcome.UNKNOWN)
    assert "pkce_transform" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"err": {"msg": "bad code: secret"}}, "invalid_grant"),
        ({"err": {"msg": "secret"}}, UNRECOGNIZED),
        ({"fault": "bad code"}, "invalid_grant"),
    ],
)
def test_what_went_wrong_may_lie_deeper(body: object, code: str):
    """A path into the answer, as to the person's identifier; nothing of it comes out."""
    dialect = Dialect(error_members=("err.msg", "fault"), error_codes=(("bad code", "invalid_grant"),))

    answer = understood(an_answer(body, status=400), dialect)

    assert oauth_error(answer) == code
    assert b"secret" not in answer.body


@pytest.mark.parametrize("status", [404, 405])
def test_where_nothing_answers_the_endpoint_is_to_be_compared(status: int):
    """A misspelt endpoint of a dialect looks so."""
    with pytest.raises(RemoteError) as raised:
        json_object(an_answer({"message": "x"}, status=status), wall_now=NOW)

    assert "compare the endpoint" in str(raised.value.hint)
