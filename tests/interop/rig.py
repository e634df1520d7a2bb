"""
The real authorization server, started for a test: oidc-provider as a child process, with keys of its own.

    with Rig.start(tmp_path) as rig:
        ...

starts it in about half a second, on ports that the kernel chose, with new keys and certificates in *tmp_path*,
and ends it in the end. Where Node.js is missing the test that asked is skipped. Nothing here blocks for more
than a few milliseconds once it is up, so a test may use it from within a loop.
"""

from __future__ import annotations

import json
import secrets
import selectors
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from tests.interop.credentials import (
    Authority,
    Certificate,
    SigningKey,
    make_self_signed,
    make_server_signing_key,
    make_signing_key,
)
from tests.interop.node import SERVER, Node, require_node

ALGS = ("PS256", "ES256", "EdDSA")
PLAIN_ALGS = (*ALGS, "RS256")
"""RS256 is for servers outside of FAPI."""
SCOPE = "directory:software accounts"
RESOURCE = "https://api.interop.example/"
OPAQUE_RESOURCE = "https://opaque.interop.example/"
ALIASES = {
    "token_endpoint": "/token",
    "pushed_authorization_request_endpoint": "/request",
    "revocation_endpoint": "/token/revocation",
    "userinfo_endpoint": "/me",
}
"""Of the endpoints, where they are on the listener for mutual TLS."""

ANSWER_DEADLINE = 30.0
"""Seconds: a start takes half a second, several times that on a busy machine."""
STOP_DEADLINE = 10.0
"""Seconds that the server may take to end by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """
    One request that reached the token endpoint, as the server saw it.

    *client_id* and *auth_method*, the registered one, are None where the client was not recognized.
    *presented* names the parts of the request that said who the client is, *assertion_alg* is how its assertion
    was signed. *mtls* says which of the two listeners was called, *thumbprint* is that of the certificate on the
    connection, if one was given and is in order. *proof* has the members of header and claims of a DPoP proof.
    """

    client_id: str | None
    grant_type: str | None
    status: int
    error: str | None
    error_description: str | None
    auth_method: str | None
    assertion_alg: str | None
    presented: tuple[str, ...]
    mtls: bool
    thumbprint: str | None
    proof: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiCall:
    """
    One request that reached the API: *scheme* is that of ``Authorization``.

    *thumbprint* and *proof* as in ``TokenRequest``.
    """

    method: str
    path: str
    status: int
    error: str | None
    scheme: str
    thumbprint: str | None
    proof: Mapping[str, Any] | None


@dataclass(kw_only=True)
class Rig:
    """
    A running server and everything a client needs to be registered there.

    *authority* is the CA that it trusts and that its own certificate is from, *ca_file* that in PEM.
    *app* is the certificate that the clients would present; *other* is as good, for another subject;
    *expired* ended yesterday; *rogue* is from a CA that the server does not trust; *self_signed* is from none,
    and *self_signed_jwk* is how the server knows it. *signing_keys* are by algorithm; each of FAPI has a client
    of its own (``client_id``).
    """

    folder: Path
    node: Node
    authority: Authority
    ca_file: Path
    app: Certificate
    other: Certificate
    expired: Certificate
    rogue: Certificate
    self_signed: Certificate
    self_signed_jwk: dict[str, Any]
    signing_keys: Mapping[str, SigningKey]
    scope: str = SCOPE
    resource: str = RESOURCE
    opaque_resource: str = OPAQUE_RESOURCE
    tls_client_id: str = "app-tls"
    _config: dict[str, Any]
    _process: subprocess.Popen[bytes] | None = None
    _unread: bytearray = field(default_factory=bytearray)

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        lifetime: int = 300,
        strict: bool = True,
        fapi: bool = True,
        people: bool = False,
        dpop_nonces: bool = False,
        clients: Callable[[Rig], list[dict[str, Any]]] = lambda _: [],
        names: Mapping[str, str] = MappingProxyType({}),
        server_alg: str = "ES256",
        more: Mapping[str, Any] = MappingProxyType({}),
    ) -> Self:
        """
        Make the keys in *folder* and start the server; it issues tokens that live *lifetime* seconds.

        *strict*: a client certificate that is not in order is refused by TLS, as real servers do; without it
        the server sees such a connection as one without a certificate. Without *fapi* it is a plain server that
        also takes client secrets and RS256. With *people* it shows pages to log in and to consent, and issues
        refresh tokens that rotate. With *dpop_nonces* every DPoP proof needs one. *clients* gives the metadata
        (``registration``) of further clients.
        A server that poses as another says that it is at *names* (``issuer``, ``mtls`` and ``api``, URLs without a
        port; who calls has to find the way to its ports), signs with *server_alg*, and differs in *more* of its
        configuration.
        Skips the test where Node.js is missing.
        """
        node = require_node()
        trusted, untrusted = Authority(folder, "ca"), Authority(folder, "rogue-ca")
        hosts = [host for url in names.values() if (host := urlsplit(url).hostname)]
        server = trusted.issue("server", server=True, names=("localhost", *hosts))
        app = trusted.issue("app")
        self_signed, self_signed_jwk = make_self_signed(folder, "self-signed")
        keys = {alg: make_signing_key(folder, alg) for alg in PLAIN_ALGS}
        config: dict[str, Any] = {
            "strict": strict,
            "lifetime": lifetime,
            "ports": {"issuer": 0, "mtls": 0, "api": 0},
            "fapi": fapi,
            "people": people,
            "dpop_nonces": secrets.token_urlsafe(32) if dpop_nonces else None,
            "ca": [str(trusted.file), str(self_signed.cert_file)],
            "server": {"cert": str(server.cert_file), "key": str(server.key_file)},
            "signing_key": make_server_signing_key(server_alg),
            "cookie_key": secrets.token_urlsafe(32),
            "scope": SCOPE,
            "resource": RESOURCE,
            "opaque_resource": OPAQUE_RESOURCE,
            "names": dict(names),
            "aliases": ALIASES,
            "keeping": [],
            "directory": False,
            **more,
            "clients": [
                *(assertion_registration(_client_id(alg), keys[alg]) for alg in ALGS),
                tls_registration(cls.tls_client_id, app),
            ],
        }
        rig = cls(
            folder=folder,
            node=node,
            authority=trusted,
            ca_file=trusted.file,
            app=app,
            other=trusted.issue("other"),
            expired=trusted.issue("app", expired=True),
            rogue=untrusted.issue("app"),
            self_signed=self_signed,
            self_signed_jwk=self_signed_jwk,
            signing_keys=keys,
            _config=config,
        )
        rig._config["clients"] += clients(rig)
        rig.start_again()
        return rig

    @property
    def issuer(self) -> str:
        """The issuer identifier."""
        return self._url("issuer")

    @property
    def token_endpoint(self) -> str:
        """The token endpoint for clients without a certificate."""
        return f"{self.issuer}/token"

    @property
    def mtls_token_endpoint(self) -> str:
        """The token endpoint for clients with one: the alias in the metadata."""
        return f"{self._url('mtls')}/token"

    @property
    def api_url(self) -> str:
        """A resource that takes tokens for *resource*, over the certificate that they are bound to."""
        return f"{self._url('api')}/accounts"

    def port(self, listener: str) -> int:
        """Give where ``issuer``, ``mtls`` or ``api`` listens on 127.0.0.1."""
        port: int = self._config["ports"][listener]
        return port

    def _url(self, listener: str) -> str:
        name: str | None = self._config["names"].get(listener)
        return f"https://localhost:{self.port(listener)}" if name is None else name

    def client_id(self, alg: str) -> str:
        """The client that authenticates with the signing key for *alg*."""
        return _client_id(alg)

    def token_requests(self) -> list[TokenRequest]:
        """Everything that reached the token endpoint since the start, or since ``forget``."""
        return [
            TokenRequest(**{**seen, "presented": tuple(seen["presented"])})
            for seen in self._do("token_requests")["token_requests"]
        ]

    def calls(self) -> list[dict[str, Any]]:
        """What reached the endpoints for pushed requests and for revocation: see ``provider.mjs``."""
        found: list[dict[str, Any]] = self._do("calls")["calls"]
        return found

    def api_calls(self) -> list[ApiCall]:
        """Everything that reached the API since the start, or since ``forget``, in the order of the answers."""
        return [ApiCall(**seen) for seen in self._do("api_calls")["api_calls"]]

    def forget(self) -> None:
        """Begin the lists of token requests and of calls of the API anew."""
        self._do("forget")

    def revoke(self, client_id: str) -> None:
        """Let the API refuse all tokens of a client that it has taken so far."""
        self._do("revoke", client_id=client_id)

    def refresh_tokens(self, client_id: str) -> list[str]:
        """Give all refresh tokens that a client was given since the start."""
        found: list[str] = self._do("refresh_tokens", client_id=client_id)["refresh_tokens"]
        return found

    def throttle(self, times: int, retry_after: str) -> None:
        """Let the API of a directory answer 429 *times* times."""
        self._do("throttle", times=times, retry_after=retry_after)

    def set_lifetime(self, seconds: int) -> None:
        """Let tokens that are issued from now on live *seconds*."""
        self._do("lifetime", seconds=seconds)
        self._config["lifetime"] = seconds

    def stop(self) -> None:
        """End the server; its ports refuse connections until ``start_again``."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()  # which is its signal to end
        try:
            process.wait(STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def start_again(self) -> None:
        """Start the server with the same keys, on the same ports; it remembers nothing else."""
        assert self._process is None
        config = self.folder / "provider.json"
        config.touch(mode=0o600)
        config.write_text(json.dumps(self._config))
        with self._log().open("ab") as log:
            self._process = subprocess.Popen(
                (str(self.node.binary), str(SERVER / "provider.mjs"), str(config)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
            )
        self._unread.clear()
        try:
            self._config["ports"] = self._answer()["ports"]
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _do(self, command: str, **arguments: object) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": command, **arguments}).encode() + b"\n")
        answer = self._answer()
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def _answer(self) -> dict[str, Any]:
        """Read one line from the server, in bounded time."""
        assert self._process is not None
        stdout = self._process.stdout
        assert stdout is not None
        deadline = time.monotonic() + ANSWER_DEADLINE
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                more = stdout.read(65_536) if ready else b""
                if not more:
                    why = "ended" if ready else "does not answer"
                    raise RuntimeError(f"the server {why}; it said:\n{self._log().read_text()}")
                self._unread += more
        line, _, rest = bytes(self._unread).partition(b"\n")
        self._unread[:] = rest
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _log(self) -> Path:
        return self.folder / "provider.log"


def _client_id(alg: str) -> str:
    return f"app-{alg.lower()}"


def assertion_registration(client_id: str, key: SigningKey, *, bound: bool = True) -> dict[str, Any]:
    """Client metadata of RFC 7591 for ``private_key_jwt``."""
    return registration(
        client_id,
        "private_key_jwt",
        bound=bound,
        token_endpoint_auth_signing_alg=key.alg,
        jwks={"keys": [key.public_jwk]},
    )


def tls_registration(client_id: str, certificate: Certificate, *, bound: bool = True) -> dict[str, Any]:
    """Client metadata for ``tls_client_auth`` by the subject of *certificate*."""
    return registration(client_id, "tls_client_auth", bound=bound, tls_client_auth_subject_dn=certificate.subject)


def code_registration(client_id: str, key: SigningKey) -> dict[str, Any]:
    """Client metadata of a native application: people come back to any port of 127.0.0.1 (RFC 8252)."""
    return {
        **assertion_registration(client_id, key),
        "application_type": "native",
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "redirect_uris": ["http://127.0.0.1/callback"],
        "scope": f"openid {SCOPE}",
        "authorization_signed_response_alg": "ES256",  # the default, RS256, is not for FAPI 2.0
    }


def registration(client_id: str, method: str, *, bound: bool = True, **further: object) -> dict[str, Any]:
    """Client metadata of RFC 7591 and RFC 8705; *bound* has tokens bound to the certificate."""
    return {
        **further,
        "client_id": client_id,
        "token_endpoint_auth_method": method,
        "grant_types": ["client_credentials"],
        "response_types": [],
        "redirect_uris": [],
        "scope": SCOPE,
        "tls_client_certificate_bound_access_tokens": bound,
    }
