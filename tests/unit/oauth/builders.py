"""Ordinary values of the protocol, for tests that change one thing about them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from broker.oauth.client import Client, ClientAuthMethod, Issuer, SenderConstraint
from broker.oauth.messages import Response

ISSUER_URL = "https://as.example"
OURS = "b3Vycy1vdXJzLW91cnMtb3Vycy1vdXJzLW91cnMtb3U"
THEIRS = "dGhlaXJzLXRoZWlycy10aGVpcnMtdGhlaXJzLXRoZWk"
NOW = 1_790_000_000.0
"""Unix seconds: Mon, 21 Sep 2026 14:13:20 GMT."""


def an_issuer(**changes: Any) -> Issuer:
    return Issuer(**{"name": "as", "issuer": ISSUER_URL, **changes})


def a_client(**changes: Any) -> Client:
    ordinary = {
        "name": "app",
        "issuer": "as",
        "client_id": "app-1",
        "client_auth_method": ClientAuthMethod.PRIVATE_KEY_JWT,
        "sender_constraint": SenderConstraint.CERTIFICATE,
        "presents_certificate": True,
        "signing_alg": "PS256",
    }
    return Client(**{**ordinary, **changes})


def an_answer(
    body: bytes | object = b"",
    *,
    status: int = 200,
    content_type: str | None = "application/json",
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Make an answer; a *body* that is not bytes becomes JSON."""
    return Response(
        status=status,
        headers={**({} if content_type is None else {"content-type": content_type}), **(headers or {})},
        body=body if isinstance(body, bytes) else json.dumps(body).encode(),
    )


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def a_jwt(claims: object, header: object = None) -> str:
    """Make a compact JWS whose signature is nobody's."""
    parts = ({"alg": "PS256", "typ": "at+jwt"} if header is None else header, claims)
    return ".".join([*(base64url(json.dumps(part).encode()) for part in parts), base64url(b"signature")])
