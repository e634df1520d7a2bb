"""A client of the sandbox for tests, written against the RFCs and not with the broker's code."""

from __future__ import annotations

import hashlib
import json
import shutil
import ssl
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import aiohttp
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from broker.sandbox.clients import ASSERTION_TYPE
from broker.sandbox.demo_clients import CLIENT_ID
from broker.sandbox.jose import SigningAlg, sign
from broker.sandbox.running import Sandbox

DEADLINE = aiohttp.ClientTimeout(total=10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """An answer, read to its end; *body* is the JSON or None."""

    status: int
    headers: Mapping[str, str]
    raw: bytes
    body: Any = None


class _Quiet(JWSRegistry):
    """Signs by any algorithm, without the warning about EdDSA, and with a large key in the header."""

    max_header_length = 8_192

    def get_alg(self, name: str) -> Any:
        return self.algorithms[name]


@dataclass(slots=True, kw_only=True)
class Prover:
    """Makes proofs of possession of one key, and remembers the nonce that each origin gave last."""

    alg: SigningAlg = SigningAlg.ES256
    key: Any = None
    nonces: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        makers = {
            SigningAlg.PS256: lambda: RSAKey.generate_key(2048),
            SigningAlg.ES256: lambda: ECKey.generate_key("P-256"),
            SigningAlg.EDDSA: lambda: OKPKey.generate_key("Ed25519"),
        }
        self.key = self.key or makers[self.alg]()

    @property
    def jkt(self) -> str:
        thumbprint: str = self.key.thumbprint()
        return thumbprint

    def prove(
        self,
        method: str,
        url: str,
        token: str | None = None,
        *,
        header: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> str:
        """Make a good proof apart from *header* and claims in *changes*; None leaves one out."""
        claims: dict[str, Any] = {"jti": str(uuid.uuid4()), "htm": method, "htu": url.partition("?")[0]}
        claims["iat"] = int(time.clock_gettime(time.CLOCK_REALTIME))
        claims["ath"] = None if token is None else digest_of(token)
        claims["nonce"] = self.nonces.get(origin_of(url))
        kept = {name: value for name, value in {**claims, **changes}.items() if value is not None}
        head = {"typ": "dpop+jwt", "alg": str(self.alg), "jwk": self.key.as_dict(private=False), **(header or {})}
        return jws.serialize_compact(
            head, json.dumps(kept).encode(), self.key, registry=_Quiet(strict_check_header=False)
        )


def digest_of(text: str) -> str:
    return urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def origin_of(url: str) -> str:
    scheme, host, *_ = urlsplit(url)
    return f"{scheme}://{host}"


@dataclass(slots=True)
class Talker:
    """Speaks to *sandbox*, one connection for each certificate that it uses."""

    sandbox: Sandbox
    session: aiohttp.ClientSession
    contexts: dict[str | None, ssl.SSLContext] = field(default_factory=dict)

    async def metadata(self) -> Heard:
        return await self.send("GET", f"{self.sandbox.addresses.issuer}/.well-known/openid-configuration", None)

    async def token(
        self,
        *,
        certificate: str | None = "client",
        alg: SigningAlg = SigningAlg.ES256,
        claims: Mapping[str, Any] | None = None,
        url: str | None = None,
        prover: Prover | None = None,
        **form: Any,
    ) -> Heard:
        body = token_form(self.sandbox, alg=alg, claims=claims, **form)
        return await self.send(
            "POST", url or f"{self.sandbox.addresses.mtls}/token", certificate, data=body, prover=prover
        )

    async def jwks(self) -> list[dict[str, Any]]:
        keys: list[dict[str, Any]] = (await self.send("GET", f"{self.sandbox.addresses.issuer}/jwks", None)).body[
            "keys"
        ]
        return keys

    async def push(self, *, prover: Prover | None = None, **parameters: Any) -> Heard:
        """Push an authorization request, good apart from *parameters*."""
        claims = parameters.pop("claims_of_assertion", None)
        left_out = {name: None for name, value in parameters.items() if value is None}
        form = token_form(
            self.sandbox, claims=claims, **{"grant_type": None, **left_out, **request_parameters(**parameters)}
        )
        return await self.send("POST", f"{self.sandbox.addresses.mtls}/request", "client", data=form, prover=prover)

    def authorization_url(self, **parameters: Any) -> str:
        given = {name: value for name, value in parameters.items() if value is not None}
        return f"{self.sandbox.addresses.issuer}/authorize?{urlencode(given, doseq=True)}"

    async def decide(self, url: str, *, user: str | None = "alice", decision: str | None = "allow") -> Heard:
        """Do what a person does, in one request."""
        form = {name: value for name, value in (("user", user), ("decision", decision)) if value is not None}
        return await self.send("POST", url, None, data=form)

    async def consent(self, *, user: str = "alice", decision: str = "allow", **parameters: Any) -> dict[str, str]:
        """Push a request, let a person decide, and give the parameters of the answer."""
        pushed = await self.push(**parameters)
        url = self.authorization_url(client_id=CLIENT_ID, request_uri=pushed.body["request_uri"])
        return answered(await self.decide(url, user=user, decision=decision))

    async def redeem(self, code: str, /, **changes: Any) -> Heard:
        given = {"code": code, "redirect_uri": REDIRECT_URI, "code_verifier": VERIFIER, **changes}
        return await self.token(**{"grant_type": "authorization_code", **given})

    async def granted(self, *, user: str = "alice", **parameters: Any) -> Heard:
        """Give the token answer that a consent leads to."""
        return await self.redeem((await self.consent(user=user, **parameters))["code"])

    async def refresh(self, refresh_token: str, **form: Any) -> Heard:
        return await self.token(grant_type="refresh_token", refresh_token=refresh_token, **form)

    async def userinfo(self, token: str, *, certificate: str | None = "client") -> Heard:
        headers = {"Authorization": f"Bearer {token}"}
        return await self.send("GET", f"{self.sandbox.addresses.mtls}/userinfo", certificate, headers=headers)

    async def revoke(self, token: str, /, **form: Any) -> Heard:
        body = token_form(self.sandbox, **{"grant_type": None, "token": token, **form})
        return await self.send("POST", f"{self.sandbox.addresses.mtls}/token/revocation", "client", data=body)

    async def hello(
        self, token: str | None, *, certificate: str | None = "client", prover: Prover | None = None
    ) -> Heard:
        scheme = "Bearer" if prover is None else "DPoP"
        headers = {} if token is None else {"Authorization": f"{scheme} {token}"}
        return await self.send("GET", self.sandbox.addresses.hello, certificate, headers=headers, prover=prover)

    async def send(
        self, method: str, url: str, certificate: str | None, *, prover: Prover | None = None, **options: Any
    ) -> Heard:
        """Send a request, with a proof by *prover* if there is one, who takes the nonce of the answer."""
        context = None if url.startswith("http:") else self.context(certificate)
        options = {"allow_redirects": False, **options}
        if prover is not None:
            headers = options.get("headers", {})
            scheme, _, token = headers.get("Authorization", "").partition(" ")
            shown = token if scheme == "DPoP" else None
            options["headers"] = {"DPoP": prover.prove(method, url, shown), **headers}
        async with self.session.request(method, url, ssl=context or True, **options) as answer:
            raw = await answer.read()
            if prover is not None and "DPoP-Nonce" in answer.headers:
                prover.nonces[origin_of(url)] = answer.headers["DPoP-Nonce"]
            return Heard(status=answer.status, headers=answer.headers, raw=raw, body=_read_json(raw))

    def context(self, certificate: str | None) -> ssl.SSLContext:
        if certificate not in self.contexts:
            self.contexts[certificate] = client_context(self.sandbox.directory, certificate)
        return self.contexts[certificate]


VERIFIER = "a-verifier-of-sufficient-length-for-rfc-7636"
REDIRECT_URI = "http://127.0.0.1:40123/callback"
STATE, NONCE = "the-state", "the-nonce"


def request_parameters(**changes: Any) -> dict[str, Any]:
    """Give the parameters of a good authorization request, apart from *changes*; None leaves one out."""
    digest = hashlib.sha256(VERIFIER.encode()).digest()
    good = {
        "response_type": "code",
        "client_id": CLIENT_ID,
        "redirect_uri": REDIRECT_URI,
        "scope": "openid hello:read",
        "state": STATE,
        "nonce": NONCE,
        "code_challenge": urlsafe_b64encode(digest).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def answered(heard: Heard) -> dict[str, str]:
    """Give the parameters that a redirect to the client carries."""
    assert heard.status == 303, heard.raw
    return dict(parse_qsl(urlsplit(heard.headers["Location"]).query))


def request_object(
    sandbox: Sandbox,
    *,
    alg: SigningAlg = SigningAlg.ES256,
    typ: str = "oauth-authz-req+jwt",
    claims: Mapping[str, Any] | None = None,
) -> str:
    """Sign a good authorization request, apart from *claims*; None leaves one out."""
    now = int(time.clock_gettime(time.CLOCK_REALTIME))
    about = {"iss": CLIENT_ID, "aud": sandbox.addresses.issuer, "iat": now, "nbf": now, "exp": now + 60, "jti": "1"}
    members = {**request_parameters(), **about, **(claims or {})}
    kept = {name: value for name, value in members.items() if value is not None}
    return sign(sandbox.material.signing_keys[alg], typ, kept)


def _read_json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return None


def client_context(directory: Path, certificate: str | None, *, trust: Path | None = None) -> ssl.SSLContext:
    """Trust the sandbox's authority only, as strictly as Python 3.13 does; present *certificate*, or none."""
    context = ssl.create_default_context(cafile=trust or directory / "ca.pem")
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    if certificate is not None:
        context.load_cert_chain(directory / f"{certificate}.pem", directory / f"{certificate}.key")
    return context


def token_form(
    sandbox: Sandbox, *, alg: SigningAlg = SigningAlg.ES256, claims: Mapping[str, Any] | None = None, **form: Any
) -> list[tuple[str, str]]:
    """Make the form of a good token request, apart from *claims* of the assertion and fields of the *form*."""
    now = int(time.clock_gettime(time.CLOCK_REALTIME))
    asserted = {
        "iss": CLIENT_ID,
        "sub": CLIENT_ID,
        "aud": sandbox.addresses.issuer,
        "jti": str(uuid.uuid4()),
        "iat": now,
        "exp": now + 60,
        **(claims or {}),
    }
    fields = {
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": sign(sandbox.material.signing_keys[alg], "JWT", asserted),
        **form,
    }
    pairs = [(name, value if isinstance(value, list) else [value]) for name, value in fields.items()]
    return [(name, one) for name, values in pairs for one in values if one is not None]


@asynccontextmanager
async def running(prepared: Path, tmp_path: Path, **options: Any) -> AsyncIterator[Sandbox]:
    """Run a sandbox with the keys of *prepared*, in a directory of the test's own."""
    directory = tmp_path / "sandbox"
    if not directory.exists():
        shutil.copytree(prepared, directory)
    async with Sandbox.start(directory, keep=True, **options) as sandbox:
        yield sandbox


@asynccontextmanager
async def talking(prepared: Path, tmp_path: Path, **options: Any) -> AsyncIterator[Talker]:
    """Run a sandbox and a client of it."""
    async with (
        running(prepared, tmp_path, **options) as sandbox,
        aiohttp.ClientSession(timeout=DEADLINE) as session,
    ):
        yield Talker(sandbox, session)
