"""Owns the proof that connections are reused, and given up, without harm to the next request."""

import asyncio
from pathlib import Path

import pytest

from gateway.errors import CoreDown, UpstreamProtocol, UpstreamTimeout
from gateway.forward.outgoing import Body
from gateway.forward.pool import UpstreamPool
from gateway.http.head import Chunked, Sized
from tests.support.fake_exchange import FakeBody, FakeExchange, make_head
from tests.support.forwarding import RUNNERS, Runner, forwarding, soon, until
from tests.support.scripted_upstream import ScriptedUpstream, Talk, answering

both_loops = pytest.mark.parametrize("run", RUNNERS)
OK = b"HTTP/1.1 200 OK\r\n"
FINE = OK + b"content-length: 4\r\n\r\nfine"


async def silent(talk: Talk) -> None:
    """Reads and never answers."""
    await talk.reader.read()


@both_loops
@pytest.mark.parametrize("over_tcp", [False, True])
def test_a_first_use_that_ends_without_an_answer_is_not_repeated(
    run: Runner, short_path: Path, over_tcp: bool
) -> None:
    heads = []

    async def script(talk: Talk) -> None:
        if head := await talk.read_head():
            heads.append(head)

    async def main() -> None:
        async with (
            ScriptedUpstream(script, None if over_tcp else short_path / "s") as upstream,
            forwarding(upstream.origin) as (handler, _),
        ):
            with pytest.raises(UpstreamProtocol, match="without an answer"):
                await soon(handler.handle(FakeExchange()))
            assert len(heads) == 1

    run(main())


@both_loops
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_connection_that_closed_while_idle_is_not_used(run: Runner, short_path: Path, method: str) -> None:
    async def script(talk: Talk) -> None:
        await talk.read_head()
        await talk.say(FINE)

    async def main() -> None:
        async with (
            ScriptedUpstream(script, short_path / "s") as upstream,
            forwarding(upstream.origin) as (handler, pool),
        ):
            for number in range(5):
                exchange = FakeExchange(make_head(method, framing=Sized(1)), body=FakeBody([b"a"]))
                await soon(handler.handle(exchange))
                assert exchange.content == b"fine"
                assert upstream.connections == number + 1
                await until(lambda: "idle=0" in repr(pool))

    run(main())


@both_loops
@pytest.mark.parametrize("over_tcp", [False, True])
@pytest.mark.parametrize(("method", "repeats"), [("GET", True), ("DELETE", True), ("POST", False)])
def test_the_race_of_reuse_repeats_only_what_may_be_repeated(
    run: Runner, short_path: Path, method: str, repeats: bool, over_tcp: bool
) -> None:
    async def script(talk: Talk) -> None:
        await talk.read_head()
        await talk.say(FINE)
        if talk.number == 1:
            await talk.read_head()  # a second request is taken, then dropped

        else:
            await silent(talk)

    async def main() -> None:
        async with (
            ScriptedUpstream(script, None if over_tcp else short_path / "s") as upstream,
            forwarding(upstream.origin) as (handler, _),
        ):
            await soon(handler.handle(FakeExchange()))
            exchange = FakeExchange(make_head(method))
            if repeats:
                await soon(handler.handle(exchange))
                assert exchange.content == b"fine"
                assert upstream.connections == 2
            else:
                with pytest.raises(UpstreamProtocol):
                    await soon(handler.handle(exchange))

    run(main())


@both_loops
def test_a_streamed_body_is_never_sent_twice(run: Runner, short_path: Path) -> None:
    async def script(talk: Talk) -> None:
        await talk.read_head()
        await talk.say(FINE)
        await talk.read_head()

    async def main() -> None:
        async with (
            ScriptedUpstream(script, short_path / "s") as upstream,
            forwarding(upstream.origin) as (handler, _),
        ):
            await soon(handler.handle(FakeExchange()))
            exchange = FakeExchange(make_head("PUT", framing=Chunked()), body=FakeBody([b"a"]))
            with pytest.raises(UpstreamProtocol):
                await soon(handler.handle(exchange))

    run(main())


@both_loops
def test_a_client_that_is_gone_does_not_harm_the_next_user_of_its_connection(
    run: Runner, short_path: Path
) -> None:
    async def main() -> None:
        async with (
            ScriptedUpstream(answering(FINE, FINE), short_path / "s") as upstream,
            forwarding(upstream.origin) as (handler, _),
        ):
            first, second = FakeExchange(), FakeExchange()
            await soon(handler.handle(first))
            handling = asyncio.create_task(handler.handle(second))
            await asyncio.sleep(0)
            first.leave()
            await soon(handling)
            assert second.content == b"fine"
            assert upstream.connections == 1

    run(main())


@both_loops
def test_bytes_that_nobody_asked_for_end_an_idle_connection(run: Runner, short_path: Path) -> None:
    async def script(talk: Talk) -> None:
        await talk.read_head()
        await talk.say(FINE)
        if talk.number == 1:
            await asyncio.sleep(0.02)
            await talk.say(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")
        await talk.reader.read()

    async def main() -> None:
        async with (
            ScriptedUpstream(script, short_path / "s") as upstream,
            forwarding(upstream.origin) as (handler, pool),
        ):
            await soon(handler.handle(FakeExchange()))
            await until(lambda: "open=0" in repr(pool))
            exchange = FakeExchange()
            await soon(handler.handle(exchange))
            assert exchange.content == b"fine"

    run(main())


@both_loops
def test_idle_connections_are_reaped(run: Runner, short_path: Path) -> None:
    async def main() -> None:
        async with ScriptedUpstream(answering(FINE, FINE), short_path / "s") as upstream:
            pool = UpstreamPool(upstream.origin, connections=2, connect_s=1, idle_keep_s=0.1)
            for _ in range(2):
                assert (await pool.call("GET", "/", (), b"", timeout_s=5))[2] == b"fine"
            assert "idle=1" in repr(pool)
            await until(lambda: "open=0" in repr(pool))
            await pool.aclose()

    run(main())


@both_loops
def test_a_call_of_our_own_is_bounded_in_time_and_size(run: Runner, short_path: Path) -> None:
    async def script(talk: Talk) -> None:
        head = await talk.read_head()
        if b"/big" in head:
            await talk.say(OK + b"content-length: 100\r\n\r\n" + bytes(50))
            await talk.say(bytes(50))
            return
        if b"/fine" in head:
            assert b"content-length: 2\r\n" in head
            assert await talk.read(2) == b"{}"
            await talk.say(FINE)
            return
        await talk.say(OK + b"content-length: 1000\r\n\r\n")
        while True:  # trickle
            await talk.say(b"a")
            await asyncio.sleep(0.01)

    async def main() -> None:
        async with ScriptedUpstream(script, short_path / "s") as upstream:
            pool = UpstreamPool(upstream.origin, connections=2, connect_s=1)
            fields = (("x-a", "1"),)
            status, got, content = await pool.call("POST", "/fine", fields, b"{}", timeout_s=5)
            assert (status, got, content) == (200, (("content-length", "4"),), b"fine")
            with pytest.raises(UpstreamProtocol, match="more than 10 bytes"):
                await pool.call("GET", "/big", (), b"", timeout_s=5, limit=10)
            with pytest.raises(UpstreamTimeout):
                await pool.call("GET", "/trickle", (), b"", timeout_s=0.2)
            await pool.aclose()
            with pytest.raises(CoreDown):
                await pool.call("GET", "/fine", (), b"{}", timeout_s=5)

    run(main())


@both_loops
def test_an_answer_that_nobody_reads_does_not_cost_its_connection(run: Runner, short_path: Path) -> None:
    async def main() -> None:
        async with ScriptedUpstream(answering(FINE, FINE), short_path / "s") as upstream:
            pool = UpstreamPool(upstream.origin, connections=1, connect_s=1)
            for _ in range(2):
                async with await pool.request(method="GET", target="/", head_s=5, idle_s=5) as response:
                    assert response.status == 200
            assert upstream.connections == 1
            await pool.aclose()

    run(main())


@both_loops
def test_a_streamed_body_of_our_own(run: Runner, short_path: Path) -> None:
    async def script(talk: Talk) -> None:
        assert b"transfer-encoding: chunked" in await talk.read_head()
        assert await talk.read_chunked() == b"2\r\nab\r\n0\r\n\r\n"
        await talk.say(FINE)

    async def main() -> None:
        async with ScriptedUpstream(script, short_path / "s") as upstream:
            pool = UpstreamPool(upstream.origin, connections=1, connect_s=1)
            body = Body(chunks=FakeBody([b"", b"ab"]).chunks(), is_chunked=True)
            async with await pool.request(
                method="PUT", target="/", body=body, head_s=5, idle_s=5
            ) as response:
                assert [piece async for piece in response.chunks()] == [b"fine"]
            with pytest.raises(UpstreamProtocol, match="closed"):
                _ = response.tunnel
            await pool.aclose()

    run(main())
