"""From a configuration to the places that a daemon under it has to read and to write (``[daemon] landlock``)."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broker.config.settings import ListenerSettings, Settings, TcpListenerSettings
from broker.errors import LocalError
from broker.events import ConfinementFailed, Event, ProcessConfined
from broker.hostenv.landlock import Kernel, Places, confine

Load = Callable[[Path], Settings]
"""Reads settings from a file. Raises LocalError."""

SYSTEM = tuple(
    map(Path, ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/proc", "/dev", "/run", "/nix"))
)
"""
Programs, libraries, the resolver, CAs, users and groups, randomness: what any program of the system has to read.

Not the homes, the state and the data of others: /home, /root, /srv, /tmp, /var and everything else.
"""

RESOLVER = tuple(map(Path, ("/var/lib/sss", "/var/run", "/var/cache/nscd")))
"""Where services of names are asked, on some systems."""

NULL = Path("/dev/null")
"""What a child gets for the streams that it is not to have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """What came of it: *places* that are left, None where everything is; *event* says so."""

    places: Places | None = None
    event: Event | None = None

    def load(self, load: Load, path: Path) -> Settings:
        """
        Load settings from *path*, and see that a daemon that is confined could use them.

        Raises LocalError ``restart_required`` where it could not, or as *load* does.
        """
        settings = load(path)
        outside = [] if self.places is None else self.places.outside(places_of(settings))
        if outside:
            listed = ", ".join(map(str, outside))
            raise LocalError(
                "restart_required",
                f"daemon.landlock keeps this process from what the file names now: {listed}",
                hint="restart the broker: it may use other files only from its start on",
            )
        return settings


def confine_to(settings: Settings, kernel: Kernel | None = None) -> Confinement:
    """Give up every other file, if *settings* say so; before the first thread begins. Where it fails all goes on."""
    if not settings.daemon.landlock:
        return Confinement()
    places = all_places_of(settings)
    confined = confine(places, kernel)
    if not confined.version:
        return Confinement(event=ConfinementFailed(reason=confined.reason))
    return Confinement(places=places, event=ProcessConfined(version=confined.version))


def places_of(settings: Settings) -> Places:
    """Give what a daemon under *settings* reads, beside the system and its own program, and what it writes."""
    written = dict(_written(settings))
    read = [path for path in _paths(settings) if path not in written]
    read += [Path(sink.hook.argv[0]) for sink in settings.sinks if sink.hook is not None]
    reads = {directory for file in read for directory in (file.parent, file.resolve().parent)}
    return Places(reads=tuple(sorted(reads)), writes=tuple(sorted(set(written.values()))))


def all_places_of(settings: Settings) -> Places:
    """Give the same with the system and the program."""
    program = [Path(entry).absolute() for entry in (*sys.path, sys.prefix, sys.base_prefix) if entry]
    wanted = places_of(settings)
    return Places(reads=(*SYSTEM, *RESOLVER, *program, *wanted.reads), writes=(NULL, *wanted.writes))


def _written(settings: Settings) -> Iterator[tuple[Path, Path]]:
    """Give what is written, and the directory: files are made in it, renamed and removed."""
    if settings.daemon.state_dir is not None:
        yield settings.daemon.state_dir, settings.daemon.state_dir
    files = [listener.path for listener in settings.listeners if isinstance(listener, ListenerSettings)]
    files += [listener.secret_file for listener in settings.listeners if isinstance(listener, TcpListenerSettings)]
    if settings.audit is not None:
        files.append(settings.audit.file)
    if settings.store is not None and settings.store.anchor is not None:
        files.append(settings.store.anchor)
    files += [sink.path for sink in settings.sinks]
    for file in files:
        yield file, file.parent


def _paths(value: Any) -> Iterator[Path]:
    """Give every path that the settings hold: a section that is added is not forgotten here."""
    if isinstance(value, Path):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _paths(one)
    elif isinstance(value, tuple):
        for one in value:
            yield from _paths(one)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _paths(getattr(value, field.name))
