"""
From a document to settings: paths become absolute, users and groups numbers, sections values of the components.

What only the host can say is found out here (is there such a user, is there a credentials directory). No
file that the configuration names is opened: ``check --syntax`` works where none of them exists.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from sys import intern
from typing import Any

from broker.config.accounts import Accounts
from broker.config.dialect_section import dialect_of
from broker.config.names import missing, place
from broker.config.problems import Findings
from broker.config.schema import (
    AuditSection,
    CertificateSection,
    ClientSection,
    DaemonSection,
    GrantType,
    IssuerSection,
    KeySection,
    ListenerSection,
    OpsSection,
    SecretReference,
    SigningAlg,
    SinkSection,
    StoreSection,
    TokenSection,
    UpstreamSection,
    WorkloadSection,
)
from broker.config.settings import (
    AuditSettings,
    CertificateSettings,
    ClientSettings,
    DaemonSettings,
    IssuerSettings,
    KeySettings,
    ListenerSettings,
    OpsSettings,
    StoreSettings,
    TcpListenerSettings,
    UpstreamSettings,
)
from broker.config.structure import Document
from broker.config.values import redirect_place, split_base_url, split_listen, split_loopback
from broker.oauth.client import FAPI, AssertionAudience, Client, Issuer, Profile, RefreshRotation, SenderConstraint
from broker.oauth.dialect import Dialect
from broker.oauth.dpop import MADE_ALG
from broker.policy.rules import Workload
from broker.policy.upstreams import Upstream, read_rule
from broker.sinks.spec import Hook, Sink
from broker.tokens.spec import Consent, TokenSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """
    Where a configuration is loaded: *base* is the directory of the file, *credentials_directory* that of
    systemd credentials or None; problems go to *findings*.
    """

    base: Path
    credentials_directory: Path | None
    accounts: Accounts
    findings: Findings

    def path(self, text: str) -> Path:
        """Give an absolute path; symlinks and ``..`` are left to the kernel."""
        return self.base / text

    def secret_file(self, reference: SecretReference | None, *at: str) -> Path | None:
        """Give the file that holds a secret, or None if there is no reference or no place to look."""
        if reference is None:
            return None
        if reference.file is not None:
            return self.path(reference.file)
        if self.credentials_directory is None or reference.credential is None:
            hint = 'set LoadCredential= in the systemd unit, or write { file = "..." }'
            self.findings.add(place(*at), "needs credentials, but CREDENTIALS_DIRECTORY is not set", hint)
            return None
        return self.credentials_directory / reference.credential

    def private_file(self, given: str | SecretReference, *at: str) -> Path:
        """Give the file of a private key; where there is no place to look, which is a finding, any path will do."""
        if isinstance(given, str):
            return self.path(given)
        return self.secret_file(given, *at) or self.base

    def number(self, account: int | str, resolve: Callable[[str], int | None], kind: str, *at: str | int) -> int | None:
        """Give the number of a user or group, or None, with a finding, if the host does not know it."""
        if isinstance(account, int):
            return account
        number = resolve(account)
        if number is None:
            hint = "create it before the broker starts, or write its number"
            self.findings.add(place(*at), f"{missing(kind, account)} on this host", hint)
        return number


def issuer_settings(name: str, section: IssuerSection, here: Surroundings) -> IssuerSettings:
    """Translate ``[issuer.NAME]``."""
    dialect = dialect_of(section.dialect)
    issuer = Issuer(
        name=name,
        issuer=section.issuer,
        profile=section.profile,
        discovery=section.discovery,
        endpoint_hosts=frozenset(section.endpoint_hosts),
        assertion_audience=AssertionAudience(section.assertion_audience),
        sandbox=section.sandbox,
        allow_insecure_loopback=section.allow_insecure_loopback,
        refresh_rotation=section.refresh_rotation or _rotation_of(section.profile, dialect),
        dialect=dialect,
        max_concurrent_requests=section.max_concurrent_requests,
        max_requests_per_second=section.max_requests_per_second,
    )
    return IssuerSettings(
        issuer=issuer,
        ca_file=here.path(section.ca_file) if section.ca_file else None,
        proxy=section.proxy,
        proxy_credentials_file=here.secret_file(section.proxy_credentials, "issuer", name, "proxy_credentials"),
    )


def plain_issuer(name: str, section: IssuerSection) -> Issuer:
    """Give what of an issuer says where its endpoints may be."""
    return Issuer(name=name, issuer=section.issuer, allow_insecure_loopback=section.allow_insecure_loopback)


def _rotation_of(profile: Profile, dialect: Dialect) -> RefreshRotation:
    """Give the default (rules.md R2.5): FAPI 2.0 section 5.3.2.1 has used refresh tokens work for a while."""
    if dialect.refresh_rotation is not None:
        return RefreshRotation(dialect.refresh_rotation)
    return RefreshRotation.GRACE if profile is Profile.FAPI2 else RefreshRotation.OBSERVE


def certificate_settings(name: str, section: CertificateSection, here: Surroundings) -> CertificateSettings:
    """Translate ``[certificate.NAME]``."""
    return CertificateSettings(
        name=name,
        cert_file=here.path(section.cert_file),
        key_file=here.private_file(section.key_file, "certificate", name, "key_file"),
        passphrase_file=here.secret_file(section.passphrase, "certificate", name, "passphrase"),
    )


def key_settings(name: str, section: KeySection, here: Surroundings) -> KeySettings:
    """Translate ``[key.NAME]``."""
    return KeySettings(
        name=name,
        file=here.private_file(section.file, "key", name, "file"),
        alg=section.alg.value,
        kid=section.kid,
        passphrase_file=here.secret_file(section.passphrase, "key", name, "passphrase"),
        cert_file=None if section.cert_file is None else here.path(section.cert_file),
        switch_delay=float(section.switch_delay_seconds),
    )


def client_settings(name: str, section: ClientSection, document: Document, here: Surroundings) -> ClientSettings:
    """Translate ``[client.NAME]``; the algorithm comes from its signing key."""
    signing_key = section.signing_keys[0] if section.signing_keys else None
    key = document.keys.get(signing_key) if signing_key else None
    issuer = document.issuers.get(section.issuer)
    alg = SigningAlg.PS256 if issuer is not None and issuer.profile in FAPI else SigningAlg.RS256
    client = Client(
        name=name,
        issuer=section.issuer,
        client_id=section.client_id,
        client_auth_method=section.client_auth_method,
        sender_constraint=section.sender_constraint,
        presents_certificate=section.certificate is not None,
        mtls_endpoint_aliases=None
        if section.mtls_endpoint_aliases is None
        else frozenset(section.mtls_endpoint_aliases),
        signing_alg=key.alg.value if key else None,
        dpop_alg=_dpop_alg(section, document),
        client_secret_encoding=section.client_secret_encoding,
        redirect_uris=section.redirect_uris,
        request_object=section.request_object,
        request_object_typ=section.request_object_typ or None,
        response_mode=section.response_mode,
        id_token_signed_response_alg=(section.id_token_signed_response_alg or alg).value,
        authorization_signed_response_alg=(section.authorization_signed_response_alg or alg).value,
        front_channel_params=section.front_channel_params,
        scope_on_token=section.scope_on_token,
        shares_redirect_uri=_shares_redirect_uri(section, document),
    )
    return ClientSettings(
        client=client,
        certificate=section.certificate,
        signing_keys=section.signing_keys,
        dpop_key=section.dpop_key,
        secret_file=here.secret_file(section.client_secret, "client", name, "client_secret"),
    )


def _dpop_alg(section: ClientSection, document: Document) -> str | None:
    """Give the algorithm of its proofs: that of the key it names, or of those that the broker makes."""
    if section.sender_constraint is not SenderConstraint.DPOP:
        return None
    key = None if section.dpop_key is None else document.keys.get(section.dpop_key)
    return MADE_ALG if key is None else key.alg.value


def _shares_redirect_uri(section: ClientSection, document: Document) -> bool:
    """Say whether people come back to one of its redirect URIs from another issuer, too (rules.md R5)."""
    ours = document.issuers.get(section.issuer)
    places = {redirect_place(uri) for uri in section.redirect_uris}
    return any(
        redirect_place(uri) in places
        for other in document.clients.values()
        if ours is not None and (theirs := document.issuers.get(other.issuer)) is not None
        if ours.issuer != theirs.issuer
        for uri in other.redirect_uris
    )


def token_spec(name: str, section: TokenSection) -> TokenSpec:
    """Translate ``[token.NAME]``."""
    asks = section.grant_type is GrantType.AUTHORIZATION_CODE
    return TokenSpec(
        name=name,
        client=intern(section.client),  # a file with ten thousand tokens names it ten thousand times
        grant_type=section.grant_type.value,
        scope=section.scope,
        resource=section.resource,
        audience=section.audience,
        parameters=tuple(section.parameters.items()),
        refresh=section.refresh,
        required=section.required,
        default_lifetime=float(section.default_lifetime_seconds),
        consent=_consent(section) if asks else None,
        dpop_resources=section.dpop_resources,
    )


def _consent(section: TokenSection) -> Consent:
    lifetime = section.consent_lifetime_seconds
    return Consent(
        grants=section.grants,
        authorization_details=_json(section.authorization_details) if section.authorization_details else None,
        claims=None if section.claims is None else _json(_with_nulls(section.claims)),
        acr_values=section.acr_values,
        acr_required=section.acr_required,
        prompt=tuple(word.value for word in section.prompt),
        max_age=section.max_age_seconds,
        lifetime=None if lifetime is None else float(lifetime),
        keepalive=float(section.keepalive_seconds),
        on_grant_lost=section.on_grant_lost,
        on_subject_change=section.on_subject_change,
        userinfo=section.userinfo,
    )


def _with_nulls(claims: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give the claims parameter: a claim that is merely asked for is null there, and TOML has no null."""
    return {
        place: {name: wanted or None for name, wanted in members.items()} if isinstance(members, dict) else members
        for place, members in claims.items()
    }


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def upstream_settings(name: str, section: UpstreamSection, here: Surroundings) -> UpstreamSettings:
    """Translate ``[upstream.NAME]``."""
    upstream = Upstream(
        name=name,
        base_url=split_base_url(section.base_url),
        token=section.token,
        allow=tuple(read_rule(text) for text in section.allow),
        interaction_id=section.interaction_id,
        connections=section.max_connections,
    )
    return UpstreamSettings(
        upstream=upstream,
        ca_file=here.path(section.ca_file) if section.ca_file else None,
        proxy=section.proxy,
        proxy_credentials_file=here.secret_file(section.proxy_credentials, "upstream", name, "proxy_credentials"),
        reply_seconds=float(section.reply_timeout_seconds),
        idle_seconds=float(section.idle_timeout_seconds),
    )


def listener_settings(
    name: str, section: ListenerSection, here: Surroundings
) -> ListenerSettings | TcpListenerSettings | None:
    """Translate ``[listener.NAME]``; None while it has neither path nor address with its secret."""
    gid = None
    if section.group is not None:
        gid = here.number(section.group, here.accounts.gid, "group", "listener", name, "group")
    if section.path is not None:
        mode = int(section.mode, 8)
        return ListenerSettings(name=name, path=here.path(section.path), mode=mode, gid=gid, upstream=section.upstream)
    if section.address is None or section.secret_file is None:
        return None
    host, port = split_loopback(section.address)
    secret_file = here.path(section.secret_file)
    return TcpListenerSettings(
        name=name, host=host, port=port, secret_file=secret_file, gid=gid, upstream=section.upstream
    )


def workload(name: str, section: WorkloadSection, here: Surroundings) -> Workload:
    """Translate ``[workload.NAME]``."""
    uids = [
        here.number(user, here.accounts.uid, "user", "workload", name, "uid", index)
        for index, user in enumerate(section.uid)
    ]
    gids = [
        here.number(group, here.accounts.gid, "group", "workload", name, "gid", index)
        for index, group in enumerate(section.gid)
    ]
    return Workload(
        name=name,
        listeners=frozenset(section.listener),
        uids=frozenset(uid for uid in uids if uid is not None),
        gids=frozenset(gid for gid in gids if gid is not None),
        tokens=frozenset(section.tokens),
        upstreams=frozenset(section.upstreams),
        grants=section.grants,
        may=frozenset(section.may),
    )


def sink(name: str, section: SinkSection, here: Surroundings) -> Sink:
    """Translate ``[sink.NAME]``."""
    owner, group, accounts = section.owner, section.group, here.accounts
    return Sink(
        name=name,
        token=section.token,
        path=here.path(section.path),
        mode=int(section.mode, 8),
        uid=None if owner is None else here.number(owner, accounts.uid, "user", "sink", name, "owner"),
        gid=None if group is None else here.number(group, accounts.gid, "group", "sink", name, "group"),
        format=section.format,
        hook=Hook(argv=section.hook, timeout=float(section.hook_timeout_seconds)) if section.hook else None,
    )


def ops_settings(section: OpsSection) -> OpsSettings | None:
    """Translate ``[ops]``."""
    if not section.enabled:
        return None
    host, port = split_listen(section.listen)
    return OpsSettings(host=host, port=port)


def audit_settings(section: AuditSection | None, here: Surroundings) -> AuditSettings | None:
    """Translate ``[audit]``; None also while the section has problems."""
    if section is None or not section.enabled or section.file is None:
        return None
    return AuditSettings(
        file=here.path(section.file),
        key_file=here.secret_file(section.key, "audit", "key"),
        on_failure=section.on_failure,
    )


def store_settings(section: StoreSection | None, here: Surroundings) -> StoreSettings | None:
    """Translate ``[store]``; None where nothing is stored, and while the section has problems."""
    key_file = here.secret_file(section.key, "store", "key") if section is not None else None
    if section is None or key_file is None:
        return None
    return StoreSettings(key_file=key_file, anchor=here.path(section.anchor) if section.anchor else None)


def daemon_settings(section: DaemonSection, here: Surroundings) -> DaemonSettings:
    """Translate ``[daemon]``."""
    return DaemonSettings(
        state_dir=here.path(section.state_dir) if section.state_dir else None,
        drain_seconds=section.drain_seconds,
        request_seconds=section.request_seconds,
        max_connections=section.max_connections,
        max_connections_per_uid=min(section.max_connections_per_uid, section.max_connections),
        max_waiting=section.max_waiting,
        max_waiting_per_uid=min(section.max_waiting_per_uid, section.max_waiting),
        max_requests_per_second_per_uid=section.max_requests_per_second_per_uid,
        fast_path=section.fast_path,
        hosts=frozenset(section.hosts),
        landlock=section.landlock,
    )
