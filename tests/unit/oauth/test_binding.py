"""binding: bound to our certificate, or refused."""

from __future__ import annotations

from typing import Any

import pytest

from broker.errors import Outcome, RemoteError
from broker.oauth.binding import Bound, check_binding
from broker.oauth.client import SenderConstraint
from broker.oauth.reasons import Reason
from tests.unit.oauth.builders import OURS, THEIRS, a_jwt, base64url

CERTIFICATE = SenderConstraint.CERTIFICATE
NONE = SenderConstraint.NONE
OPAQUE = "$2a$10$opaque"
UNBOUND = a_jwt({"sub": "app"})
BOUND = a_jwt({"cnf": {"x5t#S256": OURS}})
BOUND_ELSEWHERE = a_jwt({"cnf": {"x5t#S256": THEIRS}})
BOUND_TO_A_KEY = a_jwt({"cnf": {"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}})


@pytest.mark.parametrize(
    ("token", "constraint", "ours", "binding"),
    [
        (BOUND, CERTIFICATE, OURS, Bound(binding="certificate", certificate_thumbprint=OURS)),
        (OPAQUE, CERTIFICATE, OURS, Bound(binding="unverified", certificate_thumbprint=OURS)),
        (OPAQUE, NONE, OURS, Bound(binding="none")),
        (OPAQUE, NONE, None, Bound(binding="none")),
        (UNBOUND, NONE, OURS, Bound(binding="none")),
        (UNBOUND, NONE, None, Bound(binding="none")),
        (a_jwt({"cnf": "x5t#S256"}), NONE, None, Bound(binding="none")),
        (BOUND, NONE, OURS, Bound(binding="certificate", certificate_thumbprint=OURS)),
    ],
)
def test_a_usable_token_is_accepted_with_its_binding(
    token: str, constraint: SenderConstraint, ours: str | None, binding: Bound
) -> None:
    """A token that turns out to be bound to our certificate is called bound, asked for or not."""
    assert check_binding(token, sender_constraint=constraint, certificate_thumbprint=ours) == binding


@pytest.mark.parametrize(
    ("token", "constraint", "ours", "reason"),
    [
        (BOUND_ELSEWHERE, CERTIFICATE, OURS, Reason.WRONG_BINDING),
        (BOUND, CERTIFICATE, None, Reason.WRONG_BINDING),
        (BOUND_ELSEWHERE, NONE, OURS, Reason.WRONG_BINDING),
        (BOUND, NONE, None, Reason.WRONG_BINDING),
        (a_jwt({"cnf": {"x5t#S256": None}}), NONE, None, Reason.WRONG_BINDING),
        (UNBOUND, CERTIFICATE, OURS, Reason.DOWNGRADED),
        (UNBOUND, CERTIFICATE, None, Reason.DOWNGRADED),
        (BOUND_TO_A_KEY, CERTIFICATE, OURS, Reason.WRONG_BINDING),
        (BOUND_TO_A_KEY, NONE, None, Reason.WRONG_BINDING),
        (a_jwt({"cnf": {"x5t#S256": OURS, "jkt": "x"}}), CERTIFICATE, OURS, Reason.WRONG_BINDING),
        (a_jwt({"cnf": {"jkt": None}}), NONE, OURS, Reason.WRONG_BINDING),
        (OPAQUE, CERTIFICATE, None, Reason.DOWNGRADED),
    ],
)
def test_a_token_that_we_cannot_use_or_that_is_weaker_is_refused(
    token: str, constraint: SenderConstraint, ours: str | None, reason: Reason
) -> None:
    """Both come after the server has processed the request, and say what to look at."""
    with pytest.raises(RemoteError) as caught:
        check_binding(token, sender_constraint=constraint, certificate_thumbprint=ours)

    assert (caught.value.code, caught.value.outcome, caught.value.status) == (reason, Outcome.ANSWERED, 200)
    assert caught.value.hint


@pytest.mark.parametrize("thumbprint", [None, 1, "", OURS + "=", OURS.lower(), [OURS], {"x": OURS}])
def test_a_thumbprint_has_to_be_equal_to_the_letter(thumbprint: Any) -> None:
    """No padding, no case folding, no lists."""
    with pytest.raises(RemoteError) as caught:
        check_binding(
            a_jwt({"cnf": {"x5t#S256": thumbprint}}), sender_constraint=CERTIFICATE, certificate_thumbprint=OURS
        )

    assert caught.value.code == Reason.WRONG_BINDING


DPOP = SenderConstraint.DPOP
OUR_KEY = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
BOUND_TO_BOTH = a_jwt({"cnf": {"jkt": OUR_KEY, "x5t#S256": OURS}})


@pytest.mark.parametrize(
    ("token", "certificate", "binding"),
    [
        (BOUND_TO_A_KEY, None, Bound(binding="dpop", jkt=OUR_KEY)),
        (BOUND_TO_A_KEY, OURS, Bound(binding="dpop", jkt=OUR_KEY)),
        (BOUND_TO_BOTH, OURS, Bound(binding="dpop", jkt=OUR_KEY, certificate_thumbprint=OURS)),
        (OPAQUE, None, Bound(binding="unverified", jkt=OUR_KEY)),
        (OPAQUE, OURS, Bound(binding="unverified", jkt=OUR_KEY)),
    ],
)
def test_a_token_that_is_bound_to_our_key_is_accepted(token: str, certificate: str | None, binding: Bound) -> None:
    """Also one that is bound to our certificate as well, of which both are known from then on."""
    found = check_binding(token, sender_constraint=DPOP, certificate_thumbprint=certificate, jkt=OUR_KEY)

    assert found == binding


@pytest.mark.parametrize(
    ("token", "certificate", "key", "reason"),
    [
        (BOUND_TO_A_KEY, None, "another", Reason.WRONG_BINDING),
        (BOUND_TO_A_KEY, None, None, Reason.WRONG_BINDING),
        (a_jwt({"cnf": {"jkt": None}}), None, OUR_KEY, Reason.WRONG_BINDING),
        (a_jwt({"cnf": {"jkt": [OUR_KEY]}}), None, OUR_KEY, Reason.WRONG_BINDING),
        (a_jwt({"cnf": {"jkt": OUR_KEY, "x5t#S256": THEIRS}}), OURS, OUR_KEY, Reason.WRONG_BINDING),
        (a_jwt({"cnf": {"jkt": OUR_KEY, "x5t#S256": OURS}}), None, OUR_KEY, Reason.WRONG_BINDING),
        (UNBOUND, None, OUR_KEY, Reason.DOWNGRADED),
        (BOUND, OURS, OUR_KEY, Reason.DOWNGRADED),
        (a_jwt({"cnf": "jkt"}), None, OUR_KEY, Reason.DOWNGRADED),
        (base64url(b'{"alg":"ES256"}') + "." + base64url(b'{"a":1,"a":2}') + ".s", None, OUR_KEY,
         Reason.INVALID_RESPONSE),
    ],
)  # fmt: skip
def test_a_token_that_is_not_bound_to_our_key_is_refused(
    token: str, certificate: str | None, key: str | None, reason: Reason
) -> None:
    """To another one, or to none although that was asked for (DP-06)."""
    with pytest.raises(RemoteError) as caught:
        check_binding(token, sender_constraint=DPOP, certificate_thumbprint=certificate, jkt=key)

    assert (caught.value.code, caught.value.outcome) == (reason, Outcome.ANSWERED)


@pytest.mark.parametrize("cnf", [None, "x", 1, [], ["x5t#S256"], {}, {"x5t#s256": OURS}, {"x5t": OURS}])
def test_a_cnf_that_names_no_certificate_binds_to_none(cnf: Any) -> None:
    """Where a bound token was asked for, a malformed confirmation is a missing one."""
    with pytest.raises(RemoteError) as caught:
        check_binding(a_jwt({"cnf": cnf}), sender_constraint=CERTIFICATE, certificate_thumbprint=OURS)

    assert caught.value.code == Reason.DOWNGRADED


def test_the_errors_show_neither_token_nor_thumbprint() -> None:
    """Both are a peer's bytes."""
    with pytest.raises(RemoteError) as caught:
        check_binding(BOUND_ELSEWHERE, sender_constraint=CERTIFICATE, certificate_thumbprint=OURS)

    shown = f"{caught.value} {caught.value.hint}"
    assert THEIRS not in shown
    assert BOUND_ELSEWHERE not in shown


@pytest.mark.parametrize(
    "claims",
    [
        b'{"cnf":{"x5t#S256":"THEIRS"},"a":1,"a":2}',
        b'{"cnf":{"x5t#S256":"THEIRS"},"a":NaN}',
        b'\xef\xbb\xbf{"cnf":{"x5t#S256":"THEIRS"}}',
        b'{"cnf":{"x5t#S256":"THEIRS"},"a":9223372036854775809}',
    ],
)
def test_a_jwt_that_only_a_lenient_reader_reads_is_not_taken_for_opaque(claims: bytes) -> None:
    """Its binding to another certificate would be seen by resource servers, and not by us."""
    token = base64url(b'{"alg":"ES256"}') + "." + base64url(claims.replace(b"THEIRS", THEIRS.encode())) + ".s"

    with pytest.raises(RemoteError) as caught:
        check_binding(token, sender_constraint=CERTIFICATE, certificate_thumbprint=OURS)

    assert caught.value.code == Reason.INVALID_RESPONSE
