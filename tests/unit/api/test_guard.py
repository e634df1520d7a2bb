"""What a request must not be."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.api.guard import (
    MAX_BODY,
    MAX_HEAD,
    Incoming,
    check_body,
    check_head,
    check_headers,
    read_query,
    split_target,
)
from broker.api.problems import ProblemError, RefusalReason

CANARY = "canary-5f2b"


def incoming(**changes: Any) -> Incoming:
    members: dict[str, Any] = {
        "method": "GET",
        "target": "/v1/tokens",
        "version": (1, 1),
        "headers": (("Host", "localhost"), ("Accept", "*/*")),
        "head_size": 100,
        "has_body": False,
        "content_length": None,
    }
    return Incoming(**{**members, **changes})


def with_headers(*headers: tuple[str, str]) -> Incoming:
    return incoming(headers=(("Host", "localhost"), *headers))


def test_a_plain_request_passes():
    """The guard is not in the way of curl."""
    plain = incoming()

    check_head(plain)
    check_headers(plain, frozenset())
    check_body(plain, takes_body=False)

    assert split_target("/v1/tokens/directory?wait=3") == ("/v1/tokens/directory", "wait=3")


@pytest.mark.parametrize("version", [(0, 9), (1, 2), (2, 0), (3, 0)])
def test_another_version_is_refused(version: tuple[int, int]):
    """HTTP/1.0 and HTTP/1.1 are all there are."""
    with pytest.raises(ProblemError) as refused:
        check_head(incoming(version=version))

    assert refused.value.problem.reason is RefusalReason.VERSION_UNSUPPORTED


def test_a_head_may_be_8_kib_and_no_more():
    """Measured as a whole."""
    check_head(incoming(head_size=MAX_HEAD))

    with pytest.raises(ProblemError) as refused:
        check_head(incoming(head_size=MAX_HEAD + 1))

    assert refused.value.problem.status == 431


@pytest.mark.parametrize(
    "name",
    [
        "Origin",
        "ORIGIN",
        "Referer",
        "Sec-Fetch-Site",
        "Sec-Fetch-Mode",
        "sec-fetch-anything",
        "Sec_Fetch_Dest",
        "Forwarded",
        "X-Forwarded-For",
        "X_Forwarded_For",
        "X-Forwarded-Uri",
        "x-forwarded-",
        "Via",
    ],
)
@pytest.mark.parametrize("value", ["", CANARY, "null", "http://localhost"])
def test_what_browsers_and_proxies_add_is_refused(name: str, value: str):
    """Whatever its value, and however it is spelt."""
    with pytest.raises(ProblemError) as refused:
        check_headers(with_headers((name, value)), frozenset())

    assert refused.value.problem.reason is RefusalReason.HEADER_FORBIDDEN


@pytest.mark.parametrize(
    "name", ["X-Request-Id", "User-Agent", "Accept", "Cookie", "Authorization", "Viatic", "Origins"]
)
def test_other_headers_are_none_of_our_business(name: str):
    """They change nothing and harm nothing."""
    check_headers(with_headers((name, "x")), frozenset())


@pytest.mark.parametrize("host", ["localhost", "LocalHost", "token-broker", "unix", "broker.internal:8443"])
def test_a_host_that_is_fixed_or_configured_passes(host: str):
    """Host names are compared without regard to case."""
    check_headers(incoming(headers=(("Host", host),)), frozenset({"broker.internal:8443"}))


@pytest.mark.parametrize(
    "hosts",
    [
        (),
        ("",),
        ("evil.example",),
        ("localhost.evil.example",),
        ("localhost:80",),
        ("localhost.",),
        ("127.0.0.1",),
        ("localhost", "localhost"),
        ("localhost", "evil.example"),
        ("localhost,evil.example",),
        (" localhost",),
    ],
)
def test_any_other_host_is_refused(hosts: tuple[str, ...]):
    """None at all, two of them, and every name that DNS can point here."""
    with pytest.raises(ProblemError) as refused:
        check_headers(incoming(headers=tuple(("Host", host) for host in hosts)), frozenset())

    assert refused.value.problem.reason is RefusalReason.HOST_REFUSED


@pytest.mark.parametrize(
    "target",
    [
        "",
        "*",
        "v1/tokens",
        "http://localhost/v1/tokens",
        "localhost:80",
        "//v1/tokens",
        "/v1//tokens",
        "/v1/../tokens",
        "/..",
        "/v1/tokens/a..b",
        "/v1/%2e%2e/tokens",
        "/v1/%2E/tokens",
        "/v1%2ftokens",
        "/v1%2Ftokens",
        "/v1\\tokens",
        "/v1%5ctokens",
        "/v1%5Ctokens",
        "/v1%252ftokens",
        "/v1/tokens;a=b",
        "/v1/tokens%3Ba",
        "/v1/tokens#a",
        "/v1/tokens?wait=1#a",
        "/v1/tok ens",
        "/v1/tokens\t",
        "/v1/tokens\x00",
        "/v1/tokens\x7f",
        "/v1/tokens/\u00e4",
        "/v1/tokens/\udcff",
        "/v1/tokens/%00",
        "/v1/tokens/%0a",
        "/v1/tokens/%0D%0A",
        "/v1/tokens/%1f",
        "/v1/tokens/%7f",
        "/v1/tokens/%C2%80",
        "/v1/tokens/%C2%9f",
        "/v1/tokens/%ff",
        "/v1/tokens/%c3",
        "/v1/tokens/%",
        "/v1/tokens/%4",
        "/v1/tokens/%zz",
    ],
)
def test_a_target_that_two_readers_could_read_in_two_ways_is_refused(target: str):
    """Also where no route would match it."""
    with pytest.raises(ProblemError) as refused:
        split_target(target)

    assert refused.value.problem.reason is RefusalReason.TARGET_REFUSED
    assert refused.value.problem.close, "what follows on the connection may be meant for a reader of other paths"


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/", "/", ""),
        ("/v1/tokens?", "/v1/tokens", ""),
        ("/v1/tokens/%C3%A4", "/v1/tokens/%C3%A4", ""),
        ("/v1/tokens/%64", "/v1/tokens/%64", ""),
        ("/v1/tokens/a.b?x=..//%2e", "/v1/tokens/a.b", "x=..//%2e"),
        ("/v1/./tokens", "/v1/./tokens", ""),
    ],
)
def test_other_targets_pass_unchanged(target: str, path: str, query: str):
    """Nothing is decoded: an escaped letter stays escaped."""
    assert split_target(target) == (path, query)


@given(st.text(min_size=1, max_size=20))
def test_an_escaped_text_passes_exactly_if_it_hides_nothing(text: str):
    """Any UTF-8 may be escaped, but for controls and what separates or climbs."""
    hidden = any(ord(c) < 0x20 or 0x7F <= ord(c) <= 0x9F or c in "/\\%;" for c in text) or ".." in text
    target = "/v1/tokens/" + quote(text.encode("utf-8", "surrogatepass"), safe=".")

    try:
        path, _ = split_target(target)
    except ProblemError:
        assert hidden or any(0xD800 <= ord(c) <= 0xDFFF for c in text)
    else:
        assert path == target
        assert not hidden


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"has_body": True, "content_length": 1}, RefusalReason.BODY_NOT_ALLOWED),
        ({"has_body": True, "content_length": MAX_BODY}, RefusalReason.BODY_NOT_ALLOWED),
        ({"has_body": True, "content_length": MAX_BODY + 1}, RefusalReason.BODY_TOO_LARGE),
        ({"has_body": True}, RefusalReason.BODY_NOT_ALLOWED),
        ({"headers": (("Transfer-Encoding", "chunked"),)}, RefusalReason.BODY_NOT_ALLOWED),
    ],
)
def test_a_body_is_refused(changes: dict[str, Any], reason: RefusalReason):
    """A GET has none, and one that is too large is called so."""
    with pytest.raises(ProblemError) as refused:
        check_body(incoming(**changes), takes_body=False)

    assert refused.value.problem.reason is reason


def test_a_body_of_no_bytes_is_none():
    """Some clients always send a Content-Length."""
    check_body(incoming(content_length=0), takes_body=False)


RANGES = {"min_valid": range(86_401), "wait": range(61)}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", {}),
        ("wait=0", {"wait": 0}),
        ("wait=60&min_valid=86400", {"wait": 60, "min_valid": 86_400}),
    ],
)
def test_known_parameters_are_read(query: str, found: dict[str, int]):
    """Whole numbers in their ranges."""
    assert read_query(query, RANGES) == (found, {})


@pytest.mark.parametrize(
    "query",
    [
        "wait",
        "wait=",
        "wait=61",
        "wait=-1",
        "wait=+1",
        "wait=01",
        "wait=1.0",
        "wait=1e1",
        "wait=1_0",
        "wait=%31",
        "wait=\u0661",
        "wait=1&wait=1",
        "wait=1&wait=2",
        "w%61it=1",
        "WAIT=1",
        f"{CANARY}=1",
        f"wait={CANARY}",
        "&",
        "wait=1&",
        "wait=1;min_valid=1",
        "min_valid=86401",
        "min_valid=99999999999999999999",
        "wait==1",
    ],
)
def test_any_other_query_is_refused(query: str):
    """And the answer says what there is, not what was sent."""
    with pytest.raises(ProblemError) as refused:
        read_query(query, RANGES)

    assert refused.value.problem.reason is RefusalReason.QUERY_REFUSED
    assert refused.value.problem.hint == "whole numbers, each once: min_valid (0 to 86400), wait (0 to 60)"


def test_a_route_without_parameters_has_none():
    """Not even an ignored one."""
    with pytest.raises(ProblemError) as refused:
        read_query("verbose=1", {})

    assert refused.value.problem.hint == "the route has no parameters"


TEXTS = {"subject": r"[\s\S]{1,5}", "token": r"[a-z]+"}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("subject=a%20b", {"subject": "a b"}),
        ("subject=a+b", {"subject": "a b"}),
        ("subject=%26%3D", {"subject": "&="}),
        ("subject=%C3%A4", {"subject": "\u00e4"}),
        ("token=abc&subject=a", {"token": "abc", "subject": "a"}),
    ],
)
def test_a_text_is_decoded_after_the_query_was_taken_apart(query: str, found: dict[str, str]):
    """So that an escaped separator separates nothing."""
    assert read_query(query, RANGES, TEXTS) == ({}, found)


@pytest.mark.parametrize(
    "query",
    [
        "subject=", "subject", "subject=abcdef", "subject=%", "subject=%zz", "subject=%ff", "subject=%00",
        "subject=%0a", "subject=%c2%85", "subject=a&subject=a", "token=Abc", "token=a%0a",
        "%74oken=a", "other=a", f"token={CANARY}",
    ],
)  # fmt: skip
def test_a_text_that_does_not_fit_is_refused(query: str):
    """Too long, not text, with control characters, repeated, of another alphabet."""
    with pytest.raises(ProblemError) as refused:
        read_query(query, RANGES, TEXTS)

    assert refused.value.problem.hint == "each once: min_valid (0 to 86400), wait (0 to 60), subject, token"


@pytest.mark.parametrize("takes_body", [True, False])
@pytest.mark.parametrize(
    ("version", "codings"),
    [((1, 1), ("gzip, chunked",)), ((1, 1), ("chunked", "chunked")), ((1, 1), ("",)), ((1, 0), ("chunked",))],
)
def test_a_body_that_two_readers_could_cut_in_two_ways_is_refused(
    version: tuple[int, int], codings: tuple[str, ...], takes_body: bool
):
    """RFC 9112 section 6.1: a coding that is not understood, or one that HTTP/1.0 does not have."""
    headers = tuple(("Transfer-Encoding", coding) for coding in codings)

    with pytest.raises(ProblemError) as refused:
        check_body(incoming(version=version, headers=headers, has_body=True), takes_body=takes_body)

    assert refused.value.problem.reason is RefusalReason.MALFORMED
    assert refused.value.problem.close


def test_chunked_is_the_one_transfer_coding():
    """In whatever case."""
    check_body(incoming(headers=(("Transfer-Encoding", "Chunked"),), has_body=True), takes_body=True)


@pytest.mark.parametrize("expected", ["100-continue", "100-Continue", "100-CONTINUE"])
def test_to_be_asked_for_the_body_may_be_expected(expected: str):
    """In whatever case."""
    check_body(incoming(headers=(("Expect", expected),), has_body=True), takes_body=True)


@pytest.mark.parametrize("expected", ["", "200-ok", "100-continue, 100-continue"])
def test_nothing_else_may_be_expected(expected: str):
    """It would not be fulfilled."""
    with pytest.raises(ProblemError) as refused:
        check_body(incoming(headers=(("Expect", expected),)), takes_body=True)

    assert refused.value.problem.reason is RefusalReason.EXPECTATION_REFUSED
