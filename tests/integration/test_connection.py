"""One connection, seen from the client: bytes in, bytes out."""

import asyncio

import pytest

from gateway.errors import BodyTooLarge, NotFound
from gateway.http.exchange import ClientExchange
from gateway.settings import Limits
from tests.support.raw_server import both_loops, echo, echo_by_blocks, raw_server, run


@both_loops
def test_requests_on_one_connection_are_answered_in_order(on_uvloop: bool) -> None:
    async def story() -> None:
        async with raw_server(echo) as server:
            client = await server.connect()
            await client.send(
                b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"
                b"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
                b"POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n"
                b"HEAD /4 HTTP/1.1\r\nHost: a\r\n\r\n"
                b"GET /5 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
            )
            assert (await client.answer())[2] == b"GET /1 0"
            assert (await client.answer())[2] == b"POST /2 3"
            assert (await client.answer())[2] == b"POST /3 4"
            status, fields, _ = await client.answer(to_head=True)
            assert (status, fields["content-length"]) == (200, "9")
            status, fields, body = await client.answer()
            assert body == b"GET /5 0"
            assert fields["connection"] == "close"
            assert await client.rest() == b""

    run(story(), on_uvloop=on_uvloop)


@both_loops
def test_a_client_that_closed_its_side_gets_every_answer_it_asked_for(on_uvloop: bool) -> None:
    closed = asyncio.Event()

    async def slow(exchange: ClientExchange) -> None:
        await closed.wait()
        await echo(exchange)

    async def story() -> None:
        async with raw_server(slow) as server:
            client = await server.connect()
            await client.send(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
            client.writer.write_eof()
            (connection,) = server.context.connections
            while not connection.is_eof:  # type: ignore[attr-defined]
                await asyncio.sleep(0.01)
            closed.set()
            assert (await client.answer())[2] == b"GET /1 0"
            assert (await client.answer())[2] == b"GET /2 0"
            assert await client.rest() == b""

    run(story(), on_uvloop=on_uvloop)


@both_loops
@pytest.mark.parametrize("head", [b"GET / HTTP/1.1\nHost: a\n\n", b"GET / HTTP/1.1\r\nHost: a\n\n"])
def test_a_head_without_crlf_is_refused_at_once(on_uvloop: bool, head: bytes) -> None:
    async def story() -> None:
        async with raw_server(echo) as server:
            client = await server.connect()
            for byte in head[:-1]:
                await client.send(bytes((byte,)))
            await client.send(head[-1:])
            assert (await client.answer())[0] == 400

    run(story(), on_uvloop=on_uvloop)


@both_loops
@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 65536, 300_000, 3_000_000])
def test_blocks_give_exactly_what_was_sent_and_leave_the_next_request_alone(
    on_uvloop: bool, size: int
) -> None:
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    chunked = b"".join(
        b"%x\r\n%b\r\n" % (len(piece), piece)
        for piece in (content[at : at + 70_000] for at in range(0, len(content), 70_000))
    )

    async def story() -> None:
        async with raw_server(echo_by_blocks) as server:
            client = await server.connect()
            sending = asyncio.gather(
                client.send(
                    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (size, content)
                    + b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%b0\r\n\r\n" % chunked
                    + b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nend"
                )
            )
            assert (await client.answer())[2] == content
            assert (await client.answer())[2] == content
            assert (await client.answer())[2] == b"end"
            await sending

    run(story(), on_uvloop=on_uvloop)


def test_a_body_that_trickles_in_is_still_whole() -> None:
    async def story() -> None:
        async with raw_server(echo_by_blocks) as server:
            client = await server.connect()
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            for byte in b"3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n":
                await client.send(bytes([byte]))
                await asyncio.sleep(0)
            assert (await client.answer())[2] == b"abcde"

    run(story())


@pytest.mark.parametrize(
    "raw",
    [
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello",
        b"GET / HTTP/1.1\nHost: a\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-A : b\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\r\n\r\n",
    ],
)
def test_an_ambiguous_head_is_answered_400_once_and_the_connection_ends(raw: bytes) -> None:
    async def story() -> None:
        async with raw_server(echo, limits=Limits(head_s=1)) as server:
            client = await server.connect()
            await client.send(raw + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
            status, fields, body = await client.answer()
            assert status == 400
            assert fields["connection"] == "close"
            assert b'"code":400' in body
            client.writer.write_eof()
            assert b"smuggled" not in await client.rest()

    run(story())


@pytest.mark.parametrize("chunk", [b"0x1\r\na\r\n0\r\n\r\n", b"1\r\nab\r\n0\r\n\r\n", b"zz\r\n"])
@pytest.mark.parametrize("handler", [echo, echo_by_blocks])
def test_a_bad_chunk_is_answered_400_and_the_connection_ends(chunk: bytes, handler: object) -> None:
    async def story() -> None:
        async with raw_server(handler) as server:  # type: ignore[arg-type]
            client = await server.connect()
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk)
            status, fields, _ = await client.answer()
            assert (status, fields["connection"]) == (400, "close")

    run(story())


def test_a_head_is_limited_exactly() -> None:
    async def story() -> None:
        async with raw_server(echo, limits=Limits(head_bytes=200)) as server:
            base = b"GET / HTTP/1.1\r\nHost: a\r\nX: "
            client = await server.connect()
            await client.send(base + b"a" * (200 - len(base) - 4) + b"\r\n\r\n")
            assert (await client.answer())[0] == 200
            await client.send(base + b"a" * (201 - len(base) - 4) + b"\r\n\r\n")
            assert (await client.answer())[0] == 431

    run(story())


def test_continue_is_sent_only_when_the_body_is_wanted() -> None:
    async def refuse(exchange: ClientExchange) -> None:
        if exchange.head.path == "/no":
            raise NotFound
        await echo(exchange)

    async def story() -> None:
        async with raw_server(refuse) as server:
            client = await server.connect()
            ask = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
            await client.send(ask % b"/yes")
            assert (await client.head())[0] == 100
            await client.send(b"abc")
            assert (await client.answer())[2] == b"POST /yes 3"
            await client.send(ask % b"/no")
            status, fields, _ = await client.answer()
            assert (status, fields["connection"]) == (404, "close")

    run(story())


def test_a_refused_upload_still_lets_the_client_read_the_answer() -> None:
    async def refuse(exchange: ClientExchange) -> None:
        raise BodyTooLarge

    async def story() -> None:
        async with raw_server(refuse) as server:
            client = await server.connect()
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 30000000\r\n\r\n")
            await client.send(b"x" * 20_000_000)
            status, fields, _ = await client.answer()
            assert (status, fields["connection"]) == (413, "close")
            await client.send(b"x" * 10_000_000)
            client.writer.write_eof()
            assert await client.rest() == b""

    run(story())


def test_a_small_rest_is_read_so_that_the_connection_is_kept() -> None:
    async def ignore(exchange: ClientExchange) -> None:
        if exchange.head.method == "POST":
            raise NotFound
        await echo(exchange)

    async def story() -> None:
        async with raw_server(ignore) as server:
            client = await server.connect()
            await client.send(
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /next HTTP/1.1\r\nHost: a\r\n\r\n"
            )
            assert (await client.answer())[0] == 404
            assert (await client.answer())[2] == b"GET /next 0"

    run(story())
