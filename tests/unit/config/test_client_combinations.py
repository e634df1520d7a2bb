"""What a client's authentication needs, and what its issuer's profile refuses."""

from __future__ import annotations

import pytest

from broker.config.client_combinations import check_client
from broker.config.problems import Findings
from broker.config.source import parse
from broker.config.structure import structure
from tests.unit.config.files import changed

ISSUER = 'issuer = "https://auth.example.com"'
SECOND_KEY = '[key.second]\nfile = "second.key"\nalg = "ES256"\n\n[client.raidiam]'
SIGNING = 'signing_keys = ["signing"]\n'
CERTIFICATE = 'certificate = "transport"\n'
CLIENT = 'client_id = "our-client"'
SECRET = 'client_secret = { file = "app.secret" }'
OAUTH2 = (ISSUER, f'{ISSUER}\nprofile = "oauth2"')
Edits = tuple[tuple[str, str], ...]


def found(text: str) -> list[str]:
    """Give what is said about the clients of a text, and nothing else that is wrong with it."""
    raw = parse(text.encode(), Findings())
    assert raw is not None
    document, findings = structure(raw, Findings()), Findings()
    for name, client in document.clients.items():
        check_client(name, client, document, findings)
    return [str(problem) for problem in findings.problems()]


def method(word: str, *further: str) -> tuple[str, str]:
    """Give the edit that lets the client authenticate by *word*, with *further* lines."""
    return (CLIENT, "\n".join([CLIENT, f'client_auth_method = "{word}"', *further]))


TABLE: list[tuple[Edits, str]] = [
    (
        (OAUTH2, (CERTIFICATE, 'sender_constraint = "none"\nmtls_endpoint_aliases = []\n')),
        (
            "client.raidiam.mtls_endpoint_aliases: has no effect: without a certificate no alias is called; "
            "remove it, or add certificate"
        ),
    ),
    (
        (('signing_keys = ["signing"]\n', ""),),
        (
            "client.raidiam.signing_keys: is missing: private_key_jwt signs with a key; "
            'add signing_keys = ["NAME"] and a section [key.NAME]'
        ),
    ),
    (
        (('signing_keys = ["signing"]', "signing_keys = []"),),
        (
            "client.raidiam.signing_keys: is missing: private_key_jwt signs with a key; "
            'add signing_keys = ["NAME"] and a section [key.NAME]'
        ),
    ),
    (
        (('signing_keys = ["signing"]', 'signing_keys = ["signing", "signing"]'),),
        "client.raidiam.signing_keys: names a key twice; name each key once, the one that signs first",
    ),
    (
        (
            ('signing_keys = ["signing"]', 'signing_keys = ["signing", "second", "third", "fourth"]'),
            (
                "[client.raidiam]",
                SECOND_KEY.replace("second", "fourth").replace("[client.raidiam]", "")
                + SECOND_KEY.replace("second", "third").replace("[client.raidiam]", "")
                + SECOND_KEY,
            ),
        ),
        (
            "client.raidiam.signing_keys: names more than 3 keys; "
            "name the one that signs, the next one, and the one before"
        ),
    ),
    (
        (('certificate = "transport"\n', ""),),
        (
            "client.raidiam.certificate: is missing: "
            'sender_constraint = "certificate", the default, binds tokens to one; '
            'add certificate = "NAME" and a section [certificate.NAME], or sender_constraint = "none"'
        ),
    ),
    (
        (('client_id = "our-client"', 'client_id = "our-client"\nsender_constraint = "none"'),),
        (
            'client.raidiam.sender_constraint: "none" is refused by profile = "fapi2" of issuer "raidiam"; '
            'write sender_constraint = "certificate"; only oidc and oauth2 admit bearer tokens'
        ),
    ),
    (
        (('alg = "PS256"', 'alg = "RS256"'),),
        (
            'client.raidiam.signing_keys[0]: key "signing" has alg RS256, '
            'which is refused by profile = "fapi2" of issuer "raidiam"; '
            "use PS256 or ES256, and register it with the server"
        ),
    ),
    (
        (('alg = "PS256"', 'alg = "EdDSA"'), (ISSUER, f'{ISSUER}\nprofile = "fapi1_advanced"')),
        (
            'client.raidiam.signing_keys[0]: key "signing" has alg EdDSA, which is refused by '
            'profile = "fapi1_advanced" of issuer "raidiam"; use PS256 or ES256, and register it with the server'
        ),
    ),
    # signing keys
    (
        (method("tls_client_auth"),),
        (
            "client.raidiam.signing_keys: has no effect: tls_client_auth signs nothing; "
            'remove it, or write client_auth_method = "private_key_jwt"'
        ),
    ),
    (
        (OAUTH2, method("client_secret_post", SECRET)),
        (
            "client.raidiam.signing_keys: has no effect: client_secret_post signs nothing; "
            'remove it, or write client_auth_method = "private_key_jwt"'
        ),
    ),
    # certificates
    (
        (method("tls_client_auth"), (SIGNING, ""), (CERTIFICATE, "")),
        (
            "client.raidiam.certificate: is missing: tls_client_auth is done with one; "
            'add certificate = "NAME" and a section [certificate.NAME]'
        ),
    ),
    (
        (
            OAUTH2,
            method("self_signed_tls_client_auth", 'sender_constraint = "none"'),
            (SIGNING, ""),
            (CERTIFICATE, ""),
        ),
        (
            "client.raidiam.certificate: is missing: self_signed_tls_client_auth is done with one; "
            'add certificate = "NAME" and a section [certificate.NAME]'
        ),
    ),
    # secrets
    (
        (OAUTH2, method("client_secret_basic"), (SIGNING, "")),
        (
            "client.raidiam.client_secret: is missing: client_secret_basic sends one; "
            'add client_secret = { file = "PATH" }; nobody else may read that file'
        ),
    ),
    (
        (OAUTH2, method("client_secret_post"), (SIGNING, "")),
        (
            "client.raidiam.client_secret: is missing: client_secret_post sends one; "
            'add client_secret = { file = "PATH" }; nobody else may read that file'
        ),
    ),
    (
        ((CLIENT, f"{CLIENT}\n{SECRET}"),),
        (
            "client.raidiam.client_secret: has no effect: private_key_jwt sends none; "
            'remove it, or write client_auth_method = "client_secret_basic"'
        ),
    ),
    (
        (method("tls_client_auth", SECRET), (SIGNING, "")),
        (
            "client.raidiam.client_secret: has no effect: tls_client_auth sends none; "
            'remove it, or write client_auth_method = "client_secret_basic"'
        ),
    ),
    # the encoding
    (
        (OAUTH2, method("client_secret_post", SECRET, 'client_secret_encoding = "form"'), (SIGNING, "")),
        "client.raidiam.client_secret_encoding: has no effect: client_secret_post does not encode; remove it",
    ),
    (
        ((CLIENT, f'{CLIENT}\nclient_secret_encoding = "raw"'),),
        "client.raidiam.client_secret_encoding: has no effect: private_key_jwt does not encode; remove it",
    ),
    (
        (
            OAUTH2,
            method("client_secret_basic", SECRET, 'client_secret_encoding = "raw"'),
            (CLIENT, 'client_id = "https://rp.example.com/a"'),
            (SIGNING, ""),
        ),
        (
            'client.raidiam.client_id: holds a colon, which client_secret_encoding = "raw" does not keep apart from '
            'the one before the secret; write client_secret_encoding = "form", or '
            'client_auth_method = "client_secret_post"'
        ),
    ),
    # public clients
    (
        (OAUTH2, method("none"), (SIGNING, "")),
        (
            'token.directory.grant_type: "client_credentials" is not for client "raidiam", whose '
            'client_auth_method is "none"; have the client registered with a secret, a key or a certificate '
            "(RFC 6749 section 4.4)"
        ),
    ),
    *(
        (
            (
                (ISSUER, f'{ISSUER}\nprofile = "{profile}"'),
                method(word, *([] if word == "none" else [SECRET])),
                (SIGNING, ""),
                ('client = "raidiam"', 'client = "another"'),
            ),
            (
                f'client.raidiam.client_auth_method: "{word}" is refused by profile = "{profile}" of issuer '
                '"raidiam"; write "private_key_jwt" or "tls_client_auth"; '
                "only oidc and oauth2 admit secrets and public clients"
            ),
        )
        for profile in ("fapi2", "fapi1_advanced")
        for word in ("client_secret_basic", "client_secret_post", "none")
    ),
]


@pytest.mark.parametrize(("edits", "expected"), TABLE)
def test_what_does_not_go_together_is_refused_with_the_fix(edits: Edits, expected: str) -> None:
    """Each combination has its own message, and is the only one."""
    assert found(changed(*edits)) == [expected]


@pytest.mark.parametrize(
    "edits",
    [
        pytest.param((), id="as it is"),
        pytest.param(
            (
                (ISSUER, f'{ISSUER}\nprofile = "oauth2"'),
                ('alg = "PS256"', 'alg = "RS256"'),
                ('certificate = "transport"', 'sender_constraint = "none"'),
            ),
            id="oauth2 admits RS256 and bearer tokens",
        ),
        pytest.param(
            (
                (ISSUER, f'{ISSUER}\nprofile = "oidc"'),
                ('client_id = "our-client"', 'client_id = "x"\nsender_constraint = "none"'),
            ),
            id="a certificate without bound tokens",
        ),
        pytest.param((('alg = "PS256"', 'alg = "EdDSA"'),), id="fapi2 admits EdDSA"),
        pytest.param((method("tls_client_auth"), (SIGNING, "")), id="fapi2 admits tls_client_auth"),
        pytest.param((method("self_signed_tls_client_auth"), (SIGNING, "")), id="and with a self-signed one"),
        pytest.param(
            ((ISSUER, f'{ISSUER}\nprofile = "fapi1_advanced"'), method("tls_client_auth"), (SIGNING, "")),
            id="so does fapi1_advanced",
        ),
        pytest.param(
            (OAUTH2, method("client_secret_post", SECRET), (SIGNING, "")), id="a secret, and tokens that are bound"
        ),
        pytest.param(
            (
                (ISSUER, f'{ISSUER}\nprofile = "oidc"'),
                method("client_secret_basic", SECRET, 'client_secret_encoding = "raw"', 'sender_constraint = "none"'),
                (SIGNING, ""),
                (CERTIFICATE, ""),
            ),
            id="a secret and bearer tokens",
        ),
        pytest.param(
            (
                OAUTH2,
                method("client_secret_basic", 'client_secret = { credential = "app" }'),
                (CLIENT, 'client_id = "https://rp.example.com/a"'),
                (SIGNING, ""),
            ),
            id="a colon in the id, encoded",
        ),
        pytest.param(
            (OAUTH2, method("none"), (SIGNING, ""), ('client = "raidiam"', 'client = "another"')),
            id="a public client that gets no tokens for itself",
        ),
    ],
)
def test_what_goes_together_is_accepted(edits: Edits) -> None:
    """Each rule's other side."""
    assert found(changed(*edits)) == []


@pytest.mark.parametrize("profile", ["fapi2", "fapi1_advanced"])
def test_all_that_a_profile_refuses_is_said_at_once(profile: str) -> None:
    """An operator who comes from a plain server sees the whole list."""
    edits = ((ISSUER, f'{ISSUER}\nprofile = "{profile}"'), method("none", 'sender_constraint = "none"'), (SIGNING, ""))

    places = [problem.partition(": ")[0] for problem in found(changed(*edits))]

    assert places == [
        "client.raidiam.client_auth_method",
        "client.raidiam.sender_constraint",
        "token.directory.grant_type",
    ]
