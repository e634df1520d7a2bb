"""The clients that every sandbox knows: they have the same rights, and prove in different ways who they are."""

from __future__ import annotations

from dataclasses import replace

from broker.sandbox.clients import RegisteredClient, SenderConstraint
from broker.sandbox.jose import read_public
from broker.sandbox.layout import Material
from broker.sandbox.metadata import PERSON_SCOPES, SCOPES, Addresses

CLIENT_ID = "sandbox-demo"
"""Its tokens are bound to its certificate."""

DPOP_CLIENT_ID = "sandbox-dpop"
"""Its tokens are bound to the key of its proofs; it signs assertions with the same keys as the first."""

PUBLIC_CLIENT_ID = "sandbox-public"
"""It cannot prove who it is; its tokens, refresh tokens too, are bound to the key of its proofs."""

FOREIGN_RESOURCE = "https://api.sandbox.example/"
"""A second resource that the clients may have tokens for, and that our resource API does not answer to."""

REDIRECT_URIS = ("http://127.0.0.1/callback", "http://[::1]/callback", "https://app.sandbox.example/callback")
"""Where people come back to: the loopback addresses with any port."""


def demo_clients(material: Material, addresses: Addresses) -> dict[str, RegisteredClient]:
    """Give the clients by their ids."""
    demo = RegisteredClient(
        client_id=CLIENT_ID,
        keys=tuple(read_public(key.public_jwk()) for key in material.signing_keys.values()),
        scope=SCOPES,
        resources=(addresses.resource, FOREIGN_RESOURCE),
        person_scope=PERSON_SCOPES,
        redirect_uris=REDIRECT_URIS,
    )
    dpop = replace(demo, client_id=DPOP_CLIENT_ID, sender_constraint=SenderConstraint.DPOP)
    public = replace(dpop, client_id=PUBLIC_CLIENT_ID, keys=(), public=True)
    return {client.client_id: client for client in (demo, dpop, public)}
