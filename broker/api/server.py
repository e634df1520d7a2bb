"""
The API sockets of the daemon, from opening to drain.

    server = ApiServer(listeners, ...)
    server.open()                    # clients can connect from here on
    group.create_task(server.run())  # they are answered from here on
    await server.drain(seconds)      # run() returns; nothing is left behind
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from types import MappingProxyType

from broker.api.desk import Desk, HeaderRules, Passing
from broker.api.egress import call_upstream
from broker.api.gate import Gate
from broker.api.limits import Limits, Rates, WaitingRoom
from broker.api.listeners import OpenUnix, UnixListener, open_unix
from broker.api.peers import peer_of, read_unknowns
from broker.api.rotated import Rotate
from broker.api.routes import API_ROUTES
from broker.api.secret_file import SECRET_BYTES
from broker.api.service import Listening, Service
from broker.api.tcp import OpenTcp, TcpListener, open_tcp, tcp_peer
from broker.api.world import PublicKeys, World
from broker.consent.authorizations import Authorizations
from broker.errors import LocalError
from broker.events import Emit, EmitServed, ListenerOpened
from broker.policy.peer import Peer
from broker.policy.rules import Policy, may_read_states, workloads_of
from broker.policy.upstreams import Upstream
from broker.tokens.calls import Egress
from broker.tokens.ports import Clock, Randomness, TokenSource
from broker.tokens.proving import Proving
from broker.tokens.source import GrantSource

Listener = UnixListener | TcpListener

STRANGERS_KEPT = 256
"""Callers of whom is kept whether they are strangers: a connection costs a third less where that is known."""


class ApiServer:
    """Serves ``API_ROUTES`` on Unix sockets, and over loopback TCP to those who show its secret."""

    def __init__(
        self,
        listeners: Sequence[Listener],
        *,
        policy: Policy,
        tokens: TokenSource,
        emit: Emit,
        clock: Clock,
        randomness: Randomness,
        limits: Limits | None = None,
        hosts: frozenset[str] = frozenset(),
        sandbox: Callable[[], Sequence[str]] = tuple,
        restart: Callable[[], Sequence[str]] = tuple,
        refused: Callable[[], bool] = bool,
        clients: Callable[[], Mapping[str, PublicKeys]] = dict,
        grants: GrantSource | None = None,
        authorizations: Authorizations | None = None,
        egress: Egress | None = None,
        upstreams: Callable[[], Mapping[str, Upstream]] = dict,
        takes_records: Callable[[], bool] = lambda: True,
        bases: Mapping[str, str] = MappingProxyType({}),
        rotate: Callable[[], Rotate | None] = lambda: None,
        proving: Proving | None = None,
        resources: Callable[[str], Sequence[str]] = lambda _token: (),
        inherited: Mapping[str, socket.socket] = MappingProxyType({}),
        fast_path: bool = False,
        emit_served: EmitServed | None = None,
    ) -> None:
        """
        Take what the API works with; opens nothing yet.

        *hosts* are values of ``Host`` that are accepted beside the fixed ones, *sandbox* gives the names of
        the sandbox issuers in use, *restart* those of the sections that wait for a restart, *refused* whether
        the last reload was refused, for readiness;
        *clients* the public keys of each client. *grants* and *authorizations* are there where people consent;
        *rotate* gives what looks at the files that may be replaced, where there is such a thing.
        *egress* calls *upstreams*; *bases* are the listeners that stand for one of these, by their names;
        *takes_records*: what may not happen unrecorded may be begun.
        *proving* makes DPoP proofs for callers, for URLs under those that *resources* gives by the token's name.
        *inherited* are listening sockets that were opened for us, by the listeners' names.
        *fast_path*: requests for tokens on Unix sockets are parsed once, and answered at once from then on,
        and *emit_served* takes the records of those that come together.
        """
        self._listeners = tuple(listeners)
        self._inherited = inherited
        self._fast = frozenset(
            one.name for one in self._listeners if fast_path and isinstance(one, UnixListener) and one.name not in bases
        )
        self._limits = limits or Limits()
        self._waiting = WaitingRoom(self._limits)
        self._emit = emit
        self._world = World(
            policy=policy,
            tokens=tokens,
            emit=emit,
            waiting=self._waiting,
            sandbox=sandbox,
            restart=restart,
            refused=refused,
            clients=clients,
            grants=grants,
            authorizations=authorizations,
            egress=egress,
            upstreams=upstreams,
            takes_records=takes_records,
            rotate=rotate,
            proving=proving,
            resources=resources,
        )
        hosts = frozenset(host.lower() for host in hosts)
        self._gates = {one.name: Gate(hosts) for one in self._listeners if isinstance(one, TcpListener)}
        self._randomness = randomness
        self._desk = Desk(
            API_ROUTES,
            self._world,
            header_rules=HeaderRules(hosts=hosts, gates=self._gates),
            emit=emit,
            clock=clock,
            randomness=randomness,
            rates=Rates(self._limits.max_requests_per_second_per_uid),
            passing=Passing(handler=call_upstream, bases=bases, authority=self._authority),
            emit_served=emit_served,
        )
        self._judged_by = policy
        self._strangers: dict[Hashable, bool] = {}
        self._open: list[OpenUnix | OpenTcp] = []
        self._service: Service | None = None

    def _authority(self, upstream: str) -> str | None:
        known = self._world.upstreams().get(upstream)
        return None if known is None else known.authority

    def replace_policy(self, policy: Policy) -> None:
        """Decide by *policy* from now on; who waits is asked for its right again."""
        self._world.replace_policy(policy)

    def open(self) -> None:
        """Listen on every socket, or on none. Raises LocalError; to be called on the running loop."""
        self._service = Service(self._desk, limits=self._limits, emit=self._emit)
        try:
            for listener in self._listeners:
                self._open.append(self._open_one(listener))
        except BaseException:
            self._close()
            raise
        for opened in self._open:
            self._emit(ListenerOpened(listener=opened.listener.name, address=opened.address))

    def _open_one(self, listener: Listener) -> OpenUnix | OpenTcp:
        if isinstance(listener, UnixListener):
            given = self._inherited.get(listener.name)
            return open_unix(listener) if given is None else OpenUnix(listener=listener, socket=given, inherited=True)
        opened = open_tcp(listener, self._randomness.token(SECRET_BYTES))
        self._gates[listener.name].arm(opened.secret.digest, opened.hosts)
        return opened

    async def run(self) -> None:
        """Answer until ``drain``, or until cancelled."""
        if self._service is None:
            raise RuntimeError("open() comes first")
        unknowns = read_unknowns()
        await self._service.run(
            [
                Listening(
                    name=opened.listener.name,
                    sock=opened.socket,
                    identify=(
                        partial(peer_of, listener=opened.listener.name, unknowns=unknowns)
                        if isinstance(opened, OpenUnix)
                        else partial(tcp_peer, listener=opened.listener.name)
                    ),
                    is_stranger=self._is_stranger,
                    handed_on=isinstance(opened, OpenUnix) and opened.inherited,
                    fast=opened.listener.name in self._fast,
                )
                for opened in self._open
            ]
        )

    def _is_stranger(self, peer: Peer) -> bool:
        """Say whether *peer* may have nothing here; what was found is kept as long as the policy is in force."""
        policy = self._world.policy
        if policy is not self._judged_by or len(self._strangers) >= STRANGERS_KEPT:
            self._judged_by, self._strangers = policy, {}
        who = peer.listener, peer.uid, peer.gid, peer.groups
        found = self._strangers.get(who)
        if found is None:
            found = not workloads_of(policy, peer) and not may_read_states(policy, peer)
            self._strangers[who] = found
        return found

    async def drain(self, seconds: float) -> None:
        """
        Take no more connections, answer what waits at once, let what runs finish, for *seconds* at most.

        The files of our own sockets go first, so that whoever comes meanwhile sees that nobody is there. To be called
        on every way out, also after ``run`` was cancelled; once is enough, twice does no harm. Raises
        LocalError, when all is over, for a file that could not be removed.
        """
        try:
            for opened in self._open:
                with suppress(LocalError):  # close() tries again, and says so
                    opened.unlink()
            self._waiting.close()
            if self._service is not None:
                await self._service.drain(seconds)
        finally:
            self._close()

    def _close(self) -> None:
        """Close every socket, also when the file of one cannot be removed."""
        with ExitStack() as closing:
            while self._open:
                closing.callback(self._open.pop().close)
