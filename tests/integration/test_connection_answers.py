"""Answers as they leave: whole, or visibly cut."""

import tempfile

import pytest

from gateway.errors import NotFound
from gateway.http.exchange import ClientExchange
from tests.support.raw_server import both_loops, raw_server, run


def test_a_bug_in_a_handler_is_a_500_with_an_id_and_not_the_end_of_the_process(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(exchange: ClientExchange) -> None:
        raise ZeroDivisionError("oops")

    async def story() -> None:
        async with raw_server(broken) as server:
            client = await server.connect()
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            status, fields, body = await client.answer()
            assert status == 500
            assert fields["x-request-id"].encode() in body
            assert b"oops" not in body

    run(story())
    assert "oops" in caplog.text


def test_an_answer_that_fails_half_way_is_cut_not_finished() -> None:
    async def half(exchange: ClientExchange) -> None:
        await exchange.start(200, (), length=None)
        await exchange.write(b"half")
        raise NotFound

    async def story() -> None:
        async with raw_server(half) as server:
            client = await server.connect()
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await client.head())[0] == 200
            assert not (await client.rest()).endswith(b"0\r\n\r\n")

    run(story())


@both_loops
@pytest.mark.parametrize("size", [0, 1, 100_000, 20_000_000])
def test_a_file_is_sent_whole(on_uvloop: bool, size: int) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"head" + b"x" * size)
        file.flush()

        async def send(exchange: ClientExchange) -> None:
            file.seek(4)
            await exchange.start(200, (), length=size)
            await exchange.send_file(file, size)
            await exchange.finish()

        async def story() -> None:
            async with raw_server(send) as server:
                client = await server.connect()
                for _ in range(2):
                    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                    assert (await client.answer())[2] == b"x" * size

        run(story(), on_uvloop=on_uvloop)


def test_a_file_that_is_shorter_than_said_cuts_the_connection() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"abc")
        file.flush()

        async def send(exchange: ClientExchange) -> None:
            file.seek(0)
            await exchange.start(200, (), length=10)
            await exchange.send_file(file, 10)

        async def story() -> None:
            async with raw_server(send) as server:
                client = await server.connect()
                await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                assert (await client.head())[0] == 200
                assert await client.rest() == b"abc"

        run(story())
