"""Owns which protocol a new connection speaks: HTTP/1.1, or what client and server agreed on in the handshake."""

import asyncio
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

from gateway.net.connection import Connection, ConnectionContext
from gateway.net.session import serve_requests

if TYPE_CHECKING:
    from gateway.net.windows import WindowBudget

HTTP2: Final = "h2"

type ConnectionMaker = Callable[[str], asyncio.BufferedProtocol]


def connection_maker(context: ConnectionContext) -> ConnectionMaker:
    """What makes the protocol of a new connection, given the client's address if a load balancer told it, or ""."""
    if not context.offers_http2:
        return lambda address: Connection(context, serve_requests, address=address)
    from gateway.net.windows import WindowBudget  # noqa: PLC0415 - only where HTTP/2 is on

    budget = WindowBudget(context.limits.buffer_bytes)
    return lambda address: _Undecided(context, budget, address)


class _Undecided(asyncio.BufferedProtocol):
    """Steps aside as soon as the handshake is over."""

    def __init__(self, context: ConnectionContext, budget: "WindowBudget", address: str) -> None:
        self._context = context
        self._budget = budget
        self._address = address

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        tls = cast(ssl.SSLObject | None, transport.get_extra_info("ssl_object"))
        chosen: asyncio.BufferedProtocol
        self._budget.limit_bytes = self._context.limits.buffer_bytes  # as it is after the latest reload
        if tls is not None and tls.selected_alpn_protocol() == HTTP2:
            from gateway.net.http2 import Http2Connection  # noqa: PLC0415 - loads h2, only for who speaks it

            chosen = Http2Connection(self._context, self._budget, address=self._address)
        else:
            chosen = Connection(self._context, serve_requests, address=self._address)
        transport.set_protocol(chosen)
        chosen.connection_made(transport)
