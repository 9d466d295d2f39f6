"""Owns the end of a process that others follow: who was accepted is answered, and told that it was the last answer."""

import asyncio
import time

from gateway.http.exchange import ClientExchange
from gateway.http.reply import Reply
from gateway.net.server import drain
from tests.support.raw_server import raw_server, run

ASK = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def hello(exchange: ClientExchange) -> None:
    await exchange.reply(Reply(status=200, fields=(), body=b"hello"))


def test_who_was_accepted_a_moment_ago_is_answered() -> None:
    async def story() -> None:
        async with raw_server(hello) as server:
            client = await server.connect()
            while not server.context.connections:
                await asyncio.sleep(0.001)
            ending = asyncio.create_task(drain([server.server], deadline_s=10))
            await asyncio.sleep(0.1)
            await client.send(ASK)
            status, _, body = await client.answer()
            assert (status, body) == (200, b"hello")
            client.close()
            assert await ending == 0

    run(story())


def test_a_kept_connection_learns_of_the_end_by_its_last_answer() -> None:
    async def story() -> None:
        async with raw_server(hello) as server:
            client = await server.connect()
            await client.send(ASK)
            _, fields, _ = await client.answer()
            assert fields.get("connection", "keep-alive") == "keep-alive"
            ending = asyncio.create_task(drain([server.server], deadline_s=10))
            await asyncio.sleep(0.1)
            await client.send(ASK)
            status, fields, _ = await client.answer()
            assert (status, fields["connection"]) == (200, "close")
            assert await client.reader.read() == b""
            assert await ending == 0

    run(story())


def test_an_idle_connection_delays_the_end_by_a_moment_only_and_none_not_at_all() -> None:
    async def story() -> None:
        async with raw_server(hello) as server:
            client = await server.connect()
            await client.send(ASK)
            await client.answer()
            began = time.monotonic()
            assert await drain([server.server], deadline_s=60) == 0
            assert time.monotonic() - began < 30
            assert await client.reader.read() == b""

    run(story())


def test_a_connection_that_never_says_anything_does_not_hold_the_end() -> None:
    async def story() -> None:
        async with raw_server(hello) as server:
            client = await server.connect()
            while not server.context.connections:
                await asyncio.sleep(0.001)
            assert await drain([server.server], deadline_s=60) == 0
            assert await client.reader.read() == b""

    run(story())
