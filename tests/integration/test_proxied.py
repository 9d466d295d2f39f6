"""Behind a load balancer: the PROXY header is demanded of it, believed from it, and of nobody else."""

import asyncio
import socket
import ssl
import struct
from pathlib import Path

import pytest

from gateway.http.exchange import ClientExchange, Peer
from gateway.http.fields import Networks
from gateway.http.head import RequestHead
from gateway.http.reply import Reply
from gateway.net.connection import ConnectionContext
from gateway.net.server import Server, open_listener
from gateway.net.tls import open_source
from gateway.settings import Limits
from gateway.settings_source import load
from tests.support.raw_server import RawClient, run

V2 = (
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11"
    + struct.pack("!H", 12)
    + socket.inet_aton("192.0.2.7")
    + bytes(4)
    + b"\x01\x02\x03\x04"
)
ASK = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


async def tell_address(exchange: ClientExchange) -> None:
    await exchange.reply(Reply(status=200, body=exchange.peer.address.encode()))


def peer(address: str, scheme: str, head: RequestHead | None) -> Peer:
    return Peer(
        address=address, scheme=scheme, is_admin=False, trusts_forwarded=False, socket_address=address
    )


def ask_over_tls(port: int, header: bytes, trusted: ssl.SSLContext) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        plain.sendall(header)
        with trusted.wrap_socket(plain, server_hostname="localhost") as client:
            client.sendall(ASK)
            answer = b""
            while piece := client.recv(65536):
                answer += piece
            return answer


def test_the_header_stands_before_the_tls_handshake(tmp_path: Path) -> None:
    async def story() -> None:
        source = open_source(load(environ={}, flags={"server.data_dir": tmp_path}).settings)
        assert source is not None
        context = ConnectionContext(
            handler=tell_address, find_peer=peer, limits=Limits(), is_tls=True, finished=lambda _: None
        )
        listener = open_listener("127.0.0.1:0", setting="test")
        balancers = Networks(("127.0.0.0/8",))
        server = Server(listener, context, tls=source.context, handshake_s=5, balancers=balancers)
        await server.start()
        trusted = ssl.create_default_context(cafile=str(tmp_path / "tls" / "ca.crt"))
        port = listener.getsockname()[1]
        try:
            assert (await asyncio.to_thread(ask_over_tls, port, V2, trusted)).endswith(b"192.0.2.7")
        finally:
            server.stop_accepting()
            server.cut()
            await asyncio.sleep(0.01)

    run(story())


async def ask(balancers: str, data: bytes) -> bytes:
    context = ConnectionContext(
        handler=tell_address, find_peer=peer, limits=Limits(), is_tls=False, finished=lambda _: None
    )
    listener = open_listener("127.0.0.1:0", setting="test")
    server = Server(listener, context, tls=None, handshake_s=5, balancers=Networks((balancers,)))
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.getsockname()[1])
    try:
        writer.write(data)
        return await RawClient(reader, writer).rest()
    finally:
        server.stop_accepting()
        server.cut()
        writer.close()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("header", [b"PROXY TCP4 192.0.2.7 127.0.0.1 1000 443\r\n", V2])
def test_the_address_in_the_header_is_the_client(header: bytes) -> None:
    assert run(ask("127.0.0.0/8", header + ASK)).endswith(b"\r\n\r\n192.0.2.7")


def test_a_balancer_that_does_not_tell_is_the_client_itself() -> None:
    assert run(ask("127.0.0.0/8", b"PROXY UNKNOWN\r\n" + ASK)).endswith(b"127.0.0.1")


@pytest.mark.parametrize("data", [ASK, b"PROXY nonsense\r\n" + ASK, b"\r\n\r\n\0\r\nQUIT\n\x55" + bytes(20)])
def test_a_connection_from_a_balancer_without_a_good_header_is_cut(data: bytes) -> None:
    assert run(ask("127.0.0.0/8", data)) == b""


def test_a_header_from_anybody_else_is_no_header() -> None:
    answer = run(ask("10.0.0.0/8", b"PROXY TCP4 192.0.2.7 127.0.0.1 1000 443\r\n" + ASK))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert run(ask("10.0.0.0/8", ASK)).endswith(b"127.0.0.1")
