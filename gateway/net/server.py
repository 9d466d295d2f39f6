"""Owns the listeners: sockets, accepting, the deadline clock, draining."""

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Iterable
from typing import Final

from gateway.errors import Problem, SettingsError
from gateway.http.fields import Networks
from gateway.net.alpn import connection_maker
from gateway.net.connection import ConnectionContext
from gateway.net.proxied import ProxiedAcceptor
from gateway.settings import Limits

log = logging.getLogger("gateway.net")

BACKLOG: Final = 1024
SHUTDOWN_S: Final = 1.0  # how long a close_notify is waited for: it says nothing that we need to hear
KEPT_FILES: Final = 96  # log, database probes, outbox, listeners, the pool to the core
CHECK_EVERY_S: Final = 0.5  # how exact deadlines are; they are tens of seconds


def open_listener(address: str, *, setting: str) -> socket.socket:
    """A listening TCP socket on ``ADDR:PORT`` (``[ADDR]:PORT`` for IPv6).

    Raises: SettingsError that says what to do.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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
    listener.setblocking(False)
    return listener


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
        self._server = await loop.create_server(
            lambda: make(""),
            sock=self._listener,
            ssl=self._tls,
            ssl_handshake_timeout=self._handshake_s if self._tls else None,
            ssl_shutdown_timeout=SHUTDOWN_S if self._tls else None,
            backlog=BACKLOG,
        )

    def stop_accepting(self) -> None:
        """Close the listener; running requests go on, idle connections end."""
        if self._acceptor is not None:
            self._acceptor.cancel()
            self._listener.close()
        if self._server is not None:
            self._server.close()
        self._context.is_draining = True
        for connection in tuple(self._context.connections):
            connection.begin_drain()

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
    """Stop accepting and wait until no connection is left; returns how many had to be cut at the deadline."""
    servers = tuple(servers)
    for server in servers:
        server.stop_accepting()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(deadline_s):
            while any(server.connections for server in servers):  # noqa: ASYNC110 - twenty looks a second are cheap
                await asyncio.sleep(0.05)
    left = sum(server.connections for server in servers)
    for server in servers:
        server.cut()
    return left


def within_file_limit(limits: Limits, *, listeners: int) -> Limits:
    """The limits with no more connections than the process has files for.

    A connection may need a second file (an upload, the core), and whatever else the gateway opens must not starve.
    """
    import resource  # noqa: PLC0415 - only where a server starts

    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    most = max(8, (files - KEPT_FILES) // (2 * listeners))
    if most >= limits.connections:
        return limits
    log.warning("only %d files may be open: at most %d connections for each listener", files, most)
    return limits.model_copy(update={"connections": most})


def raise_file_limit() -> None:
    """Take the hard limit of open files: each client and each upload needs one."""
    import resource  # noqa: PLC0415 - only where a server starts

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    log.debug("pid %d may open %d files", os.getpid(), hard)
