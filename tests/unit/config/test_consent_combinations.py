"""What a token needs that people consent to, and what is of no use to one that nobody is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.config.consent_combinations import signs_requests
from tests.unit.config.files import changed, document, load, only_problem, problems

STORE = '[daemon]\nstate_dir = "state"\n\n[store]\nkey = { file = "store.key" }\n\n'
CLIENT = 'client_id = "our-client"'
REDIRECT = 'redirect_uris = ["https://app.example.com/cb", "http://127.0.0.1/cb"]'
TOKEN = 'scope = ["directory:software"]'
ASKS = 'scope = ["openid", "accounts"]\ngrant_type = "authorization_code"'
ISSUER = 'issuer = "https://auth.example.com"'


def asking(token: str = "", client: str = "", *, issuer: str = "", scope: str = ASKS) -> str:
    """Give a good file whose token people consent to, with further lines."""
    return STORE + changed(
        (TOKEN, f"{scope}\n{token}"),
        ('tokens = ["directory"]', 'tokens = ["directory"]\nmay = ["get", "authorize"]'),
        (CLIENT, f"{CLIENT}\n{REDIRECT}\n{client}"),
        (ISSUER, f"{ISSUER}\n{issuer}"),
    )


def test_a_token_of_people_is_good(tmp_path: Path) -> None:
    """With a store and a place to come back to."""
    settings = load(tmp_path, asking())

    assert settings.tokens[0].grant_type == "authorization_code"
    assert settings.tokens[0].consent is not None
    assert settings.warnings == ()


def test_without_a_store_each_restart_would_lose_each_grant(tmp_path: Path) -> None:
    """It is refused, with what to write."""
    problem = only_problem(tmp_path, asking().removeprefix(STORE))

    assert problem.path == "token.directory.grant_type"
    assert "needs a store" in problem.message
    assert "[store]" in str(problem.hint)


def test_without_redirect_uris_nobody_could_come_back(tmp_path: Path) -> None:
    """The client is named, and what to add to it."""
    problem = only_problem(tmp_path, asking().replace(REDIRECT, ""))

    assert problem.path == "token.directory.grant_type"
    assert 'client "raidiam" has none' in problem.message
    assert "[client.raidiam]" in str(problem.hint)


@pytest.mark.parametrize(
    "line",
    [
        'grants = "one"',
        'authorization_details = [{ type = "x" }]',
        "claims = {}",
        'acr_values = ["x"]',
        "acr_required = false",
        'prompt = ["login"]',
        "max_age_seconds = 60",
        "keepalive_seconds = 60",
        "consent_lifetime_seconds = 60",
        'on_grant_lost = "stop"',
        'on_subject_change = "consent"',
        "userinfo = false",
    ],
)
def test_nobody_is_asked_for_client_credentials(tmp_path: Path, line: str) -> None:
    """A key that has no effect is refused, its default too: whoever wrote it believes in it."""
    problem = only_problem(tmp_path, changed((TOKEN, f"{TOKEN}\n{line}")))

    assert problem.path == f"token.directory.{line.partition(' ')[0]}"
    assert problem.message == "has no effect: client_credentials asks nobody"


@pytest.mark.parametrize(
    "line",
    [
        'response_mode = "query"',
        'request_object = "auto"',
        'request_object_typ = "JWT"',
        'id_token_signed_response_alg = "PS256"',
        'authorization_signed_response_alg = "PS256"',
        'front_channel_params = "none"',
        "scope_on_token = false",
    ],
)
def test_a_client_to_which_nobody_comes_back_asks_nobody(tmp_path: Path, line: str) -> None:
    """As with tokens."""
    problem = only_problem(tmp_path, changed((CLIENT, f"{CLIENT}\n{line}")))

    assert problem.path == f"client.raidiam.{line.partition(' ')[0]}"
    assert "without redirect_uris" in problem.message


@pytest.mark.parametrize(
    "line",
    [
        "claims = { userinfo = { email = {} } }",
        'acr_values = ["x"]\nacr_required = true',
        "max_age_seconds = 0",
        "userinfo = true",
    ],
)
def test_what_an_id_token_would_say_needs_openid(tmp_path: Path, line: str) -> None:
    """Without it the server sends none, and nothing would be checked."""
    found = problems(tmp_path, asking(line, scope=ASKS.replace('"openid", ', "")))

    assert [problem.message for problem in found] == [
        'needs "openid" in scope: without it nobody says who the person is'
    ]


@pytest.mark.parametrize(
    ("line", "path", "said"),
    [
        ("acr_required = true", "acr_required", "there are none"),
        ("keepalive_seconds = 600", "keepalive_seconds", 'refresh = "eager" keeps every grant fresh'),
        ('grants = "many"\nrequired = true', "required", "no one token to be ready"),
        ("authorization_details = [{ actions = [] }]", "authorization_details[0]", "has no type"),
        ("authorization_details = [{ type = 1 }]", "authorization_details[0]", "has no type"),
    ],
)
def test_keys_of_a_token_that_contradict_each_other_are_refused(
    tmp_path: Path, line: str, path: str, said: str
) -> None:
    """Each with its place."""
    problem = only_problem(tmp_path, asking(line))

    assert problem.path == f"token.directory.{path}"
    assert said in problem.message


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("sub", "remove it"),
        ("login_hint", "remove it"),
        ("claims", "write claims above, as a key of the token"),
        ("acr_values", "write acr_values above, as a key of the token"),
        ("prompt", "write prompt above, as a key of the token"),
        ("max_age", "write max_age_seconds above, as a key of the token"),
    ],
)
def test_what_is_asked_of_a_person_cannot_be_changed_by_a_parameter(tmp_path: Path, name: str, hint: str) -> None:
    """Nothing of it would be checked; in a token request for the client itself the name means nothing."""
    line = f'parameters = {{ {name} = "x" }}'
    problem = only_problem(tmp_path, asking(line))
    load(tmp_path, changed((TOKEN, f"{TOKEN}\n{line}")))

    assert problem.path == f"token.directory.parameters.{name}"
    assert (problem.message, problem.hint) == ("is set by the broker alone", hint)


@pytest.mark.parametrize(
    ("line", "issuer", "path"),
    [
        ('front_channel_params = "scope"', "", "front_channel_params"),
        ("scope_on_token = true", "", "scope_on_token"),
        ('id_token_signed_response_alg = "RS256"', "", "id_token_signed_response_alg"),
        ('id_token_signed_response_alg = "EdDSA"', 'profile = "fapi1_advanced"', "id_token_signed_response_alg"),
        ('request_object = "never"', 'profile = "fapi1_advanced"', "request_object"),
    ],
)
def test_a_profile_refuses_what_it_does_not_allow(tmp_path: Path, line: str, issuer: str, path: str) -> None:
    """Before a person is sent anywhere."""
    problem = only_problem(tmp_path, asking(client=line, issuer=issuer))

    assert problem.path == f"client.raidiam.{path}"
    assert "is refused by profile" in problem.message


@pytest.mark.parametrize("line", ['front_channel_params = "scope"', "scope_on_token = true"])
@pytest.mark.parametrize("profile", ["fapi1_advanced", "oidc", "oauth2"])
def test_servers_of_other_profiles_get_what_they_want(tmp_path: Path, line: str, profile: str) -> None:
    """Dialects are there for them."""
    load(tmp_path, asking(client=line, issuer=f'profile = "{profile}"'))


@pytest.mark.parametrize(
    ("lines", "path"),
    [
        ('authorization_signed_response_alg = "PS256"', "authorization_signed_response_alg"),
        ('request_object = "never"\nrequest_object_typ = "JWT"', "request_object_typ"),
    ],
)
def test_a_key_of_a_client_without_effect_is_refused(tmp_path: Path, lines: str, path: str) -> None:
    """What is not sent, or not awaited, has no algorithm and no type."""
    assert only_problem(tmp_path, asking(client=lines)).path == f"client.raidiam.{path}"


@pytest.mark.parametrize(
    ("lines", "issuer", "signs"),
    [
        ("", "", None),
        ('request_object = "always"', "", True),
        ('request_object = "never"', "", False),
        ("", 'profile = "fapi1_advanced"', True),
        ("", 'profile = "oidc"', None),
    ],
)
def test_it_is_known_who_signs_requests(lines: str, issuer: str, signs: bool | None) -> None:
    """None: the server's metadata will say."""
    found = document(asking(client=lines, issuer=issuer))

    assert signs_requests("raidiam", found.clients["raidiam"], found) is signs


def test_a_client_of_mutual_tls_may_sign_requests(tmp_path: Path) -> None:
    """Then it has a key; without one it is told that it needs it."""
    always = 'client_auth_method = "tls_client_auth"\nrequest_object = "always"'
    load(tmp_path, asking(client=always))

    problem = only_problem(tmp_path, asking(client=always).replace('signing_keys = ["signing"]\n', ""))

    assert problem.path == "client.raidiam.signing_keys"
    assert "authorization request is a signed object" in problem.message


def test_a_key_that_signs_nothing_is_refused(tmp_path: Path) -> None:
    """Neither the client nor its requests."""
    text = asking(client='client_auth_method = "tls_client_auth"\nrequest_object = "never"')

    assert only_problem(tmp_path, text).message == "has no effect: tls_client_auth signs nothing"


@pytest.mark.parametrize("profile", ["oidc", "oauth2"])
def test_a_public_client_may_ask_people(tmp_path: Path, profile: str) -> None:
    """With PKCE it is safe enough for servers that know no more; the FAPI profiles know more."""
    lines = 'client_auth_method = "none"\nsender_constraint = "none"\nrequest_object = "never"'
    text = asking(client=lines, issuer=f'profile = "{profile}"').replace('signing_keys = ["signing"]\n', "")

    load(tmp_path, text)


@pytest.mark.parametrize(
    ("ours", "theirs", "shares"),
    [
        ("https://app.example.com/cb", "https://app.example.com/cb", True),
        ("https://app.example.com/cb", "https://app.example.com/cb2", False),
        ("http://127.0.0.1:8080/cb", "http://127.0.0.1/cb", True),
        ("http://127.0.0.1/cb", "http://[::1]/cb", False),
        ("https://app.example.com:8443/cb", "https://app.example.com/cb", False),
    ],
)
def test_a_redirect_uri_of_two_issuers_is_noticed(tmp_path: Path, ours: str, theirs: str, shares: bool) -> None:
    """On a loopback address any port is the same place; elsewhere every letter counts."""
    second = f"""
[issuer.other]
issuer = "https://other.example.com"
[client.other]
issuer = "other"
client_id = "c"
signing_keys = ["signing"]
certificate = "transport"
redirect_uris = ["{theirs}"]
"""
    settings = load(tmp_path, asking().replace(REDIRECT, f'redirect_uris = ["{ours}"]') + second)

    assert {client.client.shares_redirect_uri for client in settings.clients.values()} == {shares}


def test_two_clients_of_one_issuer_may_share_a_redirect_uri(tmp_path: Path) -> None:
    """There is nobody to be mistaken for."""
    second = f'\n[client.other]\nissuer = "raidiam"\nclient_id = "c"\nsigning_keys = ["signing"]\n{REDIRECT}\n'

    settings = load(tmp_path, asking() + second + 'certificate = "transport"\n')

    assert not any(client.client.shares_redirect_uri for client in settings.clients.values())
