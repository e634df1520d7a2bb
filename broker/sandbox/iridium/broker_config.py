"""
The configuration files that let a broker use a fake Iridium: one over https, one over http as in development.

They have no ``sandbox = true``: that admits a server whose metadata says that it is a sandbox, and Iridium has no
metadata. What a broker trusts is a loopback address with a certificate authority that is new at every start.

It knows the broker's file format and nothing else of the broker.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.sandbox.layout import AUDIT_KEY, CA, STORE_KEY

SOCKET = "api.sock"
"""The broker's socket, in the directory of the sandbox: nobody else gets in there."""

TOKENS = {"github": "user:email", "google": "email"}
"""Names of the broker's tokens, which are those of the providers, and what is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """Where everything is: origins of the issuer, of its API and of the providers."""

    issuer: str
    development: str
    api: str
    github: str
    google: str
    control: str


TEMPLATE = """\
# Written by `token-broker sandbox --dialect iridium`; written anew at each start. Relative paths begin at this file.

[issuer.iridium]
issuer = "{issuer}"
profile = "oauth2"                      # it has nothing of what the other profiles ask for
{trust}

[issuer.iridium.dialect]
base = "iridium"
provider_hosts = {provider_hosts}

[client.iridium]
issuer = "iridium"
client_id = "{client_id}"
client_auth_method = "none"
sender_constraint = "none"
redirect_uris = ["{redirect_uri}"]
{tokens}
{upstreams}[listener.api]
path = "{socket}"
mode = "0600"

[workload.app]                          # whoever started the sandbox
listener = ["api"]
uid = [{uid}]
tokens = {token_names}
upstreams = {token_names}
may = ["get", "refresh", "authorize", "list", "revoke", "egress"]

[daemon]
state_dir = "{state}"

[store]                                 # where refresh tokens are kept, sealed
key = {{ file = "{store_key}" }}

[ops]
listen = "127.0.0.1:{ops_port}"

[audit]
file = "{audit}"
key = {{ file = "{audit_key}" }}
"""

UPSTREAM = """\
[upstream.{name}]                       # the API, called for those who logged in with {name}
base_url = "{api}"
token = "{name}"
allow = ["GET /me", "POST /echo"]
ca_file = "{ca}"

"""

SECTION = """
[token.{name}]                          # people log in with it: token-broker login {name} --redirect-uri ...
client = "iridium"
grant_type = "authorization_code"
scope = ["{scope}"]
grants = "many"
parameters = {{ provider = "{name}" }}
"""


def broker_config(
    served: Served, *, client_id: str, redirect_uri: str, uid: int, ops_port: int = 0, development: bool = False
) -> str:
    """Write the file for a workload with *uid*; *development* is the one for http."""
    insecure = "allow_insecure_loopback = true          # http, as at a developer's http://localhost:8381"
    hosts = [origin.removeprefix("https://") for origin in (served.github, served.google)]
    name = "development" if development else "iridium"
    return TEMPLATE.format(
        issuer=served.development if development else served.issuer,
        trust=insecure if development else f'ca_file = "{CA}"                      # its own certificate authority',
        provider_hosts=_array(hosts),
        client_id=client_id,
        redirect_uri=redirect_uri,
        tokens="".join(SECTION.format(name=name, scope=scope) for name, scope in TOKENS.items()),
        token_names=_array(list(TOKENS)),
        upstreams="".join(UPSTREAM.format(name=name, api=served.api, ca=CA) for name in TOKENS),
        socket=SOCKET,
        uid=uid,
        state=f"{name}-state",
        store_key=STORE_KEY,
        ops_port=ops_port,
        audit=f"{name}-audit.log",
        audit_key=AUDIT_KEY,
    )


def _array(values: list[str]) -> str:
    """Write a TOML array of strings that need no escapes."""
    return "[" + ", ".join(f'"{value}"' for value in values) + "]"
