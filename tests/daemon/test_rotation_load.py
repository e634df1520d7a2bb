"""Certificate, authority and signing key are replaced five times while 32 callers use tokens and call an API."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from broker.keys.making import key_pem, new_key, public_jwk
from broker.sandbox.demo_clients import CLIENT_ID, DPOP_CLIENT_ID
from broker.sandbox.layout import read_addresses
from tests.daemon.egress_place import Reply, UnixConnection, config_with
from tests.daemon.harness import BrokerProcess, SandboxProcess, broker_process, sandbox_process, wait_until
from tests.daemon.load import Call, Load, callers
from tests.daemon.mounted_secret import Secret
from tests.daemon.process_look import connections, descriptors, resident

Record = Callable[[str, object], None]

ROUNDS = 5

PROOF_ROUNDS = 3

WARM = 2.0
"""Seconds of load before anything is measured or replaced: buffers and pools have their size then."""

GROWTH = 32 * 1024 * 1024
"""Bytes that memory may have grown by meanwhile: what a leak of one body for each call would make many times over."""

SMALL, LARGE, SLOW = 20_000, 500_000, 300_000
"""Bytes of the bodies: of one that is echoed, of a large reply, and of one that takes two seconds."""

MOUNTED = (
    ('"client.pem"', '"mounted/cert"'),
    ('"client.key"', '"mounted/key"'),
    ('"ca.pem"', '"mounted/ca"'),
)


PROOF_ALG = "ES256"

DPOP = 'sender_constraint = "dpop"\ndpop_key = "proof"'

PROOF_KEY = f"""
[key.proof]
file = "mounted/proof"
alg = "{PROOF_ALG}"
"""


@dataclass
class World:
    """A sandbox, a broker whose files are mounted, and what is mounted now."""

    sandbox: SandboxProcess
    broker: BrokerProcess
    secret: Secret
    files: dict[str, Path]
    bindings: list[str] = field(default_factory=list)

    @property
    def ports(self) -> set[int]:
        """The ports of the server and of its API."""
        addresses = read_addresses(self.sandbox.home)
        urls = (str(addresses[name]) for name in ("issuer", "mtls", "resource"))
        return {port for url in urls if (port := urlsplit(url).port) is not None}

    def mount(self, **files: Path) -> list[str]:
        """Replace *files*, have the broker look, and give what it put to use."""
        self.files |= files
        self.secret.swap(**self.files)
        connection = UnixConnection(self.broker.socket)
        reply = connection.ask("POST", "/v1/rotate", b"{}", {"Content-Type": "application/json"})
        connection.close()
        assert reply.status == 200, reply.body
        assert reply.json()["refused"] == []
        rotated: list[str] = reply.json()["rotated"]
        return rotated

    def binding(self) -> str:
        """Say what the token is bound to now."""
        answer = self.broker.token()
        assert answer.status == 200, answer.body
        return binding_of(answer.json())

    def is_bound_to(self, binding: str) -> bool:
        return self.binding() == binding

    def is_shown(self, binding: str) -> bool:
        """Say whether the API lately saw this certificate, or a proof of this key, with a token that is bound to it."""
        seen = self.sandbox.control.requests("resource")
        return any(one["matched"] and binding in (one["certificate"], one["jkt"]) for one in seen)

    def is_without(self, opened: frozenset[str]) -> bool:
        """Say whether none of these connections is open any more."""
        return not opened & connections(self.broker.pid, self.ports)

    def is_idle(self) -> bool:
        return not connections(self.broker.pid, self.ports)

    def new_signing_key(self) -> None:
        """Replace the signing key; the server knows the new one before, and only that one afterwards."""
        alg = signing_alg(self.broker)
        key = new_key(alg)
        jwk = public_jwk(key, alg)
        self.sandbox.control.add_client_key(CLIENT_ID, jwk)
        assert self.mount(signing=written(self.sandbox.home / "fresh.signing", key_pem(key))) == ["key.demo"]
        self.sandbox.control.register_client(CLIENT_ID, jwks={"keys": [jwk]})

    def new_authority(self) -> None:
        """Replace the authority of the server's certificates, as its operators do: the new one is announced before."""
        control, bundle = self.sandbox.control, self.sandbox.home / "ca.pem"
        for steps in (("announce",), ("switch", "withdraw")):
            for step in steps:
                control.change_authority(step)
            assert {"issuer.sandbox", "upstream.api"} <= set(self.mount(ca=bundle))

    def new_certificate(self, name: str) -> str:
        """Replace the transport certificate; gives the thumbprint that tokens are bound to from then on."""
        made = self.sandbox.control.issue_certificate(name)
        self.bindings.append(str(made["thumbprint"]))
        assert self.mount(cert=self.sandbox.home / f"{name}.pem", key=self.sandbox.home / f"{name}.key") == [
            "certificate.demo"
        ]
        return self.bindings[-1]

    def new_everything(self, name: str) -> str:
        """Replace all of it at once; the server goes over to the new authority in the same moment."""
        control, home = self.sandbox.control, self.sandbox.home
        alg = signing_alg(self.broker)
        key = new_key(alg)
        control.add_client_key(CLIENT_ID, public_jwk(key, alg))
        control.change_authority("announce")
        self.bindings.append(str(control.issue_certificate(name)["thumbprint"]))
        rotated = self.mount(
            cert=home / f"{name}.pem",
            key=home / f"{name}.key",
            ca=home / "ca.pem",
            signing=written(home / "fresh.signing", key_pem(key)),
        )
        control.change_authority("switch")
        assert {"certificate.demo", "key.demo", "issuer.sandbox", "upstream.api"} <= set(rotated)
        control.change_authority("withdraw")
        self.mount(ca=home / "ca.pem")
        return self.bindings[-1]

    def new_proof_key(self) -> str:
        """Replace the key that tokens are bound to; gives its thumbprint."""
        key = new_key(PROOF_ALG)
        self.bindings.append(str(public_jwk(key, PROOF_ALG)["kid"]))  # which is its thumbprint (RFC 7638)
        assert self.mount(proof=written(self.sandbox.home / "proof.fresh", key_pem(key))) == ["key.proof"]
        return self.bindings[-1]


def written(path: Path, content: bytes) -> Path:
    """Write a private file, to be mounted."""
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def binding_of(answer: dict[str, Any]) -> str:
    """Give the thumbprint that the token of an answer is bound to: that of a certificate, or of a key."""
    (thumbprint,) = answer["cnf"].values()
    return str(thumbprint)


def signing_alg(broker: BrokerProcess) -> str:
    return str(re.findall(r'^alg = "(.+)"$', broker.config.read_text(), re.MULTILINE)[0])


@contextmanager
def world(directory: Path, *, proves: bool = False) -> Iterator[World]:
    """Run both; what the tokens of a client that *proves* are bound to is a key (DPoP), and no certificate."""
    with sandbox_process(directory, lifetime=600) as sandbox:
        home = sandbox.home
        config = config_with(sandbox)
        (name,) = re.findall(r'^file = "(signing-[^"]+)"$', config, re.MULTILINE)
        files = {"cert": home / "client.pem", "key": home / "client.key", "ca": home / "ca.pem", "signing": home / name}
        for before, after in (*MOUNTED, (f'"{name}"', '"mounted/signing"')):
            assert before in config
            config = config.replace(before, after)
        config = re.sub(r"(?m)^kid = .*$", "", config)
        config = config.replace("[ops]", "[daemon]\nmax_requests_per_second_per_uid = 100000\n[ops]")
        if proves:
            files["proof"] = written(home / "proof.first", key_pem(new_key(PROOF_ALG)))
            config = config.replace(f'"{CLIENT_ID}"', f'"{DPOP_CLIENT_ID}"') + PROOF_KEY
            config = config.replace('sender_constraint = "certificate"', DPOP)
        secret = Secret(home / "mounted")
        secret.swap(**files)
        with broker_process(sandbox, config=config) as broker:
            yield World(sandbox, broker, secret, files)


def load_of(bindings: list[str]) -> list[Call]:
    """Give the calls of 32 callers: half of them have tokens, half call the API."""

    def sized(size: int) -> Callable[[Reply], str | None]:
        return lambda reply: None if len(reply.body) == size else f"{len(reply.body)} bytes of {size}"

    def newer() -> Callable[[Reply], str | None]:
        """Whoever saw a token of one generation does not get one of an earlier generation."""
        last = 0

        def check(reply: Reply) -> str | None:
            nonlocal last
            at = bindings.index(binding_of(reply.json()))
            if at < last:
                return f"a token of generation {at} after one of {last}"
            last = at
            return None

        return check

    api = "/v1/egress/api"
    return [
        *(Call("token", "GET", "/v1/tokens/demo", check=newer()) for _ in range(16)),
        *(Call("GET /hello", "GET", f"{api}/hello") for _ in range(5)),
        *(Call("POST /echo", "POST", f"{api}/echo", body=b"x" * SMALL, check=sized(SMALL)) for _ in range(5)),
        *(Call("large GET", "GET", f"{api}/bytes/{LARGE}", check=sized(LARGE)) for _ in range(3)),
        *(Call("slow GET", "GET", f"{api}/bytes/{SLOW}?pace={SLOW // 2}", check=sized(SLOW)) for _ in range(3)),
    ]


def table(load: Load, lines: list[str], seconds: float) -> str:
    counts = [f"{kind}: {number} calls, the longest {load.longest[kind]:.2f} s" for kind, number in load.calls.items()]
    return "\n".join([f"{load.total} calls in {seconds:.1f} s, {len(load.failures)} failed", *sorted(counts), *lines])


def test_everything_is_replaced_five_times_under_load(tmp_path: Path, record_property: Record):
    """No call fails, no token is shown with a certificate that it is not bound to, and nothing is left open."""
    with world(tmp_path) as at:
        pid, control = at.broker.pid, at.sandbox.control
        at.bindings.append(at.binding())
        wait_until(at.is_idle, "what the start had open is closed")
        before = descriptors(pid)
        control.clear_requests()
        lines: list[str] = []
        began = time.monotonic()
        with callers(at.broker.socket, load_of(at.bindings)) as load:
            time.sleep(WARM)
            wait_until(partial(at.is_shown, at.bindings[0]), "the API has seen the first certificate")
            memory = resident(pid)
            for number in range(1, ROUNDS + 1):
                from_then = time.monotonic()
                old, opened = at.bindings[-1], connections(pid, at.ports)
                if number % 2:
                    at.new_signing_key()
                    at.new_authority()
                    fresh = at.new_certificate(f"turn-{number}")
                else:
                    fresh = at.new_everything(f"turn-{number}")
                wait_until(partial(at.is_bound_to, fresh), "the token is bound to the new certificate")
                in_use = time.monotonic()
                at.broker.wait_for("certificate_retired", thumbprint=old, reason="unused")
                if number % 2:  # otherwise the certificate in use is one of the authority before
                    control.change_authority("distrust")
                wait_until(partial(at.is_without, opened), "the older connections are closed")
                wait_until(partial(at.is_shown, fresh), "the API has seen the new certificate")
                lines.append(
                    f"round {number}: in use after {in_use - from_then:.2f} s, {len(opened)} older connections closed "
                    f"after {time.monotonic() - from_then:.2f} s, {resident(pid) >> 20} MiB"
                )
            taken = time.monotonic() - began
        wait_until(at.is_idle, "what the load had open is closed")
        after, grown = descriptors(pid), resident(pid) - memory
        lines.append(f"descriptors: {len(before)} before, {len(after)} after")
        lines.append(f"memory: {memory >> 20} MiB before, {grown / 2**20:+.1f} MiB after")
        lines.append(
            f"API: {control.count('resource')} requests, {len(at.bindings)} certificates, "
            f"{control.count('resource.unmatched')} tokens without theirs"
        )
        record_property("table", table(load, lines, taken))

        assert load.failures == []
        assert set(load.calls) == {call.kind for call in load_of([])}
        assert control.count("resource.unmatched") == 0
        assert control.count("resource") == control.count("resource.ok") == load.total - load.calls["token"]
        assert len(set(at.bindings)) == ROUNDS + 1
        assert len(after) <= len(before), (before, after)
        assert grown < GROWTH
        loaded = [event["thumbprint"] for event in at.broker.log("certificate_loaded")]
        assert loaded == at.bindings
        assert [event["thumbprint"] for event in at.broker.log("certificate_retired")] == at.bindings[:-1]
        assert len({event["kid"] for event in at.broker.log("signing_key_loaded")}) == ROUNDS + 1
        assert at.broker.log("rotation_refused") == []


def test_a_token_of_an_older_certificate_is_of_use_under_a_newer_authority(tmp_path: Path):
    """No other token can be had meanwhile; the connections for it trust what the others trust."""
    with world(tmp_path) as at:
        at.bindings.append(at.binding())
        at.sandbox.control.fault("token", "status", status=503)
        at.new_certificate("untried")
        at.new_authority()
        connection = UnixConnection(at.broker.socket)
        reply = connection.ask("GET", "/v1/egress/api/hello")
        connection.close()

        assert reply.status == 200, reply.body
        assert reply.json()["certificate"] == at.bindings[0]
        at.sandbox.control.clear_faults()
        wait_until(partial(at.is_bound_to, at.bindings[1]), "the token is bound to the new certificate")
        at.broker.wait_for("certificate_retired", thumbprint=at.bindings[0])


def test_the_key_of_proofs_is_replaced_under_load(tmp_path: Path, record_property: Record):
    """With nonces that change meanwhile: no call fails, and no token is shown with a proof of another key."""
    with world(tmp_path, proves=True) as at:
        control = at.sandbox.control
        control.set(resource_dpop_nonces="steady", dpop_nonces="steady", dpop_nonce_lifetime_seconds=2)
        at.bindings.append(at.binding())
        control.clear_requests()
        began = time.monotonic()
        with callers(at.broker.socket, load_of(at.bindings)) as load:
            time.sleep(WARM)
            for _ in range(PROOF_ROUNDS):
                fresh = at.new_proof_key()
                wait_until(partial(at.is_bound_to, fresh), "the token is bound to the new key")
                wait_until(partial(at.is_shown, fresh), "the API has seen a proof of the new key")
        challenged = control.count("resource.use_dpop_nonce")
        line = f"API: {control.count('resource')} requests, {challenged} of them were to be made again with a nonce"
        record_property("table", table(load, [line], time.monotonic() - began))

        assert load.failures == []
        assert control.count("resource.unmatched") == 0
        assert control.count("resource.ok") == load.total - load.calls["token"]
        assert challenged > 0
        assert len(set(at.bindings)) == PROOF_ROUNDS + 1
        assert at.broker.log("rotation_refused") == []
