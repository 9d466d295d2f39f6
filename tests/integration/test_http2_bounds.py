"""What one HTTP/2 client can make the server do for nothing, and how long anybody waits on one of its streams."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.errors import GatewayError
from gateway.http.exchange import ClientExchange
from gateway.http.reply import Reply
from gateway.net.calm import NOISE, RESETS
from gateway.net.frames import frame
from gateway.net.http2 import STREAMS
from gateway.settings import Limits
from tests.support.http2_client import Http2Client, client_tls, connect, server_tls
from tests.support.raw_server import Handler, RawServer, raw_server, run

CALM, FLOW, PROTOCOL, CANCEL, REFUSED, CLOSED, SIZE = 11, 3, 1, 8, 7, 5, 6


async def echo(exchange: ClientExchange) -> None:
    body = await exchange.body.read(1 << 20)
    await exchange.reply(Reply(status=200, body=f"{exchange.head.target} {len(body)}".encode()))


async def never(exchange: ClientExchange) -> None:
    await exchange.closed
    await exchange.reply(Reply(status=200))


@asynccontextmanager
async def http2(handler: Handler, **options: Any) -> AsyncIterator[tuple[RawServer, Http2Client]]:
    async with raw_server(handler, tls=server_tls(), **options) as server:
        client = await connect(server.port)
        try:
            yield server, client
        finally:
            await client.close()


def test_many_requests_with_bodies_leave_nothing_behind_on_their_connection() -> None:
    async def story() -> None:
        async with http2(echo) as (server, client):
            for number in range(3 * STREAMS):
                assert (await client.ask("POST", f"/{number}", body=b"abc")).status == 200
            connection = next(iter(server.context.connections))
            assert connection._streams == {}  # type: ignore[attr-defined]

    run(story())


def test_rapid_resets_end_the_connection() -> None:
    seen: list[GatewayError | None] = []

    async def story() -> None:
        async with http2(never, finished=lambda exchange: seen.append(exchange.error)) as (server, client):
            with pytest.raises((ConnectionError, TimeoutError)):
                for _ in range(int(RESETS) + 50):
                    stream = await client.begin("GET", "/", ends=True)
                    client.h2.reset_stream(stream, CANCEL)
                    await client.flush()
                await client.until(lambda: False)
            assert await client.gone() == CALM
            async with asyncio.timeout(5):
                while server.context.connections:
                    await asyncio.sleep(0.01)

    run(story())
    assert len(seen) <= RESETS + 1
    assert {error.status for error in seen if error is not None} == {499}


def test_no_more_handlers_run_than_streams_are_allowed_however_many_were_reset() -> None:
    running = most = 0

    async def stubborn(exchange: ClientExchange) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.5)
        running -= 1

    async def story() -> None:
        async with http2(stubborn) as (_, client):
            streams = [await client.begin("GET", "/", ends=True) for _ in range(STREAMS)]
            for stream in streams[:20]:
                client.h2.reset_stream(stream, CANCEL)
            await client.flush()
            refused = await client.answer(await client.begin("GET", "/", ends=True))
            assert refused.reset == REFUSED

    run(story())
    assert most == STREAMS


@pytest.mark.parametrize(
    "flood",
    [
        frame(6, 0, 0, b"12345678"),
        frame(4, 0, 0, struct.pack(">HL", 4, 65_535)),
        frame(2, 0, 1, struct.pack(">LB", 0, 1)),
        frame(8, 0, 0, struct.pack(">L", 1)),
        frame(0, 0, 1),
        frame(0, 8, 1, b"\x05" + bytes(5)),
        frame(0x99, 0, 0, b"x"),
    ],
    ids=["ping", "settings", "priority", "window-update", "empty-data", "padding-only", "unknown"],
)
def test_frames_that_move_nothing_end_the_connection_when_they_are_too_many(flood: bytes) -> None:
    async def story() -> None:
        async with http2(never) as (_, client):
            await client.begin("POST", "/")
            await client.raw(flood * 500)
            await client.ping()
            await client.raw(flood * int(NOISE))
            assert await client.gone() == CALM

    run(story())


def test_an_endless_header_block_ends_the_connection() -> None:
    async def story() -> None:
        async with http2(never) as (_, client):
            await client.raw(frame(1, 0, 1, b"\x82"))
            await client.raw(frame(9, 0, 1, bytes([0x00, 0x7F]) * 500) * 70)
            assert await client.gone() in {CALM, PROTOCOL}

    run(story())


def test_a_small_block_that_becomes_a_large_head_ends_the_connection() -> None:
    value = b"v" * 3000
    entry = b"\x40\x01x\x7f" + bytes([(len(value) - 127) % 128 + 128, (len(value) - 127) // 128]) + value

    async def story() -> None:
        async with http2(never, limits=Limits(head_bytes=32_768)) as (_, client):
            await client.raw(frame(1, 5, 1, b"\x82\x87\x84\x41\x01a" + entry + b"\xbe" * 4000))
            assert await client.gone() == CALM

    run(story())


def test_a_header_block_that_is_not_finished_in_time_ends_the_connection() -> None:
    async def story() -> None:
        async with http2(never, limits=Limits(head_s=0.3)) as (_, client):
            await client.ping()
            await client.raw(frame(1, 0, 1, b"\x82\x87"))
            assert await client.gone() == CALM

    run(story())


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (frame(0, 0, 1, b"x" * 70_000)[:200], SIZE),
        (frame(0, 0, 7, b"x"), PROTOCOL),
        (frame(0, 0, 0, b"x"), PROTOCOL),
        (frame(0, 8, 1, b"\xffabc"), PROTOCOL),
        (frame(9, 4, 1, b"x"), PROTOCOL),
        (frame(1, 0, 3, b"\x82") + frame(0, 0, 1, b"x"), PROTOCOL),
        (frame(8, 0, 0, bytes(4)), PROTOCOL),
        (frame(8, 0, 0, b"\x7f\xff\xff\xff"), FLOW),
        (frame(1, 5, 3, b"\xff\xff\xff\xff\xff"), PROTOCOL),
    ],
)
def test_what_is_no_http2_ends_the_connection(raw: bytes, code: int) -> None:
    async def story() -> None:
        async with http2(never) as (_, client):
            await client.begin("POST", "/")
            await client.raw(raw)
            assert await client.gone() == code

    run(story())


def test_content_behind_the_end_of_a_body_ends_its_stream() -> None:
    async def story() -> None:
        async with http2(never) as (_, client):
            stream = await client.begin("POST", "/")
            await client.send(stream, b"abc", ends=True)
            await client.raw(frame(0, 0, stream, b"more"))
            assert (await client.answer(stream)).reset == CLOSED

    run(story())


def test_more_than_the_window_ends_the_stream_and_what_nobody_reads_is_not_acknowledged() -> None:
    async def story() -> None:
        async with http2(never) as (server, client):
            stream = await client.begin("POST", "/")
            await client.send(stream, b"x" * 65_535)
            await asyncio.sleep(0.2)
            assert client.h2.local_flow_control_window(stream) == 0
            await client.raw(frame(0, 0, stream, b"y"))
            assert (await client.answer(stream)).reset == FLOW
            connection = next(iter(server.context.connections))
            await client.until(lambda: connection.windows.unread == 0)  # type: ignore[attr-defined]

    run(story())


def test_a_paused_upload_is_not_acknowledged_and_other_streams_go_on() -> None:
    go_on = asyncio.Event

    async def story() -> None:
        gate = go_on()

        async def slow(exchange: ClientExchange) -> None:
            if exchange.head.path != "/slow":
                await echo(exchange)
                return
            size = 0
            async for piece in exchange.body.chunks():
                size += len(piece)
                await gate.wait()
            await exchange.reply(Reply(status=200, body=str(size).encode()))

        async with http2(slow) as (server, client):
            await client.ping()
            stream = await client.begin("POST", "/slow")
            sending = asyncio.get_running_loop().create_task(
                client.send(stream, b"x" * 20_000_000, ends=True)
            )
            connection = next(iter(server.context.connections))
            unread = -1
            while unread != connection.windows.unread or not unread:  # type: ignore[attr-defined]
                unread = connection.windows.unread  # type: ignore[attr-defined]
                await asyncio.sleep(0.2)
            assert 3_000_000 < unread < 4_500_000
            assert (await client.ask("POST", "/other", body=b"y" * 200_000)).body == b"/other 200000"
            gate.set()
            await sending
            assert (await client.answer(stream)).body == b"20000000"

    run(story())


def test_a_body_that_stalls_is_answered_408_and_the_connection_goes_on() -> None:
    async def story() -> None:
        async with http2(echo, limits=Limits(body_idle_s=0.3)) as (_, client):
            stream = await client.begin("POST", "/", ("content-length", "10"))
            await client.send(stream, b"abc")
            assert (await client.answer(stream)).status == 408
            assert (await client.ask("GET", "/next")).status == 200

    run(story())


def test_an_answer_that_nobody_takes_is_given_up() -> None:
    seen: list[GatewayError | None] = []

    async def large(exchange: ClientExchange) -> None:
        await exchange.start(200, (), length=1 << 20)
        await exchange.write(bytes(1 << 20))
        await exchange.finish()

    async def story() -> None:
        limits = Limits(write_stall_s=0.3)
        async with http2(large, limits=limits, finished=lambda e: seen.append(e.error)) as (_, client):
            client.takes_content = False
            client.h2.increment_flow_control_window(1 << 20)
            stream = await client.begin("GET", "/", ends=True)
            assert (await client.answer(stream)).reset == CANCEL
            assert len(client.answers[stream].body) == 65_535

    run(story())
    assert [error.status for error in seen if error is not None] == [499]


def test_an_idle_connection_is_told_to_go() -> None:
    async def story() -> None:
        async with http2(echo, limits=Limits(keepalive_s=0.3)) as (_, client):
            assert (await client.ask("GET", "/")).status == 200
            assert await client.gone() == 0

    run(story())


def test_a_connection_that_says_nothing_is_closed() -> None:
    async def story() -> None:
        async with raw_server(echo, tls=server_tls(), limits=Limits(head_s=0.3)) as server:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", server.port, ssl=client_tls("h2"), server_hostname="localhost"
            )
            async with asyncio.timeout(5):
                assert frame(7, 0, 0, bytes(8)) in await reader.read()
            writer.transport.abort()

    run(story())


def test_draining_lets_running_requests_finish_and_takes_no_other() -> None:
    async def story() -> None:
        async with http2(echo) as (server, client):
            idle = await connect(server.port)
            busy = await client.begin("POST", "/", ("content-length", "3"))
            await client.until(lambda: client.h2.remote_settings.max_concurrent_streams == STREAMS)
            await asyncio.sleep(0.1)
            server.server.stop_accepting()
            assert await idle.gone() == 0
            await idle.close()
            await client.raw(frame(0, 1, busy, b"abc"))
            answer = client.answers[busy]
            await client.gone()
            assert (answer.status, bytes(answer.body)) == (200, b"/ 3")

    run(story())


def test_a_client_that_goes_away_is_noted_on_every_stream() -> None:
    seen: list[GatewayError | None] = []

    async def story() -> None:
        async with http2(echo, finished=lambda exchange: seen.append(exchange.error)) as (_, client):
            for _ in range(3):
                await client.begin("POST", "/")
            await asyncio.sleep(0.1)
            await client.close()
            while len(seen) < 3:
                await asyncio.sleep(0.01)
            assert {error.status for error in seen if error is not None} == {499}

    run(story())


def test_more_connections_than_allowed_are_closed_at_once() -> None:
    async def story() -> None:
        async with http2(echo, limits=Limits(connections=1)) as (server, client):
            assert (await client.ask("GET", "/")).status == 200
            second = await connect(server.port)
            assert await second.gone() is None
            await second.close()

    run(story())
