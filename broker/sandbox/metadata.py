"""
Where the sandbox is and what it says about itself.

OpenID Connect Discovery 1.0 and RFC 8414 section 2, with the aliases of RFC 8705 section 5, RFC 9126 section 5,
RFC 9101 section 10.5, RFC 9207 section 3 and RFC 9449 section 5.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from broker.sandbox.authorization_request import RESPONSE_MODES
from broker.sandbox.faults import GRANT_TYPES
from broker.sandbox.jose import SigningAlg
from broker.sandbox.keyring import ALGS
from broker.sandbox.options import Options

SCOPES = ("hello:read", "hello:write")
"""What the demo client may ask for; the resource API wants the first."""

PERSON_SCOPES = ("openid", "profile", "email", "offline_access")
"""What it may ask people for, too."""

TOKEN, JWKS = "/token", "/jwks"
AUTHORIZE, END_SESSION = "/authorize", "/session/end"
PAR, REVOCATION, USERINFO = "/request", "/token/revocation", "/userinfo"

ALIASED = {
    "token_endpoint": TOKEN,
    "pushed_authorization_request_endpoint": PAR,
    "revocation_endpoint": REVOCATION,
    "userinfo_endpoint": USERINFO,
}
"""What clients call with their certificate, at the mutual TLS listener."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """
    The base URLs of the listeners, without a slash at the end.

    *issuer* asks for no client certificate, *mtls* and *resource* do; *elsewhere* is a second origin that
    records what it gets and which no honest answer names; *control* takes commands.
    """

    issuer: str
    mtls: str
    resource: str
    elsewhere: str
    control: str

    @property
    def hello(self) -> str:
        """The URL of the resource API's one resource."""
        return f"{self.resource}/api/hello"


def metadata_document(addresses: Addresses, options: Options) -> dict[str, Any]:
    """
    Make the metadata document, the same for both well-known locations.

    ``token_broker_sandbox`` is ours: a broker refuses an issuer that says it, unless its configuration
    expects a sandbox.
    """
    algs = [str(alg) for alg in SigningAlg]
    signing = [str(alg) for alg in ALGS]
    return {
        "issuer": addresses.issuer,
        "token_broker_sandbox": True,
        "authorization_endpoint": f"{addresses.issuer}{AUTHORIZE}",
        **{name: f"{addresses.issuer}{path}" for name, path in ALIASED.items()},
        "end_session_endpoint": f"{addresses.issuer}{END_SESSION}",
        "jwks_uri": f"{addresses.issuer}{JWKS}",
        "mtls_endpoint_aliases": {name: f"{addresses.mtls}{path}" for name, path in ALIASED.items()},
        "tls_client_certificate_bound_access_tokens": True,
        "dpop_signing_alg_values_supported": algs,
        "token_endpoint_auth_methods_supported": ["private_key_jwt", "none"],
        "token_endpoint_auth_signing_alg_values_supported": algs,
        "revocation_endpoint_auth_methods_supported": ["private_key_jwt"],
        "revocation_endpoint_auth_signing_alg_values_supported": algs,
        "grant_types_supported": list(GRANT_TYPES),
        "response_types_supported": ["code"],
        "response_modes_supported": list(RESPONSE_MODES),
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": options.iss_parameter,
        "require_pushed_authorization_requests": options.require_par,
        "require_signed_request_object": options.require_request_object,
        "request_parameter_supported": True,
        "request_uri_parameter_supported": False,
        "request_object_signing_alg_values_supported": algs,
        "authorization_signing_alg_values_supported": signing,
        "id_token_signing_alg_values_supported": signing,
        "subject_types_supported": ["public"],
        "authorization_details_types_supported": ["payment_initiation", "account_information"],
        "claims_supported": ["sub", "name", "email", "auth_time", "acr"],
        "scopes_supported": [*SCOPES, *PERSON_SCOPES],
    }
