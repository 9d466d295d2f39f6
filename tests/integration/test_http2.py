"""One HTTP/2 connection, seen from the client: the stories of test_connection.py, told over h2."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.errors import BodyTooLarge, NotFound
from gateway.http.exchange import ClientExchange
from gateway.settings import Limits
from tests.support.http2_client import Http2Client, client_tls, connect, server_tls
from tests.support.raw_server import Handler, RawServer, both_loops, echo, echo_by_blocks, raw_server, run


@asynccontextmanager
async def http2(handler: Handler, **options: Any) -> AsyncIterator[tuple[RawServer, Http2Client]]:
    async with raw_server(handler, tls=server_tls(), **options) as server:
        client = await connect(server.port)
        try:
            yield server, client
        finally:
            await client.close()


@both_loops
def test_requests_on_one_connection_are_answered_side_by_side(on_uvloop: bool) -> None:
    gates = dict.fromkeys(("/1", "/2"), asyncio.Event)

    async def story() -> None:
        opened = {name: make() for name, make in gates.items()}

        async def wait(exchange: ClientExchange) -> None:
            await opened[exchange.head.path].wait()
            await echo(exchange)

        async with http2(wait) as (_, client):
            first = await client.begin("GET", "/1", ends=True)
            second = await client.begin("POST", "/2", ("content-length", "3"))
            await client.send(second, b"abc", ends=True)
            opened["/2"].set()
            assert (await client.answer(second)).body == b"POST /2 3"
            assert not client.answers[first].is_over
            opened["/1"].set()
            answer = await client.answer(first)
            assert (answer.status, bytes(answer.body)) == (200, b"GET /1 0")
            assert answer.fields["content-length"] == "8"
            assert len(answer.fields["x-request-id"]) == 16

    run(story(), on_uvloop=on_uvloop)


@both_loops
def test_a_client_that_does_not_offer_http2_speaks_http1(on_uvloop: bool) -> None:
    async def story() -> None:
        async with raw_server(echo, tls=server_tls()) as server:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", server.port, ssl=client_tls("http/1.1"), server_hostname="localhost"
            )
            writer.write(b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).endswith(b"GET /x 0")
            writer.transport.abort()

    run(story(), on_uvloop=on_uvloop)


@both_loops
@pytest.mark.parametrize("size", [0, 1, 4095, 65536, 300_000, 9_000_000])
@pytest.mark.parametrize("is_sized", [True, False])
def test_blocks_give_exactly_what_was_sent(on_uvloop: bool, size: int, is_sized: bool) -> None:
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)

    async def story() -> None:
        async with http2(echo_by_blocks) as (_, client):
            fields = (("content-length", str(size)),) if is_sized else ()
            stream = await client.begin("POST", "/", *fields)
            await client.send(stream, content, ends=True)
            assert (await client.answer(stream)).body == content

    run(story(), on_uvloop=on_uvloop)


@pytest.mark.parametrize("handler", [echo, echo_by_blocks])
def test_padding_is_no_content_but_counts_for_the_window(handler: Handler) -> None:
    async def story() -> None:
        async with http2(handler) as (_, client):
            stream = await client.begin("POST", "/", ("content-length", "800000"))
            await client.send(stream, b"x" * 800_000, ends=True, padded=200)
            answer = await client.answer(stream)
            assert bytes(answer.body) in {b"POST / 800000", b"x" * 800_000}

    run(story())


def test_a_head_request_and_a_304_have_no_content() -> None:
    async def handler(exchange: ClientExchange) -> None:
        if exchange.head.path == "/304":
            await exchange.start(304, (("etag", '"x"'),), length=None)
            await exchange.finish()
        else:
            await echo(exchange)

    async def story() -> None:
        async with http2(handler) as (_, client):
            answer = await client.ask("HEAD", "/")
            assert (answer.fields["content-length"], bytes(answer.body)) == ("8", b"")
            answer = await client.ask("GET", "/304")
            assert (answer.status, answer.fields["etag"], bytes(answer.body)) == (304, '"x"', b"")

    run(story())


def test_trailers_pass_in_both_directions() -> None:
    async def handler(exchange: ClientExchange) -> None:
        await exchange.body.read(100)
        await exchange.start(200, (), length=None)
        await exchange.write(b"text")
        await exchange.finish(exchange.body.trailers)

    async def story() -> None:
        async with http2(handler) as (_, client):
            stream = await client.begin("POST", "/")
            await client.send(stream, b"abc")
            client.h2.send_headers(stream, [("x-digest", "yes")], end_stream=True)
            await client.flush()
            answer = await client.answer(stream)
            assert (bytes(answer.body), answer.trailers) == (b"text", {"x-digest": "yes"})

    run(story())


def test_continue_and_other_interim_answers_come_before_the_answer() -> None:
    async def handler(exchange: ClientExchange) -> None:
        if exchange.head.path == "/no":
            raise NotFound
        await exchange.inform(104, (("upload-offset", "5"),))
        await echo(exchange)

    async def story() -> None:
        async with http2(handler) as (_, client):
            expect = ("content-length", "3"), ("expect", "100-continue")
            stream = await client.begin("POST", "/yes", *expect)
            await client.until(lambda: len(client.answers[stream].informed) == 2)
            assert client.answers[stream].informed == [(104, {"upload-offset": "5"}), (100, {})]
            await client.send(stream, b"abc", ends=True)
            assert (await client.answer(stream)).body == b"POST /yes 3"
            stream = await client.begin("POST", "/no", *expect)
            answer = await client.answer(stream)
            assert (answer.status, answer.informed) == (404, [])
            await client.until(lambda: answer.reset is not None)
            assert answer.reset == 0

    run(story())


@pytest.mark.parametrize(
    "head",
    [
        [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "x")],
        [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/a b")],
        [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/#x")],
        [(":method", "GET"), (":scheme", "https"), (":authority", "a")],
        [(":method", "GET"), (":scheme", "https"), (":path", "/")],
        [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")],
        [(":method", "G T"), (":scheme", "https"), (":authority", "a"), (":path", "/")],
        [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/"), ("host", "b")],
        [(":method", "GET"), (":scheme", "https"), (":authority", "a@b"), (":path", "/")],
        [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/"), ("Upper", "x")],
        [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/"), ("x", "a\r\nhost: b")],
        [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/"), ("x", "a\0b")],
        [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/"), ("x", " a")],
        [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/"), ("x y", "a")],
        [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/"), ("connection", "close")],
        [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/"), ("upgrade", "h2c")],
        [(":method", "POST"), (":scheme", "https"), (":authority", "a"), (":path", "/"), ("transfer-encoding", "chunked")],
        [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/"), ("te", "gzip")],
        [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/"), (":path", "/2")],
        [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/"), ("content-length", "5")],
    ],
)  # fmt: skip
def test_an_ambiguous_head_is_answered_400_and_the_connection_goes_on(head: list[tuple[str, str]]) -> None:
    async def story() -> None:
        async with http2(echo) as (_, client):
            answer = await client.answer(await client.begin_with(head))
            assert answer.status == 400
            assert b'"code":400' in answer.body
            assert (await client.ask("GET", "/next")).body == b"GET /next 0"

    run(story())


def test_connect_is_refused() -> None:
    async def story() -> None:
        async with http2(echo) as (_, client):
            stream = await client.begin_with([(":method", "CONNECT"), (":authority", "a:1")], ends=False)
            assert (await client.answer(stream)).status == 405

    run(story())


def test_a_head_over_the_limit_is_answered_431_and_far_over_it_ends_the_connection() -> None:
    async def story() -> None:
        async with http2(echo, limits=Limits(head_bytes=2000)) as (_, client):
            assert (await client.ask("GET", "/", ("x", "a" * 1800))).status == 200
            assert (await client.ask("GET", "/", ("x", "a" * 2100))).status == 431
            assert (await client.ask("GET", "/")).status == 200
            await client.begin("GET", "/", ("x", "a" * 5000), ends=True)
            assert await client.gone() == 11

    run(story())


@pytest.mark.parametrize(("length", "sent"), [(10, b"x" * 11), (10, b"x" * 9)])
def test_a_body_that_has_not_its_length_ends_its_stream_and_no_other(length: int, sent: bytes) -> None:
    async def story() -> None:
        async with http2(echo) as (_, client):
            stream = await client.begin("POST", "/", ("content-length", str(length)))
            await client.send(stream, sent, ends=True)
            answer = await client.answer(stream)
            assert (answer.reset, answer.status) == (1, 0)
            assert (await client.ask("GET", "/next")).body == b"GET /next 0"

    run(story())


def test_a_refused_upload_is_answered_at_once_and_the_connection_goes_on() -> None:
    async def refuse(exchange: ClientExchange) -> None:
        if exchange.head.method == "POST":
            raise BodyTooLarge
        await echo(exchange)

    async def story() -> None:
        async with http2(refuse) as (_, client):
            for _ in range(20):  # what each left in the connection's window came back
                answer = await client.ask("POST", "/", body=b"x" * 60_000)
                assert answer.status == 413
            assert (await client.ask("GET", "/next")).body == b"GET /next 0"

    run(story())


def test_a_large_answer_comes_whole_and_lets_others_pass() -> None:
    content = bytes(range(256)) * 20_000

    async def handler(exchange: ClientExchange) -> None:
        if exchange.head.path != "/large":
            await echo(exchange)
            return
        await exchange.start(200, (), length=len(content))
        await exchange.write(content)
        await exchange.finish()

    async def story() -> None:
        async with http2(handler) as (_, client):
            large = await client.begin("GET", "/large", ends=True)
            await client.until(lambda: client.answers[large].body)
            assert (await client.ask("GET", "/small")).body == b"GET /small 0"
            assert (await client.answer(large)).body == content

    run(story())


def test_an_answer_that_breaks_off_is_a_reset_stream() -> None:
    async def handler(exchange: ClientExchange) -> None:
        if exchange.head.path == "/next":
            await echo(exchange)
            return
        await exchange.start(200, (), length=100)
        await exchange.write(b"half")
        raise NotFound

    async def story() -> None:
        async with http2(handler) as (_, client):
            answer = await client.ask("GET", "/")
            assert (answer.status, answer.is_over, answer.reset) == (200, False, 2)
            assert (await client.ask("GET", "/next")).status == 200

    run(story())


def test_a_bug_is_answered_500() -> None:
    async def handler(exchange: ClientExchange) -> None:
        raise ZeroDivisionError

    async def story() -> None:
        async with http2(handler) as (_, client):
            assert (await client.ask("GET", "/")).status == 500

    run(story())
