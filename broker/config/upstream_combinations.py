"""What is wrong with an API together with its token, the listeners that lead to it and the workloads that call it."""

from __future__ import annotations

from broker.config.names import place
from broker.config.problems import Findings
from broker.config.structure import Document
from broker.policy.rules import Action
from broker.tokens.spec import Grants


def check_upstreams(document: Document, findings: Findings) -> None:
    """Report what does not go together."""
    for name, upstream in document.upstreams.items():
        if not upstream.allow:
            message = "is empty: nothing could be called"
            findings.add(place("upstream", name, "allow"), message, 'for example ["GET /accounts", "GET /accounts/*"]')
    _check_bases(document, findings)
    _check_workloads(document, findings)


def _check_bases(document: Document, findings: Findings) -> None:
    """Refuse a base URL of an API whose token is each person's own: its calls name no grant."""
    for name, listener in document.listeners.items():
        upstream = document.upstreams.get(listener.upstream) if listener.upstream is not None else None
        token = None if upstream is None else document.tokens.get(upstream.token)
        if token is not None and token.grants is Grants.MANY:
            message = "leads to an API whose token has a grant for each person, and its calls name none"
            hint = "call it as /v1/grants/ID/egress/UPSTREAM/PATH at another listener"
            findings.add(place("listener", name, "upstream"), message, hint)


def _check_workloads(document: Document, findings: Findings) -> None:
    for name, workload in document.workloads.items():
        if not workload.upstreams and "tokens" not in document.declared("workload")[name]:
            message = "is missing: this workload would get nothing"
            findings.add(place("workload", name, "tokens"), message, 'add tokens = ["NAME"], or upstreams')
        if workload.upstreams and Action.EGRESS not in workload.may:
            message = 'has no effect without "egress" in may'
            findings.add(place("workload", name, "upstreams"), message, 'write may = ["get", "egress"]')
        if Action.EGRESS in workload.may and not workload.upstreams:
            message = "allows calls of APIs, and names none"
            findings.add(place("workload", name, "may"), message, 'add upstreams = ["NAME"], or remove "egress"')
