"""Owns a connection that switched protocols: bytes both ways until both sides closed, or nothing moves."""

import asyncio
from typing import Protocol, runtime_checkable

from gateway.errors import ClientGone, UpstreamError
from gateway.forward.connection import UpstreamConnection
from gateway.forward.deadlines import NEVER
from gateway.http.exchange import TunnelWriter

_READ_BYTES = 64 * 1024


@runtime_checkable
class HalfCloses(Protocol):
    """A client's end that can say "nothing more comes" and still be read (plain TCP can, TLS cannot)."""

    def write_eof(self) -> None:
        """End one direction."""
        ...


class Tunnel:
    """One tunnel. ``run`` returns when it is over."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: TunnelWriter,
        upstream: UpstreamConnection,
        *,
        idle_s: float,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._upstream = upstream
        self._idle_s = idle_s
        self._loop = asyncio.get_running_loop()
        self._moved_at = self._loop.time()

    async def run(self) -> None:
        """Carry bytes both ways. How a tunnel ends is nobody's error: there is no answer left to give."""
        try:
            async with asyncio.TaskGroup() as group:
                watch = group.create_task(self._watch(group.create_task(self._carry(group))))
                del watch
        except* (ClientGone, UpstreamError, ConnectionError):
            pass
        finally:
            self._writer.close()

    async def _carry(self, group: asyncio.TaskGroup) -> None:
        up = group.create_task(self._client_to_upstream())
        await self._upstream_to_client()
        if isinstance(self._writer, HalfCloses):
            self._writer.write_eof()
            await up
        else:
            up.cancel()

    async def _client_to_upstream(self) -> None:
        while data := await self._reader.read(_READ_BYTES):
            self._moved_at = self._loop.time()
            await self._upstream.outgoing.send(data, idle_s=self._idle_s)
        self._upstream.outgoing.send_eof()

    async def _upstream_to_client(self) -> None:
        while data := await self._upstream.next_piece(until=NEVER):
            self._moved_at = self._loop.time()
            await self._writer.write(data)

    async def _watch(self, carrying: asyncio.Task[None]) -> None:
        """End the tunnel when nothing moved for too long, in either direction."""
        while not carrying.done():
            left = self._moved_at + self._idle_s - self._loop.time()
            if left <= 0:
                carrying.cancel()
                raise ClientGone(detail="the tunnel was idle")
            await asyncio.wait((carrying,), timeout=left)
