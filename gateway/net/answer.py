"""Owns how one answer is framed and sent: at most one per request, whole or visibly cut."""

import asyncio
import email.utils
import errno
import secrets
import time
from typing import TYPE_CHECKING, BinaryIO, Final

from gateway.errors import ClientGone, GatewayError, StoreCorrupt, StoreDown
from gateway.http.exchange import ClientExchange, Peer
from gateway.http.head import Field, RequestHead
from gateway.http.reply import REASONS, Reply
from gateway.net.body import make_body
from gateway.net.handshake import verified_client
from gateway.net.sendfile import corked, send_ready

if TYPE_CHECKING:
    from gateway.net.connection import Connection

# Made here and nowhere else; whatever a handler or an upstream says about them is dropped.
OURS: Final = frozenset(
    ("connection", "keep-alive", "content-length", "transfer-encoding", "date", "x-request-id")
)
WITHOUT_CONTENT: Final = frozenset((204, 304))
READ_BYTES: Final = 256 * 1024
_OF_THE_DISK: Final = frozenset((errno.EIO, errno.ESTALE))


class HttpDate:
    """The Date field's value, made once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._text = ""

    def now(self) -> str:
        """IMF-fixdate (RFC 9110 section 5.6.7)."""
        second = int(time.time())
        if second != self._second:
            self._second, self._text = second, email.utils.formatdate(second, usegmt=True)
        return self._text


class RequestIds:
    """Names for requests, unique over processes and restarts. Not secret: they stand in every answer."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(5)
        self._count = 0

    def next(self) -> str:
        """The next one: 16 hexadecimal digits."""
        self._count = (self._count + 1) & 0xFFFFFF
        if not self._count:
            self._prefix = secrets.token_hex(5)
        return f"{self._prefix}{self._count:06x}"


class HttpExchange:
    """One request and its answer; see ``gateway.http.exchange.Exchange`` for what each method promises."""

    def __init__(self, connection: "Connection", head: RequestHead | None, peer: Peer) -> None:
        self._connection = connection
        self._head = head
        self.peer = peer
        self.request_id = connection.context.request_ids.next()
        self.body = make_body(connection, head)
        self.started_at = connection.loop.time()
        self.status = 0
        self.sent_bytes = 0
        self.route = ""
        self.error: GatewayError | None = None
        self.is_started = False
        self.is_finished = False
        self.extra_fields: tuple[Field, ...] = ()
        self.keeps_alive = head is not None and head.keep_alive and not connection.context.is_draining
        self._is_chunked = False
        self._left: int | None = 0

    @property
    def head(self) -> RequestHead:
        """The request's head. An exchange for a head that could not be read never reaches a handler."""
        if self._head is None:
            raise GatewayError(detail="this exchange has no head")
        return self._head

    @property
    def has_head(self) -> bool:
        """Whether the request's head could be read."""
        return self._head is not None

    @property
    def closed(self) -> asyncio.Future[None]:
        return self._connection.closed

    @property
    def verified_client(self) -> str:
        """Whose certificate the client proved; empty = none."""
        return verified_client(self._connection.transport.get_extra_info("ssl_object"))

    @property
    def duration_s(self) -> float:
        """Seconds since the head was read."""
        return self._connection.loop.time() - self.started_at

    async def inform(self, status: int, fields: tuple[Field, ...] = ()) -> None:
        if self._head is not None and self._head.minor == 1:
            lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
            await self._connection.send(
                f"HTTP/1.1 {status} {REASONS.get(status, '')}\r\n{lines}\r\n".encode("latin-1")
            )

    async def reply(self, reply: Reply) -> None:
        if reply.closes:
            self.keeps_alive = False
        has_content = self._has_content(reply.status)
        head = self._make_head(reply.status, reply.fields, length=len(reply.body))
        self._left = 0
        self.is_finished = True
        body = reply.body if has_content else b""
        self.sent_bytes += len(body)
        await self._connection.send(head + body)

    async def start(self, status: int, fields: tuple[Field, ...], *, length: int | None) -> None:
        await self._connection.send(self._make_head(status, fields, length=length))
        self._left = length
        if not self._has_content(status):
            self._left, self._is_chunked = 0, False

    async def write(self, data: bytes | memoryview) -> None:
        if not data or not self._has_content(self.status):
            return
        size = len(data)
        if self._left is not None:
            if size > self._left:
                self.abort()
                raise GatewayError(detail="an answer longer than its Content-Length")
            self._left -= size
        self.sent_bytes += size
        if self._is_chunked:
            await self._connection.send(b"".join((b"%x\r\n" % size, data, b"\r\n")))
        else:
            await self._connection.send(data)

    async def finish(self, trailers: tuple[Field, ...] = ()) -> None:
        if self._left:
            self.abort()
            return
        self.is_finished = True
        if self._is_chunked:
            lines = "".join(f"{name}: {value}\r\n" for name, value in trailers)
            await self._connection.send(f"0\r\n{lines}\r\n".encode("latin-1"))

    async def send_file(self, file: BinaryIO, count: int) -> None:
        if not self._has_content(self.status):
            self._left = 0
            return
        if self._connection.context.is_tls or not _is_plain_file(file):
            await copy_file(self, file, count)
        else:
            await self._sendfile(file, count)

    async def _sendfile(self, file: BinaryIO, count: int) -> None:
        connection = self._connection
        await self._flush()
        offset, left = file.tell(), count
        try:
            # The transport's own number cannot be watched a second time.
            with corked(connection.transport.get_extra_info("socket").fileno()) as descriptor:
                while left:
                    sent = await send_ready(descriptor, file.fileno(), offset, left)
                    if sent == 0:
                        await self._writable(descriptor)
                    offset, left = offset + sent, left - sent
                    self.sent_bytes += sent
                    if self._left is not None:
                        self._left -= sent
        except EOFError as exc:
            self.abort()
            raise StoreCorrupt(detail=str(exc)) from exc
        except OSError as exc:
            self.abort()
            raise (StoreDown if exc.errno in _OF_THE_DISK else ClientGone)(detail=str(exc)) from exc

    async def _flush(self) -> None:
        self._require_client()
        # With a high-water mark of 0 the transport pauses us until its own buffer is empty.
        self._connection.transport.set_write_buffer_limits(high=0)
        await self._connection.drain_writes()
        self._require_client()
        self._connection.restore_write_limits()

    def _require_client(self) -> None:
        # A closed transport of uvloop takes no orders, and its descriptor's number may be another client's.
        if self.closed.done():
            raise ClientGone

    async def _writable(self, descriptor: int) -> None:
        loop = self._connection.loop
        ready: asyncio.Future[None] = loop.create_future()

        def closed(_: asyncio.Future[None]) -> None:
            _complete(ready)

        loop.add_writer(descriptor, _complete, ready)
        self.closed.add_done_callback(closed)
        self._connection.pause_writing()  # the write-stall deadline counts here too
        try:
            await ready
        finally:
            self.closed.remove_done_callback(closed)
            loop.remove_writer(descriptor)
            self._connection.resume_writing()
        if self.closed.done():
            raise ClientGone

    def abort(self) -> None:
        self.is_started = self.is_finished = True
        self._connection.transport.abort()

    async def tunnel(
        self, status: int, fields: tuple[Field, ...]
    ) -> tuple[asyncio.StreamReader, "ClientTunnel"]:
        self.status, self.is_started, self.is_finished = status, True, True
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
        lines += f"x-request-id: {self.request_id}\r\n"
        reader = self._connection.open_tunnel()
        head = f"HTTP/1.1 {status} {REASONS.get(status, '')}\r\n{lines}\r\n"
        await self._connection.send(head.encode("latin-1"))
        return reader, ClientTunnel(self._connection)

    def _has_content(self, status: int) -> bool:
        is_head = self._head is not None and self._head.method == "HEAD"
        return not is_head and status not in WITHOUT_CONTENT

    def _make_head(self, status: int, fields: tuple[Field, ...], *, length: int | None) -> bytes:
        if self.is_started:
            raise GatewayError(detail="a second answer to one request")
        self.is_started, self.status = True, status
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Unknown')}"]
        lines += [f"{name}: {value}" for name, value in fields if name not in OURS]
        lines += [f"{name}: {value}" for name, value in self.extra_fields]
        lines.append(f"date: {self._connection.context.date.now()}")
        lines.append(f"x-request-id: {self.request_id}")
        if status not in WITHOUT_CONTENT and (length is not None):
            lines.append(f"content-length: {length}")
        elif status not in WITHOUT_CONTENT:
            self._is_chunked = self._head is not None and self._head.minor == 1
            if self._is_chunked:
                lines.append("transfer-encoding: chunked")
            else:
                self.keeps_alive = False
        if not self._may_keep_alive():
            self.keeps_alive = False
            lines.append("connection: close")
        elif self._head is not None and self._head.minor == 0:
            lines.append("connection: keep-alive")
        made = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
        if self._connection.context.observer is not None:
            self._connection.context.observer.answering(self, made)
        return made

    def _may_keep_alive(self) -> bool:
        if self._connection.context.is_draining:
            return False
        return self.keeps_alive and self.body.can_be_skipped


async def copy_file(exchange: ClientExchange, file: BinaryIO, count: int) -> None:
    """Send ``count`` bytes of ``file`` as content. Raises: ClientGone, StoreCorrupt (the file is shorter)."""
    # Read ahead on a worker thread: a cold disk must not hold up the other connections.
    loop = asyncio.get_running_loop()
    left = count
    while left:
        ahead = loop.run_in_executor(None, file.read, min(READ_BYTES, left))
        data = await asyncio.shield(ahead)
        if not data:
            exchange.abort()
            raise StoreCorrupt(detail="the blob is shorter than its size")
        left -= len(data)
        await exchange.write(data)


class ClientTunnel:
    """The client's end of a tunnel, for writing."""

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection

    async def write(self, data: bytes) -> None:
        """Raises: ClientGone."""
        await self._connection.send(data)

    def write_eof(self) -> None:
        """Nothing more to send; the client may still. TLS cannot do that by halves and waits for ``close``."""
        if self._connection.transport.can_write_eof() and not self._connection.transport.is_closing():
            self._connection.transport.write_eof()

    def close(self) -> None:
        """End the tunnel."""
        self._connection.transport.close()


def _complete(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _is_plain_file(file: BinaryIO) -> bool:
    try:
        return file.fileno() >= 0
    except (OSError, AttributeError):
        return False
