from __future__ import annotations

from broker.tokens.serving import TokenState, TokenStatus, TokenUnavailableError


def test_an_unavailable_token_says_when_to_come_back():
    """What the API needs for Retry-After and its error body travels with the error."""
    error = TokenUnavailableError("temporarily_unavailable", "none", retry_after=7, reason="timed_out", hint="wait")

    assert (error.code, error.retry_after, error.reason, error.server_error, error.hint) == (
        "temporarily_unavailable",
        7,
        "timed_out",
        None,
        "wait",
    )


def test_a_status_is_complete_without_a_failure():
    """Reason, hint and retry are there only while they matter."""
    status = TokenStatus(name="a", state=TokenState.FRESH, required=False, expires_in=3)

    assert (status.reason, status.hint, status.retry_in) == (None, None, None)
