"""Answers as they leave: whole, or visibly cut."""

import asyncio
import socket
import struct
import tempfile

import pytest

from gateway.errors import ClientGone, NotFound, StoreCorrupt
from gateway.http.exchange import ClientExchange
from gateway.http.reply import Reply
from gateway.settings import Limits
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

        errors: list[object] = []

        async def story() -> None:
            async with raw_server(send, finished=lambda exchange: errors.append(exchange.error)) as server:
                client = await server.connect()
                await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                assert (await client.head())[0] == 200
                assert await client.rest() == b"abc"

        run(story())
    # The client is not to blame: an administrator must hear of it.
    assert [type(error) for error in errors] == [StoreCorrupt]


@both_loops
def test_a_file_for_a_client_that_left_goes_to_nobody_else(on_uvloop: bool) -> None:
    """Its descriptor's number may be the next client's."""
    with tempfile.TemporaryFile() as file:
        file.write(b"secret")
        file.flush()

        async def story() -> None:
            next_is_there, ended = asyncio.Event(), asyncio.Event()
            outcome: list[BaseException | None] = []

            async def send(exchange: ClientExchange) -> None:
                if exchange.head.path == "/next":
                    next_is_there.set()
                    await ended.wait()
                    await exchange.reply(Reply(status=204))
                    return
                await exchange.start(200, (), length=6)
                await exchange.closed
                await next_is_there.wait()
                file.seek(0)
                try:
                    await exchange.send_file(file, 6)
                    outcome.append(None)
                except BaseException as error:
                    outcome.append(error)
                    raise
                finally:
                    ended.set()

            async with raw_server(send) as server:
                client = await server.connect()
                await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                await client.head()
                resets = struct.pack("ii", 1, 0)
                client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, resets)
                client.close()
                later = [await server.connect() for _ in range(4)]
                for other in later:
                    await other.send(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
                for other in later:
                    assert (await other.head())[0] == 204
                assert [type(error) for error in outcome] == [ClientGone]

        run(story(), on_uvloop=on_uvloop)


@both_loops
def test_a_client_that_takes_nothing_of_a_file_is_cut(on_uvloop: bool) -> None:
    with tempfile.TemporaryFile() as file:
        file.truncate(100_000_000)

        async def send(exchange: ClientExchange) -> None:
            await exchange.start(200, (), length=100_000_000)
            await exchange.send_file(file, 100_000_000)

        async def story() -> None:
            over: asyncio.Future[ClientExchange] = asyncio.get_running_loop().create_future()
            limits = Limits(write_stall_s=0.3)
            async with raw_server(send, limits=limits, finished=over.set_result) as server:
                client = await server.connect()
                client.writer.transport.pause_reading()  # type: ignore[attr-defined]
                await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                async with asyncio.timeout(20):
                    exchange = await over
                assert isinstance(exchange.error, ClientGone)
                assert not server.context.connections

        run(story(), on_uvloop=on_uvloop)
