from __future__ import annotations

from dataclasses import replace

from broker.tokens.acquire import Registration
from broker.tokens.exchange import Exchange
from broker.tokens.grant import Grant
from broker.tokens.handover import Choice, Handovers, Identity, identity_of, moved
from tests.fakes import WALL_AT_BOOT, Dice, HandClock
from tests.unit.tokens.dpop import FakeProofKey, proofs_of
from tests.unit.tokens.world import CLIENT, ISSUER, FakeMetadata, FakeSession, FakeSigner

CLOCK = HandClock(now=0.0)
NOBODY = Grant(id="g", token="t", owner="app", issuer="i", client_id="c", created_at=1.0)


def showing(certificate: str | None, key: str | None = "key-1", *, not_after: float | None = None) -> Registration:
    """Make the means of a client that shows these."""
    session = FakeSession(thumbprint=certificate)
    session.not_after = not_after
    signer = None if key is None else FakeSigner(thumbprint=key)
    exchange = Exchange(session=session, signer=signer, clock=CLOCK, randomness=Dice())
    return Registration(client=CLIENT, issuer=ISSUER, metadata=FakeMetadata(), exchange=exchange)


def last(registration: Registration, name: str = "g") -> Grant:
    """Give a grant that last succeeded with *registration*."""
    return replace(moved(NOBODY, registration), id=name)


def chosen(handovers: Handovers, grant: Grant, *, in_doubt: bool = False, is_refused: bool = False) -> Choice:
    return handovers.choose("app", grant, in_doubt=in_doubt or is_refused, is_refused=is_refused)


def handing_over(
    old: Registration, new: Registration, *, clock: HandClock | None = None, has_grants: bool = True
) -> Handovers:
    handovers = Handovers({"app": old}, clock=clock or HandClock(now=0.0))
    handovers.replace({"app": new}, has_grants=lambda _: has_grants)
    return handovers


def test_what_a_client_shows_is_its_certificate_and_its_key():
    """As far as it has them."""
    assert identity_of(showing("one")) == Identity(thumbprint="one", key_id="key-1")
    assert identity_of(showing(None, None)) == Identity(thumbprint=None, key_id=None)


def test_a_grant_counts_the_changes_that_it_took_part_in():
    """Of certificate or key; a first success is none, nor is the next with the same."""
    first = moved(NOBODY, showing("one"))
    same = moved(first, showing("one"))
    other_key = moved(same, showing("one", "key-2"))
    other_certificate = moved(other_key, showing("two", "key-2"))

    assert [grant.generation for grant in (first, same, other_key, other_certificate)] == [0, 0, 1, 2]
    assert (other_certificate.thumbprint, other_certificate.key_id) == ("two", "key-2")


def test_a_record_from_before_keys_were_known_is_no_change():
    """Earlier versions wrote the certificate only."""
    assert moved(replace(NOBODY, thumbprint="one"), showing("one")).generation == 0


def test_one_grant_tries_and_the_others_go_on():
    """Whoever is first, out of doubt."""
    old, new = showing("one"), showing("two")
    handovers = handing_over(old, new)

    doubtful = chosen(handovers, last(old, "doubtful"), in_doubt=True)
    first = chosen(handovers, last(old, "first"))
    second = chosen(handovers, last(old, "second"))
    again = chosen(handovers, last(old, "first"))

    assert (doubtful.registration, doubtful.on_trial) == (old, False)
    assert (first.registration, first.on_trial, first.counts) == (new, True, False)
    assert (second.registration, second.on_trial, second.is_older, second.counts) == (old, False, True, False)
    assert again.on_trial


def test_all_follow_when_it_has_passed():
    """And what the server took becomes what it is known to take."""
    old, new = showing("one"), showing("two")
    handovers = handing_over(old, new)
    chosen(handovers, last(old))

    passed = [handovers.passed("app", new), handovers.passed("app", new)]

    assert passed == [True, False]
    assert chosen(handovers, last(old, "other")) == Choice(registration=new)
    assert handovers.settled("app") is new
    assert handovers.needs(old)


def test_a_failed_trial_is_made_again_later_and_later():
    """A quarter of an hour apart in the end."""
    clock = HandClock(now=0.0)
    old, new = showing("one"), showing("two")
    handovers = handing_over(old, new, clock=clock)
    pauses = []
    for _ in range(6):
        due_at = handovers.trial_due_at("app")
        assert due_at is not None
        clock.now = due_at - 1.0 if due_at else 0.0
        early = chosen(handovers, last(old))
        clock.now = due_at
        assert chosen(handovers, last(old)).on_trial
        assert not early.on_trial or due_at == 0.0
        assert handovers.trial_due_at("app") is None
        pauses.append(handovers.failed("app", new))

    assert pauses == [60.0, 120.0, 240.0, 480.0, 900.0, 900.0]


def test_the_end_of_a_trial_that_was_overtaken_says_nothing():
    """Another certificate came meanwhile, or the client went."""
    old, new, newest = showing("one"), showing("two"), showing("three")
    handovers = handing_over(old, new)
    chosen(handovers, last(old))
    handovers.replace({"app": newest}, has_grants=lambda _: True)

    assert not handovers.passed("app", new)
    assert handovers.failed("app", new) is None
    assert handovers.failed("gone", new) is None
    assert chosen(handovers, last(old)).registration is newest
    assert handovers.trial_due_at("gone") is None


def test_a_grant_that_gives_its_trial_up_leaves_it_to_another():
    """Only its own."""
    old, new = showing("one"), showing("two")
    handovers = handing_over(old, new)
    chosen(handovers, last(old, "first"))

    handovers.let_go("app", "second")
    held = chosen(handovers, last(old, "second"))
    handovers.let_go("app", "first")
    handovers.let_go("gone", "first")

    assert not held.on_trial
    assert chosen(handovers, last(old, "second")).on_trial


def test_a_refusal_is_confirmed_with_what_the_grant_last_succeeded_with():
    """As long as that is valid, and only if it is something else."""
    clock = HandClock(now=0.0)
    old, new = showing("one", not_after=WALL_AT_BOOT + 100.0), showing("two")
    handovers = handing_over(old, new, clock=clock)
    chosen(handovers, last(old, "first"))
    handovers.passed("app", new)

    changed = chosen(handovers, last(old), is_refused=True)
    unchanged = chosen(handovers, last(new), is_refused=True)
    unknown = chosen(handovers, NOBODY, is_refused=True)
    clock.now = 100.0
    ended = chosen(handovers, last(old), is_refused=True)

    assert (changed.registration, changed.confirms, changed.counts) == (old, True, False)
    assert [choice.registration for choice in (unchanged, unknown, ended)] == [new] * 3
    assert not unchanged.confirms


def test_an_old_certificate_that_ended_is_not_gone_back_to():
    """What is on trial is all there is."""
    clock = HandClock(now=0.0)
    old, new = showing("one", not_after=WALL_AT_BOOT + 100.0), showing("two")
    handovers = handing_over(old, new, clock=clock)
    clock.now = 100.0

    assert chosen(handovers, last(old)) == Choice(registration=new)
    handovers.release({})
    assert not handovers.needs(old)


def test_what_is_compromised_is_not_gone_back_to_either():
    """Neither a certificate nor a key; not even to confirm a refusal."""
    old, new = showing("one", "key-1"), showing("two", "key-2")
    for banned in ("one", "key-1"):
        handovers = Handovers({"app": old}, clock=CLOCK)
        handovers.replace({"app": new}, has_grants=lambda _: True, banned=frozenset({banned}))

        assert chosen(handovers, last(old), is_refused=True) == Choice(registration=new)
        assert not handovers.needs(old)


def test_what_would_prove_a_compromised_dpop_key_is_not_gone_back_to_either():
    """It would prove nothing any more."""
    old, new = showing("one", "key-0"), showing("two", "key-0")
    old = replace(old, exchange=replace(old.exchange, proofs=proofs_of(FakeProofKey())))
    handovers = Handovers({"app": old}, clock=CLOCK)
    handovers.replace({"app": new}, has_grants=lambda _: True, banned=frozenset({"key-1"}))

    assert chosen(handovers, last(old)) == Choice(registration=new)
    assert not handovers.needs(old)


def test_without_grants_nothing_is_tried():
    """Nothing could be lost."""
    old, new = showing("one"), showing("two")

    assert chosen(handing_over(old, new, has_grants=False), last(old)) == Choice(registration=new)


def test_the_same_certificate_and_key_are_no_change():
    """A reload builds everything anew; the older means are of no use then."""
    old, new = showing("one"), showing("one")
    handovers = handing_over(old, new)

    assert chosen(handovers, last(old)) == Choice(registration=new)
    assert not handovers.needs(old)
    assert not handovers.is_keeping()


def test_another_client_is_no_rotation():
    """What changes beside certificate and key is what the operator wants now."""
    old, new = showing("one"), showing("two")
    handovers = handing_over(old, replace(new, client=replace(CLIENT, scope_on_token=True)))

    assert handovers.settled("app").exchange is new.exchange
    assert not handovers.needs(old)


def test_earlier_means_are_kept_for_the_grants_that_succeeded_with_them_last():
    """And no longer; a client that is gone needs none."""
    old, new = showing("one"), showing("two")
    handovers = handing_over(old, new)
    chosen(handovers, last(old))
    handovers.passed("app", new)

    handovers.release({"app": {("one", "key-1"), ("two", "key-1")}})
    kept = handovers.needs(old)
    handovers.release({"app": {("two", "key-1")}})
    released = handovers.needs(old)
    handovers.replace({}, has_grants=lambda _: True)

    assert (kept, released, handovers.needs(new)) == (True, False, False)


def test_going_back_to_the_old_certificate_ends_the_trial():
    """The operator put the old files back: it is known to work."""
    old, new, back = showing("one"), showing("two"), showing("one")
    handovers = handing_over(old, new)
    handovers.replace({"app": back}, has_grants=lambda _: True)

    assert chosen(handovers, last(old)) == Choice(registration=back)
    assert handovers.trial_due_at("app") is None
