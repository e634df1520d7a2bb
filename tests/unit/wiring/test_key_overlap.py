from __future__ import annotations

from pathlib import Path

from broker.config.settings import KeySettings
from broker.keys.signer import SigningKey
from broker.wiring.identities import Identities
from broker.wiring.key_overlap import PUBLISHED_AFTER, Overlap, arranged
from tests.unit.keys.certificates import p256, rsa_key

DELAY = 600.0
WANTED = {"k": KeySettings(name="k", file=Path("k"), alg="ES256", kid=None, passphrase_file=None, switch_delay=DELAY)}


def key(*, kid: str | None = None, alg: str = "ES256") -> SigningKey:
    return SigningKey(name="k", alg=alg, kid=kid, not_after=None, key=p256() if alg == "ES256" else rsa_key())


def having(one: SigningKey) -> Identities:
    return Identities(certificates={}, keys={"k": one})


def kids(identities: Identities) -> list[str]:
    return [jwk["kid"] for jwk in identities.published.get("k", ())]


def test_a_new_key_is_published_and_signs_when_its_time_has_come():
    """The older one signs until then, and stays published for an hour more."""
    old, new = key(), key()
    before = having(old)

    waiting, overlap = arranged(before, having(new), Overlap(), WANTED, now=0.0)
    still, overlap = arranged(waiting, waiting, overlap, WANTED, now=DELAY - 1.0)
    switched, overlap = arranged(still, still, overlap, WANTED, now=DELAY)
    at_last, overlap = arranged(switched, switched, overlap, WANTED, now=DELAY + PUBLISHED_AFTER)

    assert (waiting.keys["k"], kids(waiting)) == (old, [new.kid])
    assert (still.keys["k"], kids(still)) == (old, [new.kid])
    assert (switched.keys["k"], kids(switched)) == (new, [old.kid])
    assert (at_last.keys["k"], kids(at_last)) == (new, [])
    assert overlap == Overlap()


def test_a_reload_in_between_does_not_begin_the_wait_anew():
    """It loads the same key as another object."""
    pair = p256()
    old = key()
    new, same = (SigningKey(name="k", alg="ES256", kid=None, not_after=None, key=pair) for _ in range(2))

    waiting, overlap = arranged(having(old), having(new), Overlap(), WANTED, now=0.0)
    reloaded, overlap = arranged(waiting, having(same), overlap, WANTED, now=DELAY / 2)
    switched, _ = arranged(reloaded, reloaded, overlap, WANTED, now=DELAY)

    assert reloaded.keys["k"] is old
    assert switched.keys["k"] is same


def test_the_old_key_that_comes_back_ends_the_wait():
    """Nothing is published beside it then."""
    pair = p256()
    old, again = (SigningKey(name="k", alg="ES256", kid=None, not_after=None, key=pair) for _ in range(2))

    waiting, overlap = arranged(having(old), having(key()), Overlap(), WANTED, now=0.0)
    back, overlap = arranged(waiting, having(again), overlap, WANTED, now=1.0)

    assert (back.keys["k"], kids(back)) == (again, [])
    assert overlap == Overlap()


def test_what_is_compromised_neither_signs_nor_is_published():
    """The new one signs at once, whatever the wait."""
    old, new = key(), key()

    at_once, overlap = arranged(having(old), having(new), Overlap(), WANTED, now=0.0, compromised={"k"})
    waiting, waits = arranged(having(old), having(new), Overlap(), WANTED, now=0.0)
    later, rest = arranged(waiting, waiting, waits, WANTED, now=1.0, compromised={"k"})

    assert [(one.keys["k"], kids(one)) for one in (at_once, later)] == [(new, []), (new, [])]
    assert overlap == rest == Overlap()


def test_a_key_of_the_same_kid_or_of_another_algorithm_does_not_wait():
    """Two of one kid cannot be published, and a configured algorithm that changed cannot be signed with."""
    old, same_kid = key(kid="fixed"), key(kid="fixed")
    other_alg = key(alg="PS256")

    replaced, overlap = arranged(having(old), having(same_kid), Overlap(), WANTED, now=0.0)
    changed, _ = arranged(having(old), having(other_alg), Overlap(), WANTED, now=0.0)

    assert (replaced.keys["k"], kids(replaced)) == (same_kid, [])
    assert overlap == Overlap()
    assert (changed.keys["k"], kids(changed)) == (other_alg, ["fixed"])


def test_a_key_that_is_new_in_the_configuration_signs_at_once():
    """There is none that could sign in its place; and one that is gone is published no more."""
    new = key()
    none = Identities(certificates={}, keys={})

    added, overlap = arranged(none, having(new), Overlap(), WANTED, now=0.0)
    removed, rest = arranged(added, none, overlap, {}, now=1.0)

    assert (added.keys["k"], kids(added)) == (new, [])
    assert (removed.keys, rest) == ({}, Overlap())
