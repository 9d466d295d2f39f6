"""A real listener around one handler, and a raw client that speaks bytes."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

import pytest
import uvloop

from gateway.http.exchange import ClientExchange, Peer
from gateway.http.head import RequestHead
from gateway.http.reply import Reply
from gateway.net.blocks import BlockPool
from gateway.net.connection import ConnectionContext
from gateway.net.server import Server, keep_deadlines, open_listener
from gateway.settings import Limits

type Handler = Callable[[ClientExchange], Awaitable[None]]

both_loops = pytest.mark.parametrize("on_uvloop", [True, False], ids=["uvloop", "asyncio"])


def run[T](coroutine: Coroutine[None, None, T], *, on_uvloop: bool = True) -> T:
    """Run on uvloop, as the product does, or on plain asyncio."""
    factory = uvloop.new_event_loop if on_uvloop else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(coroutine)


def find_peer(address: str, scheme: str, head: RequestHead | None) -> Peer:
    return Peer(address=address, scheme=scheme, is_admin=True, trusts_forwarded=False, socket_address=address)


async def echo(exchange: ClientExchange) -> None:
    """Says what was asked, and how long its body was."""
    body = await exchange.body.read(1 << 20)
    text = f"{exchange.head.method} {exchange.head.target} {len(body)}".encode()
    await exchange.reply(Reply(status=200, body=text))


async def echo_by_blocks(exchange: ClientExchange) -> None:
    """Says what its body was."""
    pool = BlockPool(8 << 20)
    content = b""
    async for block, ranges in exchange.body.blocks(pool):
        content += b"".join(bytes(block.view[start:end]) for start, end in ranges)
    await exchange.reply(Reply(status=200, body=content))


class RawServer:
    """A running listener; ``finished`` holds every exchange that ended."""

    def __init__(self, context: ConnectionContext, server: Server, port: int) -> None:
        self.context = context
        self.server = server
        self.port = port
        self.clients: list[RawClient] = []

    async def connect(self) -> "RawClient":
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.clients.append(RawClient(reader, writer))
        return self.clients[-1]


class RawClient:
    """Bytes out, bytes in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        """The next answer's status and fields."""
        async with asyncio.timeout(10):
            raw = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").split("\r\n")
        fields = {}
        for line in lines:
            if line:
                name, _, value = line.partition(":")
                fields[name.lower()] = value.strip()
        return int(first.split(" ")[1]), fields

    async def answer(self, *, to_head: bool = False) -> tuple[int, dict[str, str], bytes]:
        """The next whole answer."""
        status, fields = await self.head()
        if to_head or status in {204, 304} or status < 200:
            return status, fields, b""
        if fields.get("transfer-encoding") == "chunked":
            return status, fields, await self._chunks()
        async with asyncio.timeout(10):
            return status, fields, await self.reader.readexactly(int(fields["content-length"]))

    async def _chunks(self) -> bytes:
        content = b""
        while True:
            size = int(await self.reader.readline(), 16)
            content += await self.reader.readexactly(size)
            await self.reader.readline()
            if size == 0:
                return content

    async def rest(self) -> bytes:
        """Everything until the server closes."""
        async with asyncio.timeout(10):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    def close(self) -> None:
        self.writer.transport.abort()


@contextlib.asynccontextmanager
async def raw_server(
    handler: Handler,
    *,
    limits: Limits | None = None,
    finished: Callable[[ClientExchange], None] = lambda _: None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[RawServer]:
    """A listener on a free loopback port, ended with the block. With ``tls`` it offers HTTP/2."""
    context = ConnectionContext(
        handler=handler,
        find_peer=find_peer,
        limits=limits or Limits(),
        is_tls=tls is not None,
        offers_http2=tls is not None,
        finished=finished,
    )
    listener = open_listener("127.0.0.1:0", setting="test")
    server = Server(listener, context, tls=tls, handshake_s=5)
    await server.start()
    clock = asyncio.get_running_loop().create_task(keep_deadlines([context]))
    running = RawServer(context, server, listener.getsockname()[1])
    try:
        yield running
    finally:
        for client in running.clients:
            client.close()
            with contextlib.suppress(OSError):
                await client.writer.wait_closed()
        clock.cancel()
        server.stop_accepting()
        server.cut()
        await asyncio.sleep(0.01)
