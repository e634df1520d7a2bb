"""From the sinks of a configuration to those that are kept, and to what is wrong with their places."""

from __future__ import annotations

from broker.config.settings import Settings, TcpListenerSettings
from broker.errors import LocalError
from broker.events import Emit
from broker.sinks.files import SystemFiles
from broker.sinks.hook import run_hook
from broker.sinks.keeper import Held, Keeper
from broker.sinks.roster import Roster, check_sinks
from broker.sinks.spec import Sink
from broker.tokens.ports import Clock, Randomness, TokenSource


def sinks_of(settings: Settings, tokens: TokenSource, *, clock: Clock, randomness: Randomness, emit: Emit) -> Roster:
    """Make the keepers of all token files; nothing of them runs yet."""
    files = SystemFiles()

    def make(sink: Sink, held: Held | None) -> Keeper:
        return Keeper(
            sink,
            tokens=tokens,
            files=files,
            run_hook=run_hook,
            clock=clock,
            randomness=randomness,
            emit=emit,
            held=held,
        )

    return Roster(settings.sinks, make)


def unsafe_sinks(settings: Settings) -> list[LocalError]:
    """Say what is wrong with the places of sinks and with their hooks, and touch nothing. Blocks."""
    made = {
        (one.secret_file if isinstance(one, TcpListenerSettings) else one.path).parent for one in settings.listeners
    }
    return list(check_sinks(settings.sinks, made=made))
