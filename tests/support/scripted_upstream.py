"""Owns an upstream on a unix socket or a loopback port that does, byte for byte, what a test says."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Self


class Talk:
    """One connection, seen from the upstream. ``number`` counts connections from 1."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.reader = reader
        self.writer = writer
        self.number = number

    async def read_head(self) -> bytes:
        """A request head with its empty line; b"" when the gateway closed."""
        try:
            return await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as cut:
            return cut.partial

    async def read(self, count: int) -> bytes:
        """Exactly ``count`` bytes."""
        return await self.reader.readexactly(count)

    async def read_chunked(self) -> bytes:
        """A chunked body with its framing, until the end of its trailers."""
        raw = b""
        while not (raw.endswith(b"\r\n\r\n") and (b"\r\n0\r\n" in raw or raw.startswith(b"0\r\n"))):
            piece = await self.reader.read(65536)
            if not piece:
                break
            raw += piece
        return raw

    async def say(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)
        await self.writer.drain()

    def hang_up(self) -> None:
        """Close."""
        self.writer.close()


type Script = Callable[[Talk], Awaitable[None]]


class ScriptedUpstream:
    """``async with ScriptedUpstream(script, path)``; each connection runs the script, then is closed."""

    def __init__(self, script: Script, path: Path | None = None) -> None:
        self._script = script
        self._path = path
        self._server: asyncio.Server | None = None
        self._running: set[asyncio.Task[None]] = set()
        self.connections = 0

    @property
    def origin(self) -> str:
        """What a pool is given."""
        if self._path is not None:
            return f"unix:{self._path}"
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        if self._path is not None:
            self._server = await asyncio.start_unix_server(self._serve, self._path)
        else:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        self.connections += 1
        try:
            await self._script(Talk(reader, writer, self.connections))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._running.discard(task)
            writer.close()


def answering(*answers: bytes) -> Script:
    """A script that reads a head and gives the next answer, on every connection from the first one on."""

    async def script(talk: Talk) -> None:
        for answer in answers:
            if not await talk.read_head():
                return
            await talk.say(answer)
        await talk.reader.read(1)

    return script
