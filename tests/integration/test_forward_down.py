"""Owns the proof that an upstream that is down, hung or restarting is waited for, briefly, and then given up."""

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest

from gateway.errors import CoreDown
from gateway.forward.origin import DialHold
from gateway.forward.pool import UpstreamPool
from gateway.http.head import Chunked, Sized
from tests.support.fake_exchange import FakeBody, FakeExchange, make_head
from tests.support.forwarding import RUNNERS, FakeHealth, Runner, core_with, forwarding, soon, until
from tests.support.scripted_upstream import ScriptedUpstream, Talk, answering

both_loops = pytest.mark.parametrize("run", RUNNERS)
OK = b"HTTP/1.1 200 OK\r\n"
FINE = OK + b"content-length: 4\r\n\r\nfine"


async def silent(talk: Talk) -> None:
    """Reads and never answers."""
    await talk.reader.read()


@both_loops
def test_nobody_listens(run: Runner, short_path: Path) -> None:
    async def main() -> None:
        (short_path / "file").touch()
        for origin in (f"unix:{short_path}/none", f"unix:{short_path}/file", "http://127.0.0.1:1"):
            async with forwarding(origin) as (handler, _):
                for method in ("GET", "POST"):
                    exchange = FakeExchange(make_head(method))
                    with pytest.raises(CoreDown, match="cannot connect"):
                        await soon(handler.handle(exchange))
                    assert not exchange.is_started

    run(main())


@both_loops
def test_a_dial_is_held_while_the_upstream_restarts(run: Runner, short_path: Path) -> None:
    async def main() -> None:
        core = core_with(url="unix:/x", hold_s=60)
        async with forwarding(f"unix:{short_path}/s", core=core) as (handler, _):
            exchange = FakeExchange(make_head("POST", framing=Sized(2)), body=FakeBody([b"ab"]))
            handling = asyncio.create_task(handler.handle(exchange))
            await asyncio.sleep(0.1)
            assert not handling.done()
            async with ScriptedUpstream(answering(FINE), short_path / "s"):
                await soon(handling)
                assert exchange.content == b"fine"

    run(main())


@both_loops
def test_who_comes_late_in_an_outage_is_not_held_again(run: Runner, short_path: Path) -> None:
    async def main() -> None:
        pool = UpstreamPool(f"unix:{short_path}/s", connections=2, connect_s=1)
        hold = DialHold(seconds=0.3)
        loop = asyncio.get_running_loop()
        started = loop.time()
        with pytest.raises(CoreDown):
            await pool.request(method="GET", target="/", head_s=5, idle_s=5, hold=hold)
        assert loop.time() - started > 0.29  # uvloop's clock counts whole milliseconds
        dials = 0
        while loop.time() - started < 3 and dials < 20:
            dials += 1
            with pytest.raises(CoreDown):
                await pool.request(method="GET", target="/", head_s=5, idle_s=5, hold=hold)
        assert dials == 20  # held again, each would take 0.3 s
        await pool.aclose()

    run(main())


@both_loops
def test_health_hears_of_a_refusal_and_its_word_ends_the_hold(run: Runner, short_path: Path) -> None:
    async def main() -> None:
        health = FakeHealth(hold_s=60)
        async with forwarding(f"unix:{short_path}/s", health=health) as (handler, _):
            exchange = FakeExchange()
            handling = asyncio.create_task(handler.handle(exchange))
            await until(lambda: health.noted == ["refused"])
            async with ScriptedUpstream(answering(FINE), short_path / "s"):
                health.come_up()
                await soon(handling)
            assert exchange.content == b"fine"
            assert health.noted[-1] == "alive"

    run(main())


@both_loops
def test_while_health_says_down_nobody_is_asked(run: Runner, short_path: Path) -> None:
    async def main() -> None:
        health = FakeHealth(is_up=False, hold_s=0)
        async with (
            ScriptedUpstream(answering(FINE), short_path / "s") as upstream,
            forwarding(upstream.origin, health=health) as (handler, _),
        ):
            with pytest.raises(CoreDown):
                await soon(handler.handle(FakeExchange()))
            health.hold_s = 0.01
            with pytest.raises(CoreDown):
                await soon(handler.handle(FakeExchange()))
            assert upstream.connections == 0

    run(main())


@both_loops
def test_a_hung_upstream_is_given_up_when_it_is_declared_down(run: Runner, short_path: Path) -> None:
    async def main() -> None:
        for _ in range(2):  # each recovery has a new future
            health = FakeHealth()
            async with (
                ScriptedUpstream(silent, short_path / "s") as upstream,
                forwarding(upstream.origin, connections=2, health=health) as (handler, pool),
            ):
                upload = FakeExchange(
                    make_head("PUT", framing=Chunked()), body=FakeBody([b"a"] * 9, gate=asyncio.Semaphore(1))
                )
                waiting = [FakeExchange(), upload, FakeExchange()]
                handling = [asyncio.create_task(handler.handle(exchange)) for exchange in waiting]
                await until(lambda pool=pool: "open=2" in repr(pool) and "queued=1" in repr(pool))  # type: ignore[misc]
                health.go_down()
                ends = await soon(asyncio.gather(*handling, return_exceptions=True))
                assert [type(end) for end in ends] == [CoreDown] * 3
                assert not any(exchange.is_started for exchange in waiting)
                assert "open=0" in repr(pool)

    run(main())


@both_loops
def test_a_hung_upstream_that_still_accepts_is_found_out_after_the_dial(
    run: Runner, short_path: Path
) -> None:
    async def main() -> None:
        health = FakeHealth()
        async with ScriptedUpstream(silent, short_path / "s") as upstream:
            pool = UpstreamPool(upstream.origin, connections=2, connect_s=1)
            health.go_down()
            with pytest.raises(CoreDown, match="not healthy"):
                await pool.request(
                    method="GET", target="/", head_s=5, idle_s=5, hold=DialHold(seconds=0, health=health)
                )
            await pool.aclose()

    run(main())


@both_loops
def test_an_upstream_that_died_under_a_request_is_down_rather_than_wrong(
    run: Runner, short_path: Path
) -> None:
    async def script(talk: Talk) -> None:
        await talk.read_head()
        (short_path / "s").unlink()

    async def main() -> None:
        async with (
            ScriptedUpstream(script, short_path / "s") as upstream,
            forwarding(upstream.origin) as (handler, _),
        ):
            with pytest.raises(CoreDown):
                await soon(handler.handle(FakeExchange()))
            (short_path / "s").touch()

    run(main())


@both_loops
def test_a_hung_upstream_whose_backlog_is_full_is_down(run: Runner, short_path: Path) -> None:
    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(short_path / "s"))
            listener.listen(0)
            listener.setblocking(False)
            waiting = []
            with contextlib.suppress(BlockingIOError):
                while True:
                    waiting.append(socket.socket(socket.AF_UNIX))
                    waiting[-1].setblocking(False)
                    waiting[-1].connect(str(short_path / "s"))
            health = FakeHealth()
            async with forwarding(f"unix:{short_path}/s", health=health) as (handler, _):
                with pytest.raises(CoreDown):
                    await soon(handler.handle(FakeExchange()))
            assert health.noted
            assert set(health.noted) == {"failed"}
            for connection in waiting:
                connection.close()

    run(main())
