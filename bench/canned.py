"""
A token server by nginx, for when even a small one in Python would take the load's processor time.

It checks nothing. Each answer has another token, bound to the one certificate that the client in the directory has, and
if that is wanted another refresh token.
"""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
from collections.abc import Sequence
from pathlib import Path

from bench.nginx import HEAD, Nginx

SERVER = """
  server {{
    {listen}
    ssl_certificate {home}/../server.pem;
    ssl_certificate_key {home}/../server.key;
    ssl_client_certificate {home}/../ca.pem;
    ssl_verify_client optional;
    ssl_protocols TLSv1.3;
    keepalive_timeout 600;
    default_type application/json;
    location /.well-known/ {{ return 200 '{metadata}'; }}
    location = /jwks {{ return 200 '{{"keys":[]}}'; }}
    location = /token {{ add_header Cache-Control no-store; return 200 '{answer}'; }}
  }}
  server {{ listen unix:{home}/up.sock; }}
}}
"""


def start_server(
    directory: Path, ports: Sequence[int], *, lifetime: int, refresh_tokens: bool = False, core: int | None
) -> Nginx:
    """Start what answers each request with a new token for the client in *directory*, and wait until it does."""
    home = directory / "server"
    home.mkdir(mode=0o700)
    issuer = "https://localhost:$server_port"
    metadata = {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/authorize",
        "pushed_authorization_request_endpoint": f"{issuer}/par",
        "token_endpoint": f"{issuer}/token",
        "jwks_uri": f"{issuer}/jwks",
        "tls_client_certificate_bound_access_tokens": True,
        "authorization_response_iss_parameter_supported": True,
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": ["ES256"],
        "grant_types_supported": ["authorization_code", "client_credentials", "refresh_token"],
        "response_types_supported": ["code"],
    }
    der = ssl.PEM_cert_to_DER_cert((directory / "client.pem").read_text())
    thumbprint = encoded(hashlib.sha256(der).digest())
    token = ".".join((encoded(b'{"alg":"ES256"}'), encoded(f'{{"cnf":{{"x5t#S256":"{thumbprint}"}}}}'.encode())))
    answer = {
        "access_token": f"{token}.{'s' * 700}$request_id",
        "token_type": "Bearer",
        "expires_in": lifetime,
        **({"refresh_token": "rt-$request_id"} if refresh_tokens else {}),
    }
    listen = " ".join(f"listen 127.0.0.1:{port} ssl;" for port in ports)
    text = (HEAD + SERVER).format(home=home, listen=listen, metadata=json.dumps(metadata), answer=json.dumps(answer))
    server = Nginx.start(home, text, core=core)
    server.wait_for(home / "up.sock")
    return server


def encoded(value: bytes) -> str:
    """Write base64url without padding."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
