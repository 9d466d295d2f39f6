"""Owns how one answer goes over HTTP/2: at most one per stream, whole or visibly cut."""

import asyncio
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from gateway.errors import ClientGone, GatewayError
from gateway.http.exchange import Peer
from gateway.http.fields import HOP_BY_HOP
from gateway.http.head import Chunked, Field, RequestHead
from gateway.http.reply import Reply
from gateway.net.answer import OURS, WITHOUT_CONTENT, copy_file
from gateway.net.body import Body
from gateway.net.handshake import verified_client
from gateway.net.http2_stream import Http2Stream, Unframed
from gateway.net.http2_wire import Code, EncodedFields

if TYPE_CHECKING:
    from gateway.net.connection import ConnectionContext

_DROPPED = OURS | HOP_BY_HOP


class Http2Exchange:
    """One request and its answer; see ``gateway.http.exchange.Exchange`` for what each method promises."""

    def __init__(
        self, context: "ConnectionContext", stream: Http2Stream, head: RequestHead | None, peer: Peer
    ) -> None:
        self._context = context
        self._stream = stream
        self._head = head
        self.peer = peer
        self.request_id = context.request_ids.next()
        self.body = _make_body(stream, head)
        self.started_at = stream.loop.time()
        self.status = 0
        self.sent_bytes = 0
        self.route = ""
        self.error: GatewayError | None = None
        self.is_started = False
        self.is_finished = False
        self.extra_fields: tuple[Field, ...] = ()
        self._left: int | None = 0
        self._is_over = False  # the stream's end went with the head

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
        return self._stream.closed

    @property
    def verified_client(self) -> str:
        """Whose certificate the client proved; empty = none."""
        return verified_client(self._stream.ssl_object)

    @property
    def duration_s(self) -> float:
        """Seconds since the head was read."""
        return self._stream.loop.time() - self.started_at

    async def inform(self, status: int, fields: tuple[Field, ...] = ()) -> None:
        if not self.is_started:
            await self._stream.send_head(_encoded(status, fields), ends=False)

    async def reply(self, reply: Reply) -> None:
        fields = self._make_head(reply.status, reply.fields, length=len(reply.body))
        self._left = 0
        self.is_finished = True
        content = reply.body if self._has_content(reply.status) else b""
        self.sent_bytes += len(content)
        await self._stream.send_whole(fields, content)

    async def start(self, status: int, fields: tuple[Field, ...], *, length: int | None) -> None:
        head = self._make_head(status, fields, length=length)
        self._is_over = not self._has_content(status)
        self._left = 0 if self._is_over else length
        await self._stream.send_head(head, ends=self._is_over)

    async def write(self, data: bytes | memoryview) -> None:
        if not data or self._is_over:
            return
        size = len(data)
        if self._left is not None:
            if size > self._left:
                self.abort()
                raise GatewayError(detail="an answer longer than its Content-Length")
            self._left -= size
        self.sent_bytes += size
        await self._stream.send(data)

    async def finish(self, trailers: tuple[Field, ...] = ()) -> None:
        if self._left:
            self.abort()
            return
        self.is_finished = True
        if not self._is_over:
            await self._stream.end_answer(_encoded(None, trailers))

    async def send_file(self, file: BinaryIO, count: int) -> None:
        if self._is_over:
            return
        await copy_file(self, file, count)

    def abort(self) -> None:
        self.is_started = self.is_finished = True
        self._stream.fail(Code.INTERNAL_ERROR, ClientGone())

    async def tunnel(self, status: int, fields: tuple[Field, ...]) -> NoReturn:
        """HTTP/2 has no Upgrade, and extended CONNECT (RFC 8441) is not offered: nobody can have asked for it."""
        raise GatewayError(detail="a tunnel over HTTP/2")

    def _has_content(self, status: int) -> bool:
        is_head = self._head is not None and self._head.method == "HEAD"
        return not is_head and status not in WITHOUT_CONTENT

    def _make_head(self, status: int, fields: tuple[Field, ...], *, length: int | None) -> EncodedFields:
        if self.is_started:
            raise GatewayError(detail="a second answer to one request")
        self.is_started, self.status = True, status
        made = [field for field in fields if field[0] not in _DROPPED]
        made += self.extra_fields
        made.append(("date", self._context.date.now()))
        made.append(("x-request-id", self.request_id))
        if length is not None and status not in WITHOUT_CONTENT:
            made.append(("content-length", str(length)))
        if self._context.observer is not None:
            lines = "".join(f"{name}: {value}\r\n" for name, value in made)
            self._context.observer.answering(
                self, f"HTTP/2 {status}\r\n{lines}\r\n".encode("latin-1", "replace")
            )
        return _encoded(status, made)


def _encoded(status: int | None, fields: list[Field] | tuple[Field, ...]) -> EncodedFields:
    encoded = [
        (name.encode("latin-1"), value.strip(" \t").encode("latin-1", "replace")) for name, value in fields
    ]
    return encoded if status is None else [(b":status", b"%d" % status), *encoded]


def _make_body(stream: Http2Stream, head: RequestHead | None) -> Body:
    if head is None:
        return Body(stream, 0, None, expects_continue=False)
    decoder = Unframed(stream) if isinstance(head.framing, Chunked) else None
    return Body(stream, head.content_length, decoder, expects_continue=head.expects_continue)
