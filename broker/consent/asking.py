"""
What a caller may choose of an authorization: less than ``[token.NAME]`` says, and nothing beside it (rules.md R4).

The configuration is the ceiling. A caller picks scopes and details out of it, fills the placeholders that it
declares, names a registered redirect URI, and gives hints that decide nothing. Pure functions of values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any
from urllib.parse import SplitResult, urlsplit

from broker.errors import BrokerError
from broker.oauth.authorization_request import Asked
from broker.oauth.client import Client
from broker.tokens.spec import Consent, TokenSpec

PLACEHOLDER = re.compile(r"\{[a-z][a-z0-9_]*\}")
"""A string value of ``authorization_details`` in the configuration that the caller fills."""

MAX_FILLING = 256
MAX_HINT = 256
MAX_LABEL = 128
"""Characters."""

OPENID = "openid"
"""Never left out: without it nobody could say whose consent it is (OpenID Connect Core section 3.1.2.1)."""

_PRINTABLE = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]*")


class AskError(BrokerError):
    """The caller asks for what it may not choose; *code* says which member of its request, *hint* what it may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """
    What a caller asks for: consent to *token*, in the name of the workload *owner*.

    *renews* is a grant of the token; None elsewhere means: as the configuration says.
    """

    token: str
    owner: str
    renews: str | None = None
    redirect_uri: str | None = None
    scope: tuple[str, ...] | None = None
    authorization_details: Sequence[Any] | None = None
    login_hint: str | None = field(default=None, repr=False)
    label: str | None = field(default=None, repr=False)


def narrowed(spec: TokenSpec, consent: Consent, ask: Ask) -> Asked:
    """Give what the person is asked. Raises AskError."""
    _check_text("login_hint", ask.login_hint, MAX_HINT)
    _check_text("label", ask.label, MAX_LABEL)
    return Asked(
        scope=_scope(spec, ask.scope),
        resource=spec.resource,
        audience=spec.audience,
        authorization_details=_details(consent, ask.authorization_details),
        claims=None if consent.claims is None else json.loads(consent.claims),
        acr_values=consent.acr_values,
        prompt=consent.prompt,
        login_hint=ask.login_hint,
        max_age=consent.max_age,
        parameters=spec.parameters,
    )


def redirect_uri_of(client: Client, given: str | None) -> str:
    """Give a redirect URI of the client's list; one on a loopback address may have any port. Raises AskError."""
    registered = client.redirect_uris
    if given is None and len(registered) == 1:
        return registered[0]
    if given is not None and any(given == uri or _is_loopback_twin(uri, given) for uri in registered):
        return given
    raise AskError("redirect_uri", "the redirect_uri is not one of the client's", hint=_choices(registered))


def _choices(registered: Sequence[str]) -> str:
    return f"one of: {', '.join(registered)}" if registered else "the client has no redirect_uris"


def _is_loopback_twin(registered: str, given: str) -> bool:
    """Say whether the two differ in nothing but the port, on a loopback address (RFC 8252 section 7.3)."""
    ours, theirs = _split(registered), _split(given)
    if ours is None or theirs is None or not is_loopback(ours) or "@" in theirs.netloc or theirs.port == 0:
        return False
    return ours.hostname == theirs.hostname and ours._replace(netloc="") == theirs._replace(netloc="")


def is_loopback(uri: SplitResult) -> bool:
    """Say whether *uri* is plain http on a loopback address, written as an address."""
    try:
        return uri.scheme == "http" and ip_address(uri.hostname or "").is_loopback
    except ValueError:
        return False


def _split(uri: str) -> SplitResult | None:
    """Split *uri*, or give None where that is not a URI that two readers would split alike."""
    try:
        parts = urlsplit(uri)
        _ = parts.port  # raises for what is no port
    except ValueError:
        return None
    return parts if uri.isascii() and uri.isprintable() and " " not in uri and "\\" not in uri else None


def _scope(spec: TokenSpec, given: tuple[str, ...] | None) -> tuple[str, ...]:
    if given is None:
        return spec.scope
    if not given or not set(given) <= set(spec.scope):
        raise AskError("scope", "the scope is not a part of the token's", hint=f"some of: {' '.join(spec.scope)}")
    return tuple(scope for scope in spec.scope if scope in given or scope == OPENID)


def _details(consent: Consent, given: Sequence[Any] | None) -> tuple[Mapping[str, Any], ...]:
    configured: list[Any] = [] if consent.authorization_details is None else json.loads(consent.authorization_details)
    wanted: Sequence[Any] = configured if given is None else given
    if given is not None and not given:
        raise _details_refused("at least one of those that [token.NAME] has")
    left = list(configured)
    for detail in wanted:
        template = next((one for one in left if _fits(one, detail, {})), None)
        if template is None:
            raise _details_refused("each of those that [token.NAME] has at most once, its placeholders filled")
        left.remove(template)
    return tuple(dict(detail) for detail in wanted)


def _details_refused(hint: str) -> AskError:
    return AskError("authorization_details", "the authorization_details are not a part of the token's", hint=hint)


def _fits(template: Any, given: Any, filled: dict[str, str]) -> bool:
    """Say whether *given* is *template* with its placeholders filled, each the same wherever it stands."""
    if isinstance(template, str) and PLACEHOLDER.fullmatch(template):
        return (
            isinstance(given, str)
            and 0 < len(given) <= MAX_FILLING
            and _PRINTABLE.fullmatch(given) is not None
            and not PLACEHOLDER.fullmatch(given)
            and filled.setdefault(template, given) == given
        )
    if type(template) is not type(given):
        return False  # to Python True is 1, and 1 is 1.0
    if isinstance(template, dict):
        return template.keys() == given.keys() and all(_fits(template[name], given[name], filled) for name in template)
    if isinstance(template, list):
        return len(template) == len(given) and all(
            _fits(one, other, filled) for one, other in zip(template, given, strict=True)
        )
    return bool(template == given)


def _check_text(name: str, value: str | None, longest: int) -> None:
    if value is not None and (not value or len(value) > longest or not _PRINTABLE.fullmatch(value)):
        raise AskError(name, f"the {name} is empty, too long or not printable", hint=f"at most {longest} characters")
