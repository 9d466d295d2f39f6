"""Owns the proof that a pool can be led elsewhere and back while it works, and be watched; and neither harms."""

import asyncio
from pathlib import Path

import pytest

from gateway.forward.origin import DialHold, Origin
from gateway.forward.outgoing import Body
from gateway.forward.pool import UpstreamPool
from gateway.http.head import Sized
from gateway.trace.events import Event, Sight
from gateway.trace.observers import HopObserver
from tests.support.fake_exchange import FakeBody, FakeExchange, make_head
from tests.support.forwarding import RUNNERS, FakeHealth, Runner, forwarding, soon, until
from tests.support.scripted_upstream import ScriptedUpstream, Talk

both_loops = pytest.mark.parametrize("run", RUNNERS)


class Says:
    """Answers every request of a connection with its word."""

    def __init__(self, word: bytes) -> None:
        self.word = word
        self.open = 0

    async def __call__(self, talk: Talk) -> None:
        self.open += 1
        while await talk.read_head():
            await talk.say(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(self.word), self.word))
        self.open -= 1


async def asked(pool: UpstreamPool) -> bytes:
    _, _, content = await soon(pool.call("GET", "/", (("host", "h"),), b"", timeout_s=5))
    return content


def origin_of(upstream: ScriptedUpstream) -> Origin:
    return Origin.parse(upstream.origin)


@both_loops
def test_requests_go_the_other_way_at_once_and_back_again(run: Runner, short_path: Path) -> None:
    own, other = Says(b"own"), Says(b"other")

    async def main() -> None:
        async with (
            ScriptedUpstream(own, short_path / "own") as upstream,
            ScriptedUpstream(other) as elsewhere,
            forwarding(upstream.origin) as (_, pool),
        ):
            assert await asked(pool) == b"own"
            pool.redirect(origin_of(elsewhere))
            assert await asked(pool) == b"other"
            await until(lambda: own.open == 0)  # the idle connection of before was closed
            pool.redirect(None)
            assert await asked(pool) == b"own"
            await until(lambda: other.open == 0)

    run(main())


@both_loops
def test_what_is_under_way_is_not_cut_and_its_connection_not_used_again(
    run: Runner, short_path: Path
) -> None:
    gate = asyncio.Event()
    used = []

    async def slow(talk: Talk) -> None:
        while await talk.read_head():
            used.append(talk.number)
            await talk.say(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst")
            await gate.wait()
            await talk.say(b" part")

    async def main() -> None:
        async with (
            ScriptedUpstream(slow, short_path / "own") as upstream,
            ScriptedUpstream(Says(b"other")) as elsewhere,
            forwarding(upstream.origin) as (handler, pool),
        ):
            exchange = FakeExchange()
            task = asyncio.create_task(handler.handle(exchange))
            await until(lambda: exchange.content == b"first")
            pool.redirect(origin_of(elsewhere))
            assert await asked(pool) == b"other"
            pool.redirect(None)
            gate.set()
            await soon(task)
            assert exchange.content == b"first part"
            await asked(pool)
            assert used == [1, 2]

    run(main())


@both_loops
def test_a_way_on_which_nobody_listens_does_not_look_as_if_the_upstream_were_down(
    run: Runner, short_path: Path
) -> None:
    async def main() -> None:
        health = FakeHealth()
        async with ScriptedUpstream(Says(b"gone")) as elsewhere:
            gone = origin_of(elsewhere)
        async with (
            ScriptedUpstream(Says(b"own"), short_path / "own") as upstream,
            forwarding(upstream.origin) as (_, pool),
        ):
            pool.redirect(gone)
            response = await soon(
                pool.request(
                    method="GET",
                    target="/",
                    fields=(("host", "h"),),
                    head_s=5,
                    idle_s=5,
                    hold=DialHold(seconds=0, health=health),
                )
            )
            async with response:
                assert b"".join([piece async for piece in response.chunks()]) == b"own"
            assert health.is_up

    run(main())


def watching(pool: UpstreamPool, events: list[Event], *, heads: bool = False) -> None:
    pool.observer = HopObserver("core", Sight(publish=events.append, wants_heads=lambda: heads))


@both_loops
def test_a_watched_exchange_is_told_of_once_with_its_sizes(run: Runner, short_path: Path) -> None:
    events: list[Event] = []

    async def script(talk: Talk) -> None:
        head = await talk.read_head()
        await talk.read(100_000 if b"POST" in head else 0)
        await talk.say(b"HTTP/1.1 201 Created\r\nset-cookie: session=abc\r\ncontent-length: 4\r\n\r\nfine")

    async def main() -> None:
        async with (
            ScriptedUpstream(script, short_path / "own") as upstream,
            forwarding(upstream.origin) as (handler, pool),
        ):
            watching(pool, events, heads=True)
            head = make_head("POST", "/x?token=abc", ("authorization", "Bearer abc"), framing=Sized(100_000))
            await soon(handler.handle(FakeExchange(head, body=FakeBody([b"x" * 50_000] * 2))))
            pool.observer = None
            await soon(handler.handle(FakeExchange()))

    run(main())
    [event] = events
    assert (event["hop"], event["method"], event["target"]) == ("core", "POST", "/x?token=***")
    assert (event["status"], event["bytes_out"], event["bytes_in"], event["error"]) == (201, 100_000, 4, "")
    assert 0 <= event["head_s"] <= event["seconds"]
    assert ("authorization", "Bearer ***") in event["request_head"]
    assert ("set-cookie", "session=***") in event["answer_head"]


@both_loops
def test_an_exchange_without_an_answer_or_with_half_of_one_says_so(run: Runner, short_path: Path) -> None:
    events: list[Event] = []

    async def half(talk: Talk) -> None:
        await talk.read_head()
        await talk.say(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")

    async def main() -> None:
        async with (
            ScriptedUpstream(half, short_path / "own") as upstream,
            forwarding(upstream.origin) as (handler, pool),
        ):
            watching(pool, events)
            with pytest.raises(Exception, match="upstream"):
                await soon(handler.handle(FakeExchange()))
        async with forwarding(f"unix:{short_path}/nobody") as (handler, pool):
            watching(pool, events)
            with pytest.raises(Exception, match="connect"):
                await soon(
                    handler.handle(FakeExchange(make_head("POST", framing=Sized(1)), body=FakeBody([b"a"])))
                )

    run(main())
    cut, refused = events
    assert (cut["status"], cut["bytes_in"], cut["error"]) == (200, 4, "cut")
    assert (refused["status"], refused["head_s"], refused["error"]) == (0, None, "core_down")


@both_loops
def test_a_streamed_body_is_passed_on_unchanged_while_it_is_counted(run: Runner, short_path: Path) -> None:
    got = []
    events: list[Event] = []

    async def script(talk: Talk) -> None:
        await talk.read_head()
        got.append(await talk.read_chunked())
        await talk.say(b"HTTP/1.1 204 No Content\r\n\r\n")

    async def main() -> None:
        async with (
            ScriptedUpstream(script, short_path / "own") as upstream,
            forwarding(upstream.origin) as (_, pool),
        ):
            watching(pool, events)
            body = FakeBody([b"abc", b"de"])
            request = Body(chunks=body.chunks(), is_chunked=True, trailers=lambda: (("x-t", "1"),))
            response = await soon(
                pool.request(
                    method="PUT", target="/", fields=(("host", "h"),), body=request, head_s=5, idle_s=5
                )
            )
            await response.aclose()

    run(main())
    assert got == [b"3\r\nabc\r\n2\r\nde\r\n0\r\nx-t: 1\r\n\r\n"]
    assert events[0]["bytes_out"] == 5
