"""Owns one client's HTTP/2 connection: its frames, its bounds, and a task for each of its requests.

Chosen by ``net/alpn.py`` after the handshake. Whatever one client can make us do for nothing has a bound here.
"""

import asyncio
import logging
from typing import Final, cast

from gateway.errors import ClientGone, GatewayError, MalformedRequest
from gateway.http.head import RequestHead
from gateway.http.parse_fields import make_head, make_trailers
from gateway.http.reply import error_reply
from gateway.net.calm import Calm
from gateway.net.connection import HEAD_READ_BYTES, WRITE_HIGH_BYTES, ConnectionContext
from gateway.net.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADER_BYTES,
    HEADERS,
    PREFACE,
    BadPadding,
    Content,
    Frame,
    FrameScanner,
    FrameTooLong,
    unpadded,
)
from gateway.net.http2_answer import Http2Exchange
from gateway.net.http2_stream import Http2Stream
from gateway.net.http2_wire import Broken, Cancelled, Code, Requested, Trailed, Widened, Wire, WireEvent
from gateway.net.peer_address import peer_address
from gateway.net.session import answer
from gateway.net.windows import ConnectionWindow, WindowBudget

log = logging.getLogger("gateway.net")

STREAMS: Final = 100  # at once, and as many handlers
FRAME_BYTES: Final = 64 * 1024  # the largest frame that a client may send
_SCHEME: Final = "https"


class Http2Connection(asyncio.BufferedProtocol):
    """One connection. ``check`` is called about twice a second and enforces every deadline."""

    def __init__(self, context: ConnectionContext, budget: WindowBudget, *, address: str = "") -> None:
        """``address``: the client's, when a load balancer told it; empty = the socket's peer."""
        self.context = context
        self.loop = asyncio.get_running_loop()
        self.address = address
        self.wire = Wire(frame_bytes=FRAME_BYTES, streams=STREAMS, head_bytes=context.limits.head_bytes)
        self.windows = ConnectionWindow(budget)
        self.calm = Calm(self.loop.time())
        self.turn = asyncio.Lock()  # to send content; asyncio's locks are handed on in order
        self.can_write = asyncio.Event()
        self.can_write.set()
        self._scanner = FrameScanner(most_bytes=FRAME_BYTES)
        self._scratch_view = memoryview(context.scratch)
        self._streams: dict[int, Http2Stream] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_id = 0
        self._head_left = 0  # bytes that the open header block may still have; 0 = none is open
        self._head_since: float | None = None
        self._idle_since: float | None = self.loop.time()
        self._write_paused_at: float | None = None
        self._is_leaving = False  # no further request is taken
        self._is_over = False
        self._is_resting = False  # reading is paused for one turn of the loop

    # -- the transport's side ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        if not self.address:
            self.address = peer_address(transport)
        if not self.context.enter(self):
            self.transport.abort()
            return
        self.grant()
        self.flush()
        if self.context.is_draining:
            self.begin_drain()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._scratch_view if self._streams else self._scratch_view[:HEAD_READ_BYTES]

    def buffer_updated(self, nbytes: int) -> None:
        if self._is_over:
            return
        try:
            self._take(self._scratch_view[:nbytes])
        except Broken as exc:
            log.debug("%s broke HTTP/2: %s", self.address, exc)
            self._end(exc.code, is_told=exc.is_told)
        except FrameTooLong:
            self._end(Code.FRAME_SIZE_ERROR)
        except BadPadding:
            self._end(Code.PROTOCOL_ERROR)
        except Exception:  # the last resort: one connection's bug is never another's
            log.exception("bug in an HTTP/2 connection")
            self._end(Code.INTERNAL_ERROR)
        self.flush()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_over = True
        self.context.leave(self)
        self.windows.close()
        for stream in tuple(self._streams.values()):
            stream.lose(ClientGone())
        self.can_write.set()

    def pause_writing(self) -> None:
        self._write_paused_at = self.loop.time()
        self.can_write.clear()

    def resume_writing(self) -> None:
        self._write_paused_at = None
        self.can_write.set()

    def flush(self) -> None:
        """Send what there is."""
        output = self.wire.take_output()
        if output and not self.transport.is_closing():
            self.transport.write(output)

    def pause_once(self) -> None:
        """A block is full: let its reader come first, before more than its next block can hold has to be kept.

        Not longer than that, as other streams wait for what the socket holds.
        """
        if not self._is_resting and not self.transport.is_closing():
            self._is_resting = True
            self.transport.pause_reading()
            self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._is_resting = False
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def grant(self) -> None:
        """Let the client send as much as was taken over all streams; whoever calls flushes."""
        more = self.windows.update()
        if more:
            self.wire.widen(0, more)

    # -- deadlines and ends -----------------------------------------------------------------------------------

    def check(self, now: float) -> None:
        """Enforce the deadlines; called by the server for every connection about twice a second."""
        limits = self.context.limits
        if self._write_paused_at is not None and now - self._write_paused_at > limits.write_stall_s:
            log.debug("%s does not read: cut", self.address)
            self.transport.abort()
            return
        if self._head_since is not None and now - self._head_since > limits.head_s:
            self._end(Code.ENHANCE_YOUR_CALM)
        elif self._idle_since is not None and now - self._idle_since > (
            limits.keepalive_s if self._scanner.has_begun else limits.head_s
        ):
            self._end(Code.NO_ERROR)
        for stream in tuple(self._streams.values()):
            stream.check(now)
        self.flush()

    def begin_drain(self) -> None:
        """Take no further request: an idle connection closes now, a busy one after its last answer."""
        if not self._is_leaving:
            self._is_leaving = True
            self.wire.go_away(Code.NO_ERROR, self._last_id)
            self.flush()
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._is_leaving and not self._streams:
            self._is_over = True
            self.transport.close()

    def _end(self, code: int, *, is_told: bool = False) -> None:
        """Say why, and close."""
        if self._is_over:
            return
        self._is_over = self._is_leaving = True
        if not is_told:
            self.wire.go_away(code, self._last_id)
        self.flush()
        for stream in tuple(self._streams.values()):
            stream.lose(ClientGone())
        self.transport.close()

    # -- frames -----------------------------------------------------------------------------------------------

    def _take(self, data: memoryview) -> None:
        touched: dict[int, Http2Stream] = {}
        for found in self._scanner.feed(data):
            if isinstance(found, Content):
                stream = self._take_run(data, found)
            elif found.kind == DATA and found.stream_id:
                is_last = bool(found.flags & END_STREAM)
                cost = len(found.raw) - HEADER_BYTES
                stream = self._take_content(found.stream_id, unpadded(found), cost, is_last)
            else:
                self._take_frame(found)
                continue
            if stream is not None:
                touched[stream.id] = stream
        self.calm.note_content(len(data))  # with its frames: a flood of empty ones earns next to nothing
        for stream in touched.values():
            stream.settle()
        is_open = self._head_left or self._scanner.is_within_head or not self._scanner.has_begun
        if not is_open:
            self._head_since = None
        elif self._head_since is None:
            self._head_since = self.loop.time()

    def _take_run(self, data: memoryview, run: Content) -> Http2Stream | None:
        if not run.each:
            return self._take_content(
                run.stream_id, data[run.start : run.end], run.end - run.start, run.is_last
            )
        stream, size = self._streams.get(run.stream_id), run.each * len(run.starts)
        is_plain = stream is not None and not self._head_left and size <= self.windows.open_bytes
        if stream is not None and is_plain and stream.take_run(data, run, size):
            self.windows.open_bytes -= size
            return stream
        for start in run.starts:
            stream = self._take_content(run.stream_id, data[start : start + run.each], run.each, False)
        return stream

    def _take_content(
        self, stream_id: int, content: memoryview, cost: int, is_last: bool
    ) -> Http2Stream | None:
        """The stream that takes the content, if one does; ``cost`` is what it took of the windows."""
        windows = self.windows
        windows.open_bytes -= cost
        if windows.open_bytes < 0:
            raise Broken(Code.FLOW_CONTROL_ERROR, is_told=False, why="more content than the window allows")
        stream = self._streams.get(stream_id)
        if stream is None or stream.is_ended or self._head_left:
            self._take_stray(stream_id, stream)
            return None
        if content:
            stream.take(content, cost)
        elif not is_last:
            self._note_noise()
        if is_last and not stream.is_lost:
            self._end_content(stream, ())
            self.wire.end_content(stream_id)
        return stream

    def _take_stray(self, stream_id: int, stream: Http2Stream | None) -> None:
        if self._head_left or stream_id > self._last_id or not stream_id % 2:
            self.wire.judge_content(stream_id)
        if stream is not None:
            self._note_reset()
            stream.fail(Code.STREAM_CLOSED, MalformedRequest("There is content behind the body's end."))
        # Else the stream is over, and what was on its way is dropped.
        self.grant()

    def _end_content(self, stream: Http2Stream, trailers: tuple[tuple[str, str], ...]) -> None:
        if stream.to_come:
            self._note_reset()
            stream.fail(Code.PROTOCOL_ERROR, MalformedRequest("The body is shorter than its length."))
            return
        stream.end(trailers)

    def _take_frame(self, frame: Frame) -> None:
        if frame.kind in {HEADERS, CONTINUATION}:
            self._note_head(frame)
        elif frame.kind != PREFACE:
            self._note_noise()
        if frame.kind == GOAWAY:  # h2 would forget what is being answered
            self._is_leaving = True
            self._close_if_done()
            return
        for event in self.wire.receive(frame):
            self._take_event(event)

    def _take_event(self, event: WireEvent) -> None:
        match event:
            case Requested():
                self._begin(event)
            case Trailed():
                self._take_trailers(event)
            case Cancelled(stream_id):
                self._note_reset()
                if stream_id in self._streams:
                    self._streams[stream_id].lose(ClientGone())
            case Widened(0):
                for stream in self._streams.values():
                    stream.widened()
            case Widened(stream_id):
                if stream_id in self._streams:
                    self._streams[stream_id].widened()

    def _note_head(self, frame: Frame) -> None:
        # hpack bounds what comes out of a block; this bounds what goes in, over however many frames.
        if not self._head_left:
            self._head_left = 2 * self.context.limits.head_bytes
        self._head_left -= len(frame.raw)
        if self._head_left <= 0:
            raise Broken(Code.ENHANCE_YOUR_CALM, is_told=False, why="an endless header block")
        if frame.flags & END_HEADERS:
            self._head_left = 0

    def _note_noise(self) -> None:
        if not self.calm.bears_noise(self.loop.time()):
            raise Broken(Code.ENHANCE_YOUR_CALM, is_told=False, why="frames that move nothing")

    def _note_reset(self) -> None:
        if not self.calm.bears_reset(self.loop.time()):
            raise Broken(Code.ENHANCE_YOUR_CALM, is_told=False, why="requests taken back")

    def _take_trailers(self, event: Trailed) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return
        try:
            trailers = make_trailers(event.fields, head_bytes=self.context.limits.head_bytes)
        except GatewayError as error:
            self._note_reset()
            stream.fail(Code.PROTOCOL_ERROR, error)
            return
        self._end_content(stream, trailers)

    # -- requests ---------------------------------------------------------------------------------------------

    def _begin(self, requested: Requested) -> None:
        if self._is_leaving or len(self._tasks) >= STREAMS:
            # A stream that was reset is over for h2, while its handler may still be at work.
            self._note_reset()
            self.wire.reset(requested.stream_id, Code.REFUSED_STREAM)
            return
        self._last_id = requested.stream_id
        self._idle_since = None
        stream = Http2Stream(self, requested.stream_id, has_body=requested.has_body)
        self._streams[stream.id] = stream
        limits = self.context.limits
        head: RequestHead | GatewayError
        try:
            head = make_head(
                requested.fields,
                has_body=requested.has_body,
                scheme=_SCHEME,
                head_bytes=limits.head_bytes,
                target_bytes=limits.target_bytes,
            )
            stream.to_come = head.content_length
        except GatewayError as error:
            head = error
        task = self.loop.create_task(self._serve(stream, head))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, stream: Http2Stream, head: RequestHead | GatewayError) -> None:
        try:
            if isinstance(head, GatewayError):
                await self._refuse(stream, head)
            else:
                peer = self.context.find_peer(self.address, _SCHEME, head)
                await answer(self.context, Http2Exchange(self.context, stream, head, peer))
        except ClientGone:
            pass
        except Exception:
            log.exception("bug in an HTTP/2 stream")
        finally:
            stream.finish()
            del self._streams[stream.id]
            if not self._streams:
                self._idle_since = self.loop.time()
                self._close_if_done()

    async def _refuse(self, stream: Http2Stream, error: GatewayError) -> None:
        peer = self.context.find_peer(self.address, _SCHEME, None)
        exchange = Http2Exchange(self.context, stream, None, peer)
        exchange.error = error
        try:
            await exchange.reply(error_reply(error, request_id=exchange.request_id, as_html=False))
        finally:
            self.context.finished(exchange)
