"""Owns one client connection: what arrives, what leaves, how long anybody waits, and the loop over its requests.

The only file that touches a client's transport. Reading is pull-driven: nobody asks, nothing is read beyond a small
inbox, and the kernel's window does the rest.
"""

import asyncio
import enum
import logging
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Final, Protocol, cast

from gateway.errors import BodyTimeout, ClientGone, GatewayError, HeadTimeout
from gateway.http.exchange import ClientExchange, Peer
from gateway.http.head import RequestHead
from gateway.net.answer import HttpDate, RequestIds
from gateway.net.blocks import Block
from gateway.net.body import Body
from gateway.net.peer_address import peer_address
from gateway.settings import Limits
from gateway.tally import Count, Kind, Tally

log = logging.getLogger("gateway.net")

SCRATCH_BYTES: Final = 256 * 1024
INBOX_HIGH_BYTES: Final = 64 * 1024  # as much as is read ahead while nobody asks
HEAD_READ_BYTES: Final = 16 * 1024  # per read outside of bodies: thousands of connections may do this at once
FLUSH_S: Final = (
    0.5  # a block that fills slowly is handed on after this, so that slow clients hold none for long
)
WRITE_HIGH_BYTES: Final = 1024 * 1024
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
# A refused upload: how much of it is read and dropped so that the client gets to see the answer.
LINGER_S: Final = 3.0
LINGER_BYTES: Final = 64 * 1024 * 1024

_NOBODY: Final = asyncio.BufferedProtocol()  # whom a transport belongs to when its connection is over

type Serve = Callable[["Connection"], Coroutine[None, None, None]]
type Handler = Callable[[ClientExchange], Awaitable[None]]
type PeerFinder = Callable[[str, str, RequestHead | None], Peer]


class Phase(enum.Enum):
    """What the connection waits for; decides which deadline counts."""

    HEAD = enum.auto()
    ANSWER = enum.auto()
    BODY = enum.auto()
    LINGER = enum.auto()
    TUNNEL = enum.auto()


class Observer(Protocol):
    """Somebody who wants to see every request (``gateway trace``)."""

    def begun(self, exchange: ClientExchange) -> None:
        """A head was read."""
        ...

    def answering(self, exchange: ClientExchange, head: bytes) -> None:
        """The answer's head is about to be sent."""
        ...


class ClientConnection(Protocol):
    """What a listener does with its connections, whatever they speak."""

    transport: asyncio.Transport

    def check(self, now: float) -> None:
        """Enforce the deadlines."""
        ...

    def begin_drain(self) -> None:
        """Take no further request, and close after the last answer."""
        ...


@dataclass(slots=True)
class ConnectionContext:
    """What all connections of one listener share.

    most_here: what this listener can have in this process; ``limits.connections`` is for all that ``in_use`` counts.
    """

    handler: Handler
    find_peer: PeerFinder
    limits: Limits
    is_tls: bool
    finished: Callable[[ClientExchange], None]
    offers_http2: bool = False
    most_here: int = sys.maxsize
    in_use: Count = field(default_factory=lambda: Tally.alone().count(Kind.CONNECTIONS))
    connections: "set[ClientConnection]" = field(default_factory=set)
    scratch: bytearray = field(default_factory=lambda: bytearray(SCRATCH_BYTES))
    date: HttpDate = field(default_factory=HttpDate)
    request_ids: RequestIds = field(default_factory=RequestIds)
    is_draining: bool = False
    observer: Observer | None = None

    def enter(self, connection: ClientConnection) -> bool:
        """Take a connection in; False if there are too many already."""
        if len(self.connections) >= self.most_here or self.in_use.total >= self.limits.connections:
            return False
        self.connections.add(connection)
        self.in_use.change(1)
        return True

    def leave(self, connection: ClientConnection) -> None:
        """A connection is over, whether it was taken in or not."""
        # uvloop's TLS keeps methods of its buffered protocol when all is over, and our protocol its transport: half a
        # MiB that nobody frees until the cycle is found, after hundreds of them in a server that makes few new objects.
        connection.transport.set_protocol(_NOBODY)
        if connection in self.connections:
            self.connections.remove(connection)
            self.in_use.change(-1)


class Connection(asyncio.BufferedProtocol):
    """One connection. ``check`` is called about twice a second and enforces every deadline."""

    def __init__(self, context: ConnectionContext, serve: Serve, *, address: str = "") -> None:
        """``serve`` is the loop over its requests. ``address``: the client's, when a load balancer told it; empty =
        the socket's peer.
        """
        self.context = context
        # Of the request that is there or comes next: a reload changes those of others.
        self.limits = context.limits
        self._serve = serve
        self.loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = self.loop.create_future()
        self.inbox = bytearray()
        self.phase = Phase.HEAD
        self._scratch_view = memoryview(context.scratch)
        self.address = address
        self.is_eof = False
        self._reading_paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._write_waiter: asyncio.Future[None] | None = None
        self._write_paused_at: float | None = None
        self._block: Block | None = None
        self._block_limit = 0
        self._body: Body | None = None
        self._tunnel: asyncio.StreamReader | None = None
        self._since = self.loop.time()  # of this phase, or of the head's first byte
        self.heads_read = 0
        self._linger_left = 0

    # -- the transport's side ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.restore_write_limits()
        if not self.address:
            self.address = peer_address(transport)
        if not self.context.enter(self):
            self.transport.abort()
            return
        self._task = self.loop.create_task(self._serve(self))

    def get_buffer(self, sizehint: int) -> memoryview:
        block = self._block
        if block is None:
            return self._scratch_view if self.phase is Phase.BODY else self._scratch_view[:HEAD_READ_BYTES]
        return block.view[block.filled : self._block_limit]

    def buffer_updated(self, nbytes: int) -> None:
        block = self._block
        if block is not None:
            block.filled += nbytes
            if self._body is not None and self._body.took(block):
                self._hand_on_block()
            return
        if self._tunnel is not None:
            self._tunnel.feed_data(bytes(self._scratch_view[:nbytes]))
            return
        if self.phase is Phase.LINGER:
            self._linger_left -= nbytes
            if self._linger_left < 0:
                self._pause()
            return
        if not self.inbox and self.phase is Phase.HEAD:
            self._since = self.loop.time()
            self.limits = self.context.limits
        self.inbox += self._scratch_view[:nbytes]
        if len(self.inbox) >= INBOX_HIGH_BYTES:
            self._pause()
        self._wake()

    def _hand_on_block(self) -> None:
        self._block = None
        self._pause()
        self._wake()

    def eof_received(self) -> bool:
        self.is_eof = True
        if self._tunnel is not None:
            self._tunnel.feed_eof()
        self._block = None
        if self.phase is Phase.LINGER:
            self.transport.close()
        self._wake()
        return not self.context.is_tls  # TLS cannot be half-closed

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_eof = True
        self.context.leave(self)
        self._block = None
        if not self.closed.done():
            self.closed.set_result(None)
        if self._tunnel is not None and not self._tunnel.at_eof():
            self._tunnel.feed_eof()
        self._wake()
        if self._write_waiter is not None and not self._write_waiter.done():
            self._write_waiter.set_exception(ClientGone())

    def pause_writing(self) -> None:
        self._write_paused_at = self.loop.time()

    def resume_writing(self) -> None:
        self._write_paused_at = None
        if self._write_waiter is not None and not self._write_waiter.done():
            self._write_waiter.set_result(None)

    # -- deadlines --------------------------------------------------------------------------------------------

    def check(self, now: float) -> None:
        """Enforce the deadlines; called by the server for every connection about twice a second."""
        limits = self.limits
        if self._write_paused_at is not None and now - self._write_paused_at > limits.write_stall_s:
            log.debug("%s does not read: cut", self.address)
            self.transport.abort()
        elif self.phase is Phase.HEAD and self._waiter is not None:
            is_idle = not self.inbox and self.heads_read > 0
            if now - self._since > (self.context.limits.keepalive_s if is_idle else limits.head_s):
                self._fail(HeadTimeout() if self.inbox else ClientGone())
        elif self.phase is Phase.BODY and self._body is not None and self._waiter is not None:
            if self._body.is_too_slow(now, limits):
                self._fail(BodyTimeout())
            elif self._block is not None and self._block.filled and now - self._since > FLUSH_S:
                self._body.took_enough = True
                self._hand_on_block()
        elif self.phase is Phase.LINGER and now - self._since > LINGER_S:
            self.transport.abort()

    def begin_drain(self) -> None:
        """Take no further request: an idle connection closes now, a busy one after its answer."""
        if self.phase is Phase.HEAD and not self.inbox:
            self._fail(ClientGone())

    # -- reading ----------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: GatewayError) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    def _pause(self) -> None:
        if not self._reading_paused and not self.transport.is_closing():
            self._reading_paused = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        if self._reading_paused and not self.transport.is_closing():
            self._reading_paused = False
            self.transport.resume_reading()

    async def _wait(self) -> None:
        self._waiter = self.loop.create_future()
        self._resume()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def receive(self) -> None:
        """Wait until the inbox has something. Raises: ClientGone, BodyTimeout, HeadTimeout."""
        while not self.inbox:
            if self.is_eof:
                raise ClientGone
            await self._wait()

    async def fill(self, block: Block, limit: int, body: Body) -> None:
        """Receive straight into ``block`` up to ``limit`` bytes of it, until ``body.took`` says it has enough."""
        if self.inbox:
            count = min(len(self.inbox), limit - block.filled)
            block.view[block.filled : block.filled + count] = self.inbox[:count]
            del self.inbox[:count]
            block.filled += count
            if body.took(block):
                return
        if self.is_eof:
            raise ClientGone
        self._block, self._block_limit, self._since = block, limit, self.loop.time()
        try:
            await self._wait()
        finally:
            was_cut = self._block is not None or self.is_eof
            self._block = None
        if was_cut and not body.took_enough:
            raise ClientGone

    async def invite(self) -> None:
        """Send ``100 Continue``. Raises: ClientGone."""
        await self.send(CONTINUE)

    def watch_body(self, body: Body | None) -> None:
        """Body deadlines count while ``body`` is being waited for."""
        self._body = body
        self.phase = Phase.BODY if body is not None else Phase.ANSWER

    def interrupt_body(self, body: Body, error: GatewayError) -> None:
        """Whoever waits for ``body`` gets ``error`` instead."""
        if self._body is body:
            self._fail(error)

    def open_tunnel(self) -> asyncio.StreamReader:
        """From now on everything received goes to this reader."""
        reader = asyncio.StreamReader(limit=SCRATCH_BYTES)
        reader.set_transport(self.transport)
        reader.feed_data(bytes(self.inbox))
        self.inbox.clear()
        if self.is_eof:
            reader.feed_eof()
        self.phase, self._tunnel = Phase.TUNNEL, reader
        self._resume()
        return reader

    # -- writing ----------------------------------------------------------------------------------------------

    async def send(self, data: bytes | memoryview) -> None:
        """Send; returns when the transport has room. Raises: ClientGone."""
        if self.closed.done() or self.transport.is_closing():
            raise ClientGone
        self.transport.write(data)
        if self._write_paused_at is not None:
            await self.drain_writes()

    def restore_write_limits(self) -> None:
        """The usual amount that the transport may hold."""
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)

    async def drain_writes(self) -> None:
        """Wait until the transport has room. Raises: ClientGone."""
        while self._write_paused_at is not None:
            if self.closed.done():
                raise ClientGone
            self._write_waiter = self.loop.create_future()
            try:
                await self._write_waiter
            finally:
                self._write_waiter = None

    # -- between requests -------------------------------------------------------------------------------------

    def await_head(self) -> None:
        """A new request is waited for: the deadlines of heads count from now."""
        self.phase, self._since, self.limits = Phase.HEAD, self.loop.time(), self.context.limits

    async def more(self) -> None:
        """Wait for anything to arrive, or for the end. Raises: HeadTimeout, ClientGone."""
        await self._wait()

    async def linger(self) -> None:
        """Half-close, then read and drop for a while: closing at once would reset the answer away."""
        if self.transport.is_closing():
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.inbox.clear()
        self.phase, self._since, self._linger_left = Phase.LINGER, self.loop.time(), LINGER_BYTES
        self._resume()
        if self.is_eof:
            self.transport.close()
        await self.closed
