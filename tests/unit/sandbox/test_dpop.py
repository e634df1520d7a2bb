"""Tests of ``broker/sandbox/dpop.py``: each way in which a proof can be wrong, and the lives of nonces."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from itertools import count
from typing import Any

import pytest

from broker.sandbox.dpop import Nonces, Possession, ProofReader, ProofRefusedError, access_token_hash
from broker.sandbox.jose import SigningAlg
from broker.sandbox.options import NonceMode, Options
from tests.unit.sandbox.talking import Prover, digest_of

NOW = 1_790_000_000.0
URL = "https://localhost:1/token"
PROVER = Prover()
ED, RSA = Prover(alg=SigningAlg.EDDSA), Prover(alg=SigningAlg.PS256)
PRIVATE_JWK = PROVER.key.as_dict(private=True)


def reader(mode: NonceMode = NonceMode.OFF, **options: Any) -> ProofReader:
    numbers, rules = count(1), Options(**options)
    nonces = Nonces(options=rules, mode=lambda: mode, new_value=lambda: f"nonce-{next(numbers)}")
    return ProofReader(nonces=nonces, options=rules)


def shown(*proofs: str) -> Possession:
    return Possession(method="POST", url=URL, proofs=proofs)


def proof(prover: Prover = PROVER, *, header: dict[str, Any] | None = None, **changes: Any) -> str:
    return prover.prove("POST", URL, header=header, **{"iat": int(NOW), **changes})


@pytest.mark.parametrize("prover", [PROVER, ED, RSA], ids=["ES256", "EdDSA", "PS256"])
def test_a_good_proof_names_its_key(prover: Prover):
    """By each algorithm; the thumbprint is that of RFC 7638."""
    assert reader().read(shown(proof(prover)), token=None, now=NOW) == prover.jkt


@pytest.mark.parametrize("iat", [int(NOW) - 60, int(NOW) + 15])
def test_clocks_may_differ_a_little(iat: int):
    """As far as a proof may be old, and as far as clients' clocks may be ahead."""
    assert reader().read(shown(proof(iat=iat)), token=None, now=NOW)


@pytest.mark.parametrize(
    ("header", "changes"),
    [
        ({"typ": "JWT"}, {}),
        ({"typ": None}, {}),
        ({"alg": "ES384"}, {}),
        ({"alg": "none"}, {}),
        ({"alg": "EdDSA"}, {}),
        ({"jwk": None}, {}),
        ({"jwk": "text"}, {}),
        ({"jwk": PRIVATE_JWK}, {}),
        ({"jwk": {"kty": "EC"}}, {}),
        ({"jwk": {"kty": "oct", "k": "AAAA"}}, {}),
        ({"jwk": Prover().key.as_dict(private=False)}, {}),
        ({}, {"htm": "post"}),
        ({}, {"htm": None}),
        ({}, {"htu": f"{URL}?a=b"}),
        ({}, {"htu": f"{URL}#a"}),
        ({}, {"htu": URL.upper()}),
        ({}, {"htu": f"{URL}/"}),
        ({}, {"htu": None}),
        ({}, {"iat": int(NOW) - 61}),
        ({}, {"iat": int(NOW) + 16}),
        ({}, {"iat": "now"}),
        ({}, {"iat": True}),
        ({}, {"iat": None}),
        ({}, {"jti": ""}),
        ({}, {"jti": 1}),
        ({}, {"jti": None}),
        ({}, {"ath": "a"}),
        ({}, {"nonce": "of nobody"}),
    ],
)
def test_a_wrong_proof_is_refused(header: dict[str, Any], changes: dict[str, Any]):
    """RFC 9449 section 4.3, point by point; none is signed wrongly unless its header says so."""
    made = proof(**changes)
    if header:
        made = with_header(made, **header)

    with pytest.raises(ProofRefusedError) as caught:
        reader().read(shown(made), token=None, now=NOW)

    assert caught.value.error == "invalid_dpop_proof"


def with_header(made: str, **changes: Any) -> str:
    """Give the proof with another header, which the signature does not go with; None leaves a member out."""
    _, claims, signature = made.split(".")
    head = {"typ": "dpop+jwt", "alg": "ES256", "jwk": PROVER.key.as_dict(private=False), **changes}
    return f"{encoded({name: value for name, value in head.items() if value is not None})}.{claims}.{signature}"


def encoded(value: Any) -> str:
    return urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize("n", ["", "5", "AQAB", "A" * 341, "A" * 342 + "\u00e9"])
def test_a_weak_key_is_refused(n: str):
    """RSA of less than 2,048 bits (FAPI 2.0 section 5.4), however it is written."""
    with pytest.raises(ProofRefusedError, match="public key for its alg"):
        reader().read(
            shown(with_header(proof(RSA), alg="PS256", jwk={"kty": "RSA", "e": "AQAB", "n": n})), token=None, now=NOW
        )


@pytest.mark.parametrize("proofs", [(), ("a",), (proof(), proof())])
def test_there_is_exactly_one_proof(proofs: tuple[str, ...]):
    """None, one that cannot be read, two."""
    with pytest.raises(ProofRefusedError):
        reader().read(shown(*proofs), token=None, now=NOW)


def test_a_proof_is_good_once():
    """For as long as it would be good at all; another key may have the same jti."""
    proofs, made = reader(), proof(jti="1")
    proofs.read(shown(made), token=None, now=NOW)

    for now in (NOW, NOW + 60):
        with pytest.raises(ProofRefusedError, match="jti"):
            proofs.read(shown(made), token=None, now=now)
    assert proofs.read(shown(proof(ED, jti="1")), token=None, now=NOW)


def test_a_proof_that_comes_with_a_token_has_its_hash():
    """RFC 9449 section 4.2: that of this token."""
    assert access_token_hash("token") == digest_of("token")
    assert reader().read(shown(proof(ath=digest_of("token"))), token="token", now=NOW)
    for ath in (None, digest_of("other"), 5, "\u00e9"):
        with pytest.raises(ProofRefusedError, match="ath"):
            reader().read(shown(proof(ath=ath)), token="token", now=NOW)


def test_a_nonce_that_is_wanted_is_asked_for():
    """And the one that was given is taken, more than once."""
    proofs = reader(NonceMode.STEADY)
    told = proofs.nonces.told(now=NOW)

    for nonce in (None, "other"):
        with pytest.raises(ProofRefusedError) as caught:
            proofs.read(shown(proof(nonce=nonce)), token=None, now=NOW)
        assert caught.value.error == "use_dpop_nonce"
    for _ in range(2):
        assert proofs.read(shown(proof(nonce=told)), token=None, now=NOW)
    assert proofs.nonces.told(now=NOW) == told


def test_a_proof_without_its_nonce_is_not_spent():
    """A client makes a new one all the same; the server has not remembered this one."""
    proofs = reader(NonceMode.STEADY)
    told = proofs.nonces.told(now=NOW)
    with pytest.raises(ProofRefusedError):
        proofs.read(shown(proof(jti="1")), token=None, now=NOW)

    assert proofs.read(shown(proof(jti="1", nonce=told)), token=None, now=NOW)


def test_a_steady_nonce_has_its_time():
    """After it there is another, and the old one is refused."""
    proofs = reader(NonceMode.STEADY, dpop_nonce_lifetime_seconds=30)
    first = proofs.nonces.told(now=NOW)
    later = NOW + 30

    with pytest.raises(ProofRefusedError):
        proofs.read(shown(proof(nonce=first, iat=int(later))), token=None, now=later)
    second = proofs.nonces.told(now=later)

    assert second != first
    assert proofs.read(shown(proof(nonce=second, iat=int(later))), token=None, now=later)


@pytest.mark.parametrize(("kept", "good"), [(0, [False, False, True]), (1, [False, True, True])])
def test_a_rotating_nonce_is_another_with_every_answer(kept: int, good: list[bool]):
    """The earlier ones are refused, but for as many as are kept."""
    proofs = reader(NonceMode.ROTATING, dpop_nonces_kept=kept)
    told = [proofs.nonces.told(now=NOW) for _ in range(3)]

    taken = []
    for nonce in told:
        try:
            taken.append(bool(proofs.read(shown(proof(nonce=nonce)), token=None, now=NOW)))
        except ProofRefusedError:
            taken.append(False)

    assert len(set(told)) == 3
    assert taken == good


def test_without_nonces_none_is_told_and_one_that_was_made_is_taken():
    """A fault asks for a nonce where the server wants none."""
    proofs = reader()

    assert proofs.nonces.told(now=NOW) is None
    made = proofs.nonces.made(now=NOW)
    assert proofs.read(shown(proof(nonce=made)), token=None, now=NOW)


def test_the_journal_reads_proofs_without_believing_them():
    """What cannot be read says nothing."""
    wrong = proof(nonce="n")[:-4] + "AAAA"

    assert (shown(wrong).unverified_jkt(), shown(wrong).unverified_nonce()) == (PROVER.jkt, True)
    assert (shown(proof()).unverified_jkt(), shown(proof()).unverified_nonce()) == (PROVER.jkt, False)
    for nothing in (shown(), shown("a.b.c")):
        assert (nothing.unverified_jkt(), nothing.unverified_nonce()) == (None, None)
