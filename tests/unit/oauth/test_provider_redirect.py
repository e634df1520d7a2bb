"""provider_redirect: nothing of a Location is believed but what was asked for."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from broker.errors import Outcome, RemoteError
from broker.oauth.checks import Check, CheckFailedError
from broker.oauth.dialect import IRIDIUM, Placement
from broker.oauth.messages import Draft
from broker.oauth.metadata import AuthorizationServer
from broker.oauth.provider_redirect import LONGEST, MAX_PARAMETERS, read_redirect, redirect_draft
from broker.oauth.reasons import Reason
from tests.unit.oauth.builders import ISSUER_URL, NOW, an_answer, an_issuer

STATE = "s-_0123456789abcdef"
REDIRECT_URI = "https://app.example/callback"
ISSUER = an_issuer(dialect=IRIDIUM)
QUERY = f"client_id=theirs&scope=user:email&state={STATE}&redirect_uri={REDIRECT_URI}"
GOOD = f"https://github.com/login/oauth/authorize?{QUERY}"
FORM = (("client_id", "app-1"), ("state", STATE))


def read(location: str | None = GOOD, *, status: int = 302, body: bytes = b"", hosts: tuple[str, ...] = ()) -> str:
    headers = {} if location is None else {"location": location}
    issuer = replace(ISSUER, dialect=replace(IRIDIUM, provider_hosts=(*IRIDIUM.provider_hosts, *hosts)))
    answer = an_answer(body, status=status, headers=headers)
    return read_redirect(answer, issuer, state=STATE, redirect_uri=REDIRECT_URI, wall_now=NOW)


def refused(location: str | None) -> CheckFailedError:
    with pytest.raises(CheckFailedError) as raised:
        read(location)
    assert raised.value.code == Reason.PROVIDER_REDIRECT_INVALID
    assert raised.value.outcome is Outcome.ANSWERED
    return raised.value


# --- the call ---


@pytest.mark.parametrize("placement", Placement)
def test_the_call_proves_nobody(placement: Placement) -> None:
    """A browser would do it: there is no credential, and no proof."""
    server = AuthorizationServer(issuer=ISSUER_URL, token_endpoint="t", authorization_endpoint=f"{ISSUER_URL}/a")
    issuer = replace(ISSUER, dialect=replace(IRIDIUM, authorization_placement=placement))

    draft = redirect_draft(server, issuer, FORM)

    assert draft == Draft(url=f"{ISSUER_URL}/a", form=FORM, in_query=placement is Placement.QUERY)


def test_a_server_without_the_endpoint_is_told_apart() -> None:
    """It is a matter of the configuration."""
    with pytest.raises(RemoteError) as raised:
        redirect_draft(AuthorizationServer(issuer=ISSUER_URL, token_endpoint="t"), ISSUER, FORM)

    assert raised.value.code == Reason.METADATA_INSUFFICIENT


# --- where the browser is sent ---


@pytest.mark.parametrize("status", [302, 303])
def test_the_browser_goes_where_the_redirect_leads(status: int) -> None:
    """To a provider that is listed, with our state, back to us."""
    assert read(status=status) == GOOD


@pytest.mark.parametrize(
    "location",
    [
        f"https://GitHub.com/login?{QUERY}",
        f"https://github.com:443/login?{QUERY}",
        f"https://github.com:8443/login?{QUERY}",
        f"https://accounts.google.com?{QUERY}",
        f"https://port.example:9443/?{QUERY}",
        f"https://[2001:db8::1]/?{QUERY}",
    ],
)
def test_a_host_is_listed_for_all_ports_or_for_one(location: str) -> None:
    """As endpoint_hosts are."""
    assert read(location, hosts=("port.example:9443", "[2001:db8::1]")) == location


@pytest.mark.parametrize(
    ("raw", "encoded"),
    [
        ("a b", "a%20b"),
        ("{x}", "%7Bx%7D"),
        ("ü", "%C3%BC"),
        ('"<>\\^`|', "%22%3C%3E%5C%5E%60%7C"),
        ("\x00\t\n\x7f", "%00%09%0A%7F"),
        ("%20%zz", "%20%zz"),
        ("openid+email", "openid+email"),
    ],
)
def test_a_location_that_was_pasted_together_is_encoded_as_browsers_do_it(raw: str, encoded: str) -> None:
    """IRI-02: it is built without encoding; what comes out is a URL that any browser opens."""
    location = GOOD.replace("user:email", raw)

    url = read(location)

    assert url == GOOD.replace("user:email", encoded)
    assert url.isascii()
    assert url.isprintable()
    assert " " not in url
    assert parse_qs(urlsplit(url).query)["state"] == [STATE]


def test_a_redirect_uri_may_be_encoded_or_not() -> None:
    """A server that encodes is right, too."""
    encoded = GOOD.replace(REDIRECT_URI, quote(REDIRECT_URI, safe=""))

    assert read(encoded) == encoded


# --- what is refused ---


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (200, b"", Reason.MALFORMED),
        (200, b"<html>", Reason.MALFORMED),
        (201, b"{}", Reason.UNEXPECTED_STATUS),
        (204, b"", Reason.UNEXPECTED_STATUS),
        (301, b"", Reason.REDIRECTED),
        (307, b"", Reason.REDIRECTED),
        (308, b"", Reason.REDIRECTED),
        (400, b'{"error": "invalid_request"}', Reason.SERVER_REFUSED),
        (400, b'{"code": "400 BAD_REQUEST", "message": null}', Reason.UNEXPECTED_STATUS),
        (404, b"", Reason.UNEXPECTED_STATUS),
        (500, b"", Reason.SERVER_FAILED),
    ],
)
def test_an_answer_that_is_no_redirect_leads_nowhere(status: int, body: bytes, reason: Reason) -> None:
    """301 is not for what was a POST; 307 and 308 would have the browser repeat it. A Location beside is no use."""
    with pytest.raises(RemoteError) as raised:
        read(status=status, body=body)

    assert raised.value.code == reason


def test_a_200_is_no_redirect_whatever_is_in_it() -> None:
    """It says what was expected."""
    with pytest.raises(CheckFailedError, match="302 with Location"):
        read(status=200, body=b'{"location": "https://github.com"}')


@pytest.mark.parametrize(
    "location",
    [
        None,
        "",
        f"http://github.com/login?{QUERY}",
        f"//github.com/login?{QUERY}",
        f"/login?{QUERY}",
        f"login?{QUERY}",
        f"https:github.com/login?{QUERY}",
        f"https:/github.com/login?{QUERY}",
        f"https:///github.com/login?{QUERY}",
        f"https:\\\\github.com/login?{QUERY}",
        f" https://github.com/login?{QUERY}",
        f"javascript:alert(1)//github.com/?{QUERY}",
        f"data:text/html,x?{QUERY}",
        # userinfo, and what a browser may take for the end of the host
        f"https://github.com@evil.example/login?{QUERY}",
        f"https://u:p@github.com/login?{QUERY}",
        f"https://evil.example\\@github.com/login?{QUERY}",
        f"https://github.com\\.evil.example/login?{QUERY}",
        f"https://github.com%2eevil.example/login?{QUERY}",
        f"https://evil.example%2f@github.com/login?{QUERY}",
        f"https://github.com\t.evil.example/login?{QUERY}",
        f"https://github.com\n/login?{QUERY}",
        f"https://g\u0131thub.com/login?{QUERY}",
        f"https://github.com/../evil?{QUERY}",
        f"https://github.com./login?{QUERY}",
        f"https://github.com:0/login?{QUERY}",
        f"https://github.com:99999/login?{QUERY}",
        # a fragment, which a browser carries along to our redirect_uri
        f"https://github.com/login?{QUERY}#code=theirs",
        f"https://github.com/login?{QUERY}#",
        f"https://github.com/login#?{QUERY}",
        f"https://github.com/login?{QUERY}&x={'x' * LONGEST}",
    ],
)
def test_a_location_that_is_not_plain_is_refused(location: str | None) -> None:
    """One reading only: what browsers and we could take for different places is nobody's login."""
    error = refused(location)

    assert error.check is Check.LOCATION
    assert "evil" not in f"{error}{error.hint}"


@pytest.mark.parametrize(
    ("host", "line"),
    [
        ("evil.example", '"evil.example"'),
        ("evil.example:8443", '"evil.example:8443"'),
        ("sub.github.com", '"sub.github.com"'),
        ("github.com.evil.example", '"github.com.evil.example"'),
        ("[2001:DB8::1]", '"[2001:db8::1]"'),
        ("127.0.0.1", '"127.0.0.1"'),
    ],
)
def test_a_host_that_is_not_listed_is_refused_with_the_line_to_add(host: str, line: str) -> None:
    """The host has passed a grammar; nothing else of the Location is told."""
    error = refused(f"https://{host}/canary?{QUERY}&canary=canary")

    assert error.check is Check.LOCATION
    assert error.hint is not None
    assert error.hint.endswith(f'[issuer.as.dialect]: provider_hosts = ["github.com", "accounts.google.com", {line}]')
    assert "canary" not in f"{error}{error.message}{error.hint}"
    assert STATE not in f"{error}{error.message}{error.hint}"


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]"])
def test_a_metadata_address_is_refused_also_where_it_is_listed(host: str) -> None:
    """The browser may run where the broker runs."""
    with pytest.raises(CheckFailedError, match="link-local") as raised:
        read(f"https://{host}/?{QUERY}", hosts=(host,))

    assert raised.value.hint is None


@pytest.mark.parametrize(
    ("query", "check"),
    [
        (f"redirect_uri={REDIRECT_URI}", Check.STATE),
        (f"state=&redirect_uri={REDIRECT_URI}", Check.STATE),
        (f"state=canary&redirect_uri={REDIRECT_URI}", Check.STATE),
        (f"state={STATE}x&redirect_uri={REDIRECT_URI}", Check.STATE),
        (f"State={STATE}&redirect_uri={REDIRECT_URI}", Check.STATE),
        (f"x=1;state={STATE}&redirect_uri={REDIRECT_URI}", Check.STATE),
        (f"state=canaryü&redirect_uri={REDIRECT_URI}", Check.STATE),
        (f"{QUERY}&state={STATE}", Check.REPEATED_PARAMETER),
        (f"{QUERY}&state=canary", Check.REPEATED_PARAMETER),
        (f"{QUERY}&sta%74e=canary", Check.REPEATED_PARAMETER),
        (f"{QUERY}&redirect_uri=https://canary.example", Check.REPEATED_PARAMETER),
        (f"state={STATE}", Check.REDIRECT_URI),
        (f"state={STATE}&redirect_uri=", Check.REDIRECT_URI),
        (f"state={STATE}&redirect_uri={REDIRECT_URI}/", Check.REDIRECT_URI),
        (f"state={STATE}&redirect_uri=https://canary.example", Check.REDIRECT_URI),
        (f"{QUERY}&{'&'.join(f'p{number}=1' for number in range(MAX_PARAMETERS))}", Check.LOCATION),
        (f"{QUERY}&x=%FF", Check.LOCATION),
        (f"{QUERY}&x=\udcff", Check.LOCATION),  # a byte that is no UTF-8, as the transport gives it
        ("", Check.STATE),
    ],
)
def test_only_our_request_comes_back(query: str, check: Check) -> None:
    """IRI-02, IRI-03: the state is the only defence there, and the code comes to the redirect_uri; both exactly."""
    error = refused(f"https://github.com/login?{query}")

    assert error.check is check
    assert "canary" not in f"{error}{error.message}{error.hint}"
    assert ("to the letter" in str(error.hint)) is (check is Check.REDIRECT_URI)


@pytest.mark.parametrize("more", ["response_type=token", "response_mode=form_post", "response_mode=fragment"])
def test_the_provider_is_asked_for_a_code_in_the_query(more: str) -> None:
    """Nothing else would come back to where it is read."""
    assert refused(f"{GOOD}&{more}").check is Check.RESPONSE_TYPE
    assert read(f"{GOOD}&response_type=code&response_mode=query")


def test_a_server_to_which_people_come_back_first_has_a_state_of_its_own() -> None:
    """Its callback is the one that the dialect names, and nothing of ours has to be in the redirect."""
    callback = "/oauth/external/callback"
    issuer = replace(ISSUER, dialect=replace(IRIDIUM, provider_callback=callback))
    theirs = f"https://github.com/login?state=other&redirect_uri={ISSUER_URL}{callback}"

    def read_by_dialect(location: str) -> str:
        answer = an_answer(b"", status=302, headers={"location": location})
        return read_redirect(answer, issuer, state=STATE, redirect_uri=REDIRECT_URI, wall_now=NOW)

    assert read_by_dialect(theirs) == theirs
    with pytest.raises(CheckFailedError) as raised:
        read_by_dialect(GOOD)
    assert raised.value.check is Check.REDIRECT_URI
