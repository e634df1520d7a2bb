"""metadata: what a server says about itself, believed only as far as the configuration goes."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.errors import LocalError, Outcome, RemoteError
from broker.oauth.client import AliasedEndpoint, Discovery, Issuer
from broker.oauth.dialect import RAIDIAM, Dialect
from broker.oauth.metadata import (
    AuthorizationServer,
    EndpointName,
    check_issuer,
    discovery_urls,
    endpoint,
    read_metadata,
)
from broker.oauth.reasons import Reason
from tests.unit.oauth.builders import ISSUER_URL, NOW, a_client, an_answer, an_issuer

ENDPOINTS = get_args(EndpointName)
ALIASED = [name for name in ENDPOINTS if name not in {"jwks_uri", "authorization_endpoint", "end_session_endpoint"}]

CERTIFIED, UNCERTIFIED = a_client(), a_client(presents_certificate=False)


def a_document(**changes: Any) -> dict[str, Any]:
    return {"issuer": ISSUER_URL, "token_endpoint": f"{ISSUER_URL}/token", **changes}


def refused(document: object, issuer: Issuer | None = None) -> RemoteError:
    """Read *document*, which must be refused after the server has answered."""
    with pytest.raises(RemoteError) as caught:
        read_metadata(an_answer(document), issuer or an_issuer())
    assert caught.value.outcome is Outcome.ANSWERED
    return caught.value


# --- the issuer ---


@pytest.mark.parametrize(
    "url",
    [
        "https://as.example",
        "https://as.example/",
        "https://as.example:8443/tenant/one",
        "https://10.0.0.1/realm",
        "https://[2001:db8::1]",
        "https://localhost:9443",
    ],
)
def test_an_https_url_can_be_an_issuer(url: str) -> None:
    """With a path, a port, an address, a slash at the end: as the server spells it."""
    check_issuer(url, allow_insecure_loopback=False)


@pytest.mark.parametrize("url", ["http://localhost:9443", "http://127.0.0.1", "http://[::1]:8080/as"])
def test_http_is_for_loopback_with_the_switch_only(url: str) -> None:
    """The switch says "insecure" and "loopback", and means both."""
    check_issuer(url, allow_insecure_loopback=True)
    with pytest.raises(LocalError) as caught:
        check_issuer(url, allow_insecure_loopback=False)

    assert caught.value.code == "issuer_invalid"
    assert "allow_insecure_loopback" in (caught.value.hint or "")


def test_the_switch_is_not_offered_where_it_would_not_help() -> None:
    """It opens loopback addresses and nothing else."""
    with pytest.raises(LocalError) as caught:
        check_issuer("http://as.example", allow_insecure_loopback=False)

    assert "allow_insecure_loopback" not in (caught.value.hint or "")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "as.example",
        "http://as.example",
        "http://localhost.example",
        "http://10.0.0.1",
        "https://as.example?tenant=1",
        "https://as.example/?",
        "https://as.example#top",
        "https://me:hunter2@as.example",
        "https://as.example/a/../b",
        "https://169.254.169.254/latest",
        "https://[::ffff:169.254.169.254]",
        "https://100.100.100.200",
        "https://2852039166",
        "https://as.example ",
    ],
)
def test_what_cannot_be_an_issuer_is_refused_without_an_echo(url: str) -> None:
    """RFC 8414 section 2: no query, no fragment; and nothing that could hide who is asked."""
    with pytest.raises(LocalError) as caught:
        check_issuer(url, allow_insecure_loopback=True)

    assert caught.value.code == "issuer_invalid"
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    ("issuer", "appended", "inserted"),
    [
        (
            "https://as.example",
            "https://as.example/.well-known/openid-configuration",
            "https://as.example/.well-known/oauth-authorization-server",
        ),
        (
            "https://as.example/",
            "https://as.example/.well-known/openid-configuration",
            "https://as.example/.well-known/oauth-authorization-server",
        ),
        (
            "https://as.example:8443/tenant/one",
            "https://as.example:8443/tenant/one/.well-known/openid-configuration",
            "https://as.example:8443/.well-known/oauth-authorization-server/tenant/one",
        ),
        (
            "https://as.example/tenant/",
            "https://as.example/tenant/.well-known/openid-configuration",
            "https://as.example/.well-known/oauth-authorization-server/tenant",
        ),
    ],
)
def test_one_specification_appends_and_the_other_inserts(issuer: str, appended: str, inserted: str) -> None:
    """OpenID Connect Discovery section 4 and RFC 8414 section 3.1."""
    assert discovery_urls(an_issuer(issuer=issuer, discovery=Discovery.OIDC)) == (appended,)
    assert discovery_urls(an_issuer(issuer=issuer, discovery=Discovery.OAUTH2)) == (inserted,)
    assert discovery_urls(an_issuer(issuer=issuer)) == (appended, inserted)


# --- the document ---


def test_accepted_metadata_holds_what_we_use() -> None:
    """Members that we know come out under their own names, all others are passed over."""
    document = a_document(
        **{name: f"{ISSUER_URL}/{name}" for name in ENDPOINTS},
        mtls_endpoint_aliases={"token_endpoint": "https://as.example:8443/token", "other_endpoint": "http://x y"},
        token_endpoint_auth_methods_supported=["private_key_jwt", "tls_client_auth"],
        token_endpoint_auth_signing_alg_values_supported=["PS256"],
        grant_types_supported=[],
        tls_client_certificate_bound_access_tokens=True,
        unknown={"a": [1]},
    )

    server = read_metadata(an_answer(document), an_issuer())

    assert server == AuthorizationServer(
        issuer=ISSUER_URL,
        token_endpoint=f"{ISSUER_URL}/token_endpoint",
        mtls_endpoint_aliases={"token_endpoint": "https://as.example:8443/token"},
        jwks_uri=f"{ISSUER_URL}/jwks_uri",
        authorization_endpoint=f"{ISSUER_URL}/authorization_endpoint",
        pushed_authorization_request_endpoint=f"{ISSUER_URL}/pushed_authorization_request_endpoint",
        revocation_endpoint=f"{ISSUER_URL}/revocation_endpoint",
        userinfo_endpoint=f"{ISSUER_URL}/userinfo_endpoint",
        introspection_endpoint=f"{ISSUER_URL}/introspection_endpoint",
        end_session_endpoint=f"{ISSUER_URL}/end_session_endpoint",
        token_endpoint_auth_methods_supported=("private_key_jwt", "tls_client_auth"),
        token_endpoint_auth_signing_alg_values_supported=("PS256",),
        grant_types_supported=(),
        tls_client_certificate_bound_access_tokens=True,
        sandbox=False,
    )


def test_absent_members_are_none() -> None:
    """Absent is not the same as empty."""
    server = read_metadata(an_answer(a_document()), an_issuer())

    assert server == AuthorizationServer(issuer=ISSUER_URL, token_endpoint=f"{ISSUER_URL}/token")
    assert server.grant_types_supported is None


@pytest.mark.parametrize(
    "stated",
    [
        "https://as.example/",
        "https://AS.example",
        "https://as.example:443",
        "https://as.exampleINVALID",
        "http://as.example",
        "",
    ],
)
def test_the_issuer_has_to_match_to_the_letter(stated: str) -> None:
    """DISC-03: no trailing slash more or less, no case, no default port."""
    error = refused(a_document(issuer=stated))

    assert error.code == Reason.ISSUER_MISMATCH
    assert "[issuer.as]" in (error.hint or "")
    assert stated not in str(error) or not stated


def test_a_foreign_issuer_is_refused_before_anything_else_is_looked_at() -> None:
    """What else such a document says is of no interest."""
    document = {"issuer": "https://evil.example", "token_endpoint": 1, "token_broker_sandbox": True}

    assert refused(document).code == Reason.ISSUER_MISMATCH


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": None},
        {"issuer": [ISSUER_URL]},
        {"token_endpoint": None},
        {"token_endpoint": 1},
        {"jwks_uri": ["https://as.example/jwks"]},
        {"mtls_endpoint_aliases": []},
        {"mtls_endpoint_aliases": None},
        {"mtls_endpoint_aliases": {"token_endpoint": {}}},
        {"token_endpoint_auth_methods_supported": "private_key_jwt"},
        {"token_endpoint_auth_signing_alg_values_supported": [1]},
        {"grant_types_supported": None},
        {"tls_client_certificate_bound_access_tokens": "false"},
        {"tls_client_certificate_bound_access_tokens": None},
    ],
)
def test_a_member_of_the_wrong_type_is_refused(changes: dict[str, Any]) -> None:
    """A guess at what was meant would be a guess about trust."""
    assert refused(a_document(**changes)).code == Reason.INVALID_RESPONSE


def test_metadata_without_a_token_endpoint_is_insufficient() -> None:
    """Every grant that we make ends there."""
    assert refused({"issuer": ISSUER_URL}).code == Reason.METADATA_INSUFFICIENT


def test_another_answer_than_a_json_object_is_not_metadata() -> None:
    """The outcome table is that of all answers; the status lets discovery go on after a 404."""
    with pytest.raises(RemoteError) as missing:
        read_metadata(an_answer(b"", status=404), an_issuer())
    with pytest.raises(RemoteError) as limited:
        read_metadata(
            an_answer(b"", status=429, headers={"retry-after": "Mon, 21 Sep 2026 14:14:20 GMT"}),
            an_issuer(),
            wall_now=NOW,
        )

    assert (missing.value.code, missing.value.status) == (Reason.UNEXPECTED_STATUS, 404)
    assert (limited.value.code, limited.value.retry_after) == (Reason.RATE_LIMITED, 60.0)


# --- the sandbox ---


@pytest.mark.parametrize("value", [True, "true", 1, "false", 0, None])
def test_a_sandbox_is_refused_unless_it_is_wanted(value: object) -> None:
    """Whatever is not plainly false is a yes."""
    document = a_document(token_broker_sandbox=value)

    assert refused(document).code == Reason.SANDBOX_REFUSED
    assert read_metadata(an_answer(document), an_issuer(sandbox=True)).sandbox


def test_a_real_server_is_accepted_where_a_sandbox_would_be() -> None:
    """The switch admits a sandbox, it does not demand one."""
    document = a_document(token_broker_sandbox=False)

    assert not read_metadata(an_answer(document), an_issuer()).sandbox
    assert not read_metadata(an_answer(a_document()), an_issuer(sandbox=True)).sandbox


# --- the endpoints ---


@pytest.mark.parametrize("member", [*ENDPOINTS, *(f"mtls_endpoint_aliases.{name}" for name in ALIASED)])
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://as.example/x", Reason.ENDPOINT_REFUSED),
        ("https://evil.example/x", Reason.ENDPOINT_REFUSED),
        ("https://as.example.evil.example/x", Reason.ENDPOINT_REFUSED),
        ("https://user@as.example/x", Reason.ENDPOINT_REFUSED),
        ("https://as.example/x#y", Reason.ENDPOINT_REFUSED),
        ("/x", Reason.ENDPOINT_REFUSED),
        ("", Reason.ENDPOINT_REFUSED),
        ("https://169.254.169.254/x", Reason.ADDRESS_REFUSED),
        ("https://[::ffff:100.100.100.200]/x", Reason.ADDRESS_REFUSED),
    ],
)
def test_an_endpoint_that_must_not_be_dialed_spoils_the_document(member: str, url: str, reason: Reason) -> None:
    """Each endpoint and each alias, whether it is needed today or not."""
    outer, _, inner = member.partition(".")

    error = refused(a_document(**{outer: {inner: url} if inner else url}))

    assert error.code == reason
    assert member in str(error)
    assert "evil" not in str(error)


@pytest.mark.parametrize(
    ("hosts", "url"),
    [
        (set(), "https://AS.EXAMPLE/token"),
        (set(), "https://as.example:8443/token"),
        ({"mtls.example"}, "https://mtls.example/token"),
        ({"mtls.example"}, "https://mtls.example:8443/token"),
        ({"MTLS.example"}, "https://mtls.EXAMPLE/token"),
        ({"mtls.example:8443"}, "https://mtls.example:8443/token"),
        ({"mtls.example:443"}, "https://mtls.example/token"),
        ({"[2001:db8::1]"}, "https://[2001:DB8::1]/token"),
    ],
)
def test_an_endpoint_may_be_at_home_or_on_a_listed_host(hosts: set[str], url: str) -> None:
    """At home on any port; elsewhere as listed, with a port or without."""
    server = read_metadata(an_answer(a_document(token_endpoint=url)), an_issuer(endpoint_hosts=frozenset(hosts)))

    assert server.token_endpoint == url


@pytest.mark.parametrize("listed", ["mtls.example:8443", "example", "*.example", ".example", "as.example"])
def test_a_host_that_is_nearly_listed_is_refused(listed: str) -> None:
    """No suffixes, no wildcards, and a listed port is that port only."""
    document = a_document(token_endpoint="https://mtls.example:9443/token")

    assert refused(document, an_issuer(endpoint_hosts=frozenset({listed}))).code == Reason.ENDPOINT_REFUSED


@pytest.mark.parametrize(
    ("issuer", "url"),
    [
        ("https://auth.as.example", "https://matls-auth.as.example/token"),
        ("https://auth.as.example", "https://MATLS-auth.as.example:8443/token"),
        ("https://auth.as.example", "https://mtls.auth.as.example/token"),
        ("https://auth.as.example:9443", "https://matls-auth.as.example/token"),
        ("https://auth.as.example", "https://auth.as.example/token"),
    ],
)
def test_an_endpoint_may_be_on_the_issuers_host_with_a_prefix_of_its_dialect(issuer: str, url: str) -> None:
    """As if that host were listed: on any port."""
    dialect = Dialect(endpoint_host_prefixes=("matls-", "mtls."))
    document = a_document(issuer=issuer, token_endpoint=url)

    server = read_metadata(an_answer(document), an_issuer(issuer=issuer, dialect=dialect))

    assert server.token_endpoint == url


@pytest.mark.parametrize(
    "host",
    [
        "matls-other.example",
        "matls-matls-auth.as.example",
        "matls-auth.as.example.evil.example",
        "xmatls-auth.as.example",
        "matls-",
    ],
)
def test_a_prefix_gives_no_host_but_the_issuers(host: str) -> None:
    """It is put before that one, once."""
    document = a_document(issuer="https://auth.as.example", token_endpoint=f"https://{host}/token")
    wanted = an_issuer(issuer="https://auth.as.example", dialect=RAIDIAM)

    assert refused(document, wanted).code == Reason.ENDPOINT_REFUSED
    assert refused(a_document(token_endpoint="https://matls-as.example/token")).code == Reason.ENDPOINT_REFUSED


def test_a_listed_metadata_address_is_refused_all_the_same() -> None:
    """An operator can be talked into adding a line."""
    document = a_document(token_endpoint="https://169.254.169.254/token")

    assert refused(document, an_issuer(endpoint_hosts=frozenset({"169.254.169.254"}))).code == Reason.ADDRESS_REFUSED


def test_the_hint_is_the_whole_line_to_add() -> None:
    """All foreign hosts at once, beside those that are listed already."""
    document = a_document(
        jwks_uri="https://keys.example/jwks",
        mtls_endpoint_aliases={"token_endpoint": "https://MTLS.example:8443/token"},
    )

    error = refused(document, an_issuer(endpoint_hosts=frozenset({"old.example"})))

    assert error.hint is not None
    assert error.hint.endswith('[issuer.as]: endpoint_hosts = ["keys.example", "mtls.example:8443", "old.example"]')


@pytest.mark.parametrize(("aliases", "copied"), [(0, True), (1, False)])
def test_a_document_with_many_foreign_hosts_gives_no_line_to_copy(aliases: int, copied: bool) -> None:
    """The endpoints and their aliases could fill a screen with hosts of somebody's choice: eight are enough."""
    document = a_document(
        **{name: f"https://{name.replace('_', '-')}.example/" for name in ENDPOINTS},
        mtls_endpoint_aliases={name: f"https://m-{name.replace('_', '-')}.example/" for name in ALIASED[:aliases]},
    )

    error = refused(document)

    assert error.code == Reason.ENDPOINT_REFUSED
    assert (error.hint is not None) is copied


def test_http_endpoints_are_for_loopback_with_the_switch_only() -> None:
    """The same rule as for the issuer."""
    issuer = an_issuer(issuer="http://127.0.0.1:8080", allow_insecure_loopback=True)
    document = {"issuer": "http://127.0.0.1:8080", "token_endpoint": "http://127.0.0.1:8080/token"}

    assert read_metadata(an_answer(document), issuer).token_endpoint == "http://127.0.0.1:8080/token"
    document["token_endpoint"] = "http://as.example/token"
    listed = an_issuer(
        issuer="http://127.0.0.1:8080", allow_insecure_loopback=True, endpoint_hosts=frozenset({"as.example"})
    )
    assert refused(document, listed).code == Reason.ENDPOINT_REFUSED


@settings(derandomize=True, max_examples=60, deadline=None, database=None)
@given(
    st.dictionaries(
        st.sampled_from(
            [*ENDPOINTS, "issuer", "mtls_endpoint_aliases", "grant_types_supported", "token_broker_sandbox"]
        ),
        st.none()
        | st.text(max_size=8)
        | st.lists(st.text(max_size=3), max_size=2)
        | st.sampled_from(["https://as.example/x", ISSUER_URL])
        | st.dictionaries(st.sampled_from(ENDPOINTS), st.text()),
    )
)
def test_any_document_is_accepted_or_refused(changes: dict[str, Any]) -> None:
    """Whatever a server says about itself, nothing but RemoteError comes of it, and no endpoint on a foreign host."""
    try:
        server = read_metadata(an_answer(a_document(**changes)), an_issuer())
    except RemoteError:
        return

    assert server.issuer == ISSUER_URL
    assert server.token_endpoint in {ISSUER_URL, f"{ISSUER_URL}/token", f"{ISSUER_URL}/x"}


# --- choosing an endpoint ---


def a_server(**changes: Any) -> AuthorizationServer:
    return AuthorizationServer(**{"issuer": ISSUER_URL, "token_endpoint": f"{ISSUER_URL}/token", **changes})


def test_the_alias_is_for_clients_with_a_certificate() -> None:
    """DISC-06: and without an alias they use the ordinary endpoint."""
    server = a_server(
        revocation_endpoint=f"{ISSUER_URL}/revoke",
        mtls_endpoint_aliases={"token_endpoint": "https://as.example:8443/token"},
    )

    assert endpoint(server, "token_endpoint", CERTIFIED) == "https://as.example:8443/token"
    assert endpoint(server, "token_endpoint", UNCERTIFIED) == f"{ISSUER_URL}/token"
    assert endpoint(server, "token_endpoint", None) == f"{ISSUER_URL}/token"
    assert endpoint(server, "revocation_endpoint", CERTIFIED) == f"{ISSUER_URL}/revoke"


@pytest.mark.parametrize("name", ["jwks_uri", "authorization_endpoint", "end_session_endpoint"])
def test_what_has_no_client_authentication_has_no_alias(name: EndpointName) -> None:
    """A browser has no client certificate; keys are public."""
    server = a_server(**{name: f"{ISSUER_URL}/ordinary"}, mtls_endpoint_aliases={name: "https://as.example:8443/x"})

    assert endpoint(server, name, CERTIFIED) == f"{ISSUER_URL}/ordinary"
    document = a_document(mtls_endpoint_aliases={name: "https://evil.example/"})
    assert read_metadata(an_answer(document), an_issuer()).mtls_endpoint_aliases == {}


def test_an_endpoint_that_the_server_lacks_is_insufficient_metadata() -> None:
    """Nothing was sent, and the message names the member."""
    with pytest.raises(RemoteError) as caught:
        endpoint(a_server(), "introspection_endpoint", CERTIFIED)

    assert (caught.value.code, caught.value.outcome) == (Reason.METADATA_INSUFFICIENT, Outcome.NOT_SENT)
    assert "introspection_endpoint" in str(caught.value)


def test_an_alias_alone_will_do_for_a_client_with_a_certificate() -> None:
    """The ordinary endpoint may not exist at all."""
    server = a_server(mtls_endpoint_aliases={"userinfo_endpoint": "https://as.example:8443/me"})

    assert endpoint(server, "userinfo_endpoint", CERTIFIED) == "https://as.example:8443/me"


def test_a_client_may_do_without_some_aliases_or_all() -> None:
    """Those that are named are called, where there is one; none is without a certificate."""
    aliases = {name: f"https://as.example:8443/{name}" for name in AliasedEndpoint}
    ordinary = {name.value: f"{ISSUER_URL}/{name}" for name in AliasedEndpoint}
    server = a_server(**ordinary, mtls_endpoint_aliases=aliases)
    names: dict[EndpointName, AliasedEndpoint] = {
        "token_endpoint": AliasedEndpoint.TOKEN,
        "pushed_authorization_request_endpoint": AliasedEndpoint.PUSHED_AUTHORIZATION_REQUEST,
        "revocation_endpoint": AliasedEndpoint.REVOCATION,
        "userinfo_endpoint": AliasedEndpoint.USERINFO,
    }

    for chosen in (frozenset(), frozenset({AliasedEndpoint.TOKEN}), frozenset(AliasedEndpoint)):
        client = a_client(mtls_endpoint_aliases=chosen)
        dialed = {alias for name, alias in names.items() if endpoint(server, name, client) == aliases[alias]}
        assert dialed == chosen
    uncertified = a_client(presents_certificate=False, mtls_endpoint_aliases=frozenset(AliasedEndpoint))
    assert endpoint(server, "token_endpoint", uncertified) == f"{ISSUER_URL}/token_endpoint"


@pytest.mark.parametrize(
    ("issuer", "host", "trusted"),
    [
        ("https://auth.example.com", "matls-auth.example.com", True),
        ("https://example.com", "matls-example.com", False),
        ("https://localhost", "matls-localhost", False),
    ],
)
def test_a_prefix_makes_no_other_domain(issuer: str, host: str, trusted: bool):
    """Before a bare domain a hyphen makes one that anybody may have registered."""
    metadata = {"issuer": issuer, "token_endpoint": f"https://{host}/token"}
    wanted = Issuer(name="as", issuer=issuer, dialect=RAIDIAM)

    if trusted:
        assert read_metadata(an_answer(metadata), wanted).token_endpoint == metadata["token_endpoint"]
        return
    with pytest.raises(RemoteError) as raised:
        read_metadata(an_answer(metadata), wanted)
    assert raised.value.code == Reason.ENDPOINT_REFUSED
