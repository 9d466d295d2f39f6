"""Owns one HTTP/2 stream: the content that arrives on it, what leaves on it, and how long anybody waits for either."""

import asyncio
import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from gateway.errors import BodyTimeout, ClientGone, GatewayError, MalformedRequest
from gateway.http.head import Field
from gateway.net.blocks import Block
from gateway.net.body import CHUNK_BYTES, Body
from gateway.net.connection import FLUSH_S
from gateway.net.frames import Content
from gateway.net.http2_wire import Code, EncodedFields
from gateway.net.windows import STREAM_BYTES, StreamWindow

if TYPE_CHECKING:
    from gateway.net.http2 import Http2Connection

TURN_BYTES: Final = 256 * 1024  # after so much of one answer it is another's turn; 64 KiB cost a third more
CONTINUE: Final = [(b":status", b"100")]


class Http2Stream:
    """One request's way in and its answer's way out. ``closed`` is done when the client has given it up."""

    def __init__(self, connection: "Http2Connection", stream_id: int, *, has_body: bool) -> None:
        self._connection = connection
        self._limits = connection.context.limits  # a reload changes those of later requests
        self._wire = connection.wire
        self.id = stream_id
        self.loop = connection.loop
        self.closed: asyncio.Future[None] = self.loop.create_future()
        self.inbox = bytearray()
        self.window = StreamWindow()
        self.to_come: int | None = None  # bytes of the body that are to arrive; None = nobody said
        self.trailers: tuple[Field, ...] = ()
        self.is_ended = not has_body
        self._is_sent = False
        self._failure: GatewayError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._block: Block | None = None
        self._block_limit = 0
        self._body: Body | None = None
        self._is_read = False
        self._unread = 0  # of the inbox, as the connection's window knows it
        self._since = 0.0  # of the block that is being filled
        self._room: asyncio.Future[None] | None = None
        self._stalled_since: float | None = None
        self._sent_since = 0

    # -- content from the client ------------------------------------------------------------------------------

    def take(self, data: memoryview, cost: int) -> None:
        """Content arrived, which took ``cost`` bytes of the window; ``settle`` follows soon."""
        if self._failure is not None:
            return
        self.window.open_bytes -= cost
        if self.window.open_bytes < 0:
            self.fail(Code.FLOW_CONTROL_ERROR, MalformedRequest("More was sent than the window allows."))
            return
        size = len(data)
        if self.to_come is not None:
            self.to_come -= size
            if self.to_come < 0:
                self.fail(Code.PROTOCOL_ERROR, MalformedRequest("The body is longer than its length."))
                return
        block = self._block
        if block is not None:
            count = min(size, self._block_limit - block.filled)
            block.view[block.filled : block.filled + count] = data[:count]
            block.filled += count
            if block.filled == self._block_limit:
                self.settle()
            if count == size:
                return
            data = data[count:]
        self.inbox += data
        self._note_unread()

    def take_run(self, data: memoryview, run: Content, size: int) -> bool:
        """The same for many frames; False when they have to be looked at one by one."""
        block = self._block
        if block is None or self.window.open_bytes < size or self._block_limit - block.filled < size:
            return False
        if self.to_come is not None:
            if self.to_come < size:
                return False
            self.to_come -= size
        self.window.open_bytes -= size
        view, filled, each = block.view, block.filled, run.each
        for start in run.starts:
            view[filled : filled + each] = data[start : start + each]
            filled += each
        block.filled = filled
        if filled == self._block_limit:
            self.settle()
        return True

    def settle(self) -> None:
        """Whoever waits gets to know what arrived."""
        if self._block is not None:
            if self._body is not None and self._body.took(self._block):
                self._hand_on_block()
        elif self.inbox:
            self._wake()
        self.grant()

    def end(self, trailers: tuple[Field, ...]) -> None:
        """The client has sent everything."""
        self.is_ended, self.trailers = True, trailers
        if self._block is not None:
            if self._body is not None:
                self._body.took(self._block)
            self._hand_on_block()
        else:
            self._wake()

    def grant(self) -> None:
        """Let the client send as much as was taken; the connection flushes."""
        if not self.is_ended and self._failure is None:
            more = self.window.update(unread=len(self.inbox), to_come=self.to_come)
            if more:
                self._wire.widen(self.id, more)
        self._connection.grant()

    @property
    def ssl_object(self) -> ssl.SSLObject | None:
        """The TLS state of its connection."""
        found: ssl.SSLObject | None = self._connection.transport.get_extra_info("ssl_object")
        return found

    @property
    def is_lost(self) -> bool:
        """Whether it was reset, by whomever, or the client is gone."""
        return self._failure is not None

    def _hand_on_block(self) -> None:
        self._block = None
        self._wake()
        self._connection.pause_once()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        if self._failure is not None:
            raise self._failure
        self._waiter = self.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def receive(self) -> None:
        """Wait until the inbox has something, or the content is over. Raises: ClientGone, BodyTimeout."""
        # What was in the inbox before has been taken out of it by now.
        self._note_taken()
        while not self.inbox and not self.is_ended:
            await self._wait()

    async def fill(self, block: Block, limit: int, body: Body) -> None:
        """Receive into ``block`` up to ``limit`` bytes of it, until ``body.took`` says it has enough."""
        if self.inbox:
            count = min(len(self.inbox), limit - block.filled)
            with memoryview(self.inbox) as view:
                block.view[block.filled : block.filled + count] = view[:count]
            del self.inbox[:count]
            block.filled += count
            self._note_taken()
            if body.took(block):
                return
        if self.is_ended:
            return
        self._block, self._block_limit, self._since = block, limit, self.loop.time()
        try:
            await self._wait()
        finally:
            was_cut = self._block is not None
            self._block = None
        if was_cut and not body.took_enough:
            raise ClientGone

    def _note_unread(self) -> None:
        unread = len(self.inbox)
        self._connection.windows.unread += unread - self._unread
        self._unread = unread

    def _note_taken(self) -> None:
        self._note_unread()
        self.grant()
        self._connection.flush()

    def watch_body(self, body: Body | None) -> None:
        """Body deadlines count while ``body`` is being waited for; the first time, the client may send more."""
        self._body = body
        if body is not None and not self._is_read:
            self._is_read = True
            wanted = STREAM_BYTES if self.to_come is None else min(STREAM_BYTES, self.to_come)
            self._connection.windows.lend(self.window, wanted)
            self.grant()
            self._connection.flush()

    def interrupt_body(self, body: Body, error: GatewayError) -> None:
        """Whoever waits for ``body`` gets ``error`` instead."""
        if self._body is body:
            self._fail_waiter(error)

    def _fail_waiter(self, error: GatewayError) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    async def invite(self) -> None:
        """Send ``100 Continue``. Raises: ClientGone."""
        await self.send_head(CONTINUE, ends=False)

    # -- deadlines and ends -----------------------------------------------------------------------------------

    def check(self, now: float) -> None:
        """Enforce this stream's deadlines."""
        limits = self._limits
        if self._stalled_since is not None and now - self._stalled_since > limits.write_stall_s:
            self.fail(Code.CANCEL, ClientGone(detail="the client does not take the answer"))
        elif self._body is not None and self._waiter is not None:
            if self._body.is_too_slow(now, limits):
                self._fail_waiter(BodyTimeout())
            elif self._block is not None and self._block.filled and now - self._since > FLUSH_S:
                self._body.took_enough = True
                self._hand_on_block()

    def fail(self, code: Code, failure: GatewayError) -> None:
        """End both directions now."""
        if not (self._is_sent and self.is_ended):
            self._wire.reset(self.id, code)
        self.lose(failure)
        self._connection.flush()

    def lose(self, failure: GatewayError) -> None:
        """The client gave the stream up, or is gone."""
        if self._failure is None:
            self._failure = failure
        self._block = None
        self._fail_waiter(self._failure)
        self.widened()
        if not self.closed.done():
            self.closed.set_result(None)

    def finish(self) -> None:
        """Its handler is done: what is not over ends now, the rest of an unread body too."""
        if self._failure is None and not (self._is_sent and self.is_ended):
            self.fail(Code.NO_ERROR if self._is_sent else Code.INTERNAL_ERROR, ClientGone())
        self.inbox.clear()
        self._note_unread()
        self._connection.windows.end(self.window)
        self._connection.grant()
        self._connection.flush()

    # -- the answer to the client -----------------------------------------------------------------------------

    def widened(self) -> None:
        """There may be room to send, or no more reason to wait for it."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def _require_open(self) -> None:
        if self._failure is not None:
            raise ClientGone(detail=self._failure.detail)

    async def send_head(self, fields: EncodedFields, *, ends: bool) -> None:
        """Raises: ClientGone."""
        self._require_open()
        self._wire.send_head(self.id, fields, ends=ends)
        self._is_sent = ends
        self._connection.flush()
        await self._connection.can_write.wait()

    async def send_whole(self, fields: EncodedFields, content: bytes) -> None:
        """A head with all its content, in one write where it fits. Raises: ClientGone."""
        self._require_open()
        self._wire.send_head(self.id, fields, ends=not content)
        if not content:
            self._is_sent = True
        elif len(content) <= TURN_BYTES and len(content) <= self._wire.window_of(self.id):
            self._wire.send_content(self.id, memoryview(content), ends=True)
            self._is_sent = True
        self._connection.flush()
        await self._connection.can_write.wait()
        if not self._is_sent:
            await self.send(content)
            await self.end_answer()

    async def send(self, data: bytes | memoryview) -> None:
        """Send content; returns when all of it was handed to the transport. Raises: ClientGone."""
        left = memoryview(data)
        while left:
            while self._is_stalled_alone():
                await self._wait_for_room()
            async with self._connection.turn:
                sent = await self._send_turn(left)
            left = left[sent:]
            self._sent_since += sent
            if not left or self._sent_since >= TURN_BYTES:
                self._stalled_since = None

    def _is_stalled_alone(self) -> bool:
        self._require_open()
        return self._wire.window > 0 and self._wire.window_of(self.id) == 0

    async def _send_turn(self, data: memoryview) -> int:
        while True:
            await self._connection.can_write.wait()
            self._require_open()
            room = self._wire.window_of(self.id)
            if room or self._wire.window > 0:
                break
            await self._wait_for_room()  # nobody else could send either
        count = min(room, TURN_BYTES, len(data))
        if count:
            self._wire.send_content(self.id, data[:count], ends=False)
            self._connection.flush()
            self._connection.calm.note_content(count)
        return count

    async def _wait_for_room(self) -> None:
        # A client that opens its window by a byte now and then still takes nothing.
        if self._stalled_since is None:
            self._stalled_since, self._sent_since = self.loop.time(), 0
        self._room = self.loop.create_future()
        try:
            await self._room
        finally:
            self._room = None

    async def end_answer(self, trailers: EncodedFields | None = None) -> None:
        """Nothing follows. Raises: ClientGone."""
        self._require_open()
        if trailers:
            await self.send_head(trailers, ends=True)
            return
        self._wire.send_content(self.id, memoryview(b""), ends=True)
        self._is_sent = True
        self._connection.flush()


class Unframed:
    """Content without a length: all that comes until the stream ends."""

    def __init__(self, stream: Http2Stream) -> None:
        self._stream = stream
        self.consumed = 0

    @property
    def is_complete(self) -> bool:
        """Whether all was taken."""
        return self._stream.is_ended and not self._stream.inbox

    @property
    def trailers(self) -> tuple[Field, ...]:
        """The fields after the content."""
        return self._stream.trailers

    def feed(self, buffer: bytearray, start: int, end: int) -> Iterator[tuple[int, int]]:
        """All of it is content."""
        self.consumed = min(end, start + CHUNK_BYTES) if buffer is self._stream.inbox else end
        if self.consumed > start:
            yield start, self.consumed
