"""``Proxy-Status`` (RFC 9209): it tells answers of the broker from those of an API that it called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from broker.api.problems import Problem, RefusalReason
from broker.oauth.reasons import Reason

NAME = "Proxy-Status"

BY_REASON: Mapping[str, str] = {
    Reason.DNS_FAILED: "dns_error",
    Reason.ADDRESS_REFUSED: "destination_ip_prohibited",
    Reason.CONNECT_FAILED: "connection_refused",
    Reason.PROXY_UNREACHABLE: "destination_unavailable",
    Reason.PROXY_CREDENTIALS_REFUSED: "destination_unavailable",
    Reason.PROXY_REFUSED: "destination_unavailable",
    Reason.PROXY_FAILED: "destination_unavailable",
    Reason.PROXY_TIMED_OUT: "connection_timeout",
    Reason.SERVER_CERTIFICATE_REFUSED: "tls_certificate_error",
    Reason.TLS_FAILED: "tls_protocol_error",
    Reason.CERTIFICATE_SUSPECTED: "tls_alert_received",
    Reason.CERTIFICATE_EXPIRED: "tls_alert_received",
    Reason.TIMED_OUT: "http_response_timeout",
    Reason.CONNECTION_LOST: "connection_terminated",
    Reason.PROTOCOL_VIOLATED: "http_protocol_error",
    RefusalReason.VERSION_UNSUPPORTED: "http_request_error",
    RefusalReason.UNEXPECTED: "proxy_internal_error",
}
"""Error types of RFC 9209 section 2.3, by the reason; all others are decided by the status."""


def proxied(problem: Problem) -> Problem:
    """Say in *problem* that it is ours."""
    kind = BY_REASON.get(problem.reason) or _by_status(problem.status)
    return replace(problem, headers=(*problem.headers, (NAME, f"token-broker; error={kind}")))


def _by_status(status: int) -> str:
    if status == 403:
        return "http_request_denied"
    return "http_request_error" if status < 500 or status == 501 else "destination_unavailable"
