"""
What an operator can do about a disagreement that ``check --online`` found: words, and no decisions.

What a server says is shown only as far as it consists of words that we know: its metadata is a peer's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus

from broker.errors import BrokerError, RemoteError
from broker.oauth.client import Client, ClientAuthMethod, Issuer, Profile, ResponseMode
from broker.oauth.dpop import PROOF_ALGS
from broker.oauth.metadata import AuthorizationServer
from broker.oauth.reasons import Reason
from broker.transport.metadata import NOT_THERE

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


def _of_keys(_server: AuthorizationServer, client: Client, _issuer: Issuer) -> str:
    return f"have the server's operator publish them, or remove openid from the tokens of [client.{client.name}]"


def _of_userinfo(_server: AuthorizationServer, _client: Client, _issuer: Issuer) -> str:
    return "remove userinfo from the token"


def _of_answer_algs(offered: tuple[str, ...] | None, key: str) -> str:
    known = [alg for alg in SIGNING_ALGS if alg in (offered or ())]
    words = ", ".join(f'"{word}"' for word in known)
    return f"the server has {words or 'none that is safe'}: have one registered for the client, and write it as {key}"


def _of_id_token_algs(server: AuthorizationServer, _client: Client, _issuer: Issuer) -> str:
    return _of_answer_algs(server.id_token_signing_alg_values_supported, "id_token_signed_response_alg")


def _of_jarm_algs(server: AuthorizationServer, _client: Client, _issuer: Issuer) -> str:
    return _of_answer_algs(server.authorization_signing_alg_values_supported, "authorization_signed_response_alg")


def _of_proof_algs(server: AuthorizationServer, _client: Client, _issuer: Issuer) -> str:
    offered = server.dpop_signing_alg_values_supported
    if offered is None:
        return "if it does not, its tokens come unbound and are refused"
    known = [alg for alg in SIGNING_ALGS if alg in PROOF_ALGS and alg in offered]
    return _choice("the server takes", known, "name a key with such an alg in dpop_key")


def _of_operator(_server: AuthorizationServer, _client: Client, _issuer: Issuer) -> str:
    return "the server's operator has to change that"


def _of_par(server: AuthorizationServer, _client: Client, issuer: Issuer) -> str:
    if issuer.profile is Profile.FAPI2 or server.require_pushed_authorization_requests:
        return "have the server's operator turn pushed authorization requests on (RFC 9126)"
    return ""


def _of_modes(server: AuthorizationServer, _client: Client, _issuer: Issuer) -> str:
    offered = server.response_modes_supported or ()
    words = ", ".join(f'"{mode.value}"' for mode in ResponseMode if mode.value in offered)
    return (
        f"the server has {words}: set response_mode to one of them" if words else _of_operator(server, _client, _issuer)
    )


def _of_sharing(_server: AuthorizationServer, client: Client, _issuer: Issuer) -> str:
    return f'give [client.{client.name}] a redirect URI of its own, or response_mode = "jwt"'


_REMEDIES: Mapping[str, Remedy] = {
    "token_endpoint_auth_methods_supported": _of_methods,
    "token_endpoint_auth_signing_alg_values_supported": _of_algs,
    "grant_types_supported": _of_grants,
    "tls_client_certificate_bound_access_tokens": _of_binding,
    "mtls_endpoint_aliases": _of_aliases,
    "jwks_uri": _of_keys,
    "userinfo_endpoint": _of_userinfo,
    "id_token_signing_alg_values_supported": _of_id_token_algs,
    "authorization_signing_alg_values_supported": _of_jarm_algs,
    "dpop_signing_alg_values_supported": _of_proof_algs,
    "authorization_endpoint": _of_operator,
    "code_challenge_methods_supported": _of_operator,
    "pushed_authorization_request_endpoint": _of_par,
    "response_modes_supported": _of_modes,
    "authorization_response_iss_parameter_supported": _of_sharing,
}
"""By the member of the metadata that a sentence begins with."""
