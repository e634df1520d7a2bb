"""
Raidiam Connect's sandbox, as far as it is known from outside: the real server under its names, and its directory.

The host names are the real ones. A proxy of the test leads to them, so that what is written for the real servers runs
here word for word, but for the lines that name the proxy and the CA (``at_the_bed``).

What it has of the original: the paths; ``mtls_endpoint_aliases`` on a second host, which alone asks for a certificate;
FAPI 2.0; ``private_key_jwt`` and ``tls_client_auth``; request objects demanded by registration and not by metadata;
access tokens that are JWTs, signed with PS256, good for five minutes, bound to the certificate, and good until then
whatever is revoked; an API that compares token and certificate.
Whether refresh tokens are replaced at each use is not known: a client here may keep its first, or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.daemon.test_proxy import ConnectProxy, connect_proxy
from tests.interop.rig import Rig, registration

NAMES = {
    "issuer": "https://auth.sandbox.raidiam.io",
    "mtls": "https://matls-auth.sandbox.raidiam.io",
    "api": "https://matls-api.sandbox.raidiam.io",
}
ALIASES = {
    "token_endpoint": "/token",
    "revocation_endpoint": "/token/revocation",
    "introspection_endpoint": "/token/introspection",
    "device_authorization_endpoint": "/device/auth",
    "registration_endpoint": "/reg",
    "userinfo_endpoint": "/me",
    "pushed_authorization_request_endpoint": "/request",
    "backchannel_authentication_endpoint": "/backchannel",
}
WEBSITE, SOFTWARE = "directory:website", "directory:software"
REDIRECT_URI = "https://app.example/callback"

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "raidiam.toml"

PROXIED = ("[issuer.raidiam]", "[upstream.directory]", "[upstream.directory-software]")
"""The sections of the example that say where something is."""


@contextmanager
def raidiam(
    folder: Path, clients: Callable[[Rig], list[dict[str, Any]]], *, keeping: tuple[str, ...] = ()
) -> Iterator[tuple[Rig, ConnectProxy]]:
    """Start the servers with *clients*, and the proxy to them; those *keeping* are not given other refresh tokens."""
    more = {
        "aliases": ALIASES,
        "directory": True,
        "keeping": keeping,
        "resource": f"{NAMES['api']}/",
        "scope": f"{WEBSITE} {SOFTWARE}",
    }
    with (
        Rig.start(folder, people=True, clients=clients, names=NAMES, server_alg="PS256", more=more) as rig,
        connect_proxy(ports={urlsplit(url).hostname: rig.port(name) for name, url in NAMES.items()}) as proxy,
    ):
        yield rig, proxy


def application(
    client_id: str,
    *,
    key: Mapping[str, Any] | None,
    subject: str,
    method: str = "private_key_jwt",
    demanded: bool = True,
    scope: str = f"{WEBSITE} {SOFTWARE}",
) -> dict[str, Any]:
    """
    Give an application as the portal registers it.

    *key* is the public one of its signing certificate, *subject* that of its transport certificate. *scope* is what the
    metadata of its role grant. *demanded*: "Require Signed Request Object".
    """
    signed: dict[str, Any] = {"jwks": {"keys": [key]}, "request_object_signing_alg": "PS256"} if key else {}
    of_method = {
        "private_key_jwt": {"token_endpoint_auth_signing_alg": "PS256"},
        "tls_client_auth": {"tls_client_auth_subject_dn": subject},
    }
    return {
        **registration(client_id, method),
        **signed,
        **of_method[method],
        "grant_types": ["authorization_code", "refresh_token", "client_credentials"],
        "response_types": ["code"],
        "redirect_uris": [REDIRECT_URI],
        "scope": scope,
        "require_signed_request_object": demanded,
    }


def at_the_bed(configuration: str, ca_file: Path, proxy: ConnectProxy) -> str:
    """Add to *configuration* the way to the hosts and the CA that knows them; a port for health is found."""
    for section in PROXIED:
        assert configuration.count(f"\n{section}\n") == 1
        way = f'ca_file = "{ca_file}"\nproxy = "{proxy.url}"\n'
        configuration = configuration.replace(f"\n{section}\n", f"\n{section}\n{way}")
    return f'[ops]\nlisten = "127.0.0.1:0"\n\n{configuration}'
