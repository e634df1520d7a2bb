from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from broker.config.settings import Settings
from broker.wiring import Identities, load_identities
from broker.wiring.renewing import renewed
from tests.unit.daemon.test_process import CONFIG
from tests.unit.keys.certificates import CLIENT_AUTH, DAY, NOW, WALL, intermediate, issue, key_pem, p256, root, written
from tests.unit.wiring.configurations import PROXIED, settings_of, with_others


def in_use(tmp_path: Path) -> tuple[Settings, Identities]:
    settings = with_others(tmp_path)
    written(tmp_path / "k.pem", key_pem(p256()))
    return settings, load_identities(settings, wall_now=WALL)


def test_nothing_is_loaded_that_did_not_change(tmp_path: Path):
    """The very objects are kept, with what they have in memory."""
    settings, before = in_use(tmp_path)

    renewal = renewed(settings, before, wall_now=WALL)

    assert (renewal.items, renewal.refused) == ((), {})
    assert renewal.identities.keys["k"] is before.keys["k"]


def test_each_section_is_renewed_by_itself(tmp_path: Path):
    """A good pair is taken, and a bad key beside it is refused; what is refused is tried again."""
    settings, before = in_use(tmp_path)
    pair = issue(by=intermediate(), usages=CLIENT_AUTH, signs=True)
    written(tmp_path / "x.pem", pair.cert_pem())
    written(tmp_path / "x.key", pair.key_pem())
    written(tmp_path / "e.secret", b"another\n")
    written(tmp_path / "k.pem", b"half of")

    renewal = renewed(settings, before, wall_now=WALL)
    again = renewed(settings, renewal.identities, wall_now=WALL)

    assert renewal.items == ("certificate.x", "client.e")
    assert {item: error.code for item, error in renewal.refused.items()} == {"key.k": "key_unreadable"}
    assert renewal.identities.certificates["x"].thumbprint != before.certificates["x"].thumbprint
    assert renewal.identities.secrets["e"].reveal() == "another"
    assert renewal.identities.keys["k"] is before.keys["k"]
    assert (again.items, list(again.refused)) == ((), ["key.k"])
    assert again.identities.certificates["x"] is renewal.identities.certificates["x"]


def test_a_half_written_pair_and_one_that_is_not_valid_yet_are_refused(tmp_path: Path):
    """The second is taken when its time has come."""
    settings, before = in_use(tmp_path)
    pair = issue(by=intermediate(), usages=CLIENT_AUTH, signs=True, start=NOW + DAY, end=NOW + 2 * DAY)
    written(tmp_path / "x.pem", pair.cert_pem())
    half = renewed(settings, before, wall_now=WALL)
    written(tmp_path / "x.key", pair.key_pem())
    early = renewed(settings, before, wall_now=WALL)
    in_time = renewed(settings, before, wall_now=WALL + DAY.total_seconds())

    assert half.refused["certificate.x"].code == "certificate_mismatch"
    assert early.refused["certificate.x"].code == "certificate_not_yet_valid"
    assert in_time.items == ("certificate.x",)


def test_an_expired_certificate_that_did_not_change_keeps_no_other_from_being_renewed(tmp_path: Path):
    """A start would refuse it; but it is in use already, and the others are not its fault."""
    settings, before = in_use(tmp_path)
    written(tmp_path / "e.secret", b"another\n")

    renewal = renewed(settings, before, wall_now=WALL + 10 * DAY.total_seconds())

    assert (renewal.items, renewal.refused) == (("client.e",), {})


def test_a_bad_ca_file_holds_all_of_them_back(tmp_path: Path):
    """Every connection is made with what it says."""
    text = PROXIED.replace("[key.k]", 'ca_file = "ca.pem"\n[key.k]')
    written(tmp_path / "ca.pem", root().cert_pem())
    written(tmp_path / "proxy.secret", b"user:password\n")
    written(tmp_path / "k.pem", key_pem(p256()))
    settings = settings_of(tmp_path, text)
    before = load_identities(settings, wall_now=WALL)
    written(tmp_path / "proxy.secret", b"user:other\n")
    written(tmp_path / "ca.pem", b"half of")

    bad = renewed(settings, before, wall_now=WALL)
    written(tmp_path / "ca.pem", intermediate().cert_pem())
    good = renewed(settings, before, wall_now=WALL)

    assert (bad.items, bad.identities) == ((), before)
    assert bad.refused["issuer.nobody"].code == "ca_unreadable"
    assert good.items == ("proxy.nobody", "issuer.nobody")


def test_what_was_loaded_without_digests_is_loaded_again(tmp_path: Path):
    """Whoever built identities by hand gets them compared from the first look on."""
    settings, before = in_use(tmp_path)

    renewal = renewed(settings, replace(before, contents={}), wall_now=WALL)

    assert renewal.items == ("certificate.x", "key.k", "client.e")


PROVING = """
[key.d]
file = "d.pem"
alg = "ES256"
[client.p]
issuer = "nobody"
client_id = "p"
client_auth_method = "private_key_jwt"
signing_keys = ["k"]
sender_constraint = "dpop"
dpop_key = "d"
"""


def proving(tmp_path: Path) -> tuple[Settings, Identities, bytes, bytes]:
    """A signing key and a DPoP key in use, and what their files hold."""
    files = [key_pem(p256()), key_pem(p256())]
    for name, content in zip(("k.pem", "d.pem"), files, strict=True):
        written(tmp_path / name, content)
    settings = settings_of(tmp_path, CONFIG + PROVING)
    return settings, load_identities(settings, wall_now=WALL), files[0], files[1]


def test_a_new_file_that_gives_a_key_a_second_purpose_is_refused(tmp_path: Path):
    """As at a start (SEC-07); whichever of the two was replaced, and both if both were."""
    settings, before, signing, proof = proving(tmp_path)
    both = key_pem(p256())
    seen = []
    for in_k, in_d in ((signing, signing), (proof, proof), (both, both)):
        written(tmp_path / "k.pem", in_k)
        written(tmp_path / "d.pem", in_d)
        renewal = renewed(settings, before, wall_now=WALL)
        seen.append((renewal.items, {item: error.code for item, error in renewal.refused.items()}))
        assert renewal.identities.keys["k"] is before.keys["k"]
        assert renewal.identities.proof_keys["d"] is before.proof_keys["d"]
        assert renewal.identities.contents == before.contents

    assert seen == [
        ((), {"key.d": "key_shared"}),
        ((), {"key.k": "key_shared"}),
        ((), {"key.k": "key_shared", "key.d": "key_shared"}),
    ]


def test_what_would_be_shared_with_a_key_that_has_to_stay_is_refused_as_well(tmp_path: Path):
    """The new DPoP key is bad, so that the old one goes on, which the new signing key is."""
    settings, before, _, proof = proving(tmp_path)
    written(tmp_path / "k.pem", proof)
    written(tmp_path / "d.pem", b"half of")

    renewal = renewed(settings, before, wall_now=WALL)

    assert {item: error.code for item, error in renewal.refused.items()} == {
        "key.k": "key_shared",
        "key.d": "key_unreadable",
    }


def test_two_keys_that_change_places_at_once_are_taken(tmp_path: Path):
    """Each has one purpose, before and after."""
    settings, before, signing, proof = proving(tmp_path)
    written(tmp_path / "k.pem", proof)
    written(tmp_path / "d.pem", signing)

    assert renewed(settings, before, wall_now=WALL).items == ("key.k", "key.d")
