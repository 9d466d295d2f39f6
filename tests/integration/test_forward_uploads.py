"""Owns the proof that a request's body goes up whole and within limits, or is stopped as soon as it is refused."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from gateway.errors import BodyTooLarge
from gateway.http.head import Chunked, Sized
from tests.support.fake_exchange import FakeBody, FakeExchange, make_head
from tests.support.forwarding import RUNNERS, Runner, forwarding, limits_with, soon, until
from tests.support.scripted_upstream import ScriptedUpstream, Talk


def has_content(exchange: FakeExchange, size: int) -> bool:
    """The answer began, and this much of it came."""
    return exchange.is_started and len(exchange.content) == size


both_loops = pytest.mark.parametrize("run", RUNNERS)
OK = b"HTTP/1.1 200 OK\r\n"
BIG = bytes(range(256)) * 400  # 100 kB, and a misplaced byte shows


@both_loops
@pytest.mark.parametrize("is_chunked", [False, True])
def test_100_kb_go_up_and_come_back_unharmed(run: Runner, short_path: Path, is_chunked: bool) -> None:
    async def echo(talk: Talk) -> None:
        while head := await talk.read_head():
            if is_chunked:
                assert b"transfer-encoding: chunked" in head
                raw = await talk.read_chunked()
                await talk.say(OK + b"transfer-encoding: chunked\r\n\r\n" + raw)
            else:
                body = await talk.read(len(BIG))
                await talk.say(OK + b"content-length: %d\r\n\r\n" % len(BIG) + body)

    async def main() -> None:
        async with (
            ScriptedUpstream(echo, short_path / "s") as upstream,
            forwarding(upstream.origin) as (handler, _),
        ):
            for _ in range(2):
                framing = Chunked() if is_chunked else Sized(len(BIG))
                pieces = [BIG[:1], BIG[1:70_000], BIG[70_000:]]
                exchange = FakeExchange(
                    make_head("PUT", framing=framing),
                    body=FakeBody(pieces, trailers=[("x-sum", "1"), ("host", "x")]),
                )
                await soon(handler.handle(exchange))
                assert exchange.content == BIG
                assert exchange.finished
                assert exchange.trailers == ((("x-sum", "1"),) if is_chunked else ())
            assert upstream.connections == 1

    run(main())


@both_loops
def test_a_small_body_goes_up_with_its_head(run: Runner, short_path: Path) -> None:
    seen = []

    async def script(talk: Talk) -> None:
        seen.append(await talk.reader.read(65536))
        await talk.say(OK + b"content-length: 0\r\n\r\n")

    async def main() -> None:
        async with (
            ScriptedUpstream(script, short_path / "s") as upstream,
            forwarding(upstream.origin) as (handler, _),
        ):
            exchange = FakeExchange(make_head("POST", framing=Sized(4)), body=FakeBody([b"ab", b"cd"]))
            await soon(handler.handle(exchange))
            assert seen[0].endswith(b"\r\n\r\nabcd")
            assert b"content-length: 4\r\n" in seen[0]

    run(main())


@both_loops
def test_a_slow_upstream_slows_the_client(run: Runner, short_path: Path) -> None:
    pieces = [bytes(65536)] * 200

    async def main() -> None:
        go_on = asyncio.Event()

        async def script(talk: Talk) -> None:
            await talk.read_head()
            await go_on.wait()
            await talk.read(sum(map(len, pieces)))
            await talk.say(OK + b"content-length: 2\r\n\r\nok")

        async with (
            ScriptedUpstream(script, short_path / "s") as upstream,
            forwarding(upstream.origin) as (handler, _),
        ):
            body = FakeBody(pieces)
            exchange = FakeExchange(make_head("PUT", framing=Sized(sum(map(len, pieces)))), body=body)
            handling = asyncio.create_task(handler.handle(exchange))
            before = -1
            while before != body.received:
                before = body.received
                await asyncio.sleep(0.1)
            assert 0 < body.received < 4 * 1024 * 1024
            go_on.set()
            await soon(handling)
            assert exchange.content == b"ok"
            assert body.is_complete

    run(main())


@both_loops
@pytest.mark.parametrize("is_chunked", [False, True])
def test_an_early_refusal_arrives_and_stops_the_upload(
    run: Runner, short_path: Path, is_chunked: bool
) -> None:
    async def main() -> None:
        async def script(talk: Talk) -> None:
            await talk.read_head()
            await talk.say(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig")
            await talk.reader.read()  # until the gateway closes

        gate = asyncio.Semaphore(1)
        body = FakeBody([bytes(100_000)] * 100, gate=gate)
        framing = Chunked() if is_chunked else Sized(10_000_000)
        async with (
            ScriptedUpstream(script, short_path / "s") as upstream,
            forwarding(upstream.origin) as (handler, pool),
        ):
            exchange = FakeExchange(make_head("PUT", framing=framing), body=body)
            await soon(handler.handle(exchange))
            assert (exchange.status, exchange.content) == (413, b"big")
            assert exchange.finished
            assert body.received == 100_000
            assert "open=0" in repr(pool)  # the rest of the body would be taken for a request

    run(main())


@both_loops
@pytest.mark.parametrize("over_tcp", [False, True])
def test_an_early_refusal_arrives_although_the_upstream_closes_in_our_face(
    run: Runner, short_path: Path, over_tcp: bool
) -> None:
    async def main() -> None:
        async def script(talk: Talk) -> None:
            await talk.read_head()
            await talk.say(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig")
            talk.hang_up()

        async with (
            ScriptedUpstream(script, None if over_tcp else short_path / "s") as upstream,
            forwarding(upstream.origin) as (handler, _),
        ):
            for _ in range(20):
                body = FakeBody([bytes(200_000)] * 50)
                exchange = FakeExchange(make_head("PUT", framing=Sized(10_000_000)), body=body)
                await soon(handler.handle(exchange))
                assert (exchange.status, exchange.content) == (413, b"big")

    run(main())


@both_loops
def test_an_upstream_may_answer_while_it_reads(run: Runner, short_path: Path) -> None:
    async def main() -> None:
        async def script(talk: Talk) -> None:
            await talk.read_head()
            await talk.say(OK + b"transfer-encoding: chunked\r\n\r\n")
            for _ in range(3):
                await talk.read(100_000)
                await talk.say(b"3\r\ngot\r\n")
            await talk.say(b"0\r\n\r\n")

        gate = asyncio.Semaphore(0)
        body = FakeBody([bytes(100_000)] * 3, gate=gate)
        async with (
            ScriptedUpstream(script, short_path / "s") as upstream,
            forwarding(upstream.origin) as (handler, _),
        ):
            exchange = FakeExchange(make_head("PUT", framing=Sized(300_000)), body=body)
            handling = asyncio.create_task(handler.handle(exchange))
            for number in range(3):
                await until(partial(has_content, exchange, number * 3))
                gate.release()
            await soon(handling)
            assert exchange.content == b"gotgotgot"

    run(main())


@both_loops
def test_the_body_limit_holds_for_what_is_declared_and_for_what_comes(run: Runner, short_path: Path) -> None:
    async def script(talk: Talk) -> None:
        await talk.read_head()
        await talk.reader.read()

    async def main() -> None:
        async with (
            ScriptedUpstream(script, short_path / "s") as upstream,
            forwarding(upstream.origin, limits=limits_with(request_body_bytes=1000)) as (handler, _),
        ):
            declared = FakeExchange(make_head("PUT", framing=Sized(1001)), body=FakeBody([bytes(1001)]))
            with pytest.raises(BodyTooLarge, match="1000 bytes"):
                await soon(handler.handle(declared))
            assert upstream.connections == 0
            chunked = FakeExchange(
                make_head("PUT", framing=Chunked()), body=FakeBody([bytes(600), bytes(401)])
            )
            with pytest.raises(BodyTooLarge):
                await soon(handler.handle(chunked))
            assert not chunked.is_started

    run(main())


@both_loops
@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_of_just_the_limit_passes(run: Runner, short_path: Path, is_chunked: bool) -> None:
    async def script(talk: Talk) -> None:
        await talk.read_head()
        await (talk.read_chunked() if is_chunked else talk.read(1000))
        await talk.say(OK + b"content-length: 0\r\n\r\n")

    async def main() -> None:
        async with (
            ScriptedUpstream(script, short_path / "s") as upstream,
            forwarding(upstream.origin, limits=limits_with(request_body_bytes=1000)) as (handler, _),
        ):
            framing = Chunked() if is_chunked else Sized(1000)
            exchange = FakeExchange(
                make_head("PUT", framing=framing), body=FakeBody([bytes(500), bytes(500)])
            )
            await soon(handler.handle(exchange))
            assert exchange.status == 200

    run(main())


class BodyAfterTheEnd(FakeBody):
    """The next piece only comes when the upstream has answered and closed, and the loop had no turn to notice."""

    def __init__(self, upstream_closed: threading.Event) -> None:
        super().__init__()
        self._upstream_closed = upstream_closed

    async def chunks(self) -> AsyncIterator[bytes]:
        """One piece before the end, many after it."""
        yield b"a"
        await asyncio.sleep(0)
        assert self._upstream_closed.wait(10)
        for _ in range(99):
            yield bytes(100_000)
        await asyncio.Event().wait()


@both_loops
@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET])
def test_an_answer_is_saved_from_the_socket_when_our_write_fails_first(
    run: Runner, short_path: Path, family: socket.AddressFamily
) -> None:
    closed = threading.Event()
    address = str(short_path / "s") if family == socket.AF_UNIX else ("127.0.0.1", 0)

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            received = b""
            while not received.endswith(b"1\r\na\r\n"):
                received += connection.recv(65536)
            connection.sendall(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig")
        closed.set()

    async def main(origin: str) -> None:
        async with forwarding(origin) as (handler, _):
            exchange = FakeExchange(make_head("PUT", framing=Chunked()), body=BodyAfterTheEnd(closed))
            await soon(handler.handle(exchange))
            assert (exchange.status, exchange.content) == (413, b"big")

    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.bind(address)
        listener.listen()
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        run(
            main(
                f"unix:{address}"
                if family == socket.AF_UNIX
                else f"http://127.0.0.1:{listener.getsockname()[1]}"
            )
        )
        server.join()
