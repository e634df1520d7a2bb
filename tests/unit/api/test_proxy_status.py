"""Answers of the broker in place of an API's say so, in the words of RFC 9209."""

from __future__ import annotations

import pytest

from broker.api import problems
from broker.api.egress import failed
from broker.api.problems import Problem
from broker.api.proxy_status import proxied
from broker.errors import Outcome, RemoteError
from broker.oauth.reasons import Reason


def of(reason: Reason) -> Problem:
    return failed(RemoteError(reason, "no", outcome=Outcome.UNKNOWN))


@pytest.mark.parametrize(
    ("problem", "kind"),
    [
        (problems.access_denied("not_granted", ""), "http_request_denied"),
        (problems.TARGET_REFUSED, "http_request_error"),
        (problems.TOO_MANY_REQUESTS, "http_request_error"),
        (problems.DRAINING, "destination_unavailable"),
        (problems.unexpected(""), "proxy_internal_error"),
        (of(Reason.DNS_FAILED), "dns_error"),
        (of(Reason.SERVER_CERTIFICATE_REFUSED), "tls_certificate_error"),
        (of(Reason.TIMED_OUT), "http_response_timeout"),
        (of(Reason.CONNECTION_LOST), "connection_terminated"),
    ],
)
def test_each_answer_names_its_kind(problem: Problem, kind: str):
    """Beside the headers that it has anyway."""
    headers = proxied(problem).headers

    assert headers[-1] == ("Proxy-Status", f"token-broker; error={kind}")
    assert headers[:-1] == problem.headers


def test_a_reply_that_does_not_come_in_time_is_504_all_else_502():
    """With the reason for the caller."""
    assert [of(reason).status for reason in (Reason.TIMED_OUT, Reason.PROXY_TIMED_OUT, Reason.TLS_FAILED)] == [
        504,
        504,
        502,
    ]
    assert dict(of(Reason.TLS_FAILED).more) == {"reason": "tls_failed"}


def test_a_host_that_a_server_chose_is_not_named():
    """It is for the log alone."""
    error = RemoteError(Reason.ENDPOINT_REFUSED, "no", outcome=Outcome.NOT_SENT, hint="evil.example")

    assert failed(error).hint is None
