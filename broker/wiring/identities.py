"""What a configuration names in files: loaded and checked, before anything is built of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

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
from broker.keys.sealing import SealingKey, load_sealing_key
from broker.keys.signer import SigningKey, load_signing_key
from broker.keys.tls import client_context
from broker.oauth.secret import BasicCredentials, ClientSecret
from broker.telemetry.audit import checked_key

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
    one purpose. *proxies*: what the proxies of issuers want to know of us, by the issuer's name.
    """

    certificates: Mapping[str, TransportCertificate]
    keys: Mapping[str, SigningKey]
    proof_keys: Mapping[str, ProofKey] = field(default_factory=dict)
    secrets: Mapping[str, ClientSecret] = field(default_factory=dict)
    audit_key: bytes | None = field(default=None, repr=False)
    proxies: Mapping[str, BasicCredentials] = field(default_factory=dict)
    store_key: SealingKey | None = None


def load_identities(
    settings: Settings, *, wall_now: float, on_error: Callable[[LocalError], None] | None = None
) -> Identities:
    """
    Load every certificate, key and client secret, and try the CA files; takes tens of milliseconds each.

    Raises LocalError for the first that is wrong. With *on_error* every error goes there instead, and what
    is wrong is missing from the result.
    """
    proving = {client.dpop_key for client in settings.clients.values()}
    _each(settings.issuers, lambda issuer: client_context(issuer.ca_file), on_error)
    return Identities(
        certificates=_each(settings.certificates, partial(_certificate, wall_now=wall_now), on_error),
        keys=_each(_picked(settings.keys, lambda name: name not in proving), _signing_key, on_error),
        proof_keys=_each(_picked(settings.keys, lambda name: name in proving), _proof_key, on_error),
        secrets=_each(_secret_files(settings), load_client_secret, on_error),
        proxies=_each(_proxy_files(settings), load_proxy_credentials, on_error),
        audit_key=_each(_audit_key_file(settings), _audit_key, on_error).get(AUDIT),
        store_key=_each(_store_key_file(settings), load_sealing_key, on_error).get(STORE),
    )


def _secret_files(settings: Settings) -> dict[str, Path]:
    return {name: wanted.secret_file for name, wanted in settings.clients.items() if wanted.secret_file is not None}


def _proxy_files(settings: Settings) -> dict[str, Path]:
    files = {name: issuer.proxy_credentials_file for name, issuer in settings.issuers.items()}
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


def _certificate(wanted: CertificateSettings, *, wall_now: float) -> TransportCertificate:
    return load_transport_certificate(
        name=wanted.name,
        cert_file=wanted.cert_file,
        key_file=wanted.key_file,
        passphrase_file=wanted.passphrase_file,
        generation=FIRST_GENERATION,
        wall_now=wall_now,
    )


def _picked(keys: Mapping[str, KeySettings], is_wanted: Callable[[str], bool]) -> dict[str, KeySettings]:
    return {name: key for name, key in keys.items() if is_wanted(name)}


def _proof_key(wanted: KeySettings) -> ProofKey:
    return load_proof_key(name=wanted.name, file=wanted.file, alg=wanted.alg, passphrase_file=wanted.passphrase_file)


def _signing_key(wanted: KeySettings) -> SigningKey:
    return load_signing_key(
        name=wanted.name,
        file=wanted.file,
        alg=wanted.alg,
        kid=wanted.kid,
        passphrase_file=wanted.passphrase_file,
    )
