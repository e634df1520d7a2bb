"""What a configuration names in files: loaded and checked, before anything is built of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from broker.config.settings import (
    CertificateSettings,
    KeySettings,
    Settings,
)
from broker.errors import LocalError
from broker.keys.client_secrets import load_client_secret
from broker.keys.files import read_private
from broker.keys.identity import TransportCertificate, load_transport_certificate
from broker.keys.proof_key import ProofKey, load_proof_key
from broker.keys.proxy_credentials import load_proxy_credentials
from broker.keys.purposes import shared_keys
from broker.keys.sealing import SealingKey, load_sealing_key
from broker.keys.signer import SigningKey, load_signing_key
from broker.keys.tls import client_context
from broker.oauth.secret import BasicCredentials, ClientSecret
from broker.telemetry.audit import checked_key
from broker.wiring.watched import contents_of

FIRST_GENERATION = 1
"""Certificates and keys count their generations up from here while the process lives."""

AUDIT = "audit"
STORE = "store"
"""They stand where others have a name: there is one audit log and one store."""

Wanted = TypeVar("Wanted")
Loaded = TypeVar("Loaded")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identities:
    """
    Certificates and signing keys by their names, client secrets by their client's, loaded and checked.

    *proof_keys* are those ``[key.NAME]`` that tokens are bound to by DPoP, which are not among *keys*: each key has
    one purpose. *proxies*: what the proxies of issuers want to know of us, by the issuer's name; *upstream_proxies*:
    those of APIs. *published* are public keys beside those of *keys*, as JWKs by the name of the key: one that does
    not sign yet, and ones that did lately. *contents* are digests of what the files of each section held
    (``watched``), to see a change by.
    """

    certificates: Mapping[str, TransportCertificate]
    keys: Mapping[str, SigningKey]
    proof_keys: Mapping[str, ProofKey] = field(default_factory=dict)
    secrets: Mapping[str, ClientSecret] = field(default_factory=dict)
    audit_key: bytes | None = field(default=None, repr=False)
    proxies: Mapping[str, BasicCredentials] = field(default_factory=dict)
    upstream_proxies: Mapping[str, BasicCredentials] = field(default_factory=dict)
    store_key: SealingKey | None = None
    published: Mapping[str, tuple[Mapping[str, Any], ...]] = field(default_factory=dict)
    contents: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)


def load_identities(
    settings: Settings, *, wall_now: float, on_error: Callable[[LocalError], None] | None = None
) -> Identities:
    """
    Load every certificate, key and client secret, and try the CA files; takes tens of milliseconds each.

    Raises LocalError for the first that is wrong. With *on_error* every error goes there instead, and what
    cannot be loaded is missing from the result.
    """
    contents = contents_of(settings)  # before they are loaded: what changes meanwhile is seen as a change later
    _each(settings.issuers, lambda issuer: client_context(issuer.ca_file), on_error)
    _each(settings.upstreams, lambda upstream: client_context(upstream.ca_file), on_error)
    certificates = _each(settings.certificates, partial(load_certificate, wall_now=wall_now), on_error)
    keys = _each(signing_keys(settings), partial(load_key, wall_now=wall_now), on_error)
    proving = _each(proof_keys(settings), load_proof, on_error)
    for shared in shared_keys(certificates, keys, proving):
        if on_error is None:
            raise shared.error
        on_error(shared.error)
    return Identities(
        certificates=certificates,
        keys=keys,
        proof_keys=proving,
        secrets=_each(secret_files(settings), load_client_secret, on_error),
        proxies=_each(proxy_files(settings), load_proxy_credentials, on_error),
        upstream_proxies=_each(upstream_proxy_files(settings), load_proxy_credentials, on_error),
        audit_key=_each(_audit_key_file(settings), _audit_key, on_error).get(AUDIT),
        store_key=_each(_store_key_file(settings), load_sealing_key, on_error).get(STORE),
        contents=contents,
    )


def secret_files(settings: Settings) -> dict[str, Path]:
    """Give the files of client secrets, by the names of the clients."""
    return {name: wanted.secret_file for name, wanted in settings.clients.items() if wanted.secret_file is not None}


def proxy_files(settings: Settings) -> dict[str, Path]:
    """Give the files of what proxies want to know, by the names of the issuers."""
    files = {name: issuer.proxy_credentials_file for name, issuer in settings.issuers.items()}
    return {name: file for name, file in files.items() if file is not None}


def upstream_proxy_files(settings: Settings) -> dict[str, Path]:
    """Give the files with what the proxies on the way to APIs want to know, by the name of the API."""
    files = {name: upstream.proxy_credentials_file for name, upstream in settings.upstreams.items()}
    return {name: file for name, file in files.items() if file is not None}


def _audit_key_file(settings: Settings) -> dict[str, Path]:
    wanted = settings.audit
    return {} if wanted is None or wanted.key_file is None else {AUDIT: wanted.key_file}


def _store_key_file(settings: Settings) -> dict[str, Path]:
    return {} if settings.store is None else {STORE: settings.store.key_file}


def _audit_key(file: Path) -> bytes:
    return checked_key(read_private(file), str(file))


def _each(
    wanted: Mapping[str, Wanted], load: Callable[[Wanted], Loaded], on_error: Callable[[LocalError], None] | None
) -> dict[str, Loaded]:
    loaded = {}
    for name, one in wanted.items():
        try:
            loaded[name] = load(one)
        except LocalError as error:
            if on_error is None:
                raise
            on_error(error)
    return loaded


def load_certificate(wanted: CertificateSettings, *, wall_now: float) -> TransportCertificate:
    """Load a transport certificate, as the first generation. Blocks. Raises LocalError."""
    return load_transport_certificate(
        name=wanted.name,
        cert_file=wanted.cert_file,
        key_file=wanted.key_file,
        passphrase_file=wanted.passphrase_file,
        generation=FIRST_GENERATION,
        wall_now=wall_now,
    )


def signing_keys(settings: Settings) -> dict[str, KeySettings]:
    """Give the keys that sign assertions and requests, by their names."""
    proving = proof_keys(settings)
    return {name: key for name, key in settings.keys.items() if name not in proving}


def proof_keys(settings: Settings) -> dict[str, KeySettings]:
    """Give the keys that tokens are bound to by DPoP, by their names."""
    wanted = {client.dpop_key for client in settings.clients.values()}
    return {name: key for name, key in settings.keys.items() if name in wanted}


def load_proof(wanted: KeySettings) -> ProofKey:
    """Load a DPoP key. Blocks. Raises LocalError."""
    return load_proof_key(name=wanted.name, file=wanted.file, alg=wanted.alg, passphrase_file=wanted.passphrase_file)


def load_key(wanted: KeySettings, *, wall_now: float) -> SigningKey:
    """Load a signing key; *wall_now* has to be within the dates of its certificate. Blocks. Raises LocalError."""
    return load_signing_key(
        name=wanted.name,
        file=wanted.file,
        alg=wanted.alg,
        kid=wanted.kid,
        passphrase_file=wanted.passphrase_file,
        cert_file=wanted.cert_file,
        wall_now=wall_now,
    )
