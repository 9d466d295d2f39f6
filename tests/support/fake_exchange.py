"""Owns an Exchange without a socket: a request made of values, an answer that can be read."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import BinaryIO

from gateway.errors import BodyTooLarge, ClientGone
from gateway.http.exchange import Peer
from gateway.http.head import NO_BODY, Chunked, Field, Fields, Framing, RequestHead, Sized
from gateway.http.reply import Reply

LOCAL_PEER = Peer(
    address="192.0.2.7", scheme="https", is_admin=False, trusts_forwarded=False, socket_address="192.0.2.7"
)


def make_head(
    method: str = "GET", target: str = "/", *fields: Field, framing: Framing = NO_BODY, minor: int = 1
) -> RequestHead:
    """A request head with ``host: example.org`` unless another Host is given."""
    listed = fields if any(name == "host" for name, _ in fields) else (("host", "example.org"), *fields)
    return RequestHead(method=method, target=target, fields=Fields(listed), framing=framing, minor=minor)


class FakeBody:
    """Content made of pieces. ``failure`` is raised after the last piece; ``gate`` is awaited before each one."""

    def __init__(
        self,
        pieces: Iterable[bytes] = (),
        *,
        failure: Exception | None = None,
        gate: asyncio.Semaphore | None = None,
        trailers: Iterable[Field] = (),
    ) -> None:
        self._pieces = list(pieces)
        self._failure = failure
        self._gate = gate
        self.trailers = Fields(trailers)
        self.received = 0

    @property
    def is_complete(self) -> bool:
        """Everything was read."""
        return not self._pieces and self._failure is None

    async def chunks(self) -> AsyncIterator[bytes]:
        """The pieces, one by one."""
        while self._pieces:
            if self._gate is not None:
                await self._gate.acquire()
            piece = self._pieces.pop(0)
            self.received += len(piece)
            yield piece
        if self._failure is not None:
            raise self._failure

    async def read(self, limit: int) -> bytes:
        """All pieces at once."""
        content = b"".join([piece async for piece in self.chunks()])
        if len(content) > limit:
            raise BodyTooLarge
        return content


class FakeExchange:
    """Remembers the answer: ``status``, ``fields``, ``content``, ``trailers``, ``writes``, ``informed``.

    ``finished`` once the answer is whole, ``aborted`` once it was cut. ``room`` (a semaphore) makes a slow client:
    each write takes one.
    """

    def __init__(
        self,
        head: RequestHead | None = None,
        *,
        body: FakeBody | None = None,
        peer: Peer = LOCAL_PEER,
        request_id: str = "req-1",
        room: asyncio.Semaphore | None = None,
    ) -> None:
        self.head = head or make_head()
        self.body = body or FakeBody()
        self.peer = peer
        self.request_id = request_id
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_started = False
        self.finished = False
        self.aborted = False
        self.status = 0
        self.fields = Fields()
        self.length: int | None = None
        self.writes: list[bytes] = []
        self.trailers = Fields()
        self.informed: list[tuple[int, Fields]] = []
        self.wrote = asyncio.Event()
        self.tunnel_reader = asyncio.StreamReader()
        self.tunnel_writer = FakeTunnelWriter()
        self._room = room

    @property
    def content(self) -> bytes:
        """The content of the answer so far."""
        return b"".join(self.writes)

    def leave(self) -> None:
        """The client closes its connection."""
        if not self.closed.done():
            self.closed.set_result(None)

    async def inform(self, status: int, fields: tuple[Field, ...] = ()) -> None:
        """Remember an interim answer."""
        self.informed.append((status, Fields(fields)))

    async def reply(self, reply: Reply) -> None:
        """Remember a whole answer."""
        self._begin(reply.status, reply.fields, len(reply.body))
        self.writes.append(b"" if self.head.method == "HEAD" else reply.body)
        self.finished = True
        self.wrote.set()

    async def start(self, status: int, fields: tuple[Field, ...], *, length: int | None) -> None:
        """Remember the head."""
        self._begin(status, fields, length)
        self.wrote.set()

    async def write(self, data: bytes | memoryview) -> None:
        """Remember content."""
        if self._room is not None:
            await self._room.acquire()
        if self.closed.done():
            raise ClientGone
        self.writes.append(bytes(data))
        self.wrote.set()

    async def finish(self, trailers: tuple[Field, ...] = ()) -> None:
        """Remember the end; cut if content is missing."""
        self.trailers = Fields(trailers)
        if self.length is not None and self.head.method != "HEAD" and len(self.content) != self.length:
            self.aborted = True
        else:
            self.finished = True

    async def send_file(self, file: BinaryIO, count: int) -> None:
        """Remember a file's content."""
        await self.write(file.read(count))

    def abort(self) -> None:
        """Remember the cut."""
        self.aborted = True
        self.leave()

    async def tunnel(
        self, status: int, fields: tuple[Field, ...]
    ) -> tuple[asyncio.StreamReader, "FakeTunnelWriter"]:
        """Feed ``tunnel_reader`` to be the client; read ``tunnel_writer.content``."""
        self._begin(status, fields, None)
        return self.tunnel_reader, self.tunnel_writer

    def _begin(self, status: int, fields: tuple[Field, ...], length: int | None) -> None:
        assert not self.is_started, "an answer is begun at most once"
        self.is_started = True
        self.status, self.fields, self.length = status, Fields(fields), length


class FakeTunnelWriter:
    """The client's end of a tunnel."""

    def __init__(self) -> None:
        self.content = b""
        self.is_closed = False
        self.wrote = asyncio.Event()

    async def write(self, data: bytes) -> None:
        """Remember what the client would get."""
        self.content += data
        self.wrote.set()

    def close(self) -> None:
        """Remember the end."""
        self.is_closed = True
        self.wrote.set()


def framing_of(pieces: Iterable[bytes], *, is_chunked: bool) -> Framing:
    """The framing of a request with this content."""
    return Chunked() if is_chunked else Sized(sum(map(len, pieces)))
