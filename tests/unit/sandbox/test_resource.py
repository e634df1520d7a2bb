"""Tests of ``broker/sandbox/resource.py``: what the API's guard lets in."""

from __future__ import annotations

from typing import Any

import pytest

from broker.sandbox.dpop import Nonces, Possession, ProofReader
from broker.sandbox.jose import SigningAlg, generate_private_key_pem, read_private, sign
from broker.sandbox.options import NonceMode, Options
from broker.sandbox.resource import AccessRefusedError, Binding, Guard, Presented
from tests.unit.sandbox.talking import Prover

NOW = 1_790_000_000.0
KEY = read_private(SigningAlg.ES256, generate_private_key_pem(SigningAlg.ES256))
STRANGER = read_private(SigningAlg.ES256, generate_private_key_pem(SigningAlg.ES256))
API = "https://api/things"


def guard(**options: Any) -> Guard:
    rules = Options(**options)
    nonces = Nonces(options=rules, mode=lambda: rules.resource_dpop_nonces, new_value=lambda: "nonce")
    return Guard(
        issuer="https://as",
        audience="https://api",
        scope="read",
        signing_key=KEY,
        proofs=ProofReader(nonces=nonces, options=rules),
    )


GUARD = guard()
PROVER, OTHER_PROVER = Prover(), Prover()

GOOD: dict[str, Any] = {
    "iss": "https://as",
    "aud": "https://api",
    "scope": "read write",
    "exp": NOW + 1,
    "cnf": {"x5t#S256": "thumb"},
}


def bearer(claims: dict[str, Any] | None = None, *, typ: str = "at+jwt", key: Any = KEY) -> str:
    merged = {name: value for name, value in {**GOOD, **(claims or {})}.items() if value is not None}
    return f"Bearer {sign(key, typ, merged)}"


def shown(authorization: str | None, *, certificate: str | None = "thumb", proofs: tuple[str, ...] = ()) -> Presented:
    possession = Possession(method="GET", url=API, proofs=proofs)
    return Presented(authorization=authorization, certificate=certificate, possession=possession)


def proved(
    cnf: dict[str, Any], *, prover: Prover = PROVER, certificate: str | None = None, **changes: Any
) -> Presented:
    """Show a token with *cnf*, and a proof."""
    token = bearer({"cnf": cnf}).partition(" ")[2]
    proof = prover.prove("GET", API, token, **{"iat": int(NOW), **changes})
    return shown(f"DPoP {token}", certificate=certificate, proofs=(proof,))


@pytest.mark.parametrize("authorization", [bearer(), bearer({"aud": ["https://x", "https://api"]})])
def test_a_good_token_is_let_in(authorization: str):
    """On the connection that it is bound to, for this audience alone or among others."""
    assert GUARD.admit(shown(authorization), now=NOW)["scope"] == "read write"


def test_the_scheme_is_compared_without_case():
    """RFC 9110 section 11.1."""
    assert GUARD.admit(shown(bearer().replace("Bearer", "bEARER")), now=NOW)


@pytest.mark.parametrize(
    ("authorization", "status", "error"),
    [
        (None, 401, None),
        ("Basic YTpi", 400, "invalid_request"),
        ("Bearer", 400, "invalid_request"),
        ("Bearer nonsense", 401, "invalid_token"),
        (bearer(key=STRANGER), 401, "invalid_token"),
        (bearer(typ="JWT"), 401, "invalid_token"),
        (bearer({"iss": "https://other"}), 401, "invalid_token"),
        (bearer({"exp": NOW}), 401, "invalid_token"),
        (bearer({"aud": "https://other"}), 401, "invalid_token"),
        (bearer({"cnf": None}), 401, "invalid_token"),
        (bearer({"cnf": {"x5t#S256": "other"}}), 401, "invalid_token"),
        (bearer({"scope": "write"}), 403, "insufficient_scope"),
        (bearer({"scope": "reader"}), 403, "insufficient_scope"),
    ],
)
def test_everything_else_is_not(authorization: str | None, status: int, error: str | None):
    """RFC 6750 section 3.1."""
    with pytest.raises(AccessRefusedError) as caught:
        GUARD.admit(shown(authorization), now=NOW)

    assert (caught.value.status, caught.value.error) == (status, error)


def test_a_token_bound_to_nothing_is_not_let_in_without_a_certificate():
    """None is not equal to None here."""
    with pytest.raises(AccessRefusedError, match="another certificate"):
        GUARD.admit(shown(bearer({"cnf": {}}), certificate=None), now=NOW)


def test_the_challenge_names_the_error():
    """RFC 6750 section 3; without a token it names none."""
    assert AccessRefusedError("invalid_token", "it expired").challenge() == (
        'Bearer realm="sandbox", error="invalid_token", error_description="it expired"'
    )
    both = AccessRefusedError(None, "no token").challenge()
    assert both == 'Bearer realm="sandbox", DPoP realm="sandbox", algs="PS256 ES256 EdDSA"'
    assert AccessRefusedError("invalid_dpop_proof", "no", dpop=True).challenge() == (
        'DPoP realm="sandbox", algs="PS256 ES256 EdDSA", error="invalid_dpop_proof", error_description="no"'
    )


@pytest.mark.parametrize(
    ("authorization", "certificate", "known"),
    [
        (bearer({"client_id": "app"}), "thumb", Binding(client="app", cnf={"x5t#S256": "thumb"}, matched=True)),
        (bearer(), "other", Binding(cnf={"x5t#S256": "thumb"}, matched=False)),
        (bearer(), None, Binding(cnf={"x5t#S256": "thumb"}, matched=False)),
        (bearer({"cnf": {}, "exp": NOW - 9}), "thumb", Binding(cnf={}, matched=False)),
        (bearer(key=STRANGER), "thumb", Binding()),
        (None, "thumb", Binding()),
    ],
)
def test_what_a_token_is_bound_to_is_known_of_bad_ones_too(
    authorization: str | None, certificate: str | None, known: Binding
):
    """For the journal: an expired token on a stranger's connection is a mistake as well; a forged one says nothing."""
    assert GUARD.binding(shown(authorization, certificate=certificate)) == known


def test_a_fingerprint_does_not_tell_the_token():
    """The same token has the same one; no token has none."""
    first, second = shown("Bearer one"), shown("DPoP one")

    assert first.fingerprint() == second.fingerprint() != shown("Bearer two").fingerprint()
    assert "one" not in str(first.fingerprint()) + repr(first)
    assert shown(None).fingerprint() is None


def test_a_token_bound_to_a_key_is_let_in_with_a_proof_of_it():
    """Whatever the certificate of the connection, unless it is bound to that, too."""
    only_key, both = {"jkt": PROVER.jkt}, {"jkt": PROVER.jkt, "x5t#S256": "thumb"}

    assert GUARD.admit(proved(only_key), now=NOW)
    assert GUARD.admit(proved(only_key, certificate="any"), now=NOW)
    assert GUARD.admit(proved(both, certificate="thumb"), now=NOW)


@pytest.mark.parametrize(
    ("presented", "error", "dpop"),
    [
        (shown(bearer({"cnf": {"jkt": PROVER.jkt}})), "invalid_token", True),
        (proved({"x5t#S256": "thumb"}, certificate="thumb"), "invalid_token", False),
        (proved({}), "invalid_token", False),
        (proved({"jkt": PROVER.jkt}, prover=OTHER_PROVER), "invalid_token", True),
        (proved({"jkt": PROVER.jkt, "x5t#S256": "thumb"}, certificate="other"), "invalid_token", False),
        (proved({"jkt": PROVER.jkt, "x5t#S256": "thumb"}), "invalid_token", False),
        (proved({"jkt": PROVER.jkt}, ath=None), "invalid_dpop_proof", True),
        (proved({"jkt": PROVER.jkt}, ath="other"), "invalid_dpop_proof", True),
        (shown(bearer({"cnf": {"jkt": PROVER.jkt}}).replace("Bearer", "DPoP")), "invalid_dpop_proof", True),
    ],
    ids=["bearer", "certificate", "nothing", "key", "one of two", "none of two", "no ath", "ath", "no proof"],
)
def test_everything_else_about_proofs_is_refused(presented: Presented, error: str, dpop: bool):
    """RFC 9449 section 7.2: a token for DPoP is not let in as a bearer token, either."""
    with pytest.raises(AccessRefusedError) as caught:
        GUARD.admit(presented, now=NOW)

    assert (caught.value.status, caught.value.error, caught.value.dpop) == (401, error, dpop)


def test_a_nonce_is_asked_for_where_one_is_wanted():
    """RFC 9449 section 9."""
    strict = guard(resource_dpop_nonces=NonceMode.STEADY)
    nonce = strict.proofs.nonces.told(now=NOW)

    with pytest.raises(AccessRefusedError) as caught:
        strict.admit(proved({"jkt": PROVER.jkt}), now=NOW)

    assert (caught.value.status, caught.value.error) == (401, "use_dpop_nonce")
    assert strict.admit(proved({"jkt": PROVER.jkt}, nonce=nonce), now=NOW)


@pytest.mark.parametrize(
    ("presented", "matched"),
    [
        (proved({"jkt": PROVER.jkt}), True),
        (proved({"jkt": PROVER.jkt}, prover=OTHER_PROVER), False),
        (shown(bearer({"cnf": {"jkt": PROVER.jkt}})), False),
        (proved({"jkt": PROVER.jkt, "x5t#S256": "thumb"}), False),
    ],
)
def test_the_journal_knows_whether_the_key_matched(presented: Presented, matched: bool):
    """Without looking whether the proof is good."""
    assert GUARD.binding(presented).matched is matched
