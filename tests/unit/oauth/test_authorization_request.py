from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from broker.errors import LocalError, RemoteError
from broker.oauth.authorization_request import (
    RESERVED_REQUEST_PARAMETERS,
    Asked,
    ByValue,
    Pushed,
    PushedRequest,
    Redirected,
    Transaction,
    authorization_url,
    plan_authorization,
    pushed_url,
    read_pushed_response,
)
from broker.oauth.client import Client, ClientAuthMethod, Issuer, Parameters, Profile, RequestObjectUse, ResponseMode
from broker.oauth.dialect import AuthorizationBy, Dialect, PkceTransform, Placement
from broker.oauth.messages import AssertionSpec, Draft
from broker.oauth.metadata import AuthorizationServer
from broker.oauth.pkce import code_challenge
from broker.oauth.reasons import Reason
from broker.oauth.secret import CodeVerifier, RequestObject
from tests.unit.oauth.builders import ISSUER_URL, NOW, a_client, an_answer, an_issuer

SERVER = AuthorizationServer(
    issuer=ISSUER_URL,
    token_endpoint=f"{ISSUER_URL}/token",
    authorization_endpoint=f"{ISSUER_URL}/auth",
    jwks_uri=f"{ISSUER_URL}/jwks",
    pushed_authorization_request_endpoint=f"{ISSUER_URL}/request",
    mtls_endpoint_aliases={"pushed_authorization_request_endpoint": "https://mtls.as.example/request"},
)
BY_BROWSER = replace(SERVER, pushed_authorization_request_endpoint=None)
OIDC = an_issuer(profile=Profile.OIDC)
TRANSACTION = Transaction(
    state="s-1", nonce="n-1", code_verifier=CodeVerifier("v" * 43), redirect_uri="https://app.example/cb"
)
ASKED = Asked(
    scope=("openid", "directory:website"),
    resource=("https://api.example",),
    authorization_details=({"type": "payment", "amount": 5},),
    claims={"id_token": {"acr": {"essential": True}}},
    acr_values=("loa2", "loa3"),
    prompt=("consent",),
    login_hint="canary@example.org",
    max_age=300,
    parameters=(("tenant", "blue"),),
)


def plan(
    *, server: AuthorizationServer = SERVER, issuer: Issuer = OIDC, asked: Asked = ASKED, client: Client | None = None
) -> Pushed | Redirected | ByValue:
    return plan_authorization(server, issuer, client or a_client(), asked, TRANSACTION)


def pushed(**changes: Any) -> Draft:
    made = plan(**changes)
    assert isinstance(made, Pushed)
    return made.draft


def by_value(**changes: Any) -> ByValue:
    made = plan(**{"server": BY_BROWSER, **changes})
    assert isinstance(made, ByValue)
    return made


def test_the_request_is_pushed_where_the_server_takes_it():
    """PAR-01: all parameters in the body, to the alias, with the authentication of the token endpoint."""
    draft = pushed()

    assert draft.url == "https://mtls.as.example/request"
    assert draft.credential == AssertionSpec(client_id="app-1", audience=ISSUER_URL)
    assert draft.request_object is None
    assert draft.form == (
        ("response_type", "code"),
        ("client_id", "app-1"),
        ("redirect_uri", "https://app.example/cb"),
        ("scope", "openid directory:website"),
        ("state", "s-1"),
        ("nonce", "n-1"),
        ("code_challenge", code_challenge(TRANSACTION.code_verifier)),
        ("code_challenge_method", "S256"),
        ("resource", "https://api.example"),
        ("authorization_details", '[{"type":"payment","amount":5}]'),
        ("claims", '{"id_token":{"acr":{"essential":true}}}'),
        ("acr_values", "loa2 loa3"),
        ("prompt", "consent"),
        ("login_hint", "canary@example.org"),
        ("max_age", "300"),
        ("tenant", "blue"),
    )


def test_what_is_not_asked_for_is_not_sent():
    """No empty parameters, which some servers refuse."""
    names = [name for name, _ in pushed(asked=Asked()).form or ()]

    assert names == [
        "response_type",
        "client_id",
        "redirect_uri",
        "state",
        "nonce",
        "code_challenge",
        "code_challenge_method",
    ]


@pytest.mark.parametrize("method", list(ClientAuthMethod))
def test_client_id_is_in_the_form_once_for_each_authentication(method: ClientAuthMethod):
    """RFC 9126 section 2.1 demands it beside whatever names the client."""
    for use in (RequestObjectUse.AUTO, RequestObjectUse.ALWAYS):
        draft = pushed(client=a_client(client_auth_method=method, request_object=use))

        assert [value for name, value in draft.form or () if name == "client_id"] == ["app-1"]
        assert "request_uri" not in dict(draft.form or ())


@pytest.mark.parametrize(
    "changes",
    [
        {"client": a_client(request_object=RequestObjectUse.ALWAYS)},
        {"issuer": an_issuer(profile=Profile.FAPI1_ADVANCED)},
        {"server": replace(SERVER, require_signed_request_object=True)},
    ],
    ids=["configured", "profile", "metadata"],
)
def test_a_request_is_signed_where_that_is_demanded(changes: dict[str, Any]):
    """JAR: everything is in the object, structures as such, and nothing beside it but who we are."""
    draft = pushed(**changes)

    assert draft.form == (("client_id", "app-1"),)
    assert draft.request_object is not None
    assert draft.request_object.typ == "oauth-authz-req+jwt"
    claims = draft.request_object.claims
    assert claims["iss"] == claims["client_id"] == "app-1"
    assert claims["aud"] == ISSUER_URL
    assert claims["authorization_details"] == [{"type": "payment", "amount": 5}]
    assert claims["claims"] == {"id_token": {"acr": {"essential": True}}}
    assert claims["max_age"] == 300
    assert claims["resource"] == "https://api.example"
    assert not {"sub", "request", "request_uri"} & claims.keys()
    assert None not in claims.values()


def test_several_resources_are_a_list_in_the_object_and_repeat_in_a_form():
    """RFC 8707 section 2.1."""
    asked = replace(ASKED, resource=("https://a.example", "https://b.example"))
    signed = pushed(asked=asked, client=a_client(request_object=RequestObjectUse.ALWAYS)).request_object

    assert signed is not None
    assert signed.claims["resource"] == ["https://a.example", "https://b.example"]
    assert [v for n, v in pushed(asked=asked).form or () if n == "resource"] == [
        "https://a.example",
        "https://b.example",
    ]


def test_the_typ_of_a_request_object_can_be_left_out():
    """JAR-02: for servers that choke on it."""
    client = a_client(request_object=RequestObjectUse.ALWAYS, request_object_typ=None)
    draft = pushed(client=client)

    assert draft.request_object is not None
    assert draft.request_object.typ is None


@pytest.mark.parametrize(
    "client", [a_client(request_object=RequestObjectUse.NEVER), a_client(signing_alg=None)], ids=["never", "no key"]
)
def test_a_demanded_signature_cannot_be_left_out(client: Client):
    """The configuration is at odds with the server: it is said, and nothing is sent."""
    with pytest.raises(LocalError) as raised:
        plan(client=client, issuer=an_issuer(profile=Profile.FAPI1_ADVANCED))

    assert raised.value.code == "request_object_required"
    assert "[client.app]" in str(raised.value.hint)


@pytest.mark.parametrize(
    "changes",
    [
        {"server": BY_BROWSER, "issuer": an_issuer(profile=Profile.FAPI2)},
        {"server": replace(BY_BROWSER, require_pushed_authorization_requests=True)},
        {"server": replace(SERVER, authorization_endpoint=None)},
        {"server": replace(SERVER, jwks_uri=None)},
        {"server": replace(SERVER, id_token_signing_alg_values_supported=("HS256",))},
        {"server": replace(SERVER, code_challenge_methods_supported=("plain",))},
        {
            "server": replace(SERVER, response_modes_supported=("query", "form_post")),
            "client": a_client(response_mode=ResponseMode.JWT),
        },
    ],
    ids=["fapi2 without PAR", "PAR required", "no endpoint", "no keys", "other alg", "plain only", "no JARM"],
)
def test_a_server_that_lacks_what_is_needed_is_not_asked(changes: dict[str, Any]):
    """DISC-07, AC-02: no falling back to something weaker."""
    with pytest.raises(RemoteError) as raised:
        plan(**changes)

    assert raised.value.code == Reason.METADATA_INSUFFICIENT


def test_extra_parameters_set_nothing_of_ours():
    """R4: also where the configuration's own check were missing."""
    for name in ("state", "code_challenge", "redirect_uri", "request_uri", "iss"):
        with pytest.raises(LocalError):
            plan(asked=replace(ASKED, parameters=((name, "x"),)))


@pytest.mark.parametrize("mode", list(ResponseMode))
def test_the_response_mode_is_sent_unless_it_is_the_default(mode: ResponseMode):
    """``query`` is what a code comes by anyway."""
    sent = dict(pushed(client=a_client(response_mode=mode)).form or ()).get("response_mode")

    assert sent == (None if mode is ResponseMode.QUERY else mode.value)


def query_of(url: str) -> list[tuple[str, str]]:
    return parse_qsl(urlsplit(url).query, strict_parsing=True)


def test_the_browser_carries_a_reference_and_nothing_else():
    """PAR-03, FAPI 2.0 section 5.3.3.2."""
    url = pushed_url(SERVER, a_client(), PushedRequest(request_uri="urn:x:1&2", expires_in=60), ASKED)

    assert url.startswith(f"{ISSUER_URL}/auth?")
    assert query_of(url) == [("client_id", "app-1"), ("request_uri", "urn:x:1&2")]


def test_a_server_that_wants_it_again_gets_it_again():
    """A setting, for servers that do not go by what was pushed."""
    client = a_client(front_channel_params=Parameters.SCOPE)
    url = pushed_url(SERVER, client, PushedRequest(request_uri="urn:x", expires_in=60), ASKED)

    assert query_of(url)[2:] == [("response_type", "code"), ("scope", "openid directory:website")]


def test_without_par_the_browser_carries_the_request():
    """An endpoint with a query of its own keeps it (RFC 6749 section 3.1)."""
    server = replace(BY_BROWSER, authorization_endpoint=f"{ISSUER_URL}/auth?tenant=1")
    made = by_value(server=server)

    assert made.request_object is None
    url = authorization_url(server, a_client(), made, None)
    assert query_of(url) == [("tenant", "1"), *made.parameters]
    assert dict(made.parameters)["state"] == "s-1"


def test_a_signed_request_by_value_says_little_beside_itself():
    """RFC 9101 section 5; OpenID Connect Core section 6.1 wants the scope outside as well."""
    client = a_client(request_object=RequestObjectUse.ALWAYS)
    made = by_value(client=client)
    plain = by_value(client=client, asked=Asked())

    assert made.request_object is not None
    assert query_of(authorization_url(BY_BROWSER, client, made, RequestObject("h.c.s"))) == [
        ("client_id", "app-1"),
        ("response_type", "code"),
        ("scope", "openid directory:website"),
        ("request", "h.c.s"),
    ]
    assert "scope" not in dict(query_of(authorization_url(BY_BROWSER, client, plain, RequestObject("h.c.s"))))


def test_nothing_personal_is_printed():
    """Neither who is to log in, nor what ties response to request."""
    made = (ASKED, TRANSACTION, by_value(), by_value(client=a_client(request_object=RequestObjectUse.ALWAYS)))

    shown = repr(made)
    assert not any(secret in shown for secret in ("canary", "s-1", "n-1", "vvvv"))


def test_openid_is_a_matter_of_scope():
    """With it there is an ID token to be checked."""
    assert ASKED.is_openid
    assert not replace(ASKED, scope=("openid2",)).is_openid


@pytest.mark.parametrize(("status", "life"), [(201, 60), (200, 60), (201, 3600)])
def test_a_reference_comes_with_its_life(status: int, life: float):
    """PAR-02: 201, or 200 from servers that know no better; long lives are cut."""
    answer = an_answer({"request_uri": "urn:x", "expires_in": life}, status=status)

    assert read_pushed_response(answer, wall_now=NOW) == PushedRequest(request_uri="urn:x", expires_in=min(life, 600))


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"request_uri": "urn:x"},
        {"expires_in": 60},
        {"request_uri": "", "expires_in": 60},
        {"request_uri": 5, "expires_in": 60},
        {"request_uri": "urn:x y", "expires_in": 60},
        {"request_uri": "urn:ü", "expires_in": 60},
        {"request_uri": "urn:x", "expires_in": 0},
        {"request_uri": "urn:x", "expires_in": -1},
        {"request_uri": "urn:x", "expires_in": True},
        {"request_uri": "urn:x", "expires_in": "60"},
        [],
    ],
)
def test_an_answer_without_a_reference_is_none(body: object):
    """PAR-02: nothing is sent to a browser on a guess."""
    with pytest.raises(RemoteError):
        read_pushed_response(an_answer(json.dumps(body).encode(), status=201), wall_now=NOW)


@pytest.mark.parametrize("status", [202, 302, 400, 401, 500])
def test_other_answers_are_refusals(status: int):
    """With the registered code of the server where it gave one."""
    with pytest.raises(RemoteError) as raised:
        read_pushed_response(an_answer({"error": "invalid_request_object"}, status=status), wall_now=NOW)

    assert raised.value.server_error in ("invalid_request_object", None)


@pytest.mark.parametrize("name", [
    "response_type", "client_id", "redirect_uri", "response_mode", "scope", "state", "nonce", "code_challenge",
    "code_challenge_method", "resource", "audience", "authorization_details", "claims", "acr_values", "prompt",
    "login_hint", "max_age", "request", "request_uri", "dpop_jkt", "client_assertion", "client_assertion_type",
    "iss", "sub", "aud", "exp", "nbf", "iat", "jti",
])  # fmt: skip
@pytest.mark.parametrize("server", [SERVER, BY_BROWSER])
def test_an_extra_parameter_cannot_set_what_the_request_or_its_jwt_says(server: AuthorizationServer, name: str):
    """JAR-03: with ``sub`` a request object could be taken for a client assertion (RFC 9101 section 10.8)."""
    with pytest.raises(LocalError) as caught:
        plan(server=server, asked=replace(ASKED, parameters=(("tenant", "blue"), (name, "canary"))))

    assert caught.value.code == "parameter_reserved"
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("asked", [ASKED, replace(ASKED, audience=("a",))])
def test_every_name_that_a_request_can_have_is_reserved(asked: Asked):
    """One that could be set twice would leave the choice to the server."""
    client = a_client(response_mode=ResponseMode.JWT, request_object=RequestObjectUse.ALWAYS)
    draft = pushed(client=client, asked=asked)
    assert draft.request_object is not None

    names = {*draft.request_object.claims, *(name for name, _ in draft.form or ())}
    assert names - {"tenant"} <= RESERVED_REQUEST_PARAMETERS
    assert names >= {"iss", "response_mode", "nonce", "resource", "claims", "max_age", "login_hint"}


# --- dialects ---

REDIRECTING = Dialect(authorization=AuthorizationBy.REDIRECT, provider_hosts=("github.com",))
OAUTH2 = an_issuer(profile=Profile.OAUTH2, dialect=REDIRECTING)


@pytest.mark.parametrize("server", [SERVER, BY_BROWSER], ids=["with PAR", "without"])
def test_a_dialect_has_us_call_the_authorization_endpoint(server: AuthorizationServer):
    """With what a browser would carry, and no proof of who we are; PAR is for the standard's way."""
    made = plan(server=server, issuer=OAUTH2)

    carried = by_value(issuer=replace(OAUTH2, dialect=Dialect())).parameters
    assert isinstance(made, Redirected)
    assert made.draft == Draft(url=f"{ISSUER_URL}/auth", form=carried)
    assert dict(carried)["state"] == "s-1"
    assert "v" * 43 not in str(carried)


def test_the_parameters_of_that_call_stand_where_the_dialect_has_them():
    """Some servers read the URL alone."""
    made = plan(issuer=replace(OAUTH2, dialect=replace(REDIRECTING, authorization_placement=Placement.QUERY)))

    assert isinstance(made, Redirected)
    assert made.draft.in_query


def test_a_challenge_is_made_as_the_dialect_has_it():
    """Also where it is pushed; its method has the same name."""
    dialect = Dialect(pkce_transform=PkceTransform.S256_HEX)
    form = dict(pushed(issuer=replace(OIDC, dialect=dialect)).form or ())

    assert form["code_challenge"] == code_challenge(TRANSACTION.code_verifier, PkceTransform.S256_HEX)
    assert form["code_challenge_method"] == "S256"


def test_the_browser_carries_renamed_parameters_too():
    """A dialect renames at every endpoint, whoever calls it."""
    renamed = (("state", "etat"), ("scope", "scopes"), ("client_id", "app"), ("request", "jar"), ("request_uri", "par"))
    by_reference = PushedRequest(request_uri="urn:x:1", expires_in=60.0)
    signing = by_value(client=a_client(request_object=RequestObjectUse.ALWAYS))

    plain = authorization_url(BY_BROWSER, a_client(), by_value(), None, renamed=renamed)
    signed = authorization_url(BY_BROWSER, a_client(), signing, RequestObject("jwt"), renamed=renamed)
    referring = pushed_url(SERVER, a_client(), by_reference, ASKED, renamed=renamed)

    assert {"etat", "scopes", "app", "nonce"} < dict(parse_qsl(urlsplit(plain).query)).keys()
    assert not {"state", "scope", "client_id"} & dict(parse_qsl(urlsplit(plain).query)).keys()
    assert dict(parse_qsl(urlsplit(signed).query)).keys() == {"app", "response_type", "scopes", "jar"}
    assert dict(parse_qsl(urlsplit(referring).query)) == {"app": "app-1", "par": "urn:x:1"}
