"""
What is wrong only together: keys that need each other, and sections that contradict each other.

Only sound sections are looked at, and a rule about two sections is silent while one of them is broken or
missing: its own problem is in the list already.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from broker.config.client_combinations import check_client
from broker.config.consent_combinations import check_consents
from broker.config.dialect_combinations import check_dialects
from broker.config.dpop_combinations import check_dpop
from broker.config.listener_combinations import check_listeners
from broker.config.names import place
from broker.config.problems import Findings
from broker.config.schema import GrantType, IssuerSection, UpstreamSection
from broker.config.sink_combinations import check_sinks
from broker.config.structure import Document
from broker.config.upstream_combinations import check_upstreams
from broker.errors import LocalError
from broker.oauth.authorization_request import RESERVED_REQUEST_PARAMETERS
from broker.oauth.endpoint_urls import is_loopback, parse_url
from broker.oauth.grants import RESERVED_PARAMETERS
from broker.oauth.metadata import check_issuer
from broker.tokens.spec import Refresh

_OWN_KEYS = {
    **{name: name for name in ("grant_type", "scope", "resource", "audience", "authorization_details")},
    **{name: name for name in ("claims", "acr_values", "prompt")},
    "max_age": "max_age_seconds",
}
"""Reserved form fields that a token section has keys for, and the keys."""

_TO_ASK = 'add [listener.NAME] with path = "/run/token-broker/api.sock"'
_TO_SERVE = 'add [token.NAME] with client = "NAME"'
_TO_GET = 'add [workload.NAME] with uid = ["USER"] and tokens = ["NAME"]'


def check_combinations(document: Document, base: Path, findings: Findings) -> None:
    """Report what does not go together; relative paths begin at *base*."""
    _check_audit(document, findings)
    _check_store(document, base, findings)
    _check_proxies(document, findings)
    for name, issuer in document.issuers.items():
        _check_issuer(name, issuer, findings)
    for name, client in document.clients.items():
        check_client(name, client, document, findings)
    check_consents(document, findings)
    check_dialects(document, findings)
    check_dpop(document, findings)
    _check_parameters(document, findings)
    _check_required(document, findings)
    check_listeners(document, base, findings)
    check_upstreams(document, findings)
    check_sinks(document, base, findings)
    _check_workloads(document, findings)
    _check_limits(document, findings)
    _check_somebody_is_served(document, findings)


def _check_audit(document: Document, findings: Findings) -> None:
    if "audit" not in document.raw:
        message = "is missing: who got which token would be recorded nowhere"
        hint = (
            'add the two lines [audit] and file = "/var/log/token-broker/audit.jsonl", or [audit] and enabled = false'
        )
        findings.add("audit", message, hint)
    elif document.audit is not None and document.audit.enabled and document.audit.file is None:
        hint = 'add file = "/var/log/token-broker/audit.jsonl", or enabled = false to run without an audit log'
        findings.add("audit.file", "is missing", hint)


def _check_store(document: Document, base: Path, findings: Findings) -> None:
    if document.store is None or document.daemon is None:
        return
    if document.daemon.state_dir is None:
        hint = 'add state_dir = "/var/lib/token-broker" under [daemon]'
        findings.add("store", "has nowhere to be: there is no state directory", hint)
    elif document.store.anchor is not None:
        state_dir, anchor = (
            Path(os.path.normpath(base / text)) for text in (document.daemon.state_dir, document.store.anchor)
        )
        if anchor.is_relative_to(state_dir):
            message = "lies in the state directory, and would be put back together with it"
            findings.add("store.anchor", message, "name a file on another volume")


def _check_proxies(document: Document, findings: Findings) -> None:
    behind: dict[str, Mapping[str, IssuerSection | UpstreamSection]] = {
        "issuer": document.issuers,
        "upstream": document.upstreams,
    }
    for kind, sections in behind.items():
        for name, section in sections.items():
            if section.proxy_credentials is not None and section.proxy is None:
                message = "is for a proxy, and there is none"
                findings.add(place(kind, name, "proxy_credentials"), message, "add proxy, or remove it")


def _check_issuer(name: str, section: IssuerSection, findings: Findings) -> None:
    if section.proxy is not None and section.issuer.lower().startswith("http:"):
        message = "would see every request: the issuer is http"
        findings.add(place("issuer", name, "proxy"), message, "remove it, or write an issuer with https")
    at = place("issuer", name, "issuer")
    try:
        check_issuer(section.issuer, allow_insecure_loopback=section.allow_insecure_loopback)
    except LocalError as error:
        findings.add(at, error.message, error.hint)
        return
    if section.allow_insecure_loopback and not is_loopback(parse_url(section.issuer).host):
        message = "is true for an issuer that is not on a loopback address"
        findings.add(
            place("issuer", name, "allow_insecure_loopback"), message, "remove it: it is for tests on one machine"
        )


def _check_parameters(document: Document, findings: Findings) -> None:
    for name, token in document.tokens.items():
        asks = token.grant_type is GrantType.AUTHORIZATION_CODE
        reserved = RESERVED_REQUEST_PARAMETERS if asks else RESERVED_PARAMETERS
        for parameter in token.parameters:
            if parameter in reserved:
                key = _OWN_KEYS.get(parameter)
                hint = "remove it" if key is None else f"write {key} above, as a key of the token"
                findings.add(place("token", name, "parameters", parameter), "is set by the broker alone", hint)


def _check_required(document: Document, findings: Findings) -> None:
    """Refuse readiness that depends on a token which nobody asks for before the broker is ready."""
    for name, token in document.tokens.items():
        if token.required and token.refresh is Refresh.ON_DEMAND:
            message = 'contradicts refresh = "on_demand": before somebody asks there is no token to be ready'
            findings.add(place("token", name, "required"), message, 'write refresh = "eager", or remove required')


def _check_workloads(document: Document, findings: Findings) -> None:
    for name, workload in document.workloads.items():
        if not (workload.listener or workload.uid or workload.gid):
            message = "names no listener, uid or gid, and so would be everybody"
            findings.add(place("workload", name), message, 'add uid = ["USER"], or the listener that only it can open')


def _check_limits(document: Document, findings: Findings) -> None:
    daemon = document.daemon
    if daemon is None:
        return
    written = document.declared("daemon")  # the default for one user gives way to what was written for all
    for key, of_all, of_one in (
        ("max_connections_per_uid", daemon.max_connections, daemon.max_connections_per_uid),
        ("max_waiting_per_uid", daemon.max_waiting, daemon.max_waiting_per_uid),
    ):
        if key in written and of_one > of_all:
            whole = key.removesuffix("_per_uid")
            findings.add(place("daemon", key), f"is more than {whole}", f"{whole} is {of_all}")


def _check_somebody_is_served(document: Document, findings: Findings) -> None:
    for kind, message, hint in (
        ("token", "is missing: there is nothing to serve", _TO_SERVE),
        ("listener", "is missing: there is nowhere to ask", _TO_ASK),
        ("workload", "is missing: nobody would get a token", _TO_GET),
    ):
        if kind == "workload" and document.raw.get("sink"):
            continue  # a file is served
        if not document.raw.get(kind):
            findings.add(kind, message, hint)
