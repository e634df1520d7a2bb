"""
The file as the operator writes it: one class for each kind of section, one field for each key.

Nothing here knows what a key comes to; ``translate`` makes ``settings`` of it. A key that is not a field is
refused. The text below a field says what the key means; ``docs/reference/configuration.md`` and
``config.example.toml`` say the same to operators, and tests hold the three together.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

import attrs

from broker.config.dialect_section import Base, DialectSection
from broker.config.settings import LogLevel, OnAuditFailure
from broker.config.values import (
    Account,
    AllowText,
    Argument,
    AudienceWord,
    BaseUrl,
    CredentialName,
    EndpointHost,
    FileMode,
    FormValue,
    HostHeader,
    JsonTable,
    KeyId,
    Listen,
    LoopbackAddress,
    Mode,
    ParameterName,
    PathText,
    ProxyUrl,
    RedirectUri,
    RefersTo,
    RequestObjectTyp,
    ResourceUri,
    ScopeToken,
    Visible,
    between,
)
from broker.oauth.client import (
    AliasedEndpoint,
    ClientAuthMethod,
    ClientSecretEncoding,
    Discovery,
    Parameters,
    Profile,
    RefreshRotation,
    RequestObjectUse,
    ResponseMode,
    SenderConstraint,
)
from broker.policy.rules import Action, GrantsOf
from broker.sinks.spec import Format
from broker.tokens.spec import Grants, OnGrantLost, OnSubjectChange, Refresh

MAX_LIFETIME_SECONDS = 86_400
"""A day: no access token whose lifetime has to be guessed should be trusted for longer."""

DEFAULT_LIFETIME_SECONDS = 300
"""The shortest lifetime that the servers we know hand out (``tokens.spec.DEFAULT_LIFETIME``, as a whole number)."""


class SigningAlg(StrEnum):
    """The JWS algorithms of signing keys (RFC 7518 section 3.1, RFC 8037 section 3.1)."""

    PS256 = "PS256"
    ES256 = "ES256"
    EDDSA = "EdDSA"
    RS256 = "RS256"
    """For old servers only; the FAPI profiles refuse it."""


class GrantType(StrEnum):
    """How a token is obtained (RFC 6749 section 1.3)."""

    CLIENT_CREDENTIALS = "client_credentials"
    """For the client itself (section 4.4): nobody is asked."""
    AUTHORIZATION_CODE = "authorization_code"
    """For a person who consents in a browser (section 4.1); kept fresh with a refresh token (section 6)."""


class Prompt(StrEnum):
    """What a person is asked even where the server would not (OpenID Connect Core section 3.1.2.1)."""

    LOGIN = "login"
    CONSENT = "consent"
    SELECT_ACCOUNT = "select_account"


@attrs.frozen(kw_only=True)
class SecretReference:
    """Where a secret stands; exactly one of the two. A secret itself never stands in the configuration."""

    file: PathText | None = None
    """A file that holds the secret."""
    credential: CredentialName | None = None
    """The name of a systemd credential: a file in ``$CREDENTIALS_DIRECTORY``."""


PrivateKeyFile = PathText | SecretReference
"""A path as it is, which is what most keys have, or a table that names a credential."""


@attrs.frozen(kw_only=True)
class DaemonSection:
    """``[daemon]``: state and limits of the daemon itself."""

    state_dir: PathText | None = None
    """A directory of its own (0700), held by one broker at a time. Without it nothing is held."""
    drain_seconds: Annotated[int, between(0, 600)] = 10
    """Seconds that open requests may go on after SIGTERM. Well below the 30 s that Kubernetes grants."""
    request_seconds: Annotated[int, between(1, 60)] = 10
    """Seconds within which a request must have arrived whole. Local callers need milliseconds."""
    max_connections: Annotated[int, between(1, 65_536)] = 512
    """Connections to all API listeners. Half of the usual limit of 1,024 open files."""
    max_connections_per_uid: Annotated[int, between(1, 65_536)] = 256
    """Connections of one user, so that one workload cannot lock out another."""
    max_waiting: Annotated[int, between(1, 65_536)] = 512
    """Requests that wait for a token or for a change, in all."""
    max_waiting_per_uid: Annotated[int, between(1, 65_536)] = 256
    """The same for one user."""
    max_requests_per_second_per_uid: Annotated[int, between(1, 1_000_000)] = 1_000
    """Requests of one user in a second, refused ones too: more than a hot caller needs, less than a core can answer."""
    fast_path: bool = True
    """Requests for tokens on Unix sockets are parsed once, and answered at once when the same bytes come again."""
    hosts: tuple[HostHeader, ...] = ()
    """``Host`` values accepted beside ``localhost``, ``token-broker`` and ``unix``: what stops a browser's requests."""
    landlock: bool = False
    """True gives up, at the start, every file that is neither the system's nor named here."""


@attrs.frozen(kw_only=True)
class StoreSection:
    """``[store]``: how refresh tokens, grants and pending authorizations are kept in the state directory."""

    key: SecretReference
    """Seals them: whoever has the state directory but not this key has nothing."""
    anchor: PathText | None = None
    """A file on another volume that knows of the last write, so that an older copy of the store is noticed."""


@attrs.frozen(kw_only=True)
class AuditSection:
    """``[audit]``: the record of every token handed out and every refusal."""

    enabled: bool = True
    """False, written out, runs without an audit log; leaving the section out does not."""
    file: PathText | None = None
    """Where records are appended. Required while enabled."""
    key: SecretReference | None = None
    """Authenticates the checkpoints. Without it the log is consistent, but whoever can write it can forge it."""
    on_failure: OnAuditFailure = OnAuditFailure.REFUSE
    """What happens to requests for tokens while the log cannot be written."""


@attrs.frozen(kw_only=True)
class OpsSection:
    """``[ops]``: health and metrics over TCP."""

    enabled: bool = True
    """False, written out, opens no TCP port at all; health is then on the API sockets only."""
    listen: Listen = "127.0.0.1:9464"
    """IP address and port. It answers whoever reaches it, so it is loopback unless you say otherwise."""


@attrs.frozen(kw_only=True)
class LogSection:
    """``[log]``: JSON lines on standard error."""

    level: LogLevel = LogLevel.INFO
    """The least severity that is written."""


@attrs.frozen(kw_only=True)
class IssuerSection:
    """``[issuer.NAME]``: an authorization server that is trusted."""

    issuer: str
    """Its issuer identifier, exactly as its metadata has it, final slash included. https."""
    profile: Profile = Profile.FAPI2
    """Which rules it is held to. A profile only ever refuses more."""
    discovery: Discovery = Discovery.AUTO
    """Where its metadata is: OpenID Connect's place, RFC 8414's, or the first that exists."""
    endpoint_hosts: tuple[EndpointHost, ...] = ()
    """Further hosts on which its metadata may place endpoints, as servers with a separate host for mutual TLS do."""
    ca_file: PathText | None = None
    """CA certificates (PEM) that replace the system's for this server."""
    proxy: ProxyUrl | None = None
    """An http proxy, through which everything to this server goes (CONNECT). The environment names none."""
    proxy_credentials: SecretReference | None = None
    """A file with ``user:password`` for the proxy."""
    assertion_audience: AudienceWord = "issuer"
    """The ``aud`` of client assertions: the issuer identifier, or the exact URL that is called."""
    dialect: Base | DialectSection = Base.STANDARD
    """How it departs from the standard: a name, or a section ``[issuer.NAME.dialect]``."""
    sandbox: bool = False
    """Accepts a server that says it is a sandbox."""
    allow_insecure_loopback: bool = False
    """Accepts http, on a loopback address only."""
    refresh_rotation: RefreshRotation | None = None
    """What it does with used refresh tokens. Without it: ``grace`` under ``fapi2``, else ``observe``."""
    max_concurrent_requests: Annotated[int, between(1, 16)] = 8
    """How many token requests run at a time."""
    max_requests_per_second: Annotated[int, between(1, 1_000)] = 20
    """How many token requests start in any second, spaced evenly; tokens that callers wait for go first."""


@attrs.frozen(kw_only=True)
class CertificateSection:
    """``[certificate.NAME]``: a transport certificate for mutual TLS; it may serve several clients."""

    cert_file: PathText
    """The certificate and its chain, in PEM."""
    key_file: PrivateKeyFile
    """Its private key, in PEM; readable by nobody but the broker."""
    passphrase: SecretReference | None = None
    """Opens an encrypted private key."""


@attrs.frozen(kw_only=True)
class KeySection:
    """``[key.NAME]``: a signing key."""

    file: PrivateKeyFile
    """The private key, as PEM or as a JWK; readable by nobody but the broker."""
    alg: SigningAlg
    """The algorithm it signs with. Written out, because the server has it registered."""
    kid: KeyId | None = None
    """The key id as registered. Without it the JWK's own, or its thumbprint (RFC 7638); empty: none is sent."""
    passphrase: SecretReference | None = None
    """Opens an encrypted private key."""
    cert_file: PathText | None = None
    """Its certificate, in PEM, where the server asks for one: it is checked, and its end watched."""
    switch_delay_seconds: Annotated[int, between(0, 604_800)] = 0
    """How long a new key in the file is published before it signs, for servers that fetch the key set now and then."""


@attrs.frozen(kw_only=True)
class ClientSection:
    """``[client.NAME]``: what we are at an issuer."""

    issuer: Annotated[str, RefersTo("issuer")]
    """The name of its ``[issuer.NAME]``."""
    client_id: Visible
    """As registered."""
    client_auth_method: ClientAuthMethod = ClientAuthMethod.PRIVATE_KEY_JWT
    """How the client proves who it is."""
    client_secret: SecretReference | None = None
    """What ``client_secret_basic`` and ``client_secret_post`` send."""
    client_secret_encoding: ClientSecretEncoding = ClientSecretEncoding.FORM
    """How ``client_secret_basic`` writes id and secret: form-encoded, or ``raw`` for servers that do not decode."""
    signing_keys: tuple[Annotated[str, RefersTo("key")], ...] = ()
    """The names of at most three ``[key.NAME]``: the first one signs, all of them are published."""
    certificate: Annotated[str, RefersTo("certificate")] | None = None
    """The name of the ``[certificate.NAME]`` that its connections present."""
    mtls_endpoint_aliases: tuple[AliasedEndpoint, ...] | None = None
    """The endpoints whose twin for mutual TLS is called, of those that the server has one of. Without it: all."""
    sender_constraint: SenderConstraint = SenderConstraint.CERTIFICATE
    """What its tokens are bound to: ``none`` gives bearer tokens, which work for whoever finds one."""
    dpop_key: Annotated[str, RefersTo("key")] | None = None
    """The name of the ``[key.NAME]`` that ``dpop`` binds tokens to. Without it the broker makes one, and keeps it."""
    redirect_uris: tuple[RedirectUri, ...] = ()
    """Where people come back to, as registered. One on a loopback address stands for any port."""
    response_mode: ResponseMode = ResponseMode.QUERY
    """How the answer comes back with them: in the URL, as a form, or in the URL and signed (``jwt``, JARM)."""
    request_object: RequestObjectUse = RequestObjectUse.AUTO
    """When the authorization request is a signed object (RFC 9101); ``auto``: where server or profile demand it."""
    request_object_typ: RequestObjectTyp = "oauth-authz-req+jwt"
    """The ``typ`` of request objects, for old servers; empty: none."""
    id_token_signed_response_alg: SigningAlg | None = None
    """How ID tokens are signed, as registered. Without it PS256 under the FAPI profiles, else RS256."""
    authorization_signed_response_alg: SigningAlg | None = None
    """How answers are signed (``response_mode = "jwt"``), as registered. Without it as for ID tokens."""
    front_channel_params: Parameters = Parameters.NONE
    """``scope`` repeats scope and response_type in the URL of a pushed request, for servers that want them there."""
    scope_on_token: bool = False
    """Repeats scope when a code is redeemed, for servers that want it there."""


@attrs.frozen(kw_only=True)
class TokenSection:
    """``[token.NAME]``: an access token that workloads ask for by name."""

    client: Annotated[str, RefersTo("client")]
    """The name of its ``[client.NAME]``."""
    grant_type: GrantType = GrantType.CLIENT_CREDENTIALS
    """How it is obtained."""
    scope: tuple[ScopeToken, ...] = ()
    """What it may be used for, one entry each."""
    resource: tuple[ResourceUri, ...] = ()
    """Where it may be used: resource indicators (RFC 8707)."""
    audience: tuple[Visible, ...] = ()
    """Where it may be used, for servers that take ``audience`` instead."""
    parameters: Mapping[ParameterName, FormValue] = attrs.field(factory=dict)
    """Further form fields of the token request that the server asks for."""
    refresh: Refresh = Refresh.EAGER
    """Whether it is fetched at the start and kept fresh, or only when somebody asks."""
    required: bool = False
    """True makes readiness depend on it."""
    dpop_resources: tuple[BaseUrl, ...] = ()
    """Base URLs of the APIs that callers may have DPoP proofs for (``POST /v1/dpop``)."""
    default_lifetime_seconds: Annotated[int, between(1, MAX_LIFETIME_SECONDS)] = DEFAULT_LIFETIME_SECONDS
    """How long it is trusted where the server does not say ``expires_in``."""
    grants: Grants = Grants.ONE
    """Whether one person consents for everybody who uses the token, or each has a grant of their own."""
    authorization_details: tuple[JsonTable, ...] = ()
    """What is asked for in detail (RFC 9396). A string like ``{account}`` is filled by whoever starts the consent."""
    claims: JsonTable | None = None
    """Claims that are asked for one by one (OpenID Connect Core section 5.5); ``{}`` where the standard has null."""
    acr_values: tuple[ScopeToken, ...] = ()
    """How the person should log in: authentication context classes, the best first."""
    acr_required: bool = False
    """True refuses an ID token that names none of these."""
    prompt: tuple[Prompt, ...] = ()
    """What the person is asked in any case."""
    max_age_seconds: Annotated[int, between(0, 31_536_000)] | None = None
    """How long ago the person may have logged in when asked; it is checked in the ID token."""
    keepalive_seconds: Annotated[int, between(60, 31_536_000)] = 86_400
    """How often a grant on demand is refreshed that nobody uses, so that it does not die."""
    consent_lifetime_seconds: Annotated[int, between(60, 315_360_000)] | None = None
    """How long a consent holds where that is known: it is warned about ahead of its end."""
    on_grant_lost: OnGrantLost = OnGrantLost.STOP
    """What becomes of the access token when the server has ended its grant."""
    on_subject_change: OnSubjectChange = OnSubjectChange.CONSENT
    """What becomes of a refreshed access token that is not the person's any more, where a dialect looks that up."""
    userinfo: bool = False
    """True looks the person up at the userinfo endpoint once; the two have to be the same."""


@attrs.frozen(kw_only=True)
class UpstreamSection:
    """``[upstream.NAME]``: an API that workloads call through the broker, with a token that they never get."""

    base_url: BaseUrl
    """Where it is: https, with the beginning of all paths."""
    token: Annotated[str, RefersTo("token")]
    """The name of the ``[token.NAME]`` that calls are made with."""
    allow: tuple[AllowText, ...]
    """What may be called, as ``METHOD /path`` below ``base_url``: ``*`` is one segment, ``**`` all that follow."""
    ca_file: PathText | None = None
    """The CAs that its certificate may be from, in place of the system's."""
    proxy: ProxyUrl | None = None
    """The forward proxy that leads to it."""
    proxy_credentials: SecretReference | None = None
    """What the proxy wants to know: a file with ``user:password``."""
    interaction_id: bool = False
    """True adds an ``x-fapi-interaction-id`` where the caller sends none."""
    reply_timeout_seconds: Annotated[int, between(1, 600)] = 30
    """How long a reply may take to begin, once the request is written."""
    idle_timeout_seconds: Annotated[int, between(1, 600)] = 30
    """How long either side may pause in a body."""
    max_connections: Annotated[int, between(1, 1_000)] = 64
    """How many calls are made at a time; more wait for a few seconds."""


@attrs.frozen(kw_only=True)
class ListenerSection:
    """``[listener.NAME]``: a Unix socket of the API, or a loopback address. Exactly one of ``path`` and ``address``."""

    path: PathText | None = None
    """The socket. At most 107 bytes, counted from the root."""
    mode: Mode = "0660"
    """Who may connect, as permissions of the socket."""
    address: LoopbackAddress | None = None
    """A loopback address and a port, for callers that can open no Unix socket."""
    secret_file: PathText | None = None
    """Where the broker writes the secret of an ``address``, anew at each start. Callers have to show it."""
    group: Account | None = None
    """The group that owns the socket or the secret file, by name or number. Without it the broker's own."""
    upstream: Annotated[str, RefersTo("upstream")] | None = None
    """Makes it the base URL of one API: every path is a call of that, and there are no other routes."""


@attrs.frozen(kw_only=True)
class WorkloadSection:
    """``[workload.NAME]``: who gets which tokens. Keys are joined by "and", entries of one by "or"."""

    listener: tuple[Annotated[str, RefersTo("listener")], ...] = ()
    """The listeners on which the workload is recognized; empty: on each."""
    uid: tuple[Account, ...] = ()
    """Its users, by name or number; empty: any."""
    gid: tuple[Account, ...] = ()
    """Its groups, primary or supplementary, by name or number; empty: any."""
    tokens: tuple[Annotated[str, RefersTo("token")], ...] = ()
    """The names of the tokens it may use."""
    upstreams: tuple[Annotated[str, RefersTo("upstream")], ...] = ()
    """The names of the APIs it may call, with ``egress`` in ``may``; it needs none of their tokens for that."""
    grants: GrantsOf = GrantsOf.ALL
    """Whose grants of these: everybody's, or those alone that it started."""
    may: tuple[Action, ...] = (Action.GET,)
    """What it may do with them."""


@attrs.frozen(kw_only=True)
class SinkSection:
    """``[sink.NAME]``: a file that holds an access token, for programs that can read nothing else."""

    token: Annotated[str, RefersTo("token")]
    """The name of the ``[token.NAME]`` that is in the file."""
    path: PathText
    """The file. Its directory must exist, and nobody but root and the broker may write it."""
    mode: FileMode = "0640"
    """The permissions of the file: reading for its owner and its group, writing for its owner, and no more."""
    owner: Account | None = None
    """The user that owns the file, by name or number. Without it the broker's own; another needs ``CAP_CHOWN``."""
    group: Account | None = None
    """The group that owns the file, by name or number. Without it the broker's own."""
    format: Format = Format.TEXT
    """The bare token, or JSON as the local API writes it."""
    hook: tuple[Argument, ...] = ()
    """A program with its arguments that is run after each new token. No shell reads it."""
    hook_timeout_seconds: Annotated[int, between(1, 300)] = 10
    """How long it may take; then it is killed, with all of its process group."""


SINGLE_SECTIONS: Mapping[str, type] = {
    "daemon": DaemonSection,
    "store": StoreSection,
    "audit": AuditSection,
    "ops": OpsSection,
    "log": LogSection,
}
"""Sections that exist once, by their key."""

NAMED_SECTIONS: Mapping[str, type] = {
    "issuer": IssuerSection,
    "certificate": CertificateSection,
    "key": KeySection,
    "client": ClientSection,
    "token": TokenSection,
    "upstream": UpstreamSection,
    "listener": ListenerSection,
    "workload": WorkloadSection,
    "sink": SinkSection,
}
"""Sections that exist once for each name, by the key before the name."""
