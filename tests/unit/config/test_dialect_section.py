"""``dialect``: a name, or a table over a base, and the ``Dialect`` that it comes to."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from broker.config.dialect_section import Base, DialectSection, LogoutMethod, dialect_of
from broker.oauth.client import RefreshRotation
from broker.oauth.dialect import (
    IRIDIUM,
    NAMED,
    RAIDIAM,
    STANDARD,
    AuthorizationBy,
    Dialect,
    Logout,
    PkceTransform,
    Placement,
    RefreshAuthentication,
    SubjectFrom,
)
from tests.unit.config.files import GOOD, changed, load, only_problem

ISSUER = 'issuer = "https://auth.example.com"'
OAUTH2 = f'{ISSUER}\nprofile = "oauth2"'


def with_dialect(text: str) -> str:
    """Give the good file with a dialect of its issuer, under a profile that has nothing against it."""
    return changed((ISSUER, f"{OAUTH2}\n{text}"))


def with_table(text: str) -> str:
    """Give the good file with the section of a dialect."""
    return changed((ISSUER, f"{OAUTH2}\n\n[issuer.raidiam.dialect]\n{text}"))


def loaded(directory: Path, text: str) -> Dialect:
    return load(directory, text).issuers["raidiam"].issuer.dialect


def test_without_a_word_a_server_is_as_the_standard_has_it(tmp_path: Path) -> None:
    """A dialect has to be said."""
    assert loaded(tmp_path, GOOD) == STANDARD
    assert loaded(tmp_path, with_table("")) == STANDARD


@pytest.mark.parametrize("name", NAMED)
def test_a_name_is_a_dialect(tmp_path: Path, name: str) -> None:
    """And a table of that base alone is the same."""
    assert loaded(tmp_path, with_dialect(f'dialect = "{name}"')) == NAMED[name]
    assert loaded(tmp_path, with_table(f'base = "{name}"')) == NAMED[name]


def test_raidiam_goes_with_the_default_profile(tmp_path: Path) -> None:
    """It is FAPI 2.0."""
    assert loaded(tmp_path, changed((ISSUER, f'{ISSUER}\ndialect = "raidiam"'))) == RAIDIAM


EVERYTHING = """
endpoints.token_endpoint = "/t"
endpoints.authorization_endpoint = "/a"
endpoints.logout_endpoint = "/out/{client_id}"
endpoints.userinfo_endpoint = "https://id.example/me"
authorization = "redirect"
authorization_placement = "query"
provider_hosts = ["github.com", "login.example.com:8443"]
pkce_transform = "S256-hex"
token_placement = "query"
leaks_secrets_in_url = true
state_on_token = true
client_id_with_basic = true
renamed_parameters = { code_verifier = "code_verfier" }
token_parameters = { tenant = "7" }
refresh_authentication = "access_token"
refresh_rotation = "grace"
logout = "bearer"
logout_method = "POST"
subject_from = "userinfo"
userinfo_accept = "application/vnd.example+json"
subject_member = "data.id"
error_members = ["error", "message"]
error_codes = { "no such refresh token" = "invalid_grant", "no" = "invalid_request" }
"""


def test_each_key_is_a_field(tmp_path: Path) -> None:
    """With the type that the flow asks for, in the order that was written."""
    expected = Dialect(
        endpoints=(
            ("token_endpoint", "/t"),
            ("authorization_endpoint", "/a"),
            ("logout_endpoint", "/out/{client_id}"),
            ("userinfo_endpoint", "https://id.example/me"),
        ),
        authorization=AuthorizationBy.REDIRECT,
        authorization_placement=Placement.QUERY,
        provider_hosts=("github.com", "login.example.com:8443"),
        pkce_transform=PkceTransform.S256_HEX,
        token_placement=Placement.QUERY,
        leaks_secrets_in_url=True,
        state_on_token=True,
        client_id_with_basic=True,
        renamed_parameters=(("code_verifier", "code_verfier"),),
        token_parameters=(("tenant", "7"),),
        refresh_authentication=RefreshAuthentication.ACCESS_TOKEN,
        refresh_rotation="grace",
        logout=Logout.BEARER,
        logout_method="POST",
        subject_from=SubjectFrom.USERINFO,
        userinfo_accept="application/vnd.example+json",
        subject_member="data.id",
        error_members=("error", "message"),
        error_codes=(("no such refresh token", "invalid_grant"), ("no", "invalid_request")),
    )

    found = loaded(tmp_path, with_table(EVERYTHING))

    assert found == expected
    assert isinstance(hash(found), int)
    for field in fields(Dialect):  # an enumeration is compared by identity
        assert type(getattr(found, field.name)) is type(getattr(expected, field.name)), field.name


def test_prefixes_are_a_field(tmp_path: Path) -> None:
    """They are for servers with metadata, and harmless."""
    text = changed((ISSUER, f'{ISSUER}\ndialect = {{ endpoint_host_prefixes = ["matls-", "mtls."] }}'))

    assert loaded(tmp_path, text) == Dialect(endpoint_host_prefixes=("matls-", "mtls."))


def test_a_table_changes_its_base_in_what_is_written(tmp_path: Path) -> None:
    """Of the endpoints one, of the rest the whole field."""
    text = with_table(
        'base = "iridium"\nprovider_hosts = ["github.com"]\n'
        'endpoints = { logout_endpoint = "/application/{client_id}/tokens", jwks_uri = "/keys" }'
    )

    found = loaded(tmp_path, text)

    endpoints = dict(IRIDIUM.endpoints) | {"logout_endpoint": "/application/{client_id}/tokens", "jwks_uri": "/keys"}
    assert found == replace(IRIDIUM, provider_hosts=("github.com",), endpoints=tuple(endpoints.items()))


@pytest.mark.parametrize(
    ("key", "value"),
    [("state_on_token", False), ("client_id_with_basic", False), ("error_codes", {}), ("error_members", ("error",))],
)
def test_what_is_false_or_empty_takes_a_bases_back(key: str, value: object) -> None:
    """Only what is not written is as the base has it."""
    found = dialect_of(DialectSection(base=Base.IRIDIUM, **{key: value}))  # type: ignore[arg-type]

    assert getattr(found, key) == (() if value == {} else value)
    assert getattr(IRIDIUM, key) != getattr(found, key)


def test_enumerations_of_the_configuration_alone_are_text() -> None:
    """The flow does not know them."""
    section = DialectSection(logout_method=LogoutMethod.POST, refresh_rotation=RefreshRotation.STRICT)

    found = dialect_of(section)

    assert (type(found.logout_method), type(found.refresh_rotation)) == (str, str)


@pytest.mark.parametrize(
    ("dialect", "written", "rotation"),
    [
        ("standard", "", RefreshRotation.OBSERVE),
        ("iridium", "", RefreshRotation.NEVER),
        ("iridium", 'refresh_rotation = "strict"', RefreshRotation.STRICT),
    ],
)
def test_the_rotation_of_a_dialect_is_the_default_of_the_issuers(
    tmp_path: Path, dialect: str, written: str, rotation: RefreshRotation
) -> None:
    """What the issuer says comes first."""
    settings = load(tmp_path, with_dialect(f'dialect = "{dialect}"\n{written}'))

    assert settings.issuers["raidiam"].issuer.refresh_rotation is rotation


@pytest.mark.parametrize(
    ("written", "place", "message", "hint"),
    [
        ("dialect = 1", "", "must be a name or a table, not a whole number", 'for example "raidiam"'),
        ('dialect = ["iridium"]', "", "must be a name or a table, not an array", 'for example "raidiam"'),
        ('dialect = "iridum"', "", '"iridum" is none of', 'did you mean "iridium"?'),
        ('dialect = { base = "radiam" }', ".base", '"radiam" is none of', 'did you mean "raidiam"?'),
        ("dialect = { pkce = 1 }", ".pkce", "there is no such key", None),
        (
            "dialect = { state_on_tokn = true }",
            ".state_on_tokn",
            "there is no such key",
            'did you mean "state_on_token"?',
        ),
        (
            'dialect = { authorization = "redirct" }',
            ".authorization",
            '"redirct" is none of',
            'did you mean "redirect"?',
        ),
        ('dialect = { pkce_transform = "plain" }', ".pkce_transform", '"plain" is none of', None),
        ('dialect = { logout_method = "GET" }', ".logout_method", '"GET" is none of', None),
        ("dialect = { state_on_token = 1 }", ".state_on_token", "must be true or false", None),
        ('dialect = { provider_hosts = "github.com" }', ".provider_hosts", "must be an array", None),
        ('dialect = { provider_hosts = ["https://a.b"] }', ".provider_hosts[0]", "must be a host", None),
        ('dialect = { provider_hosts = ["GitHub.com"] }', ".provider_hosts[0]", "must be in lower case", None),
        ('dialect = { provider_hosts = ["*.b.example"] }', ".provider_hosts[0]", "must be a host", None),
        (
            'dialect = { endpoint_host_prefixes = ["matls"] }',
            ".endpoint_host_prefixes[0]",
            "must be the beginning of a host",
            '"matls-"',
        ),
        ('dialect = { endpoint_host_prefixes = [""] }', ".endpoint_host_prefixes[0]", "must be the beginning", None),
        ('dialect = { endpoint_host_prefixes = ["a/-"] }', ".endpoint_host_prefixes[0]", "must be the beginning", None),
        ('dialect = { subject_member = "data..id" }', ".subject_member", "must be names of members", None),
        ('dialect = { subject_member = "" }', ".subject_member", "must be names of members", None),
        ('dialect = { endpoints = { token_endpoint = "/a b" } }', ".endpoints.token_endpoint", "", None),
        ("dialect = { endpoints = { token_endpoint = 1 } }", ".endpoints.token_endpoint", "must be a string", None),
    ],
)
def test_a_mistake_is_told_at_its_place(
    tmp_path: Path, written: str, place: str, message: str, hint: str | None
) -> None:
    """With the nearest name, where there is one."""
    problem = only_problem(tmp_path, with_dialect(written))

    assert problem.path == f"issuer.raidiam.dialect{place}"
    assert message in problem.message
    assert hint is None or hint in str(problem.hint)
