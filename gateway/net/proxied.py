"""Owns accepting behind a load balancer that speaks the PROXY protocol: its header first, then TLS or HTTP.

The header stands before the TLS handshake, so it is read here, byte-exact, before the connection becomes asyncio's.
It is demanded of the networks in ``server.proxy_protocol`` and never looked for elsewhere: nobody else may say who
he is.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from typing import Final

from gateway.http.fields import Networks
from gateway.net.alpn import connection_maker
from gateway.net.connection import ConnectionContext
from gateway.net.proxy_protocol import (
    V1_MOST_BYTES,
    V2_MOST_BYTES,
    ProxyHeader,
    ProxyHeaderMalformed,
    read_proxy_header,
)

log = logging.getLogger("gateway.net")

HEADER_S: Final = 5.0  # the balancer sends its header with the first packet
ACCEPT_PAUSE_S: Final = 0.1  # when there are no free file descriptors


class ProxiedAcceptor:
    """Accepts on one listener for as long as ``run`` runs."""

    def __init__(
        self,
        listener: socket.socket,
        context: ConnectionContext,
        balancers: Networks,
        *,
        tls: ssl.SSLContext | None,
        handshake_s: float,
        shutdown_s: float,
    ) -> None:
        self._listener = listener
        self._context = context
        self._balancers = balancers
        self._tls = tls
        self._handshake_s = handshake_s
        self._shutdown_s = shutdown_s
        self._make = connection_maker(context)
        self._greeting: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Accept until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    client, address = await loop.sock_accept(self._listener)
                except OSError as exc:
                    log.warning("accept: %s", exc)
                    await asyncio.sleep(ACCEPT_PAUSE_S)
                    continue
                task = loop.create_task(self._greet(client, address[0]))
                self._greeting.add(task)
                task.add_done_callback(self._greeting.discard)
        finally:
            for task in self._greeting:
                task.cancel()

    async def _greet(self, client: socket.socket, address: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            source = address
            if self._balancers.holds(address):
                async with asyncio.timeout(HEADER_S):
                    header = await read_header(client)
                source = header.source[0] if header.source is not None else address
            await loop.connect_accepted_socket(
                lambda: self._make(source),
                client,
                ssl=self._tls,
                ssl_handshake_timeout=self._handshake_s if self._tls else None,
                ssl_shutdown_timeout=self._shutdown_s if self._tls else None,
            )
        except (ProxyHeaderMalformed, TimeoutError, OSError, EOFError) as exc:
            log.info("%s: no connection: %r", address, exc)
            with contextlib.suppress(OSError):
                client.close()


async def read_header(client: socket.socket) -> ProxyHeader:
    """Read the header and not a byte more. Raises: ProxyHeaderMalformed, EOFError, OSError."""
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < max(V1_MOST_BYTES, V2_MOST_BYTES):
        byte = await loop.sock_recv(client, 1)
        if not byte:
            raise EOFError("closed within the PROXY header")
        data += byte
        header = read_proxy_header(data)
        if header is None:
            continue
        if header.length == 0:
            raise ProxyHeaderMalformed("a connection from a load balancer without a PROXY header")
        return header
    raise ProxyHeaderMalformed("an endless PROXY header")
