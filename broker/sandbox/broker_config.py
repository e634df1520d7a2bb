"""
The configuration files that let a broker use the sandbox: written for it, and for people to read.

One is the least that it takes; the other has a store, too, and a token that a person consents to.

It knows the broker's file format and nothing else of the broker.
"""

from __future__ import annotations

from collections.abc import Sequence

from broker.sandbox.jose import JsonWebKey
from broker.sandbox.layout import AUDIT_KEY, CA, CLIENT, STORE_KEY, signing_key_file
from broker.sandbox.metadata import Addresses

SOCKET = "api.sock"
"""The broker's socket, in the sandbox's directory: nobody else gets in there."""

TOKEN = "demo"  # noqa: S105 (the name of a token, not a token)

PERSON_TOKEN = "person"  # noqa: S105 (the name of another)
"""A person consents to it."""

STATE = "state"
"""The broker's state directory, for the second file."""

TEMPLATE = """\
# Written by `token-broker sandbox`; written anew at each start of it. Relative paths begin at this file.

[issuer.sandbox]
issuer = "{issuer}"
profile = "fapi2"
ca_file = "{ca}"                      # the sandbox's own certificate authority
sandbox = true                          # without it, a server that says it is a sandbox is refused

[certificate.demo]                      # the transport certificate: the token is bound to it
cert_file = "{client}.pem"
key_file = "{client}.key"

[key.demo]                              # signs client assertions
file = "{signing_key}"
alg = "{alg}"
kid = "{kid}"

[client.demo]
issuer = "sandbox"
client_id = "{client_id}"
client_auth_method = "private_key_jwt"
signing_keys = ["demo"]
certificate = "demo"
sender_constraint = "certificate"
redirect_uris = {redirect_uris}

[token.{token}]                            # what a workload asks for by name
client = "demo"
grant_type = "client_credentials"
scope = ["{scope}"]
required = true

[listener.demo]
path = "{socket}"
mode = "0600"

[workload.demo]                         # who may have the token
listener = ["demo"]
uid = [{uid}]                               # whoever started the sandbox
tokens = {tokens}
may = {may}

[ops]
listen = "127.0.0.1:{ops_port}"

[audit]
file = "audit.log"
key = {{ file = "{audit_key}" }}
"""

CONSENTS = """
[token.{person_token}]                          # a person consents to it: token-broker login {person_token}
client = "demo"
grant_type = "authorization_code"
scope = ["openid", "{scope}"]
userinfo = true

[daemon]
state_dir = "{state}"

[store]                                 # where refresh tokens are kept, sealed
key = {{ file = "{store_key}" }}
"""


def broker_config(
    addresses: Addresses,
    signing_key: JsonWebKey,
    *,
    client_id: str,
    scope: str,
    uid: int,
    ops_port: int,
    redirect_uris: Sequence[str] = (),
    consents: bool = False,
) -> str:
    """
    Write the file for the client *client_id* that signs with *signing_key*, and a workload with *uid*.

    With *consents* there is a store, and a token that a person consents to.
    """
    tokens, may = [TOKEN], ["get"]
    if consents:
        tokens, may = [*tokens, PERSON_TOKEN], [*may, "authorize", "list", "revoke"]
    text = TEMPLATE + (CONSENTS if consents else "")
    return text.format(
        issuer=addresses.issuer,
        ca=CA,
        client=CLIENT,
        signing_key=signing_key_file(signing_key.alg),
        alg=signing_key.alg,
        kid=signing_key.kid,
        client_id=client_id,
        scope=scope,
        socket=SOCKET,
        token=TOKEN,
        uid=uid,
        ops_port=ops_port,
        audit_key=AUDIT_KEY,
        redirect_uris=_array(redirect_uris),
        tokens=_array(tokens),
        may=_array(may),
        **_OF_CONSENTS,
    )


_OF_CONSENTS = {"person_token": PERSON_TOKEN, "state": STATE, "store_key": STORE_KEY}


def _array(values: Sequence[str]) -> str:
    """Write a TOML array of strings that need no escapes."""
    return "[" + ", ".join(f'"{value}"' for value in values) + "]"
