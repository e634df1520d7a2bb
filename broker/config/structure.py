"""
From the tables of TOML to the classes of ``schema``: types, unknown keys, and the rules for single values.

cattrs does it, strictly: nothing is converted (``"5"`` is not 5, ``true`` is not 1), and what it raises, a
tree of exceptions, becomes a flat list of problems. Each section is done by itself, so that one broken
section hides nothing of another.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import GenericAlias
from typing import Annotated, Any, TypeVar, get_args, get_origin

import attrs
from cattrs import Converter
from cattrs.errors import (
    AttributeValidationNote,
    BaseValidationError,
    ForbiddenExtraKeysError,
    IterableValidationNote,
)
from cattrs.gen import make_dict_structure_fn

from broker.config.dialect_section import Base, DialectSection
from broker.config.names import NAME_RULE, is_name, nearest, place, shown
from broker.config.problems import Findings
from broker.config.schema import (
    NAMED_SECTIONS,
    SINGLE_SECTIONS,
    AuditSection,
    CertificateSection,
    ClientSection,
    DaemonSection,
    IssuerSection,
    KeySection,
    ListenerSection,
    LogSection,
    OpsSection,
    PrivateKeyFile,
    SecretReference,
    SigningAlg,
    SinkSection,
    StoreSection,
    TokenSection,
    UpstreamSection,
    WorkloadSection,
)
from broker.config.values import PathText, Refused, Rule

T = TypeVar("T")
Hook = Callable[[Any, Any], Any]
Factory = Callable[[Any, Any], Hook]

_WORDS: Mapping[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number with a fraction",
    str: "a string",
    list: "an array",
    dict: "a table",
    dt.datetime: "a date",
    dt.date: "a date",
    dt.time: "a time",
}
"""What operators call the types that tomllib gives."""

_REFERENCE_HINT = 'write { file = "..." } or { credential = "..." } and move the secret there'


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """
    The sound sections of a file, as the operator wrote them.

    A section that exists but is broken is missing from these and present in *raw*; a single section that
    does not exist is its defaults, but for *store* and *audit*, which have no safe default.
    """

    raw: Mapping[str, Any]
    daemon: DaemonSection | None
    store: StoreSection | None
    audit: AuditSection | None
    ops: OpsSection | None
    log: LogSection | None
    issuers: Mapping[str, IssuerSection]
    certificates: Mapping[str, CertificateSection]
    keys: Mapping[str, KeySection]
    clients: Mapping[str, ClientSection]
    tokens: Mapping[str, TokenSection]
    upstreams: Mapping[str, UpstreamSection]
    listeners: Mapping[str, ListenerSection]
    workloads: Mapping[str, WorkloadSection]
    sinks: Mapping[str, SinkSection]

    def declared(self, kind: str) -> Mapping[str, Any]:
        """Give the sections *kind* as TOML has them, broken ones included."""
        sections = self.raw.get(kind)
        return sections if isinstance(sections, dict) else {}


def structure(raw: Mapping[str, Any], findings: Findings) -> Document:
    """Make a document of the tables of a file; what is wrong with them goes to *findings*."""
    for key in raw:
        if key not in SINGLE_SECTIONS and key not in NAMED_SECTIONS:
            findings.add(place(key), "there is no such section", _nearest_key(key, (*SINGLE_SECTIONS, *NAMED_SECTIONS)))
    return Document(
        raw=raw,
        daemon=_single(raw, "daemon", DaemonSection, findings),
        store=_single(raw, "store", StoreSection, findings) if "store" in raw else None,
        audit=_single(raw, "audit", AuditSection, findings) if "audit" in raw else None,
        ops=_single(raw, "ops", OpsSection, findings),
        log=_single(raw, "log", LogSection, findings),
        issuers=_named(raw, "issuer", IssuerSection, findings),
        certificates=_named(raw, "certificate", CertificateSection, findings),
        keys=_named(raw, "key", KeySection, findings),
        clients=_named(raw, "client", ClientSection, findings),
        tokens=_named(raw, "token", TokenSection, findings),
        upstreams=_named(raw, "upstream", UpstreamSection, findings),
        listeners=_named(raw, "listener", ListenerSection, findings),
        workloads=_named(raw, "workload", WorkloadSection, findings),
        sinks=_named(raw, "sink", SinkSection, findings),
    )


def _single(raw: Mapping[str, Any], key: str, cls: type[T], findings: Findings) -> T | None:
    """Structure the section *key*, or its defaults where there is none; None where it is broken."""
    return _section(raw.get(key, {}), cls, (key,), findings)


def _named(raw: Mapping[str, Any], kind: str, cls: type[T], findings: Findings) -> dict[str, T]:
    """Structure all sections ``[kind.NAME]``; those that are broken are left out."""
    tables = raw.get(kind, {})
    if type(tables) is not dict:
        findings.add(place(kind), "must be sections with names", f"write [{kind}.NAME]")
        return {}
    sound: dict[str, T] = {}
    for name, table in tables.items():
        if not is_name(name):
            findings.add(place(kind, name), "is not a name", NAME_RULE)
        elif type(table) is not dict:
            findings.add(place(kind, name), "must be a section with a name", f"write [{kind}.NAME] above its keys")
        else:
            section = _section(table, cls, (kind, name), findings)
            if section is not None:
                sound[name] = section
    return sound


def _section(table: Any, cls: type[T], at: tuple[str | int, ...], findings: Findings) -> T | None:
    try:
        return _CONVERTER.structure(table, cls)
    except (BaseValidationError, Refused) as error:
        for path, leaf in _leaves(error, at):
            _report(path, leaf, findings)
        return None


def _leaves(error: Exception, at: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Exception]]:
    """Walk the tree that cattrs raises; its notes say which attribute or element each branch is about."""
    if not isinstance(error, BaseValidationError):
        yield at, error
        return
    for child in error.exceptions:
        yield from _leaves(child, (*at, *_step(child)))


def _step(error: Exception) -> tuple[str | int, ...]:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return (note.name,)
        if isinstance(note, IterableValidationNote):
            return (note.index,)
    return ()


def _report(at: tuple[str | int, ...], error: Exception, findings: Findings) -> None:
    if isinstance(error, Refused):
        findings.add(place(*at), error.message, error.hint)
    elif isinstance(error, KeyError):
        findings.add(place(*at), "is missing")
    elif isinstance(error, ForbiddenExtraKeysError):
        known = [field.name for field in attrs.fields(error.cl)]
        for key in sorted(error.extra_fields):
            findings.add(place(*at, key), "there is no such key", _nearest_key(key, known))
    else:
        raise error


def _nearest_key(key: str, known: tuple[str, ...] | list[str]) -> str | None:
    meant = nearest(key, known)
    return f'did you mean "{meant}"?' if meant else f"the keys here are {', '.join(sorted(known))}"


# --- hooks: how a value of one type is taken ---


def _type_error(value: Any, wanted: type, hint: str | None = None) -> Refused:
    return Refused(f"must be {_WORDS[wanted]}, not {_WORDS[type(value)]}", hint)


def _scalar(value: Any, wanted: type) -> Any:
    """Take a string, whole number or boolean as it is, or the word of an enumeration."""
    if issubclass(wanted, StrEnum):
        return _word(value, wanted)
    if type(value) is not wanted:
        quoted = type(value) is str and wanted in (int, bool)
        raise _type_error(value, wanted, "write it without quotation marks and without a unit" if quoted else None)
    return value


def _word(value: Any, wanted: type[StrEnum]) -> StrEnum:
    words = [member.value for member in wanted]
    if type(value) is not str:
        raise _type_error(value, str, f'for example "{words[0]}"')
    if value not in words:
        listed = ", ".join(f'"{word}"' for word in words)
        # "HS256" is near "RS256", to which nobody should be led
        meant = None if wanted is SigningAlg else nearest(value, words)
        raise Refused(f"{shown(value)} is none of {listed}", f'did you mean "{meant}"?' if meant else None)
    return wanted(value)


def _dialect(value: Any, converter: Converter) -> Base | DialectSection:
    """Take a name, or a table; what is wrong in the table is reported at its place in it."""
    if type(value) is dict:
        return converter.structure(value, DialectSection)
    if type(value) is not str:
        raise Refused(f"must be a name or a table, not {_WORDS[type(value)]}", 'for example "raidiam"')
    return Base(_word(value, Base))


def _private_key_file(value: Any, converter: Converter) -> str | SecretReference:
    """Take a path, or a table as for any other secret."""
    if type(value) is str:
        return str(converter.structure(value, PathText))
    if type(value) is not dict:
        raise Refused(f"must be a path or a table, not {_WORDS[type(value)]}", 'for example "client.key"')
    return converter.structure(value, SecretReference)


def _number_or_text(value: Any, _: Any) -> int | str:
    if type(value) is int or type(value) is str:
        return value
    raise Refused(f"must be a name or a whole number, not {_WORDS[type(value)]}")


def _ruled(wanted: Any, converter: Converter) -> Hook:
    """Take what the base type takes, then apply the rules that stand beside it in ``Annotated``."""
    base, *extras = get_args(wanted)
    rules = [extra for extra in extras if isinstance(extra, Rule)]
    inner = converter.get_structure_hook(base)

    def hook(value: Any, _: Any) -> Any:
        try:
            taken = inner(value, base)
        except Refused as error:
            example = next((f"for example {rule.example}" for rule in rules if rule.example), None)
            raise Refused(error.message, error.hint or example) from None
        for rule in rules:
            rule.check(taken)
        return taken

    return hook


def _array(wanted: Any, converter: Converter) -> Hook:
    """Take an array, and nothing that could be iterated over besides."""
    elements = GenericAlias(list, get_args(wanted)[:1])
    inner = converter.get_structure_hook(elements)

    def hook(value: Any, _: Any) -> tuple[Any, ...]:
        if type(value) is not list:
            raise _type_error(value, list, "put it in brackets: [...]" if type(value) in (str, int) else None)
        return tuple(inner(value, elements))

    return hook


def _table_of(wanted: Any, converter: Converter) -> Hook:
    inner = converter.get_structure_hook(GenericAlias(dict, get_args(wanted)))

    def hook(value: Any, _: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise _type_error(value, dict)
        return dict(inner(value, dict))

    return hook


def _table(wanted: Any, converter: Converter) -> Hook:
    """Take a table whose keys are the fields of a class of ``schema``, all of them known."""
    inner = make_dict_structure_fn(wanted, converter, _cattrs_forbid_extra_keys=True)

    def hook(value: Any, _: Any) -> Any:
        if type(value) is not dict:
            raise _type_error(value, dict)
        return inner(value, wanted)

    return hook


def _secret_reference(wanted: Any, converter: Converter) -> Hook:
    inner = _table(wanted, converter)

    def hook(value: Any, _: Any) -> SecretReference:
        if type(value) is not dict:
            raise Refused("must be a reference: no secret is written into this file", _REFERENCE_HINT)
        reference: SecretReference = inner(value, wanted)
        if (reference.file is None) == (reference.credential is None):
            raise Refused("must have exactly one of file and credential", _REFERENCE_HINT)
        return reference

    return hook


def _strict_converter() -> Converter:
    converter = Converter(detailed_validation=True, forbid_extra_keys=True)
    for scalar in (str, int, bool):
        converter.register_structure_hook(scalar, _scalar)
    converter.register_structure_hook_func(lambda wanted: wanted == int | str, _number_or_text)
    converter.register_structure_hook_func(
        lambda wanted: wanted == Base | DialectSection, lambda value, _: _dialect(value, converter)
    )
    converter.register_structure_hook_func(
        lambda wanted: wanted == PrivateKeyFile, lambda value, _: _private_key_file(value, converter)
    )
    factories: tuple[tuple[Callable[[Any], bool], Factory], ...] = (
        (lambda wanted: get_origin(wanted) is tuple, _array),
        (lambda wanted: get_origin(wanted) is Mapping, _table_of),
        (attrs.has, _table),
        (lambda wanted: wanted is SecretReference, _secret_reference),
        (lambda wanted: get_origin(wanted) is Annotated, _ruled),
    )
    for applies, factory in factories:  # the last that applies is asked first
        converter.register_structure_hook_factory(applies, factory)
    return converter


_CONVERTER = _strict_converter()
