"""placeholder, replaced by its owner"""

from dataclasses import dataclass
from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationServer:
    issuer: str
    token_endpoint: str
    mtls_endpoint_aliases: Mapping[str, str]
