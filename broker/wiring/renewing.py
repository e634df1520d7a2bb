"""
Identities whose files changed are loaded anew, the others stay the very objects that they are.

Each is taken or refused by itself, so that one half-written pair keeps no other from being replaced; only a CA
file that cannot be used holds all of them back, because every connection is made with what it says.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from broker.config.settings import Settings
from broker.errors import LocalError
from broker.keys.client_secrets import load_client_secret
from broker.keys.identity import TransportCertificate
from broker.keys.proof_key import ProofKey
from broker.keys.proxy_credentials import load_proxy_credentials
from broker.keys.purposes import shared_keys
from broker.keys.signer import SigningKey
from broker.keys.tls import client_context
from broker.wiring.identities import (
    Identities,
    load_certificate,
    load_key,
    load_proof,
    proof_keys,
    proxy_files,
    secret_files,
    signing_keys,
    upstream_proxy_files,
)
from broker.wiring.watched import (
    CERTIFICATE,
    ISSUER,
    KEY,
    PROXY,
    SECRET,
    UPSTREAM,
    UPSTREAM_PROXY,
    contents_of,
)

Wanted = TypeVar("Wanted")
Loaded = TypeVar("Loaded")


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """
    What came of a look at the files: *identities* to be put to use.

    *items* are the sections whose files are new and good, *refused* those whose are new and cannot be used, with
    what is wrong. Without *items* nothing is to be done. *contents* are the digests that were looked at.
    """

    identities: Identities
    items: tuple[str, ...]
    refused: Mapping[str, LocalError]
    contents: Mapping[str, tuple[str, ...]]


def renewed(settings: Settings, before: Identities, *, wall_now: float) -> Renewal:
    """
    Load what changed since *before* was loaded. Blocks; never raises LocalError.

    *settings* are those in force, *wall_now* Unix seconds. The digests are taken before anything is loaded: what
    changes in between is another change.
    """
    contents = contents_of(settings)
    look = _Look(before.contents, contents)
    certificates = look.each(
        CERTIFICATE, settings.certificates, before.certificates, partial(load_certificate, wall_now=wall_now)
    )
    keys = look.each(KEY, signing_keys(settings), before.keys, partial(load_key, wall_now=wall_now))
    proving = look.each(KEY, proof_keys(settings), before.proof_keys, load_proof)
    certificates, keys, proving = _with_one_purpose(look, before, certificates, keys, proving)
    secrets = look.each(SECRET, secret_files(settings), before.secrets, load_client_secret)
    proxies = look.each(PROXY, proxy_files(settings), before.proxies, load_proxy_credentials)
    ways = upstream_proxy_files(settings)
    upstream_proxies = look.each(UPSTREAM_PROXY, ways, before.upstream_proxies, load_proxy_credentials)
    before_trust = len(look.refused)
    look.each(ISSUER, settings.issuers, dict.fromkeys(settings.issuers), lambda issuer: client_context(issuer.ca_file))
    apis = settings.upstreams
    look.each(UPSTREAM, apis, dict.fromkeys(apis), lambda upstream: client_context(upstream.ca_file))
    if len(look.refused) > before_trust:
        return Renewal(identities=before, items=(), refused=look.refused, contents=contents)
    kept = {item: before.contents.get(item, ()) for item in look.refused}
    identities = replace(
        before,
        certificates=certificates,
        keys=keys,
        proof_keys=proving,
        secrets=secrets,
        proxies=proxies,
        upstream_proxies=upstream_proxies,
        contents=contents | kept,
    )
    return Renewal(identities=identities, items=tuple(look.items), refused=look.refused, contents=contents)


def _with_one_purpose(
    look: _Look,
    before: Identities,
    certificates: dict[str, TransportCertificate],
    keys: dict[str, SigningKey],
    proving: dict[str, ProofKey],
) -> tuple[dict[str, TransportCertificate], dict[str, SigningKey], dict[str, ProofKey]]:
    """Refuse what is new and would give a key a second purpose, and what would with the older one in its place."""
    while True:
        wrong = {
            section: shared.error
            for shared in shared_keys(certificates, keys, proving)
            for section in shared.sections
            if section in look.items
        }
        if not wrong:
            return certificates, keys, proving
        look.refuse(wrong)
        certificates = _as_before(CERTIFICATE, certificates, before.certificates, wrong)
        keys = _as_before(KEY, keys, before.keys, wrong)
        proving = _as_before(KEY, proving, before.proof_keys, wrong)


def _as_before(
    kind: str, loaded: Mapping[str, Loaded], before: Mapping[str, Loaded], wrong: Collection[str]
) -> dict[str, Loaded]:
    """Give what is *loaded*, but of the sections that are *wrong* what there was *before*."""
    return {name: before[name] if f"{kind}.{name}" in wrong else one for name, one in loaded.items()}


class _Look:
    """Compares digests, and remembers what is new and what is refused."""

    def __init__(self, before: Mapping[str, tuple[str, ...]], now: Mapping[str, tuple[str, ...]]) -> None:
        self._before = before
        self._now = now
        self.items: list[str] = []
        self.refused: dict[str, LocalError] = {}

    def refuse(self, wrong: Mapping[str, LocalError]) -> None:
        """Take back that sections are good."""
        self.items = [item for item in self.items if item not in wrong]
        self.refused |= wrong

    def each(
        self,
        kind: str,
        wanted: Mapping[str, Wanted],
        loaded: Mapping[str, Loaded],
        load: Callable[[Wanted], Loaded],
    ) -> dict[str, Loaded]:
        """Give what is *loaded*, and anew by *load* where the files of a section changed and are good."""
        after = dict(loaded)
        for name, one in wanted.items():
            item = f"{kind}.{name}"
            if self._before.get(item) == self._now.get(item):
                continue
            try:
                after[name] = load(one)
            except LocalError as error:
                self.refused[item] = error
            else:
                self.items.append(item)
        return after
