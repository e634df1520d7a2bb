"""What is wrong with a sink: a token that no file can hold, a place that is no place for it, places that are taken."""

from __future__ import annotations

import os.path
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from broker.config.names import place
from broker.config.problems import Findings
from broker.config.schema import SecretReference, SinkSection
from broker.config.structure import Document
from broker.oauth.client import SenderConstraint
from broker.tokens.spec import Grants

MAX_NAME_BYTES = 250
"""Of the file's name: the one that is written before it is renamed is five bytes longer, and 255 are all (NAME_MAX)."""

PATH_KEYS = frozenset({"file", "path", "anchor", "ca_file", "cert_file", "key_file", "secret_file"})
"""The keys of other sections that name a file."""


def check_sinks(document: Document, base: Path, findings: Findings) -> None:
    """Report what does not go together; relative paths begin at *base*."""
    taken = dict(_files(document, base))
    for name, sink in document.sinks.items():
        _check_token(name, sink, document, findings)
        _check_group(name, sink, findings)
        _check_hook(name, sink, document, findings)
        path = _normal(base, sink.path)
        _check_path(name, path, document, base, findings)
        if path in taken:
            message = f"is that of {taken[path]} too"
            findings.add(place("sink", name, "path"), message, "give each file a place of its own")
        taken.setdefault(path, place("sink", name, "path"))


def _check_token(name: str, sink: SinkSection, document: Document, findings: Findings) -> None:
    token = document.tokens.get(sink.token)
    if token is None:
        return
    at = place("sink", name, "token")
    if token.grants is Grants.MANY:
        message = "has a grant for each person, and a file holds one token"
        findings.add(at, message, "the program has to ask at /v1/grants/ID/token")
    client = document.clients.get(token.client)
    if client is not None and client.sender_constraint is SenderConstraint.DPOP:
        message = "is bound by DPoP: it is of no use without a proof for each request, and a file makes none"
        hint = "let the program call the API through an [upstream.NAME], or ask for proofs at POST /v1/dpop"
        findings.add(at, message, hint)


def _check_group(name: str, sink: SinkSection, findings: Findings) -> None:
    if sink.group is not None and not int(sink.mode, 8) & 0o040:
        message = "has no effect: the mode does not let a group read"
        findings.add(place("sink", name, "group"), message, 'write mode = "0640", or remove the group')


def _check_hook(name: str, sink: SinkSection, document: Document, findings: Findings) -> None:
    if sink.hook and not sink.hook[0].startswith("/"):
        message = "must be an absolute path: nothing is searched for"
        findings.add(place("sink", name, "hook", 0), message, 'for example ["/usr/bin/systemctl", "reload", "app"]')
    if not sink.hook and "hook_timeout_seconds" in document.declared("sink")[name]:
        message = "is for a hook, and there is none"
        findings.add(place("sink", name, "hook_timeout_seconds"), message, "add hook, or remove it")


def _check_path(name: str, path: str, document: Document, base: Path, findings: Findings) -> None:
    at = place("sink", name, "path")
    if len(os.path.basename(path).encode(errors="surrogateescape")) > MAX_NAME_BYTES:  # noqa: PTH119 - it is a string
        findings.add(at, f"has a file name of more than {MAX_NAME_BYTES} bytes", "choose a shorter one")
    if document.daemon is not None and document.daemon.state_dir is not None:
        state_dir = _normal(base, document.daemon.state_dir)
        if Path(path).is_relative_to(state_dir):
            message = "lies in the state directory, which nobody but the broker can enter"
            findings.add(at, message, "choose a directory that the program can pass through")


def _files(document: Document, base: Path) -> Iterator[tuple[str, str]]:
    """Give every other file that the configuration names, with where it names it."""
    for kind, section in (("audit", document.audit), ("store", document.store)):
        if section is not None:
            yield from _named(section, (kind,), base)
    named: tuple[tuple[str, Any], ...] = (
        ("issuer", document.issuers),
        ("certificate", document.certificates),
        ("key", document.keys),
        ("client", document.clients),
        ("upstream", document.upstreams),
        ("listener", document.listeners),
    )
    for kind, sections in named:
        for name, section in sections.items():
            yield from _named(section, (kind, name), base)


def _named(section: Any, at: tuple[str, ...], base: Path) -> Iterator[tuple[str, str]]:
    for field in attrs.fields(type(section)):
        value = getattr(section, field.name)
        if isinstance(value, SecretReference):
            value = value.file
        elif field.name not in PATH_KEYS:
            continue
        if value is not None:
            yield _normal(base, value), place(*at, field.name)


def _normal(base: Path, text: str) -> str:
    return os.path.normpath(base / text)
