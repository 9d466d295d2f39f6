"""Owns the way to an upstream: what is sent on a connection, no faster than the upstream takes it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Final

from gateway.forward.deadlines import NEVER
from gateway.http.head import Field

_HIGH_BYTES: Final = 256 * 1024  # held by the transport before the client is paused


def _no_trailers() -> tuple[Field, ...]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """A request body that is streamed. Its framing field must be in the head already.

    ``trailers`` is asked after the last chunk, for a chunked body.
    """

    chunks: AsyncIterator[bytes]
    is_chunked: bool = False
    trailers: Callable[[], Iterable[Field]] = _no_trailers


class Outgoing:
    """The writing half of a connection. ``deadline`` counts while the upstream refuses to read."""

    __slots__ = ("_arm", "_failure", "_is_closed", "_is_paused", "_loop", "_room", "_transport", "deadline")

    def __init__(self, loop: asyncio.AbstractEventLoop, arm: Callable[[float], None]) -> None:
        self._loop = loop
        self._arm = arm
        self._transport: asyncio.Transport
        self._is_paused = False
        self._is_closed = False
        self._failure: Exception | None = None
        self._room: asyncio.Future[None] | None = None
        self.deadline = NEVER

    def attach(self, transport: asyncio.Transport) -> None:
        """The connection is made."""
        self._transport = transport
        transport.set_write_buffer_limits(high=_HIGH_BYTES)

    async def send(self, data: bytes, *, idle_s: float) -> None:
        """Send; returns when there is room. Raises: UpstreamTimeout, or what the connection failed with."""
        if not self._is_closed:
            self._transport.write(data)
        await self._drain(idle_s)

    async def send_body(self, body: Body, *, idle_s: float) -> None:
        """Send all of a body. Raises: as ``send``, and what the body raises."""
        async for piece in body.chunks:
            if self._is_closed:
                return
            if not body.is_chunked:
                self._transport.write(piece)
            elif piece:
                self._transport.writelines((b"%x\r\n" % len(piece), piece, b"\r\n"))
            await self._drain(idle_s)
        if body.is_chunked and not self._is_closed:
            lines = "".join(f"{name}: {value}\r\n" for name, value in body.trailers())
            self._transport.write(f"0\r\n{lines}\r\n".encode("latin-1"))

    def send_eof(self) -> None:
        """Say that nothing more comes."""
        if not self._is_closed and self._transport.can_write_eof():
            self._transport.write_eof()

    def pause(self) -> None:
        """The upstream reads slowly."""
        self._is_paused = True

    def resume(self) -> None:
        """The upstream reads again."""
        self._is_paused = False
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def end(self, failure: Exception | None) -> None:
        """The connection is gone."""
        self._is_closed = True
        self._failure = failure
        self.deadline = NEVER
        self.resume()

    async def _drain(self, idle_s: float) -> None:
        if self._is_paused and not self._is_closed:
            self.deadline = self._loop.time() + idle_s
            self._arm(self.deadline)
            self._room = self._loop.create_future()
            try:
                await self._room
            finally:
                self._room = None
                self.deadline = NEVER
        if self._failure is not None:
            raise self._failure
