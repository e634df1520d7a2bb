"""
What may be meant, but looks like a mistake: said at start, never refused.

Looks at a whole and sound document only: while there are problems, warnings would be noise.

A client secret is no doubt: it was asked for in three words (profile, method, file), and often the server has
nothing better. A warning at every start that nobody can act on teaches to overlook the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from broker.config.names import place
from broker.config.problems import Findings
from broker.config.schema import GrantType
from broker.config.structure import Document
from broker.oauth.client import SenderConstraint
from broker.policy.rules import Action

OVERFLOW_ID = 65_534
"""What the kernel shows for a user or group that has no number in this namespace (``overflowuid`` in proc(5))."""

WELL_KNOWN = "/.well-known/"
"""Where metadata is (RFC 8615); no issuer has it in its name."""

PLACEHOLDERS = frozenset({"CLIENT_ID", "KID"})
"""What the configurations of docs/examples have where a person has to write something."""


def find_doubts(document: Document, warnings: Findings) -> None:
    """Note everything in *document* that an operator should look at twice."""
    _audit(document, warnings)
    _issuers(document, warnings)
    _placeholders(document, warnings)
    _unused(document, warnings)
    _tokens(document, warnings)
    _sinks(document, warnings)
    _listeners(document, warnings)
    _workloads(document, warnings)


def find_locked_out(document: Document, warnings: Findings, *, euid: int) -> None:
    """
    Note workloads that cannot open their sockets: only their owner, *euid*, has them opened, and root.

    Users that are named by their names are not looked at.
    """
    for name, workload in document.workloads.items():
        sections = [document.listeners[listener] for listener in workload.listener]
        is_closed = bool(sections) and not any(one.path is None or int(one.mode, 8) & 0o022 for one in sections)
        users = set(workload.uid)
        if is_closed and users and all(isinstance(user, int) and user not in {0, euid} for user in users):
            message = f"none of these users can open its socket: its mode lets in only the broker's user, {euid}"
            hint = 'give the listener mode = "0660" and a group that they are in'
            warnings.add(place("workload", name, "uid"), message, hint)


def _audit(document: Document, warnings: Findings) -> None:
    audit = document.audit
    if audit is None or not audit.enabled:
        warnings.add("audit.enabled", "there is no audit log: who got which token is recorded nowhere")
    elif audit.key is None:
        message = "is missing: the audit log is consistent, but not authenticated"
        warnings.add("audit.key", message, 'add key = { file = "..." } with at least 32 random bytes')


def _issuers(document: Document, warnings: Findings) -> None:
    for name, issuer in document.issuers.items():
        if issuer.sandbox:
            warnings.add(
                place("issuer", name, "sandbox"), "a sandbox is trusted: its tokens are worth nothing elsewhere"
            )
        if issuer.allow_insecure_loopback:
            at = place("issuer", name, "allow_insecure_loopback")
            warnings.add(at, "connections to this issuer may be without TLS: for tests only")
        if WELL_KNOWN in issuer.issuer:
            at = place("issuer", name, "issuer")
            hint = f"write what comes before {WELL_KNOWN}: the broker finds the metadata itself"
            warnings.add(at, "is the address of the metadata, and not the issuer that stands in it", hint)


def _placeholders(document: Document, warnings: Findings) -> None:
    """Note what an example has in the place of what only the server's operator knows."""
    written: dict[str, str | None] = {
        place("client", name, "client_id"): client.client_id for name, client in document.clients.items()
    }
    written |= {place("key", name, "kid"): key.kid for name, key in document.keys.items()}
    for at, value in written.items():
        if value in PLACEHOLDERS:
            warnings.add(at, "is the word of an example", "write what the server has registered, as it has it")


def _unused(document: Document, warnings: Findings) -> None:
    clients, tokens = document.clients.values(), document.tokens.values()
    _report_unused("certificate", document.certificates, (client.certificate for client in clients), warnings)
    keys = (key for client in clients for key in (*client.signing_keys, client.dpop_key))
    _report_unused("key", document.keys, keys, warnings)
    _report_unused("issuer", document.issuers, (client.issuer for client in clients), warnings)
    _report_unused("client", document.clients, (token.client for token in tokens), warnings)
    called = (upstream for workload in document.workloads.values() for upstream in workload.upstreams)
    _report_unused("upstream", document.upstreams, called, warnings)


def _report_unused(kind: str, declared: Mapping[str, Any], used: Iterable[str | None], warnings: Findings) -> None:
    names = set(used)
    for name in declared:
        if name not in names:
            warnings.add(place(kind, name), "is used by no other section")


def _tokens(document: Document, warnings: Findings) -> None:
    getting = [one for one in document.workloads.values() if {Action.GET, Action.DPOP} & set(one.may)]
    served = {token for workload in getting for token in workload.tokens}
    served |= {
        document.upstreams[upstream].token
        for workload in document.workloads.values()
        for upstream in workload.upstreams
    }
    served |= {sink.token for sink in document.sinks.values()}
    for name in document.tokens:
        if name not in served:
            message = "is kept fresh, but no workload may get it"
            warnings.add(place("token", name), message, "add it to tokens of a [workload.NAME]")
    asking = [workload for workload in document.workloads.values() if Action.AUTHORIZE in workload.may]
    asked = {token for workload in asking for token in workload.tokens}
    for name, token in document.tokens.items():
        if token.grant_type is GrantType.AUTHORIZATION_CODE and name not in asked:
            message = "needs a person's consent, and no workload may ask for it"
            warnings.add(place("token", name), message, 'add "authorize" to may of a [workload.NAME] that has it')


def _sinks(document: Document, warnings: Findings) -> None:
    for name, sink in document.sinks.items():
        client = document.clients[document.tokens[sink.token].client]
        if client.sender_constraint is SenderConstraint.CERTIFICATE:
            message = "is bound to a certificate: the file is of no use to whoever has not got that"
            hint = "let the program call the API through an [upstream.NAME], or give it the certificate, too"
            warnings.add(place("sink", name, "token"), message, hint)


def _listeners(document: Document, warnings: Findings) -> None:
    workloads = document.workloads.values()
    if not workloads:
        return  # there are sinks alone, and the listener is for health
    if any(not workload.listener for workload in workloads):
        return  # a workload without listener is recognized on each
    named = {listener for workload in workloads for listener in workload.listener}
    for name in document.listeners:
        if name not in named:
            serves_api = document.listeners[name].upstream is None
            message = f"is open, but nobody {'gets a token' if serves_api else 'may call its API'} there"
            warnings.add(place("listener", name), message, "add it to listener of a [workload.NAME]")


def _workloads(document: Document, warnings: Findings) -> None:
    for name, workload in document.workloads.items():
        if not (workload.tokens or workload.upstreams) or not workload.may:
            key = "tokens" if workload.may else "may"
            warnings.add(place("workload", name, key), "is empty: this workload gets nothing")
        for key, accounts in (("uid", workload.uid), ("gid", workload.gid)):
            if accounts and all(account == OVERFLOW_ID for account in accounts):
                message = f"{OVERFLOW_ID} stands for unknown users in containers and then matches nobody"
                warnings.add(place("workload", name, key), message, "give the workload a user and group of its own")
        if workload.uid or workload.gid:
            _nobody_by_tcp(name, workload.listener, document, warnings)
        else:
            _open_doors(name, workload.listener, document, warnings)


def _nobody_by_tcp(name: str, listeners: Iterable[str], document: Document, warnings: Findings) -> None:
    """Note listeners on which a workload that names users or groups is never recognized."""
    for listener in listeners:
        if document.listeners[listener].address is not None:
            message = f'nobody is this workload on listener "{listener}": over TCP a caller has no uid and no gid'
            hint = "give that listener a workload of its own, without uid and gid"
            warnings.add(place("workload", name), message, hint)


def _open_doors(name: str, listeners: Iterable[str], document: Document, warnings: Findings) -> None:
    for listener in listeners:
        section = document.listeners[listener]
        if section.path is not None and int(section.mode, 8) & 0o006:
            warnings.add(
                place("workload", name),
                f'everybody who reaches the socket of listener "{listener}" is this workload',
                'add uid or gid, or take permissions for others from the mode of the listener ("0660")',
            )
