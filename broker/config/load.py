"""
The way from a file to settings: read, parse, structure, check, translate; all problems at once or none.

It opens the configuration and no other file, and does not read the environment: what depends on it is
handed in.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from broker.config.accounts import Accounts, HostAccounts
from broker.config.combinations import check_combinations
from broker.config.doubts import find_doubts, find_locked_out
from broker.config.problems import ConfigurationError, Findings
from broker.config.references import check_references
from broker.config.schema import DaemonSection, LogSection, OpsSection
from broker.config.settings import Settings
from broker.config.source import Source, check_owner, check_way, parse, read_source
from broker.config.structure import Document, structure
from broker.config.translate import (
    Surroundings,
    audit_settings,
    certificate_settings,
    client_settings,
    daemon_settings,
    issuer_settings,
    key_settings,
    listener_settings,
    ops_settings,
    sink,
    store_settings,
    token_spec,
    upstream_settings,
    workload,
)

__all__ = ["ConfigurationError", "load_settings"]

S = TypeVar("S")
T = TypeVar("T")


def load_settings(path: Path, *, credentials_directory: Path | None, accounts: Accounts | None = None) -> Settings:
    """
    Load the configuration *path*.

    *credentials_directory* is where ``{ credential = "NAME" }`` looks (systemd's ``CREDENTIALS_DIRECTORY``);
    *accounts* knows users and groups, by default the host. Raises ConfigurationError: with all problems,
    or with none where the file could not be read.
    """
    source = read_source(path)
    problems, warnings = Findings(), Findings()
    check_way(path, problems)
    check_owner(source.owner, euid=os.geteuid(), egid=os.getegid(), problems=problems, warnings=warnings)
    raw = parse(source.content, problems)
    if raw is None:
        raise _invalid(path, problems, is_toml=False)
    document = structure(raw, problems)
    here = Surroundings(
        base=path.absolute().parent,
        credentials_directory=credentials_directory,
        accounts=accounts or HostAccounts(),
        findings=problems,
    )
    check_references(document, problems)
    check_combinations(document, here.base, problems)
    settings = _translate(path, source, document, here)
    if problems.problems():
        raise _invalid(path, problems, is_toml=True)
    find_doubts(document, warnings)
    find_locked_out(document, warnings, euid=os.geteuid())
    return replace(settings, warnings=warnings.problems())


def _invalid(path: Path, problems: Findings, *, is_toml: bool) -> ConfigurationError:
    found = problems.problems()
    count = "1 problem" if len(found) == 1 else f"{len(found)} problems"
    message = f"the configuration {path} has {count}"
    return ConfigurationError("configuration_invalid", message, problems=found, is_toml=is_toml)


def _translate(path: Path, source: Source, document: Document, here: Surroundings) -> Settings:
    """Translate the sound sections; what is made of a file with problems is thrown away by the caller."""
    return Settings(
        path=path.absolute(),
        sha256=source.sha256,
        issuers=_each(document.issuers, lambda name, section: issuer_settings(name, section, here)),
        certificates=_each(document.certificates, lambda name, section: certificate_settings(name, section, here)),
        keys=_each(document.keys, lambda name, section: key_settings(name, section, here)),
        clients=_each(document.clients, lambda name, section: client_settings(name, section, document, here)),
        tokens=tuple(token_spec(name, section) for name, section in document.tokens.items()),
        upstreams=_each(document.upstreams, lambda name, section: upstream_settings(name, section, here)),
        workloads=tuple(workload(name, section, here) for name, section in document.workloads.items()),
        sinks=tuple(sink(name, section, here) for name, section in document.sinks.items()),
        listeners=tuple(
            translated
            for name, section in document.listeners.items()
            if (translated := listener_settings(name, section, here)) is not None
        ),
        ops=ops_settings(document.ops or OpsSection()),
        log_level=(document.log or LogSection()).level,
        audit=audit_settings(document.audit, here),
        store=store_settings(document.store, here),
        daemon=daemon_settings(document.daemon or DaemonSection(), here),
        warnings=(),
    )


def _each(sections: Mapping[str, S], translate: Callable[[str, S], T]) -> Mapping[str, T]:
    return MappingProxyType({name: translate(name, section) for name, section in sections.items()})
