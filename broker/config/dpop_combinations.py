"""
What binding tokens to a key by DPoP (RFC 9449) needs, and what of it goes with nothing else in the configuration.

A key has one purpose (SEC-07): what signs proofs signs nothing else, and belongs to one client.
"""

from __future__ import annotations

from broker.config.names import place
from broker.config.problems import Findings
from broker.config.schema import ClientSection
from broker.config.structure import Document
from broker.oauth.client import ClientAuthMethod, Profile, SenderConstraint
from broker.oauth.dpop import PROOF_ALGS

_WHERE = 'write sender_constraint = "dpop", or remove it'


def check_dpop(document: Document, findings: Findings) -> None:
    """Report what does not go together about DPoP."""
    for name, client in document.clients.items():
        if client.sender_constraint is SenderConstraint.DPOP:
            _check_profile(name, client, document, findings)
        if client.dpop_key is not None:
            _check_key(name, client, client.dpop_key, document, findings)
    _check_purposes(document, findings)
    _check_resources(document, findings)


def _check_profile(name: str, client: ClientSection, document: Document, findings: Findings) -> None:
    issuer = document.issuers.get(client.issuer)
    if issuer is not None and issuer.profile is Profile.FAPI1_ADVANCED:
        findings.add(
            place("client", name, "sender_constraint"),
            f'"dpop" is refused by profile = "{issuer.profile}" of issuer "{client.issuer}"',
            'write sender_constraint = "certificate": FAPI 1.0 part 2 section 5.2.2 knows nothing else',
        )


def _check_key(name: str, client: ClientSection, key_name: str, document: Document, findings: Findings) -> None:
    at, key = place("client", name, "dpop_key"), document.keys.get(key_name)
    if client.sender_constraint is not SenderConstraint.DPOP:
        findings.add(at, f"has no effect: tokens are bound to {client.sender_constraint}", _WHERE)
    elif client.client_auth_method is ClientAuthMethod.NONE:
        # RFC 9449 section 5: its refresh tokens are bound to the key, and another key would end every grant.
        message = "is not for a public client: its refresh tokens are bound to the key, which must not be replaced"
        findings.add(at, message, "remove it: the broker makes a key, and keeps it in the store")
    elif key is not None and key.alg not in PROOF_ALGS:
        message = f'key "{key_name}" has alg {key.alg}, which no proof is signed with'
        findings.add(at, message, f"use a key for one of {', '.join(sorted(PROOF_ALGS))}")


def _check_purposes(document: Document, findings: Findings) -> None:
    signing = {key for client in document.clients.values() for key in client.signing_keys}
    owners: dict[str, str] = {}
    for name, client in document.clients.items():
        if client.dpop_key is None:
            continue
        at = place("client", name, "dpop_key")
        if client.dpop_key in signing:
            message = "names a key of signing_keys: what signs proofs must sign nothing else"
            findings.add(at, message, "use another key, or remove it: the broker makes one")
        if client.dpop_key in owners:
            message = f'names the key of client "{owners[client.dpop_key]}": each client has its own'
            findings.add(at, message, "use another key, or remove it: the broker makes one")
        owners.setdefault(client.dpop_key, name)


def _check_resources(document: Document, findings: Findings) -> None:
    for name, token in document.tokens.items():
        client = document.clients.get(token.client)
        if token.dpop_resources and client is not None and client.sender_constraint is not SenderConstraint.DPOP:
            message = f'has no effect: tokens of client "{token.client}" are not bound by DPoP'
            hint = f'remove it, or write sender_constraint = "dpop" in [client.{token.client}]'
            findings.add(place("token", name, "dpop_resources"), message, hint)
