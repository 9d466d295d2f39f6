"""Owns the listeners: sockets, accepting, the deadline clock, draining."""

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from gateway.errors import Problem, SettingsError
from gateway.http.fields import Networks
from gateway.net.alpn import connection_maker
from gateway.net.connection import Connection, ConnectionContext
from gateway.net.proxied import ProxiedAcceptor
from gateway.settings import Limits, Settings

log = logging.getLogger("gateway.net")

BACKLOG: Final = 1024
SHUTDOWN_S: Final = 1.0  # how long a close_notify is waited for: it says nothing that we need to hear
KEPT_FILES: Final = 96  # log, database probes, outbox, listeners, the pool to the core
SETTLE_S: Final = 1.0  # a client that has just been accepted gets so long to say what it came for
LINGER_S: Final = 1.0  # kept connections are told to close with an answer, if they ask for one within this
CHECK_EVERY_S: Final = 0.5  # how exact deadlines are; they are tens of seconds


def open_listener(
    address: str, *, setting: str, also_ipv4: bool = True, beside_others: bool = False
) -> socket.socket:
    """A listening TCP socket on ``ADDR:PORT`` (``[ADDR]:PORT`` for IPv6).

    ``also_ipv4``: ``[::]`` stands for every IPv4 address, too, as long as nobody else listens there.
    ``beside_others``: sockets that say SO_REUSEPORT may have the port already.

    Raises: SettingsError that says what to do.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if not also_ipv4 and family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, beside_others)
    try:
        listener.bind((host, int(port)))
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as exc:
        listener.close()
        remedy = {
            98: "another program listens there; stop it or choose another port",
            13: "ports below 1024 need CAP_NET_BIND_SERVICE (see docs/operations.md)",
            99: "this machine has no such address",
        }.get(getattr(exc, "errno", 0) or 0, str(exc))
        raise SettingsError((Problem(where=setting, what=f"cannot listen on {address}: {remedy}"),)) from exc
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
    listener.setblocking(False)
    return listener


def listener_addresses(settings: Settings) -> dict[str, str]:
    """Every listener of the settings: ``https``, ``https-2``, …, ``http``, ``http-2``, …"""
    server = settings.server
    kinds = {"https": (server.https, *server.more_https), "http": (server.http, *server.more_http)}
    if settings.tls.mode == "off":
        del kinds["https"]
    return {
        kind if number == 1 else f"{kind}-{number}": address
        for kind, addresses in kinds.items()
        for number, address in enumerate(filter(None, addresses), 1)
    }


def setting_of(listener: str) -> str:
    """The setting that a listener comes from."""
    kind, is_further, _ = listener.partition("-")
    return f"server.more_{kind}" if is_further else f"server.{kind}"


def leaves_ipv4(address: str, addresses: Iterable[str]) -> bool:
    """Whether another of the addresses has the port of this one for IPv4."""
    port = address.rpartition(":")[2]
    return any(other.endswith(f":{port}") and not other.startswith("[") for other in addresses)


def listen_on(
    addresses: Mapping[str, str], *, names: Iterable[str] | None = None, beside_others: bool = False
) -> dict[str, socket.socket]:
    """A listening socket for each, or only for those ``names``. Raises: SettingsError, and then none is left open.

    ``beside_others``: as for ``open_listener``.
    """
    sockets: dict[str, socket.socket] = {}
    try:
        for name in addresses if names is None else names:
            sockets[name] = open_listener(
                addresses[name],
                setting=setting_of(name),
                also_ipv4=not leaves_ipv4(addresses[name], addresses.values()),
                beside_others=beside_others,
            )
    except SettingsError:
        for opened in sockets.values():
            opened.close()
        raise
    return sockets


class Server:
    """One listener and its connections. ``balancers`` are believed who the client is, by the PROXY protocol."""

    def __init__(
        self,
        listener: socket.socket,
        context: ConnectionContext,
        *,
        tls: ssl.SSLContext | None,
        handshake_s: float,
        balancers: Networks | None = None,
    ) -> None:
        self._listener = listener
        self._context = context
        self._tls = tls
        self._handshake_s = handshake_s
        self._balancers = balancers
        self._server: asyncio.Server | None = None
        self._acceptor: asyncio.Task[None] | None = None
        self._fresh: deque[tuple[float, weakref.ref[asyncio.BufferedProtocol]]] = deque()

    async def start(self) -> None:
        """Accept from now on."""
        loop = asyncio.get_running_loop()
        if self._balancers is not None:
            acceptor = ProxiedAcceptor(
                self._listener,
                self._context,
                self._balancers,
                tls=self._tls,
                handshake_s=self._handshake_s,
                shutdown_s=SHUTDOWN_S,
            )
            self._acceptor = loop.create_task(acceptor.run())
            return
        make = connection_maker(self._context)

        def accept() -> asyncio.BufferedProtocol:
            connection = make("")
            self._forget_old(loop.time())
            self._fresh.append((loop.time(), weakref.ref(connection)))
            return connection

        self._server = await loop.create_server(
            accept,
            sock=self._listener,
            ssl=self._tls,
            ssl_handshake_timeout=self._handshake_s if self._tls else None,
            ssl_shutdown_timeout=SHUTDOWN_S if self._tls else None,
            backlog=BACKLOG,
        )

    def close_listener(self) -> None:
        """Accept no more; what was accepted goes on as before."""
        if self._acceptor is not None:
            self._acceptor.cancel()
            self._listener.close()
        if self._server is not None:
            self._server.close()

    def announce_end(self) -> None:
        """From now on each answer is the last of its connection, and says so."""
        self._context.is_draining = True
        for connection in tuple(self._context.connections):
            if not isinstance(connection, Connection):  # HTTP/2 can say so without an answer
                connection.begin_drain()

    def stop_accepting(self) -> None:
        """Close the listener; running requests go on, idle connections end."""
        self.close_listener()
        self.announce_end()
        for connection in tuple(self._context.connections):
            connection.begin_drain()

    @property
    def is_settling(self) -> bool:
        """Whether somebody was accepted a moment ago and has not been heard yet: ending now would be no answer."""
        self._forget_old(asyncio.get_running_loop().time())
        return any(_is_unheard(reference()) for _, reference in self._fresh)

    def _forget_old(self, now: float) -> None:
        while self._fresh and now - self._fresh[0][0] > SETTLE_S:
            self._fresh.popleft()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._context.connections)

    def cut(self) -> None:
        """End what is left."""
        for connection in tuple(self._context.connections):
            connection.transport.abort()


async def keep_deadlines(contexts: Iterable[ConnectionContext]) -> None:
    """Enforce every connection's deadlines, for ever."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(CHECK_EVERY_S)
        now = loop.time()
        for context in contexts:
            for connection in tuple(context.connections):
                connection.check(now)


async def drain(servers: Iterable[Server], *, deadline_s: float) -> int:
    """Stop accepting and wait until no connection is left; returns how many had to be cut at the deadline.

    Nobody is to lose a request by it. So who was just accepted is heard first, and kept connections get a moment in
    which their next answer says that it is the last: a client learns of a silent end only when it has asked.
    """
    servers = tuple(servers)
    for server in servers:
        server.close_listener()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(deadline_s):
            await _while(lambda: any(server.is_settling for server in servers), SETTLE_S)
            for server in servers:
                server.announce_end()
            await _while(lambda: any(server.connections for server in servers), LINGER_S)
            for server in servers:
                server.stop_accepting()
            await _while(lambda: any(server.connections for server in servers), deadline_s)
    left = sum(server.connections for server in servers)
    for server in servers:
        server.cut()
    return left


async def _while(is_so: Callable[[], bool], most_s: float) -> None:
    until = asyncio.get_running_loop().time() + most_s
    while is_so() and asyncio.get_running_loop().time() < until:  # noqa: ASYNC110 - twenty looks a second are cheap
        await asyncio.sleep(0.05)


def _is_unheard(connection: asyncio.BufferedProtocol | None) -> bool:
    if not isinstance(connection, Connection):
        return connection is not None  # its handshake goes on; what speaks HTTP/2 takes its place after it
    if not hasattr(connection, "transport"):
        return True  # before the end of the handshake
    return connection.heads_read == 0 and not connection.transport.is_closing()


def most_connections(limits: Limits, *, listeners: int) -> int:
    """How many connections each listener of this process has files for.

    A connection may need a second file (an upload, the core), and whatever else the gateway opens must not starve.
    """
    import resource  # noqa: PLC0415 - only where a server starts

    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    most = max(8, (files - KEPT_FILES) // (2 * listeners))
    if most < limits.connections:
        log.warning("only %d files may be open: at most %d connections for each listener", files, most)
    return most


def raise_file_limit() -> None:
    """Take the hard limit of open files: each client and each upload needs one."""
    import resource  # noqa: PLC0415 - only where a server starts

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    log.debug("pid %d may open %d files", os.getpid(), hard)
