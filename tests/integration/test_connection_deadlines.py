"""How long anybody waits on a connection, and what happens when it ends."""

import asyncio

import pytest

from gateway.errors import GatewayError
from gateway.http.exchange import ClientExchange
from gateway.http.reply import Reply
from gateway.net.blocks import BlockPool
from gateway.settings import Limits
from tests.support.raw_server import echo, echo_by_blocks, raw_server, run


def test_a_slow_head_is_answered_408_however_it_trickles() -> None:
    async def story() -> None:
        async with raw_server(echo, limits=Limits(head_s=0.5)) as server:
            client = await server.connect()
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ")

            async def trickle() -> None:
                while True:
                    await client.send(b"a")
                    await asyncio.sleep(0.05)

            task = asyncio.get_running_loop().create_task(trickle())
            status, fields, _ = await client.answer()
            assert (status, fields["connection"]) == (408, "close")
            task.cancel()

    run(story())


def test_a_connection_that_says_nothing_is_closed_without_an_answer() -> None:
    async def story() -> None:
        async with raw_server(echo, limits=Limits(head_s=0.2, keepalive_s=0.2)) as server:
            client = await server.connect()
            assert await client.rest() == b""
            client = await server.connect()
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await client.answer())[0] == 200
            assert await client.rest() == b""

    run(story())


@pytest.mark.parametrize("handler", [echo, echo_by_blocks])
def test_a_body_that_stalls_is_answered_408(handler: object) -> None:
    async def story() -> None:
        async with raw_server(handler, limits=Limits(body_idle_s=0.3)) as server:  # type: ignore[arg-type]
            client = await server.connect()
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
            assert (await client.answer())[0] == 408

    run(story())


def test_a_body_below_the_minimum_rate_is_answered_408() -> None:
    async def story() -> None:
        limits = Limits(body_min_rate=10_000, body_min_rate_after_s=0.5)
        async with raw_server(echo_by_blocks, limits=limits) as server:
            client = await server.connect()
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")

            async def trickle() -> None:
                while True:
                    await client.send(b"a")
                    await asyncio.sleep(0.02)

            task = asyncio.get_running_loop().create_task(trickle())
            assert (await client.answer())[0] == 408
            task.cancel()

    run(story())


def test_a_client_that_goes_away_is_noted_and_nobody_is_answered() -> None:
    seen: list[GatewayError | None] = []

    async def story() -> None:
        async with raw_server(
            echo_by_blocks, finished=lambda exchange: seen.append(exchange.error)
        ) as server:
            client = await server.connect()
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
            client.close()
            while not seen:
                await asyncio.sleep(0.01)
            assert seen[0] is not None
            assert seen[0].status == 499

    run(story())


def test_draining_ends_idle_connections_and_lets_running_requests_finish() -> None:
    async def story() -> None:
        async with raw_server(echo) as server:
            idle, busy = await server.connect(), await server.connect()
            await idle.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await idle.answer()
            await busy.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n")
            await asyncio.sleep(0.05)
            server.server.stop_accepting()
            assert await idle.rest() == b""
            await busy.send(b"abc")
            status, fields, _ = await busy.answer()
            assert (status, fields["connection"]) == (200, "close")
            assert await busy.rest() == b""

    run(story())


def test_more_connections_than_allowed_are_closed_at_once() -> None:
    async def story() -> None:
        async with raw_server(echo, limits=Limits(connections=1)) as server:
            first = await server.connect()
            await first.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await first.answer()
            assert await (await server.connect()).rest() == b""

    run(story())


def test_many_slow_uploads_hold_no_memory_that_a_fast_one_needs() -> None:
    """All blocks that there are would be held if each slow client kept one."""
    pool = BlockPool(2 << 20)

    async def count(exchange: ClientExchange) -> None:
        total = 0
        async for _, ranges in exchange.body.blocks(pool):
            total += sum(end - start for start, end in ranges)
        await exchange.reply(Reply(status=200, body=str(total).encode()))

    async def story() -> None:
        async with raw_server(count) as server:
            slow = [await server.connect() for _ in range(60)]
            for client in slow:
                await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"x" * 10)
            fast = await server.connect()
            await fast.send(
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3_000_000
            )
            assert (await fast.answer())[2] == b"3000000"
            for client in slow:
                await client.send(b"x" * 99_990)
            for client in slow:
                assert (await client.answer())[2] == b"100000"
            assert pool.allocated_bytes <= 2 << 20

    run(story())


def test_a_slow_body_is_handed_on_before_its_block_is_full() -> None:
    async def story() -> None:
        arrived = asyncio.Event()

        async def watch(exchange: ClientExchange) -> None:
            async for _ in exchange.body.blocks(BlockPool(8 << 20)):
                arrived.set()
            await exchange.reply(Reply(status=200))

        async with raw_server(watch) as server:
            client = await server.connect()
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 500)
            async with asyncio.timeout(5):
                await arrived.wait()

    run(story())
