"""grants: what a token request says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from broker.errors import LocalError
from broker.oauth.client import AssertionAudience, Client, ClientAuthMethod, Issuer
from broker.oauth.dialect import IRIDIUM, Dialect, Placement, RefreshAuthentication
from broker.oauth.grants import RESERVED_PARAMETERS, client_credentials_draft, code_draft, refresh_draft
from broker.oauth.messages import AssertionSpec, BasicSpec, BearerSpec, Draft, PostSpec
from broker.oauth.metadata import AuthorizationServer
from broker.oauth.reasons import Reason
from broker.oauth.secret import AccessToken, AuthorizationCode, CodeVerifier, RefreshToken
from tests.unit.oauth.builders import ISSUER_URL, a_client, an_issuer

SERVER = AuthorizationServer(
    issuer=ISSUER_URL,
    token_endpoint=f"{ISSUER_URL}/token",
    mtls_endpoint_aliases={"token_endpoint": "https://as.example:8443/token"},
)


def draft(client: Client | None = None, issuer: Issuer | None = None, **asked: Any) -> Draft:
    ordinary: dict[str, Any] = {"scope": (), "resource": (), "audience": (), "parameters": ()}
    return client_credentials_draft(SERVER, issuer or an_issuer(), client or a_client(), **{**ordinary, **asked})


def test_the_least_request_has_grant_type_and_client() -> None:
    """RFC 6749 section 4.4.2: an empty scope is not sent, because it is not the same as none."""
    assert draft() == Draft(
        url="https://as.example:8443/token",
        form=(("grant_type", "client_credentials"), ("client_id", "app-1")),
        credential=AssertionSpec(client_id="app-1", audience=ISSUER_URL),
    )


def test_everything_asked_for_is_in_the_form_once() -> None:
    """One scope with spaces; a resource and an audience for each value; the rest as configured, in order."""
    form = draft(
        scope=("accounts", "payments"),
        resource=("https://api.example/a", "https://api.example/b"),
        audience=("one", "two"),
        parameters=(("tenant", "7"), ("tenant", "8"), ("flag", "")),
    ).form

    assert form == (
        ("grant_type", "client_credentials"),
        ("scope", "accounts payments"),
        ("resource", "https://api.example/a"),
        ("resource", "https://api.example/b"),
        ("audience", "one"),
        ("audience", "two"),
        ("tenant", "7"),
        ("tenant", "8"),
        ("flag", ""),
        ("client_id", "app-1"),
    )


def test_a_client_without_a_certificate_dials_the_ordinary_endpoint() -> None:
    """And where the audience is the target, it is that one."""
    made = draft(a_client(presents_certificate=False), an_issuer(assertion_audience=AssertionAudience.TARGET))

    assert made.url == f"{ISSUER_URL}/token"
    assert made.credential == AssertionSpec(client_id="app-1", audience=f"{ISSUER_URL}/token")


@pytest.mark.parametrize("name", [
    "grant_type", "scope", "resource", "audience", "authorization_details", "client_id", "client_secret",
    "client_assertion", "client_assertion_type", "iss", "aud", "code", "code_verifier", "refresh_token", "username",
    "password", "assertion", "device_code", "auth_req_id", "subject_token", "subject_token_type", "actor_token",
    "actor_token_type", "requested_token_type", "redirect_uri", "response_type", "response_mode", "state", "nonce",
    "code_challenge", "code_challenge_method", "request", "request_uri", "dpop_jkt", "token", "token_type_hint",
    "access_token",
])  # fmt: skip
def test_an_extra_parameter_cannot_set_what_is_ours(name: str) -> None:
    """The configuration refuses it at start; a draft refuses it again."""
    with pytest.raises(LocalError) as caught:
        draft(parameters=(("fine", "1"), (name, "canary")))

    assert caught.value.code == "parameter_reserved"
    assert "canary" not in str(caught.value)


def test_every_field_that_a_draft_sets_is_reserved() -> None:
    """A field that could be set twice would leave the choice to the server."""
    form = draft(scope=("a",), resource=("b",), audience=("c",)).form

    assert {name for name, _ in form or ()} <= RESERVED_PARAMETERS
    assert {"client_assertion", "client_assertion_type", "client_secret"} <= RESERVED_PARAMETERS


# --- a person's grant ---


def test_a_code_is_exchanged_with_its_verifier() -> None:
    """RFC 6749 section 4.1.3, RFC 7636 section 4.5: both are secrets, and shown by nothing."""
    made = code_draft(
        SERVER,
        an_issuer(),
        a_client(),
        code=AuthorizationCode("canary-1"),
        code_verifier=CodeVerifier("canary-2"),
        redirect_uri="https://app.example/cb",
        state="the-state",
        scope=("openid",),
        resource=("https://a.example", "https://b.example"),
    )

    assert made == Draft(
        url="https://as.example:8443/token",
        form=(
            ("grant_type", "authorization_code"),
            ("redirect_uri", "https://app.example/cb"),
            ("resource", "https://a.example"),
            ("resource", "https://b.example"),
            ("client_id", "app-1"),
        ),
        credential=AssertionSpec(client_id="app-1", audience=ISSUER_URL),
        secret_fields=(("code", AuthorizationCode("canary-1")), ("code_verifier", CodeVerifier("canary-2"))),
    )
    assert "canary" not in repr(made)


def test_a_refresh_token_is_a_secret_field() -> None:
    """RFC 6749 section 6; without a scope the server goes on with what was granted."""
    made = refresh_draft(
        SERVER,
        an_issuer(),
        a_client(),
        refresh_token=RefreshToken("canary"),
        access_token=AccessToken("canary-3"),
        scope=("a",),
        resource=("https://a.example",),
    )

    assert made.form == (
        ("grant_type", "refresh_token"),
        ("resource", "https://a.example"),
        ("client_id", "app-1"),
    )
    assert made.secret_fields == (("refresh_token", RefreshToken("canary")),)
    assert "canary" not in repr(made)


@pytest.mark.parametrize(("scope", "sent"), [((), None), (("a", "b"), "a b")])
def test_the_scope_goes_along_where_the_server_wants_it(scope: tuple[str, ...], sent: str | None) -> None:
    """A setting, for both requests."""
    client = a_client(scope_on_token=True)
    refresh = refresh_draft(
        SERVER, an_issuer(), client, refresh_token=RefreshToken("rt"), access_token=None, scope=scope, resource=()
    )
    code = code_draft(
        SERVER,
        an_issuer(),
        client,
        code=AuthorizationCode("c"),
        code_verifier=CodeVerifier("v"),
        redirect_uri="https://app.example/cb",
        state="the-state",
        scope=scope,
        resource=(),
    )

    assert [dict(made.form or ()).get("scope") for made in (refresh, code)] == [sent, sent]


# --- dialects ---

STILL_GOOD = AccessToken("canary")
PUBLIC = a_client(client_auth_method=ClientAuthMethod.NONE)
BASIC = a_client(client_auth_method=ClientAuthMethod.CLIENT_SECRET_BASIC)
POSTED = a_client(client_auth_method=ClientAuthMethod.CLIENT_SECRET_POST)


def code(dialect: Dialect, client: Client = PUBLIC) -> Draft:
    return code_draft(
        SERVER,
        an_issuer(dialect=dialect),
        client,
        code=AuthorizationCode("c"),
        code_verifier=CodeVerifier("v"),
        redirect_uri="https://app.example/cb",
        state="the-state",
        scope=(),
        resource=(),
    )


def refresh(
    dialect: Dialect,
    client: Client = PUBLIC,
    *,
    server: AuthorizationServer = SERVER,
    access_token: AccessToken | None = STILL_GOOD,
) -> Draft:
    return refresh_draft(
        server,
        an_issuer(dialect=dialect),
        client,
        refresh_token=RefreshToken("rt"),
        access_token=access_token,
        scope=(),
        resource=(),
    )


def names(made: Draft) -> list[str]:
    return [name for name, _ in made.form or ()]


def test_state_goes_with_the_code_where_the_server_finds_it_by_that() -> None:
    """IRI-04: with the code, and with nothing else."""
    dialect = Dialect(state_on_token=True)

    assert code(dialect).form == (
        ("grant_type", "authorization_code"),
        ("redirect_uri", "https://app.example/cb"),
        ("state", "the-state"),
        ("client_id", "app-1"),
    )
    assert "state" not in names(code(Dialect()))
    assert "state" not in names(refresh(dialect))


@pytest.mark.parametrize("made", [code, refresh])
def test_the_client_is_named_beside_its_header_once(made: Callable[..., Draft]) -> None:
    """Where a form names it already it is not named twice."""
    dialect = Dialect(client_id_with_basic=True)

    basic, posted, public = (made(dialect, client) for client in (BASIC, POSTED, PUBLIC))

    assert isinstance(basic.credential, BasicSpec)
    assert isinstance(posted.credential, PostSpec)
    assert [names(each).count("client_id") for each in (basic, posted, public)] == [1, 1, 1]
    assert "client_id" not in names(made(Dialect(), BASIC))


@pytest.mark.parametrize("made", [code, refresh])
def test_further_fields_go_with_code_and_refresh(made: Callable[..., Draft]) -> None:
    """In their order, before what authenticates."""
    form = made(Dialect(token_parameters=(("tenant", "7"), ("flag", "")))).form

    assert form is not None
    assert form[-3:] == (("tenant", "7"), ("flag", ""), ("client_id", "app-1"))


def test_no_further_field_goes_with_client_credentials() -> None:
    """A token has parameters of its own there, and Iridium takes its header alone (IRI-11)."""
    issuer = an_issuer(dialect=Dialect(token_parameters=(("tenant", "7"),), client_id_with_basic=True))

    assert names(draft(BASIC, issuer)) == ["grant_type"]


def test_the_form_is_in_the_url_where_the_dialect_has_it_there() -> None:
    """At the token endpoint, whatever the grant is."""
    in_query, standard = Dialect(token_placement=Placement.QUERY, leaks_secrets_in_url=True), Dialect()

    made = [(code(each), refresh(each), draft(issuer=an_issuer(dialect=each))) for each in (in_query, standard)]

    assert [[each.in_query for each in drafts] for drafts in made] == [[True] * 3, [False] * 3]


def test_a_refresh_goes_to_an_endpoint_of_its_own_where_there_is_one() -> None:
    """IRI-13; a code does not."""
    server = replace(SERVER, refresh_endpoint=f"{ISSUER_URL}/token/refresh")

    assert refresh(Dialect(), server=server).url == f"{ISSUER_URL}/token/refresh"
    assert refresh(Dialect()).url == "https://as.example:8443/token"


@pytest.mark.parametrize("client", [PUBLIC, BASIC, POSTED, a_client()])
def test_an_access_token_stands_for_the_client_where_the_dialect_has_it_so(client: Client) -> None:
    """IRI-13: it is the one proof, and the client is named in the form, once."""
    made = refresh(IRIDIUM, client)

    assert made.credential == BearerSpec(access_token=AccessToken("canary"))
    assert made.form == (("grant_type", "refresh_token"), ("client_id", "app-1"))
    assert "canary" not in repr(made)


def test_without_an_access_token_that_is_good_no_such_refresh_is_drafted() -> None:
    """It would be refused, and a person has to consent again."""
    dialect = Dialect(refresh_authentication=RefreshAuthentication.ACCESS_TOKEN)

    with pytest.raises(LocalError) as caught:
        refresh(dialect, access_token=None)

    assert caught.value.code == Reason.ACCESS_TOKEN_ENDED
    assert refresh(Dialect(), access_token=None).credential is None
