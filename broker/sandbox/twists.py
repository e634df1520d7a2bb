"""
Faults that change what an answer says, as pure functions on claims and on JSON objects.

Everything that is not named here is left as it was, so that a test which sees a refusal knows its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from broker.sandbox.authority import certificate_thumbprint
from broker.sandbox.faults import Fault

NOBODY = certificate_thumbprint(b"no such certificate")
"""A well-formed thumbprint that no certificate has, and no key."""

Claims = dict[str, Any]
Body = dict[str, Any]


def twist_claims(fault: Fault | None) -> Callable[[Claims], None] | None:
    """Give what *fault* does to the claims of an access token, or None."""
    if fault is None:
        return None
    twists: Mapping[str, Callable[[Claims], None]] = {
        "wrong_cnf": lambda claims: claims.update(cnf=dict.fromkeys(claims["cnf"], NOBODY)),
        "no_cnf": lambda claims: claims.pop("cnf"),
        "wider_scope": lambda claims: claims.update(scope=f"{claims['scope']} {fault.parameters['value']}".strip()),
    }
    return twists.get(fault.kind)


def twist_body(fault: Fault | None, body: Body, *, elsewhere: str, opaque: str) -> Body:
    """
    Give *body* as *fault* wants it.

    *elsewhere* is the origin that foreign endpoints lie at by default, *opaque* a random string.
    """
    if fault is None:
        return body
    value = fault.parameters.get("value")
    match fault.kind:
        case "opaque":
            return {**body, "access_token": opaque}
        case "wrong_token_type":
            return {**body, "token_type": value}
        case "bad_expires_in":
            return {**body, "expires_in": value}
        case "wrong_issuer":
            return {**body, "issuer": value if value is not None else f"{body['issuer']}INVALID"}
        case "foreign_endpoint":
            return _moved(body, fault.parameters["origin"] or elsewhere)
        case "no_refresh_token" | "no_request_uri":
            return {name: one for name, one in body.items() if name != fault.kind.removeprefix("no_")}
        case "wrong_sub":
            return {**body, "sub": "mallory"}
        case "alter":
            altered = {**body, **fault.parameters["set"]}
            return {name: one for name, one in altered.items() if name not in fault.parameters["remove"]}
        case _:
            return body


def _moved(metadata: Body, origin: str) -> Body:
    aliases = {name: _at(url, origin) for name, url in metadata["mtls_endpoint_aliases"].items()}
    return {**metadata, **{name: _at(metadata[name], origin) for name in aliases}, "mtls_endpoint_aliases": aliases}


def _at(url: str, origin: str) -> str:
    scheme, host, *_ = urlsplit(origin)
    return urlunsplit(urlsplit(url)._replace(scheme=scheme, netloc=host))
