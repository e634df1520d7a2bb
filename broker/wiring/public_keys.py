"""What can be registered of each client: the keys that it signs with, or the certificate that is its credential."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.api.world import PublicKeys
from broker.config.settings import ClientSettings, Settings
from broker.oauth.client import ClientAuthMethod
from broker.wiring.identities import Identities


def public_keys(settings: Settings, identities: Identities) -> dict[str, PublicKeys]:
    """
    Give the public keys of every client, by its name; none where nothing of the kind is registered.

    A certificate is among them where the server compares it with what is registered (RFC 8705 section 2.2),
    not where it looks at the subject only (section 2.1).
    """
    return {
        name: PublicKeys(
            keys=tuple(_keys(client, identities)),
            tokens=frozenset(spec.name for spec in settings.tokens if spec.client == name),
        )
        for name, client in settings.clients.items()
    }


def _keys(wanted: ClientSettings, identities: Identities) -> list[Mapping[str, Any]]:
    keys: list[Mapping[str, Any]] = []
    for key_name in wanted.signing_keys:
        keys.append(identities.keys[key_name].public_jwk())
        keys.extend(identities.published.get(key_name, ()))
    is_compared = wanted.client.client_auth_method is ClientAuthMethod.SELF_SIGNED_TLS_CLIENT_AUTH
    if is_compared and wanted.certificate is not None:
        keys.append(identities.certificates[wanted.certificate].public_jwk())
    return keys
