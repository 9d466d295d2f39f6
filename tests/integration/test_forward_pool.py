"""Owns the proof that connections are shared, reused and given up without harm to the next request."""

import asyncio
from pathlib import Path

import pytest

from gateway.errors import CoreDown, UpstreamProtocol, UpstreamTimeout
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
def test_when_all_connections_are_busy_requests_queue(run: Runner, short_path: Path) -> None:
    async def main() -> None:
        go_on = asyncio.Semaphore(0)
        running = 0
        most = 0

        async def script(talk: Talk) -> None:
            nonlocal running, most
            while await talk.read_head():
                running += 1
                most = max(most, running)
                await go_on.acquire()
                running -= 1
                await talk.say(FINE)

        async with (
            ScriptedUpstream(script, short_path / "s") as upstream,
            forwarding(upstream.origin, connections=3) as (handler, pool),
        ):
            exchanges = [FakeExchange() for _ in range(10)]
            handling = [asyncio.create_task(handler.handle(exchange)) for exchange in exchanges]
            await until(lambda: running == 3)
            assert repr(pool).endswith("open=3 idle=0 dialing=0 queued=7>")
            handling[5].cancel()
            await asyncio.gather(handling[5], return_exceptions=True)
            for _ in range(9):
                go_on.release()
            await soon(asyncio.gather(*handling[:5], *handling[6:]))
            assert most == 3
            assert upstream.connections == 3
            assert repr(pool).endswith("open=3 idle=3 dialing=0 queued=0>")

    run(main())


@both_loops
def test_the_queue_has_a_deadline(run: Runner, short_path: Path) -> None:
    async def main() -> None:
        async with ScriptedUpstream(silent, short_path / "s") as upstream:
            pool = UpstreamPool(upstream.origin, connections=1, connect_s=1)
            first = asyncio.create_task(pool.request(method="GET", target="/", head_s=60, idle_s=1))
            await until(lambda: upstream.connections == 1)
            with pytest.raises(UpstreamTimeout, match="busy"):
                await pool.request(method="GET", target="/", head_s=0.05, idle_s=1)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            assert repr(pool).endswith("open=0 idle=0 dialing=0 queued=0>")
            await pool.aclose()

    run(main())


@both_loops
def test_a_broken_connection_makes_room_for_the_queue(run: Runner, short_path: Path) -> None:
    async def script(talk: Talk) -> None:
        await talk.read_head()
        await talk.say(FINE if talk.number > 1 else b"garbage")

    async def main() -> None:
        async with (
            ScriptedUpstream(script, short_path / "s") as upstream,
            forwarding(upstream.origin, connections=1) as (handler, _),
        ):
            exchanges = [FakeExchange() for _ in range(5)]
            ends = await soon(asyncio.gather(*map(handler.handle, exchanges), return_exceptions=True))
            assert [type(end) for end in ends] == [UpstreamProtocol, *[type(None)] * 4]

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
def test_a_request_may_be_cancelled_at_every_moment(run: Runner, short_path: Path) -> None:
    async def script(talk: Talk) -> None:
        while head := await talk.read_head():
            if b"chunked" in head:
                await talk.read_chunked()
            await asyncio.sleep(0)
            await talk.say(OK + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n")
            await asyncio.sleep(0)
            await talk.say(b"0\r\n\r\n")

    async def main() -> None:
        async with (
            ScriptedUpstream(script, short_path / "s") as upstream,
            forwarding(upstream.origin, connections=1) as (handler, pool),
        ):
            for turns in range(60):
                exchange = FakeExchange(make_head("POST", framing=Chunked()), body=FakeBody([b"a", b"b"]))
                handling = asyncio.create_task(handler.handle(exchange))
                for _ in range(turns):
                    await asyncio.sleep(0)
                handling.cancel()
                await asyncio.gather(handling, return_exceptions=True)
                after = FakeExchange()
                await soon(handler.handle(after))
                assert after.content == b"a"
                assert repr(pool).endswith("open=1 idle=1 dialing=0 queued=0>")

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
def test_closing_the_pool_ends_what_is_under_way(run: Runner, short_path: Path) -> None:
    async def main() -> None:
        async with ScriptedUpstream(silent, short_path / "s") as upstream:
            pool = UpstreamPool(upstream.origin, connections=1, connect_s=1)
            calls = [asyncio.create_task(pool.call("GET", "/", (), b"", timeout_s=60)) for _ in range(2)]
            await until(lambda: "queued=1" in repr(pool) and "open=1" in repr(pool))
            await pool.aclose()
            ends = await soon(asyncio.gather(*calls, return_exceptions=True))
            assert [type(end) for end in ends] == [CoreDown] * 2

    run(main())
