"""Who a connection's peer is, also when it is gone before anybody looked."""

import asyncio
import socket
import struct
from pathlib import Path

import pytest

from gateway.http.exchange import ClientExchange
from gateway.http.fields import PeerResolver
from gateway.http.reply import Reply
from gateway.net.connection import ConnectionContext
from gateway.net.server import Server
from gateway.settings import Limits
from tests.support.raw_server import both_loops, run

FORGED = b"POST / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.7\r\nContent-Length: 0\r\n\r\n"


async def _heard_from(listener: socket.socket, client: socket.socket, *, resets: bool) -> ClientExchange:
    """What is made of a request that lay there, with its connection reset, before anybody accepted it."""
    heard: asyncio.Queue[ClientExchange] = asyncio.Queue()

    async def handler(exchange: ClientExchange) -> None:
        heard.put_nowait(exchange)
        await exchange.reply(Reply(status=204))

    context = ConnectionContext(
        handler=handler,
        find_peer=PeerResolver(trusted=(), admin=()).resolve,
        limits=Limits(),
        is_tls=False,
        offers_http2=False,
        finished=lambda _: None,
    )
    client.sendall(FORGED)
    if resets:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    server = Server(listener, context, tls=None, handshake_s=5)
    await server.start()
    try:
        async with asyncio.timeout(5):
            return await heard.get()
    finally:
        client.close()
        server.stop_accepting()
        server.cut()
        await asyncio.sleep(0.01)


@both_loops
def test_a_client_that_reset_its_connection_is_no_trusted_proxy(on_uvloop: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        exchange = run(_heard_from(listener, client, resets=True), on_uvloop=on_uvloop)
    assert exchange.peer.address in {"gone", "127.0.0.1"}  # asyncio has it from accept()
    assert not exchange.peer.trusts_forwarded


@both_loops
@pytest.mark.parametrize("is_unix", [True, False])
def test_a_client_that_stays_is_who_its_socket_says(short_path: Path, is_unix: bool, on_uvloop: bool) -> None:
    path = str(short_path / "s")
    with socket.socket(socket.AF_UNIX) if is_unix else socket.socket() as listener:
        listener.bind(path if is_unix else ("127.0.0.1", 0))
        listener.listen()
        client = socket.socket(listener.family)
        client.connect(listener.getsockname())
        exchange = run(_heard_from(listener, client, resets=False), on_uvloop=on_uvloop)
    assert exchange.peer.socket_address == ("unix:" if is_unix else "127.0.0.1")
    assert exchange.peer.trusts_forwarded is is_unix
