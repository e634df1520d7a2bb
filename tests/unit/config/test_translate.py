"""From sections to the values of the components."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.config.settings import (
    AuditSettings,
    ListenerSettings,
    OnAuditFailure,
    OpsSettings,
    StoreSettings,
    TcpListenerSettings,
)
from broker.oauth.client import (
    AliasedEndpoint,
    AssertionAudience,
    ClientAuthMethod,
    ClientSecretEncoding,
    Parameters,
    Profile,
    RefreshRotation,
    RequestObjectUse,
    ResponseMode,
    SenderConstraint,
)
from broker.policy.rules import Action, GrantsOf, Workload
from broker.tokens.spec import Consent, Grants, OnGrantLost, Refresh
from tests.unit.config.files import FakeAccounts, changed, load, only_problem, problems


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    """Not to the directory in which somebody happens to start the broker."""
    settings = load(tmp_path, changed(('cert_file = "transport.pem"', 'cert_file = "tls/transport.pem"')))

    assert settings.certificates["transport"].cert_file == tmp_path / "tls" / "transport.pem"
    assert settings.listeners[0].place == (tmp_path / "app.sock",)
    assert settings.audit == AuditSettings(
        file=tmp_path / "audit.jsonl", key_file=tmp_path / "audit.key", on_failure=OnAuditFailure.REFUSE
    )


PEOPLE = changed(
    ("[audit]", '[daemon]\nstate_dir = "state"\n[store]\nkey = { file = "store.key" }\n[audit]'),
    ('client_id = "our-client"', 'client_id = "our-client"\nredirect_uris = ["https://app.example.com/cb"]'),
    ('scope = ["directory:software"]', 'scope = ["openid"]\ngrant_type = "authorization_code"'),
)
"""A token that people consent to."""


def test_a_token_of_people_has_what_is_asked_of_them(tmp_path: Path) -> None:
    """Tables become JSON, and an empty one below the places of claims the null that TOML does not have."""
    text = PEOPLE.replace(
        'grant_type = "authorization_code"',
        """grant_type = "authorization_code"
refresh = "on_demand"
grants = "many"
authorization_details = [{ type = "account", ids = ["{account}"], limit = 10 }]
claims = { userinfo = { email = {}, name = { essential = true } }, id_token = { acr = {} } }
acr_values = ["high", "low"]
acr_required = true
prompt = ["login", "consent"]
max_age_seconds = 60
keepalive_seconds = 120
consent_lifetime_seconds = 180
on_grant_lost = "serve_until_expiry"
userinfo = true""",
    )

    (spec,) = load(tmp_path, text).tokens

    assert spec.consent == Consent(
        grants=Grants.MANY,
        authorization_details='[{"type":"account","ids":["{account}"],"limit":10}]',
        claims='{"userinfo":{"email":null,"name":{"essential":true}},"id_token":{"acr":null}}',
        acr_values=("high", "low"),
        acr_required=True,
        prompt=("login", "consent"),
        max_age=60,
        keepalive=120.0,
        lifetime=180.0,
        on_grant_lost=OnGrantLost.SERVE_UNTIL_EXPIRY,
        userinfo=True,
    )


@pytest.mark.parametrize(
    ("profile", "alg", "rotation"),
    [
        ("fapi2", "PS256", RefreshRotation.GRACE),
        ("fapi1_advanced", "PS256", RefreshRotation.OBSERVE),
        ("oidc", "RS256", RefreshRotation.OBSERVE),
        ("oauth2", "RS256", RefreshRotation.OBSERVE),
    ],
)
def test_a_profile_has_defaults(tmp_path: Path, profile: str, alg: str, rotation: RefreshRotation) -> None:
    """Those of the standards behind it."""
    settings = load(tmp_path, PEOPLE.replace('auth.example.com"', f'auth.example.com"\nprofile = "{profile}"'))

    client = settings.clients["raidiam"].client
    assert {client.id_token_signed_response_alg, client.authorization_signed_response_alg} == {alg}
    assert settings.issuers["raidiam"].issuer.refresh_rotation is rotation


def test_what_a_server_wants_otherwise_is_told(tmp_path: Path) -> None:
    """Written out it comes before the defaults; an empty type is none."""
    text = PEOPLE.replace(
        'client_id = "our-client"',
        """client_id = "our-client"
response_mode = "jwt"
request_object = "always"
request_object_typ = ""
id_token_signed_response_alg = "ES256"
authorization_signed_response_alg = "EdDSA"
front_channel_params = "scope"
scope_on_token = true""",
    ).replace('auth.example.com"', 'auth.example.com"\nprofile = "oidc"\nrefresh_rotation = "strict"')

    settings = load(tmp_path, text)

    client = settings.clients["raidiam"].client
    assert (client.response_mode, client.request_object) == (ResponseMode.JWT, RequestObjectUse.ALWAYS)
    assert (client.request_object_typ, client.scope_on_token) == (None, True)
    assert (client.id_token_signed_response_alg, client.authorization_signed_response_alg) == ("ES256", "EdDSA")
    assert client.front_channel_params is Parameters.SCOPE
    assert client.redirect_uris == ("https://app.example.com/cb",)
    assert settings.issuers["raidiam"].issuer.refresh_rotation is RefreshRotation.STRICT


def test_a_workload_may_have_its_own_grants_alone(tmp_path: Path) -> None:
    """Everybody's is the default."""
    own = changed(('tokens = ["directory"]', 'tokens = ["directory"]\ngrants = "own"'))

    assert [load(tmp_path, text).workloads[0].grants for text in (own, changed())] == [GrantsOf.OWN, GrantsOf.ALL]


def test_absolute_paths_stay_as_they_are(tmp_path: Path) -> None:
    """Symlinks and dots are the kernel's affair."""
    settings = load(tmp_path, changed(('file = "signing.key"', 'file = "/etc/../etc/signing.key"')))

    assert settings.keys["signing"].file == Path("/etc/../etc/signing.key")


def test_a_credential_is_a_file_in_the_credentials_directory(tmp_path: Path) -> None:
    """As systemd hands them over."""
    text = changed(('alg = "PS256"', 'alg = "PS256"\npassphrase = { credential = "signing.pass" }'))

    settings = load(tmp_path, text, credentials=Path("/run/credentials/token-broker.service"))

    assert settings.keys["signing"].passphrase_file == Path("/run/credentials/token-broker.service/signing.pass")


def test_private_keys_may_be_credentials(tmp_path: Path) -> None:
    """That of a certificate and one that signs, with no path of a machine in the file."""
    keys = ('file = "signing.key"', 'file = { credential = "signing" }')
    text = changed(keys, ('key_file = "transport.key"', 'key_file = { credential = "transport" }'))

    settings = load(tmp_path, text, credentials=Path("/run/credentials/token-broker.service"))

    assert settings.keys["signing"].file == Path("/run/credentials/token-broker.service/signing")
    assert settings.certificates["transport"].key_file == Path("/run/credentials/token-broker.service/transport")


def test_a_credential_without_credentials_directory_is_a_problem(tmp_path: Path) -> None:
    """Started by hand, without systemd."""
    text = changed(('key = { file = "audit.key" }', 'key = { credential = "audit" }'))

    (problem,) = problems(tmp_path, text)

    assert problem.path == "audit.key"
    assert problem.message == "needs credentials, but CREDENTIALS_DIRECTORY is not set"
    assert problem.hint is not None


def test_an_issuer_has_its_defaults_and_what_was_written(tmp_path: Path) -> None:
    """The strictest of everything where nothing is written."""
    text = changed(
        (
            'issuer = "https://auth.example.com"',
            (
                'issuer = "https://auth.example.com/"\nendpoint_hosts = ["mtls.example.com:8443"]\n'
                'assertion_audience = "target"\nca_file = "ca.pem"'
            ),
        )
    )

    settings = load(tmp_path, text).issuers["raidiam"]

    assert settings.issuer.name == "raidiam"
    assert settings.issuer.issuer == "https://auth.example.com/"
    assert settings.issuer.profile is Profile.FAPI2
    assert settings.issuer.endpoint_hosts == {"mtls.example.com:8443"}
    assert settings.issuer.assertion_audience is AssertionAudience.TARGET
    assert (settings.issuer.sandbox, settings.issuer.allow_insecure_loopback) == (False, False)
    assert settings.ca_file == tmp_path / "ca.pem"


def test_a_client_knows_its_algorithm_and_its_certificate(tmp_path: Path) -> None:
    """What the protocol needs of a key is its algorithm."""
    settings = load(tmp_path).clients["raidiam"]

    assert settings.client.signing_alg == "PS256"
    assert settings.client.presents_certificate
    assert settings.client.client_auth_method is ClientAuthMethod.PRIVATE_KEY_JWT
    assert settings.client.sender_constraint is SenderConstraint.CERTIFICATE
    assert (settings.certificate, settings.signing_key) == ("transport", "signing")


def test_a_client_secret_is_a_path_and_an_encoding(tmp_path: Path) -> None:
    """The file is not opened: the settings hold no secret."""
    text = changed(
        ('issuer = "https://auth.example.com"', 'issuer = "https://auth.example.com"\nprofile = "oauth2"'),
        (
            'signing_keys = ["signing"]',
            (
                'client_auth_method = "client_secret_basic"\nclient_secret = { file = "app.secret" }\n'
                'client_secret_encoding = "raw"'
            ),
        ),
    )

    settings = load(tmp_path, text).clients["raidiam"]

    assert settings.secret_file == tmp_path / "app.secret"
    assert settings.client.client_auth_method is ClientAuthMethod.CLIENT_SECRET_BASIC
    assert settings.client.client_secret_encoding is ClientSecretEncoding.RAW
    assert (settings.client.signing_alg, settings.signing_key) == (None, None)


def test_a_client_without_certificate_presents_none(tmp_path: Path) -> None:
    """No alias for mutual TLS is used then."""
    text = changed(
        ('issuer = "https://auth.example.com"', 'issuer = "https://auth.example.com"\nprofile = "oauth2"'),
        ('certificate = "transport"', 'sender_constraint = "none"'),
    )

    settings = load(tmp_path, text).clients["raidiam"]

    assert not settings.client.presents_certificate
    assert settings.certificate is None


def test_a_token_keeps_the_order_of_what_was_written(tmp_path: Path) -> None:
    """A server may care, and a diff of requests does."""
    text = changed(
        (
            'scope = ["directory:software"]',
            (
                'scope = ["b", "a"]\nresource = ["https://b.example/", "https://a.example/"]\naudience = ["x"]\n'
                'parameters = { z = "1", a = "2" }\nrequired = true\ndefault_lifetime_seconds = 60'
            ),
        )
    )

    (token,) = load(tmp_path, text).tokens

    assert token.scope == ("b", "a")
    assert token.resource == ("https://b.example/", "https://a.example/")
    assert token.audience == ("x",)
    assert token.parameters == (("z", "1"), ("a", "2"))
    assert (token.required, token.default_lifetime) == (True, 60.0)
    assert token.grant_type == "client_credentials"
    assert token.refresh is Refresh.EAGER


def test_a_token_may_be_on_demand(tmp_path: Path) -> None:
    """Eager is what is meant where nothing is said."""
    (token,) = load(tmp_path, changed(('scope = ["directory:software"]', 'refresh = "on_demand"'))).tokens

    assert token.refresh is Refresh.ON_DEMAND


def test_users_and_groups_become_numbers(tmp_path: Path) -> None:
    """Names and numbers side by side; a group may have the name of another user."""
    text = changed(
        ("uid = [1000]", 'uid = [1000, "app"]\ngid = ["app", 7]\nmay = ["get", "refresh"]'),
        ('path = "app.sock"', 'path = "app.sock"\nmode = "0620"\ngroup = "app"'),
    )

    settings = load(tmp_path, text, accounts=FakeAccounts(users={"app": 1001}, groups={"app": 2001}))

    assert settings.workloads == (
        Workload(
            name="app",
            listeners=frozenset({"app"}),
            uids=frozenset({1000, 1001}),
            gids=frozenset({2001, 7}),
            tokens=frozenset({"directory"}),
            may=frozenset({Action.GET, Action.REFRESH}),
        ),
    )
    (listener,) = settings.listeners
    assert isinstance(listener, ListenerSettings)
    assert (listener.mode, listener.gid) == (0o620, 2001)


@pytest.mark.parametrize(
    ("edit", "path", "message"),
    [
        (("uid = [1000]", 'uid = [1000, "app"]'), "workload.app.uid[1]", 'no user named "app" on this host'),
        (("uid = [1000]", 'gid = ["app"]'), "workload.app.gid[0]", 'no group named "app" on this host'),
        (
            ('path = "app.sock"', 'path = "app.sock"\ngroup = "app"'),
            "listener.app.group",
            'no group named "app" on this host',
        ),
    ],
)
def test_an_unknown_user_or_group_is_a_problem(tmp_path: Path, edit: tuple[str, str], path: str, message: str) -> None:
    """Left out silently, it would leave a workload that is everybody."""
    (problem,) = problems(tmp_path, changed(edit))

    assert (problem.path, problem.message) == (path, message)


def test_a_listener_has_the_brokers_group_unless_told_otherwise(tmp_path: Path) -> None:
    """None means: leave it."""
    (listener,) = load(tmp_path).listeners

    assert isinstance(listener, ListenerSettings)
    assert (listener.mode, listener.gid) == (0o660, None)


def test_an_address_comes_in_its_shortest_form(tmp_path: Path) -> None:
    """As clients write it in Host; the secret is beside the configuration, or wherever it is said."""
    text = changed(
        ('path = "app.sock"', 'address = "[0:0:0:0:0:0:0:1]:8181"\nsecret_file = "secret"\ngroup = "app"'),
        ("uid = [1000]\n", ""),
    )

    (listener,) = load(tmp_path, text, accounts=FakeAccounts(groups={"app": 2001})).listeners

    assert listener == TcpListenerSettings(name="app", host="::1", port=8181, secret_file=tmp_path / "secret", gid=2001)


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("", OpsSettings(host="127.0.0.1", port=9464)),
        ('[ops]\nlisten = "[::1]:0"\n', OpsSettings(host="::1", port=0)),
        ("[ops]\nenabled = false\n", None),
    ],
)
def test_health_is_on_loopback_unless_told_otherwise(
    tmp_path: Path, section: str, expected: OpsSettings | None
) -> None:
    """Switching it off has to be written."""
    settings = load(tmp_path, changed(("[audit]", f"{section}[audit]")))

    assert settings.ops == expected


@pytest.mark.parametrize("anchor", [None, "elsewhere/anchor"])
def test_a_store_has_absolute_paths(tmp_path: Path, anchor: str | None) -> None:
    """Relative ones begin at the file; and no section is no store."""
    written = "" if anchor is None else f'anchor = "{anchor}"\n'
    section = f'[daemon]\nstate_dir = "state"\n[store]\nkey = {{ file = "store.key" }}\n{written}'

    settings = load(tmp_path, changed(("[audit]", f"{section}[audit]")))

    expected = None if anchor is None else tmp_path / anchor
    assert settings.store == StoreSettings(key_file=tmp_path / "store.key", anchor=expected)
    assert load(tmp_path).store is None


def test_a_store_key_that_no_credential_has_is_a_problem(tmp_path: Path) -> None:
    """As for every other secret."""
    section = '[daemon]\nstate_dir = "state"\n[store]\nkey = { credential = "store" }\n'

    problem = only_problem(tmp_path, changed(("[audit]", f"{section}[audit]")))

    assert problem.path == "store.key"


def test_no_audit_log_is_none(tmp_path: Path) -> None:
    """Only where it is written out."""
    settings = load(tmp_path, changed(("[audit]", "[audit]\nenabled = false")))

    assert settings.audit is None


def test_limits_for_one_user_never_exceed_those_for_all(tmp_path: Path) -> None:
    """A low limit for all lowers the default for one."""
    settings = load(tmp_path, changed(("[audit]", "[daemon]\nmax_connections = 10\nmax_waiting = 5\n[audit]"))).daemon

    assert (settings.max_connections, settings.max_connections_per_uid) == (10, 10)
    assert (settings.max_waiting, settings.max_waiting_per_uid) == (5, 5)


@pytest.mark.parametrize(("line", "fast"), [("", True), ("fast_path = true", True), ("fast_path = false", False)])
def test_the_fast_path_is_gone_where_the_file_says_so(tmp_path: Path, line: str, fast: bool) -> None:
    """And not by default."""
    settings = load(tmp_path, changed(("[audit]", f"[daemon]\n{line}\n[audit]"))).daemon

    assert settings.fast_path is fast


def test_the_first_of_several_keys_signs(tmp_path: Path) -> None:
    """Its algorithm is the client's; a key may have a certificate, and wait before it signs."""
    second = (
        '[key.second]\nfile = "2.key"\nalg = "ES256"\ncert_file = "2.pem"\nswitch_delay_seconds = 90\n[client.raidiam]'
    )
    text = changed(('signing_keys = ["signing"]', 'signing_keys = ["second", "signing"]'), ("[client.raidiam]", second))

    settings = load(tmp_path, text)

    client, key = settings.clients["raidiam"], settings.keys["second"]
    assert (client.signing_keys, client.signing_key) == (("second", "signing"), "second")
    assert client.client.signing_alg == "ES256"
    assert (key.cert_file, key.switch_delay) == (tmp_path / "2.pem", 90.0)
    assert (settings.keys["signing"].cert_file, settings.keys["signing"].switch_delay) == (None, 0.0)


@pytest.mark.parametrize(
    ("line", "aliases"),
    [
        ("", None),
        ("mtls_endpoint_aliases = []\n", frozenset()),
        ('mtls_endpoint_aliases = ["token_endpoint"]\n', frozenset({AliasedEndpoint.TOKEN})),
    ],
)
def test_none_of_the_aliases_is_not_all_of_them(
    tmp_path: Path, line: str, aliases: frozenset[AliasedEndpoint] | None
) -> None:
    """An empty list is a wish, too."""
    settings = load(tmp_path, changed(('certificate = "transport"\n', f'certificate = "transport"\n{line}')))

    assert settings.clients["raidiam"].client.mtls_endpoint_aliases == aliases
