from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broker.oauth.client import ClientAuthMethod, ClientSecretEncoding, SenderConstraint
from broker.oauth.secret import ClientSecret
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
    return handovers.choose("app", grant, in_doubt=lambda: in_doubt or is_refused, is_refused=is_refused)


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

    assert same is first

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
    assert (first.registration, first.on_trial) == (new, True)
    assert (second.registration, second.on_trial) == (old, False)
    assert again.on_trial


def test_nobody_asks_whether_a_grant_is_in_doubt_where_it_does_not_matter():
    """That may take a look at ten thousand: not without a trial, nor while another grant makes it."""
    old, new = showing("one"), showing("two")
    handovers = handing_over(old, new)
    chosen(handovers, last(old, "first"))

    def in_doubt() -> bool:
        raise AssertionError

    for among in (handovers, Handovers({"app": old}, clock=CLOCK)):
        choice = among.choose("app", last(old, "second"), in_doubt=in_doubt, is_refused=False)
        assert choice.registration == old


def test_all_follow_when_it_has_passed():
    """And what the server took becomes what it is known to take."""
    old, new = showing("one"), showing("two")
    handovers = handing_over(old, new)
    chosen(handovers, last(old))

    before = [handovers.is_newest("app", one) for one in (old, new)]
    passed = [handovers.passed("app", new), handovers.passed("app", new)]

    assert passed == [True, False]
    assert before == [False, False]
    assert [handovers.is_newest("app", one) for one in (old, new)] == [False, True]
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

    assert (changed.registration, changed.confirms, changed.on_trial) == (old, True, False)
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


def test_a_compromised_dpop_key_does_not_end_the_trial_of_a_certificate():
    """The older certificate goes on, with the newer DPoP key."""
    old, new = (
        replace(one, exchange=replace(one.exchange, proofs=proofs_of(FakeProofKey(jkt=jkt))))
        for one, jkt in ((showing("one"), "jkt-1"), (showing("two"), "jkt-2"))
    )
    handovers = Handovers({"app": old}, clock=CLOCK)
    handovers.replace({"app": new}, has_grants=lambda _: True, banned=frozenset({"jkt-1"}))

    first, second = chosen(handovers, last(old, "first")), chosen(handovers, last(old, "second"))
    assert first.on_trial
    assert identity_of(second.registration) == identity_of(old)
    assert second.registration.exchange.jkt == "jkt-2"


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


def test_another_registration_is_no_rotation():
    """Its grants are not those of before; nor can anything be done with what cannot get the tokens that are wanted."""
    old, new = showing("one"), showing("two")
    bearer = replace(CLIENT, sender_constraint=SenderConstraint.NONE, presents_certificate=False)
    for before, after in (
        (old, replace(new, client=replace(CLIENT, client_id="app-2"))),
        (old, replace(new, issuer=replace(ISSUER, issuer="https://other.example"))),
        (replace(showing(None), client=bearer), new),
    ):
        handovers = handing_over(before, after)

        assert handovers.settled("app").exchange is after.exchange
        assert not handovers.needs(before)
        assert handovers.trial_due_at("app") is None


EDITS: dict[str, dict[str, Any]] = {
    "issuer": {"issuer": replace(ISSUER, max_requests_per_second=19, endpoint_hosts=frozenset({"more.example"}))},
    "client": {"client": replace(CLIENT, redirect_uris=("https://app.example/back",))},
    "nothing": {},
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_does_not_end_a_trial(edit: str):
    """All go on with the older certificate, under what the configuration says now."""
    old, new = showing("one"), showing("two")
    handovers = handing_over(old, new)
    chosen(handovers, last(old, "first"))
    handovers.failed("app", new)
    edited = replace(showing("two"), **EDITS[edit])
    handovers.replace({"app": edited}, has_grants=lambda _: True)

    tries, other = chosen(handovers, last(old, "first")), chosen(handovers, last(old, "second"))

    assert (tries.registration, tries.on_trial) == (edited, True)
    assert not other.on_trial
    assert other.registration.exchange.session is old.exchange.session
    assert other.registration.exchange.signer is old.exchange.signer
    assert (other.registration.client, other.registration.issuer) == (edited.client, edited.issuer)
    assert other.registration.metadata is edited.metadata


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_does_not_take_away_what_a_refusal_is_confirmed_with(edit: str):
    """Before the trial has passed and after it (rules.md R2.6)."""
    old, new = showing("one"), showing("two")
    for has_passed in (False, True):
        handovers = handing_over(old, new)
        chosen(handovers, last(old))
        if has_passed:
            handovers.passed("app", new)
        else:
            handovers.failed("app", new)
        edited = replace(showing("two"), **EDITS[edit])
        handovers.replace({"app": edited}, has_grants=lambda _: True)

        confirming = chosen(handovers, last(old), is_refused=True)

        assert (confirming.confirms, confirming.on_trial) == (True, False)
        assert confirming.registration.exchange.session is old.exchange.session
        assert (confirming.registration.client, confirming.registration.issuer) == (edited.client, edited.issuer)


def test_a_section_with_another_name_keeps_its_trial():
    """Grants are those of the registration."""
    old, new = showing("one"), showing("two")
    handovers = handing_over(old, new)
    renamed = replace(showing("two"), client=replace(CLIENT, name="renamed"))
    handovers.replace({"renamed": renamed}, has_grants=lambda name: name == "renamed")

    settled = handovers.settled("renamed")

    assert settled.exchange.session is old.exchange.session
    assert settled.client.name == "renamed"
    assert handovers.trial_due_at("renamed") == 0.0


def test_an_older_key_signs_with_its_own_algorithm():
    """What goes with certificate and key stays with them: another algorithm comes with another key, and is tried."""
    old, new = showing("one", "key-1"), showing("one", "key-2")
    changed = replace(
        CLIENT, signing_alg="EdDSA", client_auth_method=ClientAuthMethod.TLS_CLIENT_AUTH, scope_on_token=True
    )
    handovers = handing_over(old, replace(new, client=changed))

    tries, other = chosen(handovers, last(old, "first")), chosen(handovers, last(old, "second"))

    assert (tries.registration.client, tries.on_trial) == (changed, True)
    assert other.registration.exchange.signer is old.exchange.signer
    assert other.registration.client == replace(CLIENT, scope_on_token=True)


def test_an_older_generation_writes_its_secret_as_is_wanted_now():
    """As long as both have one: what an edit of the other method says is nothing about this."""
    basic = replace(CLIENT, client_auth_method=ClientAuthMethod.CLIENT_SECRET_BASIC)
    raw = replace(basic, client_secret_encoding=ClientSecretEncoding.RAW)
    for before, after, expected in (
        (basic, raw, ClientSecretEncoding.RAW),
        (raw, basic, ClientSecretEncoding.FORM),
        (raw, CLIENT, ClientSecretEncoding.RAW),
    ):
        handovers = handing_over(replace(showing("one"), client=before), replace(showing("two"), client=after))
        client = handovers.settled("app").client

        assert (client.client_auth_method, client.client_secret_encoding) == (basic.client_auth_method, expected)


def test_an_older_generation_has_the_secret_and_the_proofs_of_now():
    """They are no part of what is tried: a secret that was replaced is good for nothing any more."""
    secret, newer = ClientSecret("old-secret"), ClientSecret("new-secret")
    proofs = proofs_of(FakeProofKey(), clock=CLOCK)
    old, new = showing("one"), showing("two")
    with_secret = replace(old, exchange=replace(old.exchange, secret=secret))
    with_another = replace(new, exchange=replace(new.exchange, secret=newer, proofs=proofs))

    replaced = handing_over(with_secret, with_another).settled("app").exchange
    without = handing_over(with_secret, new).settled("app").exchange

    assert (replaced.session, replaced.secret, replaced.proofs) == (old.exchange.session, newer, proofs)
    assert (without.secret, without.proofs) == (secret, None)


def test_means_are_needed_as_long_as_their_connections_are():
    """Whatever was built around these since; those of a reload in between are not."""
    old, new = showing("one"), showing("two")
    handovers = handing_over(old, new)
    edited = replace(showing("two"), **EDITS["issuer"])
    handovers.replace({"app": edited}, has_grants=lambda _: True)

    assert [handovers.needs(one) for one in (old, new, edited)] == [True, False, True]


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
