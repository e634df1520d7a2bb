"""Dialects that contradict themselves, or that an issuer, a client or a token does not go with."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.config.problems import Problem
from tests.unit.config.files import changed, load, only_problem, problems

ISSUER = 'issuer = "https://auth.example.com"'
STORE = '[daemon]\nstate_dir = "state"\n\n[store]\nkey = { file = "store.key" }\n\n'
TOKEN = 'scope = ["directory:software"]'
CLIENT = 'client_id = "our-client"'
ENDPOINTS = 'endpoints = { token_endpoint = "/t"'


def with_table(text: str, *, issuer: str = "") -> str:
    """Give the good file with a dialect of its issuer."""
    return changed((ISSUER, f'{ISSUER}\nprofile = "oauth2"\n{issuer}\n[issuer.raidiam.dialect]\n{text}\n'))


def iridium(*, dialect: str = 'dialect = "iridium"', token: str = "", client: str = "", scope: str = "[]") -> str:
    """Give a good file whose token people consent to at Iridium."""
    asks = f'grant_type = "authorization_code"\nscope = {scope}\nparameters = {{ provider = "github" }}'
    public = 'client_auth_method = "none"\nsender_constraint = "none"\nredirect_uris = ["https://app.example.com/cb"]'
    return STORE + changed(
        (ISSUER, f'{ISSUER}\nprofile = "oauth2"\n{dialect}'),
        (TOKEN, f"{asks}\n{token}"),
        (CLIENT, f"{CLIENT}\n{public}\n{client}"),
        ('\nsigning_keys = ["signing"]\ncertificate = "transport"', ""),
        ('tokens = ["directory"]', 'tokens = ["directory"]\nmay = ["get", "authorize"]'),
    )


def told(problem: Problem) -> tuple[str, str, str]:
    return problem.path.removeprefix("issuer.raidiam.dialect."), problem.message, str(problem.hint)


def test_iridium_is_good(tmp_path: Path) -> None:
    """As the documentation has it, and nothing is said about it."""
    settings = load(tmp_path, iridium())

    assert {warning.path for warning in settings.warnings} == {"certificate.transport", "key.signing"}  # not used here
    assert settings.tokens[0].consent is not None


# --- what contradicts ---

CONTRADICTIONS = [
    (
        'endpoints = { authorization_endpoint = "/a" }',
        "endpoints",
        "lack token_endpoint: with endpoints here no metadata is fetched",
        "add it",
    ),
    (
        'authorization = "redirect"',
        "provider_hosts",
        'is missing: with authorization = "redirect" any host could pose as the login',
        'provider_hosts = ["github.com"]',
    ),
    ('logout = "bearer"', "logout", '"bearer" needs logout_endpoint in endpoints', 'logout = "revocation_endpoint"'),
    (
        f'{ENDPOINTS} }}\nsubject_from = "userinfo"',
        "subject_from",
        '"userinfo" needs userinfo_endpoint in endpoints',
        'subject_from = "id_token"',
    ),
    (
        'token_placement = "query"',
        "token_placement",
        '"query" writes codes and refresh tokens into URLs, which servers and proxies log',
        "leaks_secrets_in_url = true",
    ),
    (
        f'{ENDPOINTS} }}\nauthorization = "redirect"\nprovider_hosts = ["github.com"]',
        "authorization",
        '"redirect" needs authorization_endpoint in endpoints',
        'authorization = "browser"',
    ),
]


@pytest.mark.parametrize(("text", "key", "message", "hint"), CONTRADICTIONS)
def test_what_another_key_needs_is_told(tmp_path: Path, text: str, key: str, message: str, hint: str) -> None:
    """At a key of the dialect, with what to write."""
    found = told(only_problem(tmp_path, with_table(text)))

    assert found[:2] == (key, message)
    assert hint in found[2]


def test_with_metadata_a_person_may_be_looked_up_where_they_say(tmp_path: Path) -> None:
    """userinfo_endpoint is theirs then."""
    assert load(tmp_path, with_table('subject_from = "userinfo"')).warnings == ()


WITHOUT_EFFECT = [
    ('authorization_placement = "form"', "authorization_placement", 'authorization is "browser"'),
    ('provider_hosts = ["github.com"]', "provider_hosts", 'authorization is "browser"'),
    ("leaks_secrets_in_url = true", "leaks_secrets_in_url", 'token_placement is "form"'),
    ('logout_method = "POST"', "logout_method", 'logout is not "bearer"'),
    ('userinfo_accept = "a/b"', "userinfo_accept", 'subject_from is not "userinfo"'),
    ('subject_member = "id"', "subject_member", 'subject_from is not "userinfo"'),
    (f'{ENDPOINTS} }}\nendpoint_host_prefixes = ["a-"]', "endpoint_host_prefixes", "with endpoints no metadata"),
]


@pytest.mark.parametrize(("text", "key", "why"), WITHOUT_EFFECT)
def test_a_key_without_effect_is_refused(tmp_path: Path, text: str, key: str, why: str) -> None:
    """Whoever wrote it believes that it has one."""
    path, message, hint = told(only_problem(tmp_path, with_table(text)))

    assert path == key
    assert message.startswith(f"has no effect: {why}")
    assert hint == "remove one of the two"


def test_a_logout_endpoint_without_a_logout_is_refused(tmp_path: Path) -> None:
    """It was written here; one of a base would be nobody's belief."""
    text = f'{ENDPOINTS}, logout_endpoint = "/out" }}'

    assert told(only_problem(tmp_path, with_table(text)))[:2] == (
        "endpoints",
        'have a logout_endpoint, which has no effect: logout is not "bearer"',
    )


@pytest.mark.parametrize(
    "text",
    [
        'base = "iridium"\nlogout = "revocation_endpoint"',
        'base = "iridium"\nauthorization = "browser"',
        'base = "iridium"\nsubject_from = "id_token"',
        'base = "iridium"\nprovider_hosts = []\nauthorization = "browser"',
        "leaks_secrets_in_url = false",
        "provider_hosts = []",
        "endpoint_host_prefixes = []",
    ],
)
def test_what_takes_a_bases_back_is_good(tmp_path: Path, text: str) -> None:
    """What is left over of the base is nobody's belief, and what is false or empty claims nothing."""
    assert problems(tmp_path, with_table(text)) == ()


# --- names ---


@pytest.mark.parametrize(
    ("text", "place", "message", "hint"),
    [
        (
            f'{ENDPOINTS}, userinfo_endpont = "/me" }}',
            "endpoints.userinfo_endpont",
            "there is no such endpoint",
            'did you mean "userinfo_endpoint"?',
        ),
        (
            'endpoints = { token_endpoint = "t" }',
            "endpoints.token_endpoint",
            "token_endpoint is neither a path below the issuer nor a plain absolute URL",
            "for example",
        ),
        (
            'endpoints = { token_endpoint = "http://as.example/t" }',
            "endpoints.token_endpoint",
            "token_endpoint is not https",
            "allow_insecure_loopback",
        ),
        (
            'endpoints = { token_endpoint = "https://169.254.169.254/t" }',
            "endpoints.token_endpoint",
            "token_endpoint is at a link-local or cloud metadata address, never dialed",
            "",
        ),
        (
            'endpoints = { token_endpoint = "/{client_id}/t" }',
            "endpoints.token_endpoint",
            "token_endpoint is neither a path below the issuer nor a plain absolute URL",
            "",
        ),
        (
            'renamed_parameters = { code_verifer = "x" }',
            "renamed_parameters.code_verifer",
            "is no parameter that the broker sends",
            'did you mean "code_verifier"?',
        ),
        (
            'token_parameters = { state = "x" }',
            "token_parameters.state",
            "is set by the broker alone",
            "renamed_parameters",
        ),
        (
            'error_codes = { "no" = "invalid_grnt" }',
            "error_codes.no",
            '"invalid_grnt" is no OAuth error',
            'did you mean "invalid_grant"?',
        ),
    ],
)
def test_a_name_that_nothing_has_is_told_with_the_nearest(
    tmp_path: Path, text: str, place: str, message: str, hint: str
) -> None:
    """At its place in the table."""
    found = told(only_problem(tmp_path, with_table(text)))

    assert found[:2] == (place, message)
    assert hint in found[2]


def test_a_path_of_an_insecure_issuer_is_good_where_that_is(tmp_path: Path) -> None:
    """The rule is that of the issuer."""
    text = with_table(f"{ENDPOINTS} }}", issuer="allow_insecure_loopback = true")

    assert problems(tmp_path, text.replace("https://auth.example.com", "http://127.0.0.1:8381")) == ()


# --- with what is around ---


@pytest.mark.parametrize("profile", ["fapi2", "fapi1_advanced"])
def test_fapi_has_no_departures(tmp_path: Path, profile: str) -> None:
    """Each is named; what only says how to read an answer is none."""
    text = with_table(
        'state_on_token = true\nrenamed_parameters = { code_verifier = "code_verfier" }\n'
        'error_codes = { "no" = "invalid_grant" }'
    ).replace('profile = "oauth2"', f'profile = "{profile}"')

    (problem,) = (each for each in problems(tmp_path, text) if each.path == "issuer.raidiam.dialect")

    assert "(state_on_token, renamed_parameters)" in problem.message
    assert 'profile = "oauth2"' in str(problem.hint)


@pytest.mark.parametrize("profile", ["oauth2", "oidc"])
def test_other_profiles_have(tmp_path: Path, profile: str) -> None:
    """They leave it to the server."""
    text = changed((ISSUER, f'{ISSUER}\nprofile = "{profile}"\ndialect = {{ state_on_token = true }}'))

    assert problems(tmp_path, text) == ()


@pytest.mark.parametrize(
    ("line", "key"), [('discovery = "oidc"', "discovery"), ('endpoint_hosts = ["a.example"]', "endpoint_hosts")]
)
def test_where_nothing_is_discovered_what_is_about_that_is_refused(tmp_path: Path, line: str, key: str) -> None:
    """A default, too: whoever wrote it believes in it."""
    problem = only_problem(tmp_path, with_table(f"{ENDPOINTS} }}", issuer=line))

    assert problem.path == f"issuer.raidiam.{key}"
    assert problem.message == "has no effect: the dialect says where the endpoints are"


@pytest.mark.parametrize(
    ("line", "key", "message"),
    [
        ('response_mode = "form_post"', "response_mode", 'is "form_post", but the dialect has authorization'),
        ('response_mode = "jwt"', "response_mode", 'is "jwt", but the dialect has authorization'),
        ('request_object = "always"', "request_object", 'is "always", but the dialect has authorization'),
    ],
)
def test_another_server_answers_to_parameters_alone(tmp_path: Path, line: str, key: str, message: str) -> None:
    """With a redirect nobody signs, and nobody reads a signature."""
    found = [each for each in problems(tmp_path, iridium(client=line)) if each.path == f"client.raidiam.{key}"]

    assert any(message in each.message for each in found)


def test_a_grant_on_demand_would_be_lost(tmp_path: Path) -> None:
    """Nobody refreshes it while its token is good."""
    problem = only_problem(tmp_path, iridium(token='refresh = "on_demand"'))

    assert problem.path == "token.directory.refresh"
    assert '"on_demand" would lose grants' in problem.message
    assert '"eager"' in str(problem.hint)


def test_on_demand_is_for_servers_that_refresh_by_the_client(tmp_path: Path) -> None:
    """A table may take that back."""
    dialect = 'dialect = { base = "iridium", refresh_authentication = "client" }'

    assert problems(tmp_path, iridium(dialect=dialect, token='refresh = "on_demand"')) == ()


@pytest.mark.parametrize("value", ["consent", "serve"])
def test_a_change_of_person_is_for_dialects_that_see_it(tmp_path: Path, value: str) -> None:
    """Without a look-up nobody would notice."""
    line = f'on_subject_change = "{value}"'
    without = iridium(dialect='dialect = { base = "iridium", subject_from = "id_token" }', token=line)

    problem = only_problem(tmp_path, without)

    assert problem.path == "token.directory.on_subject_change"
    assert problem.message == "has no effect: the dialect looks nobody up"
    consent = load(tmp_path, iridium(token=line)).tokens[0].consent
    assert consent is not None
    assert consent.on_subject_change == value


def test_an_id_token_could_not_be_checked_without_keys(tmp_path: Path) -> None:
    """Where the dialect has them, it can."""
    dialect = 'dialect = {{ base = "iridium", subject_from = "id_token"{} }}'
    keys = ', endpoints = { jwks_uri = "/keys" }'

    problem = only_problem(tmp_path, iridium(dialect=dialect.format(""), scope='["openid"]'))

    assert problem.path == "token.directory.scope"
    assert "no jwks_uri" in problem.message
    assert problems(tmp_path, iridium(dialect=dialect.format(keys), scope='["openid"]')) == ()


def test_of_two_places_that_name_the_person_there_is_one(tmp_path: Path) -> None:
    """A refresh would compare the one with the other, and take every person for somebody else."""
    dialect = 'dialect = { base = "iridium", endpoints = { jwks_uri = "/keys" } }'

    problem = only_problem(tmp_path, iridium(dialect=dialect, scope='["openid"]'))

    assert problem.path == "token.directory.scope"
    assert "subject_member" in problem.message


def test_a_sub_is_the_same_in_both(tmp_path: Path) -> None:
    """OpenID Connect Core section 5.3.2: a server may be asked after each refresh."""
    dialect = 'dialect = { base = "iridium", subject_member = "sub", endpoints = { jwks_uri = "/keys" } }'

    assert problems(tmp_path, iridium(dialect=dialect, scope='["openid"]')) == ()


def test_without_metadata_there_is_nothing_to_compare_clients_with(tmp_path: Path) -> None:
    """Under oidc an absent list of methods means client_secret_basic alone."""
    problem = only_problem(tmp_path, iridium().replace('profile = "oauth2"', 'profile = "oidc"'))

    assert problem.path == "issuer.raidiam.dialect"
    assert 'profile = "oidc"' in problem.message
    assert problem.hint == 'write profile = "oauth2"'


@pytest.mark.parametrize(
    "lines",
    [
        'renamed_parameters = { code = "it", client_id = "it" }',
        'renamed_parameters = { code = "it" }, token_parameters = { it = "1" }',
    ],
)
def test_two_parameters_of_one_name_are_refused(tmp_path: Path, lines: str) -> None:
    """A server would take one of them, and nobody knows which."""
    found = problems(tmp_path, iridium(dialect=f'dialect = {{ base = "iridium", {lines} }}'))

    assert {problem.message for problem in found} == {"gives two parameters one name"}
    assert found[0].path == "issuer.raidiam.dialect.renamed_parameters.code"


def test_a_token_that_is_bound_to_a_key_is_shown_to_nobody_as_a_bearer_token(tmp_path: Path) -> None:
    """DPoP and a refresh or a logout with the access token do not go together."""
    text = iridium().replace('sender_constraint = "none"', 'sender_constraint = "dpop"')

    found = problems(tmp_path, text)

    assert [problem.path for problem in found] == ["client.raidiam.sender_constraint"] * 2
    assert "refresh_authentication" in found[0].message
    assert "logout" in found[1].message


@pytest.mark.parametrize("callback", ["callback", "http://elsewhere.example/callback"])
def test_a_callback_of_the_server_is_a_path_or_a_url(tmp_path: Path, callback: str) -> None:
    """As its endpoints are."""
    problem = only_problem(
        tmp_path, iridium(dialect=f'dialect = {{ base = "iridium", provider_callback = "{callback}" }}')
    )

    assert problem.path == "issuer.raidiam.dialect.provider_callback"
