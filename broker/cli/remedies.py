"""
What an operator can do about a disagreement that ``check --online`` found: words, and no decisions.

What a server says is shown only as far as it consists of words that we know: its metadata is a peer's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus

from broker.errors import BrokerError, RemoteError
from broker.oauth.client import Client, ClientAuthMethod, Issuer, Profile
from broker.oauth.metadata import AuthorizationServer
from broker.oauth.reasons import Reason

SIGNING_ALGS = ("PS256", "ES256", "EdDSA", "RS256")
"""What ``alg`` of ``[key.NAME]`` can be, best first."""

STRICT = frozenset({Profile.FAPI2, Profile.FAPI1_ADVANCED})
"""Profiles that admit neither RS256 nor secrets nor bearer tokens."""

OF_THE_DOCUMENT: Mapping[str, str] = {
    Reason.ENDPOINT_REFUSED: "the server's operator has to correct its metadata",
    Reason.ADDRESS_REFUSED: "the server's operator has to correct its metadata, unless somebody else answers there",
    Reason.METADATA_INSUFFICIENT: "ask the server's operator whether this is the issuer that gives out tokens",
    Reason.MALFORMED: "fetch it by hand from this host: it may be cut off on its way",
    Reason.INVALID_RESPONSE: "the server's operator has to correct its metadata",
    Reason.SERVER_FAILED: "the server is in trouble: ask again later, then its operator",
    Reason.RATE_LIMITED: "ask again later",
    Reason.UNEXPECTED_STATUS: "fetch it by hand from this host and see what answers",
}
"""By reason, where the error itself has no hint."""

NOT_THERE = "see that issuer is right to the letter, and discovery: nothing is there"

Remedy = Callable[[AuthorizationServer, Client, Issuer], str]


def of_error(error: BrokerError, asked: Iterable[str]) -> str:
    """Say why there is no metadata, what to do, and what was *asked* for: URLs that the configuration leads to."""
    status = error.status if isinstance(error, RemoteError) else None
    answered = "" if status in {None, HTTPStatus.OK} else f" (status {status})"
    advice = error.hint or (NOT_THERE if status == HTTPStatus.NOT_FOUND else OF_THE_DOCUMENT.get(error.code))
    urls = " and ".join(dict.fromkeys(asked))
    parts = (f"{error.message}{answered} [{error.code}]", advice, urls and f"asked for was {urls}")
    return "; ".join(part for part in parts if part)


def of_disagreement(text: str, server: AuthorizationServer, client: Client, issuer: Issuer) -> str:
    """Add to *text*, one of ``capabilities.disagreements`` or ``remarks``, what can be done about it."""
    remedy = _REMEDIES.get(text.partition(" ")[0])
    advice = remedy(server, client, issuer) if remedy is not None else ""
    return f"{text}; {advice}" if advice else text


def _of_methods(server: AuthorizationServer, _client: Client, issuer: Issuer) -> str:
    offered = server.token_endpoint_auth_methods_supported
    if offered is None:
        return "ask the server's operator which methods it takes"
    known = [method.value for method in ClientAuthMethod if method.value in offered and _admitted(method, issuer)]
    return _choice(
        "the server offers", known, "set client_auth_method to one of them and have the client registered so"
    )


def _admitted(method: ClientAuthMethod, issuer: Issuer) -> bool:
    shared = {ClientAuthMethod.CLIENT_SECRET_BASIC, ClientAuthMethod.CLIENT_SECRET_POST, ClientAuthMethod.NONE}
    return issuer.profile not in STRICT or method not in shared


def _of_algs(server: AuthorizationServer, _client: Client, issuer: Issuer) -> str:
    offered = server.token_endpoint_auth_signing_alg_values_supported or ()
    admitted = [alg for alg in SIGNING_ALGS if alg != "RS256" or issuer.profile not in STRICT]
    if issuer.profile is Profile.FAPI1_ADVANCED:
        admitted.remove("EdDSA")
    known = [alg for alg in admitted if alg in offered]
    return _choice("the server takes", known, "register a key with such an alg, and name it in signing_keys")


def _choice(lead: str, known: Iterable[str], do: str) -> str:
    """Name what can be chosen, or say that there is nothing."""
    words = ", ".join(f'"{word}"' for word in known)
    if not words:
        return f"{lead} none that the profile admits: its operator has to change that"
    return f"{lead} {words}: {do}, or have its operator allow ours"


def _of_grants(_server: AuthorizationServer, _client: Client, _issuer: Issuer) -> str:
    return "have the server's operator enable it, or remove the token"


def _of_binding(server: AuthorizationServer, _client: Client, issuer: Issuer) -> str:
    if server.tls_client_certificate_bound_access_tokens is None:
        return ""
    bearer = (
        "" if issuer.profile in STRICT else '; sender_constraint = "none" takes bearer tokens, for whoever finds one'
    )
    return f"have the server's operator turn on certificate-bound tokens (RFC 8705) for this client{bearer}"


def _of_aliases(_server: AuthorizationServer, _client: Client, _issuer: Issuer) -> str:
    return (
        "if the server does not ask for one there, tokens come unbound and are refused: ask for its mutual TLS endpoint"
    )


_REMEDIES: Mapping[str, Remedy] = {
    "token_endpoint_auth_methods_supported": _of_methods,
    "token_endpoint_auth_signing_alg_values_supported": _of_algs,
    "grant_types_supported": _of_grants,
    "tls_client_certificate_bound_access_tokens": _of_binding,
    "mtls_endpoint_aliases": _of_aliases,
}
"""By the member of the metadata that a sentence begins with."""
