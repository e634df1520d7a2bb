"""What binding tokens by DPoP needs, and what of it goes with nothing else."""

from __future__ import annotations

import pytest

from broker.config.dpop_combinations import check_dpop
from broker.config.problems import Findings
from broker.config.source import parse
from broker.config.structure import structure
from tests.unit.config.files import changed

CLIENT = 'client_id = "our-client"'
DPOP = f'{CLIENT}\nsender_constraint = "dpop"'
ISSUER = 'issuer = "https://auth.example.com"'
PROOFS = '[key.proofs]\nfile = "proofs.key"\nalg = "ES256"\n\n[client.raidiam]'
SECOND = """[client.second]
issuer = "raidiam"
client_id = "second"
signing_keys = ["signing"]
sender_constraint = "dpop"
dpop_key = "proofs"

[client.raidiam]"""
Edits = tuple[tuple[str, str], ...]


def found(text: str) -> list[str]:
    """Give what is said about DPoP in a text, and nothing else that is wrong with it."""
    raw = parse(text.encode(), Findings())
    assert raw is not None
    document, findings = structure(raw, Findings()), Findings()
    check_dpop(document, findings)
    return [str(problem) for problem in findings.problems()]


REFUSED: list[tuple[Edits, str]] = [
    (
        ((CLIENT, f'{CLIENT}\ndpop_key = "proofs"'), ("[client.raidiam]", PROOFS)),
        (
            "client.raidiam.dpop_key: has no effect: tokens are bound to certificate; "
            'write sender_constraint = "dpop", or remove it'
        ),
    ),
    (
        (
            (CLIENT, f'{DPOP}\ndpop_key = "proofs"\nclient_auth_method = "none"'),
            ("[client.raidiam]", PROOFS),
        ),
        (
            "client.raidiam.dpop_key: is not for a public client: its refresh tokens are bound to the key, which must "
            "not be replaced; remove it: the broker makes a key, and keeps it in the store"
        ),
    ),
    (
        (
            (CLIENT, f'{DPOP}\ndpop_key = "proofs"'),
            ("[client.raidiam]", PROOFS.replace("ES256", "RS256")),
        ),
        (
            'client.raidiam.dpop_key: key "proofs" has alg RS256, which no proof is signed with; '
            "use a key for one of ES256, EdDSA, PS256"
        ),
    ),
    (
        ((CLIENT, f'{DPOP}\ndpop_key = "signing"'),),
        (
            "client.raidiam.dpop_key: names a key of signing_keys: what signs proofs must sign nothing else; "
            "use another key, or remove it: the broker makes one"
        ),
    ),
    (
        (
            ("[client.raidiam]", PROOFS),
            (CLIENT, f'{DPOP}\ndpop_key = "proofs"'),
            ("[client.raidiam]", SECOND),
        ),
        (
            'client.raidiam.dpop_key: names the key of client "second": each client has its own; '
            "use another key, or remove it: the broker makes one"
        ),
    ),
    (
        ((CLIENT, DPOP), (ISSUER, f'{ISSUER}\nprofile = "fapi1_advanced"')),
        (
            'client.raidiam.sender_constraint: "dpop" is refused by profile = "fapi1_advanced" of issuer "raidiam"; '
            'write sender_constraint = "certificate": FAPI 1.0 part 2 section 5.2.2 knows nothing else'
        ),
    ),
    (
        (('client = "raidiam"', 'client = "raidiam"\ndpop_resources = ["https://api.example/"]'),),
        (
            'token.directory.dpop_resources: has no effect: tokens of client "raidiam" are not bound by DPoP; '
            'remove it, or write sender_constraint = "dpop" in [client.raidiam]'
        ),
    ),
]


@pytest.mark.parametrize(("edits", "problem"), REFUSED)
def test_what_does_not_go_together_is_refused(edits: Edits, problem: str):
    """Each by a sentence that says where, what and what to do."""
    assert found(changed(*edits)) == [problem]


@pytest.mark.parametrize(
    "edits",
    [
        ((CLIENT, DPOP),),
        ((CLIENT, f'{DPOP}\ndpop_key = "proofs"'), ("[client.raidiam]", PROOFS)),
        ((CLIENT, f'{DPOP}\nclient_auth_method = "none"'), (ISSUER, f'{ISSUER}\nprofile = "oauth2"')),
        (
            (CLIENT, DPOP),
            ('client = "raidiam"', 'client = "raidiam"\ndpop_resources = ["https://api.example/v1"]'),
        ),
    ],
)
def test_what_goes_together_is_not_remarked_upon(edits: Edits):
    """With a key of its own or one that the broker makes; a public client has the latter."""
    assert found(changed(*edits)) == []
