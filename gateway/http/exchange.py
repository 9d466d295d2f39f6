"""Owns what a handler sees of a request and its answer, whatever version of HTTP brought it.

``net/answer.py`` does it for HTTP/1.1, ``net/http2_answer.py`` for HTTP/2.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol

from gateway.errors import GatewayError, Superseded
from gateway.http.head import Field, RequestHead
from gateway.http.reply import Reply

if TYPE_CHECKING:
    from gateway.net.blocks import Block, BlockPool


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Who is at the other end.

    address: the client's IP address, after trusted proxies were looked through; no port.
    scheme: what the client used, ``https`` or ``http``, after trusted proxies.
    is_admin: from loopback or a network in ``server.admin_allow``.
    trusts_forwarded: the socket's peer is a trusted proxy, so its forwarding fields are kept and added to.
    socket_address: IP address of the socket's peer.
    is_certain: False where forwarding fields contradict each other: the client may have written the address itself.
    """

    address: str
    scheme: str
    is_admin: bool
    trusts_forwarded: bool
    socket_address: str
    is_certain: bool = True


class RequestBody(Protocol):
    """The content of a request. The first read sends ``100 Continue`` when the client waits for it.

    Every way a body can end badly is one of: ClientGone, BodyTimeout, MalformedRequest (bad chunk), BodyTooLarge.
    """

    @property
    def received(self) -> int:
        """Content bytes read so far."""
        ...

    @property
    def is_complete(self) -> bool:
        """Whether the last byte was read (true at once without a body)."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The content in pieces of at most 256 KiB. Back-pressure: the socket pauses while nobody asks."""
        ...

    async def read(self, limit: int) -> bytes:
        """The whole content. Raises: BodyTooLarge beyond ``limit`` bytes."""
        ...


class UploadBody(RequestBody, Protocol):
    """The content of a request as the network has it: also by blocks, for what is too large to be handled twice."""

    @property
    def left(self) -> int | None:
        """Bytes still to come; None when nobody said how many there are."""
        ...

    @property
    def trailers(self) -> tuple[Field, ...]:
        """The fields after the content, once it is complete."""
        ...

    def blocks(
        self, pool: "BlockPool", *, keeps_cut: bool = False
    ) -> "AsyncGenerator[tuple[Block, list[tuple[int, int]]]]":
        """The content as it lies in reusable blocks: ``(block, ranges of content in it)``.

        With ``keeps_cut`` the last block of a content that is cut comes too, before the error.
        """
        ...

    def interrupt(self, error: Superseded) -> None:
        """End the reading of ``blocks`` at once, wherever it waits. Raised there: ``error``."""
        ...


class Exchange(Protocol):
    """One request and its one answer. An answer is begun at most once; after that, failure means close."""

    @property
    def head(self) -> RequestHead: ...
    @property
    def peer(self) -> Peer: ...
    @property
    def request_id(self) -> str: ...
    @property
    def body(self) -> RequestBody: ...
    @property
    def is_started(self) -> bool:
        """Whether the answer's head has been sent."""
        ...

    @property
    def closed(self) -> asyncio.Future[None]:
        """Done when the client's connection is gone, however it went."""
        ...

    async def inform(self, status: int, fields: tuple[Field, ...] = ()) -> None:
        """Send an interim (1xx) answer."""
        ...

    async def reply(self, reply: Reply) -> None:
        """Send a whole answer. The body is left out for HEAD; the framing is made here."""
        ...

    async def start(self, status: int, fields: tuple[Field, ...], *, length: int | None) -> None:
        """Send the head of an answer whose content follows by ``write``.

        ``length`` in bytes, None = unknown: chunked (or close, for HTTP/1.0). Framing and connection fields in
        ``fields`` are dropped, they are made here. A HEAD request's content is swallowed.
        """
        ...

    async def write(self, data: bytes | memoryview) -> None:
        """Send content; returns when the transport has room. Raises: ClientGone (also on write stall)."""
        ...

    async def finish(self, trailers: tuple[Field, ...] = ()) -> None:
        """End the content. If fewer bytes than ``length`` were written the connection is cut."""
        ...

    async def send_file(self, file: BinaryIO, count: int) -> None:
        """Send ``count`` bytes from ``file`` at its position as content: sendfile where it can.

        Raises: ClientGone, StoreCorrupt (the file is shorter), StoreDown (it cannot be read); the answer is cut then.
        """
        ...

    def abort(self) -> None:
        """Cut the connection now, so that a client cannot take a part for the whole."""
        ...

    async def tunnel(
        self, status: int, fields: tuple[Field, ...]
    ) -> tuple[asyncio.StreamReader, "TunnelWriter"]:
        """Answer 101 (Upgrade) or 200 (never CONNECT here) and hand over the raw connection in both directions."""
        ...


class ClientExchange(Exchange, Protocol):
    """An exchange with a real client, and what is told of it afterwards.

    status, sent_bytes: of the answer. route: who answered. error: what went wrong. extra_fields: go with any answer.
    """

    peer: Peer
    request_id: str
    status: int
    sent_bytes: int
    route: str
    error: GatewayError | None
    extra_fields: tuple[Field, ...]

    @property
    def body(self) -> UploadBody: ...
    @property
    def verified_client(self) -> str:
        """Whose certificate the client proved in the handshake (``tls.client_ca``); empty = it proved none."""
        ...

    @property
    def has_head(self) -> bool:
        """Whether the request's head could be read."""
        ...

    @property
    def is_finished(self) -> bool:
        """Whether the answer is whole, or cut for good."""
        ...

    @property
    def started_at(self) -> float:
        """When the head was read, by the loop's clock."""
        ...

    @property
    def duration_s(self) -> float:
        """Seconds since the head was read."""
        ...


class TunnelWriter(Protocol):
    """The client's end of a tunnel, for writing."""

    async def write(self, data: bytes) -> None:
        """Raises: ClientGone."""
        ...

    def close(self) -> None:
        """End the tunnel."""
        ...
