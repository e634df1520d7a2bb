"""
Names of sections in other sections: is there one of that name, and if not, which one was meant?

It looks at the tables as TOML gives them and not at the structured ones, so that a section that is broken
elsewhere still has its references checked, and is still found by those that name it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

import attrs

from broker.config.names import missing, place, suggestion
from broker.config.problems import Findings
from broker.config.schema import NAMED_SECTIONS
from broker.config.structure import Document
from broker.config.values import RefersTo


def check_references(document: Document, findings: Findings) -> None:
    """Report each name of a section that does not exist."""
    for kind, cls in NAMED_SECTIONS.items():
        references = _references(cls)
        for name, table in document.declared(kind).items():
            for key, target in references.items():
                _check(document, (kind, name, key), table, target, findings)


def _check(document: Document, at: tuple[str, str, str], table: Any, target: str, findings: Findings) -> None:
    if not isinstance(table, dict):
        return
    declared = document.declared(target)
    for index, value in _names(table.get(at[-1])):
        if value not in declared:
            hint = suggestion(value, declared) or f"add a section [{target}.NAME]"
            findings.add(place(*at, *index), missing(target, value), hint)


def _names(value: Any) -> Iterator[tuple[tuple[int, ...], str]]:
    """Give the names in *value*, with their index where it is an array; other types were reported before."""
    if isinstance(value, str):
        yield (), value
    elif isinstance(value, list):
        for index, element in enumerate(value):
            if isinstance(element, str):
                yield (index,), element


def _references(cls: type) -> Mapping[str, str]:
    """Give the fields of *cls* that name other sections, with the kind of section each names."""
    attrs.resolve_types(cls)
    found = {field.name: _target(field.type) for field in attrs.fields(cls)}
    return {key: target for key, target in found.items() if target is not None}


def _target(annotation: Any) -> str | None:
    for part in get_args(annotation):
        if isinstance(part, RefersTo):
            return part.kind
        inner = _target(part) if get_origin(part) is not None else None
        if inner is not None:
            return inner
    return None
