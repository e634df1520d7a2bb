"""
Where the sandbox is and what it says about itself.

OpenID Connect Discovery 1.0 and RFC 8414 section 2, with the aliases of RFC 8705 section 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from broker.sandbox.jose import SigningAlg

SCOPES = ("hello:read", "hello:write")
"""What the demo client may ask for; the resource API wants the first."""


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


def metadata_document(addresses: Addresses) -> dict[str, Any]:
    """
    Make the metadata document, the same for both well-known locations.

    ``token_broker_sandbox`` is ours: a broker refuses an issuer that says it, unless its configuration
    expects a sandbox.
    """
    algs = [str(alg) for alg in SigningAlg]
    return {
        "issuer": addresses.issuer,
        "token_broker_sandbox": True,
        "token_endpoint": f"{addresses.issuer}/token",
        "jwks_uri": f"{addresses.issuer}/jwks",
        "mtls_endpoint_aliases": {"token_endpoint": f"{addresses.mtls}/token"},
        "tls_client_certificate_bound_access_tokens": True,
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": algs,
        "grant_types_supported": ["client_credentials"],
        "response_types_supported": [],
        "scopes_supported": list(SCOPES),
    }
