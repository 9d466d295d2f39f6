"""Owns the proof that the limit on connections holds, and that places are passed on whatever happens."""

import asyncio
from pathlib import Path

import pytest

from gateway.errors import CoreDown, UpstreamProtocol, UpstreamTimeout
from gateway.forward.pool import UpstreamPool
from gateway.http.head import Chunked
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


@both_loops
@pytest.mark.parametrize("breaks", [False, True])
def test_whoever_leaves_the_queue_in_the_moment_of_its_turn_passes_it_on(
    run: Runner, short_path: Path, breaks: bool
) -> None:
    async def main() -> None:
        async with ScriptedUpstream(answering(FINE, FINE), short_path / "s") as upstream:
            pool = UpstreamPool(upstream.origin, connections=1, connect_s=1)
            first = await pool.request(method="GET", target="/", head_s=5, idle_s=5)
            leaving, staying = (
                asyncio.create_task(pool.call("GET", "/", (), b"", timeout_s=5)) for _ in range(2)
            )
            await until(lambda: "queued=2" in repr(pool))
            if breaks:
                first.fail(UpstreamProtocol())  # the place is passed on
            else:
                await first.aclose()  # the connection is passed on
            leaving.cancel()
            assert (await soon(staying))[2] == b"fine"
            assert leaving.cancelled()
            assert repr(pool).endswith("open=1 idle=1 dialing=0 queued=0>")
            await pool.aclose()

    run(main())


@both_loops
def test_an_answer_that_ends_after_the_pool_was_closed_leaves_nothing_open(
    run: Runner, short_path: Path
) -> None:
    async def main() -> None:
        async with ScriptedUpstream(answering(FINE), short_path / "s") as upstream:
            pool = UpstreamPool(upstream.origin, connections=1, connect_s=1)
            response = await pool.request(method="GET", target="/", head_s=5, idle_s=5)
            await pool.aclose()
            await response.aclose()
            assert "open=0" in repr(pool)

    run(main())


@both_loops
def test_after_a_lower_limit_there_are_fewer_connections_however_many_wait(
    run: Runner, short_path: Path
) -> None:
    async def main() -> None:
        running = 0
        most = 0

        async def script(talk: Talk) -> None:
            nonlocal running, most
            while await talk.read_head():
                running += 1
                most = max(most, running)
                await asyncio.sleep(0.01)
                running -= 1
                await talk.say(FINE)

        async with (
            ScriptedUpstream(script, short_path / "s") as upstream,
            forwarding(upstream.origin, connections=8) as (handler, pool),
        ):
            handling = [asyncio.create_task(handler.handle(FakeExchange())) for _ in range(64)]
            await until(lambda: running == 8)
            pool.resize(connections=2, connect_s=1)
            await until(lambda: running <= 2)
            most = 0
            await soon(asyncio.gather(*handling))
            assert most == 2
            assert repr(pool).endswith("open=2 idle=2 dialing=0 queued=0>")
            pool.resize(connections=1, connect_s=1)
            assert repr(pool).endswith("open=1 idle=1 dialing=0 queued=0>")

    run(main())
