"""Owns the proof that an answer arrives whole, at once, and no faster than it is taken."""

import asyncio
from pathlib import Path

import pytest

from gateway.errors import MethodNotAllowed
from tests.support.fake_exchange import FakeExchange, make_head
from tests.support.forwarding import RUNNERS, Runner, forwarding, soon, until
from tests.support.scripted_upstream import ScriptedUpstream, Talk, answering

both_loops = pytest.mark.parametrize("run", RUNNERS)
OK = b"HTTP/1.1 200 OK\r\n"
BIG = bytes(range(256)) * 400  # 100 kB, and a misplaced byte shows


@both_loops
def test_keep_alive_connections_are_used_again_for_all_kinds_of_answers(
    run: Runner, short_path: Path
) -> None:
    answers = (
        OK + b"content-length: 5\r\nx-a: 1\r\n\r\nhello",
        OK + b"transfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n",
        OK + b"content-length: 0\r\n\r\n",
        b"HTTP/1.1 500 Oops\r\ncontent-length: 4\r\n\r\noops",
    )

    async def main() -> None:
        async with (
            ScriptedUpstream(answering(*answers), short_path / "s") as upstream,
            forwarding(upstream.origin) as (handler, _),
        ):
            got = []
            for _ in answers:
                exchange = FakeExchange()
                await soon(handler.handle(exchange))
                assert exchange.finished
                got.append((exchange.status, exchange.content))
            assert got == [
                (200, b"hello"),
                (200, b"hello"),
                (204, b""),
                (304, b""),
                (200, b""),
                (500, b"oops"),
            ]
            assert upstream.connections == 1

    run(main())


@both_loops
def test_over_tcp_it_is_the_same(run: Runner) -> None:
    async def main() -> None:
        answer = OK + b"content-length: 2\r\n\r\nok"
        async with (
            ScriptedUpstream(answering(answer, answer)) as upstream,
            forwarding(upstream.origin) as (handler, _),
        ):
            for _ in range(2):
                exchange = FakeExchange()
                await soon(handler.handle(exchange))
                assert exchange.content == b"ok"
            assert upstream.connections == 1

    run(main())


@both_loops
def test_head_says_the_length_and_sends_nothing(run: Runner, short_path: Path) -> None:
    async def main() -> None:
        answers = (OK + b"content-length: 77\r\n\r\n", OK + b"content-length: 3\r\n\r\nabc")
        async with (
            ScriptedUpstream(answering(*answers), short_path / "s") as upstream,
            forwarding(upstream.origin) as (handler, _),
        ):
            exchange = FakeExchange(make_head("HEAD"))
            await soon(handler.handle(exchange))
            assert (exchange.status, exchange.length, exchange.content) == (200, 77, b"")
            assert exchange.finished
            after = FakeExchange()
            await soon(handler.handle(after))
            assert after.content == b"abc"
            assert upstream.connections == 1

    run(main())


@both_loops
def test_events_pass_through_at_once(run: Runner, short_path: Path) -> None:
    async def main() -> None:
        next_event = asyncio.Semaphore(0)

        async def script(talk: Talk) -> None:
            await talk.read_head()
            await talk.say(OK + b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            for number in range(3):
                await next_event.acquire()
                await talk.say(b"9\r\ndata: %d\n\n\r\n" % number)
            await talk.say(b"0\r\n\r\n")

        async with (
            ScriptedUpstream(script, short_path / "s") as upstream,
            forwarding(upstream.origin) as (handler, _),
        ):
            exchange = FakeExchange()
            handling = asyncio.create_task(handler.handle(exchange))
            await until(lambda: exchange.is_started)
            assert exchange.writes == []
            for number in range(3):
                next_event.release()
                await until(lambda expected=number + 1: len(exchange.writes) == expected)  # type: ignore[misc]
            await soon(handling)
            assert exchange.content == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"

    run(main())


@both_loops
def test_a_slow_client_slows_the_upstream(run: Runner, short_path: Path) -> None:
    total = 64 * 1024 * 1024

    async def main() -> None:
        sent = 0

        async def script(talk: Talk) -> None:
            nonlocal sent
            await talk.read_head()
            await talk.say(OK + b"content-length: %d\r\n\r\n" % total)
            for _ in range(total // 65536):
                await talk.say(bytes(65536))
                sent += 65536

        async with (
            ScriptedUpstream(script, short_path / "s") as upstream,
            forwarding(upstream.origin) as (handler, _),
        ):
            room = asyncio.Semaphore(0)
            exchange = FakeExchange(room=room)
            handling = asyncio.create_task(handler.handle(exchange))
            await until(lambda: sent > 0)
            before = -1
            while before != sent:  # until nothing moves any more
                before = sent
                await asyncio.sleep(0.1)
            assert sent < 8 * 1024 * 1024
            handling.cancel()
            await asyncio.gather(handling, return_exceptions=True)

    run(main())


@both_loops
def test_an_early_hint_is_passed_on_and_100_is_not(run: Runner, short_path: Path) -> None:
    answer = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\nserver: x\r\n\r\n"
        + OK
        + b"content-length: 1\r\n\r\na"
    )

    async def main() -> None:
        async with (
            ScriptedUpstream(answering(*[answer] * 2), short_path / "s") as upstream,
            forwarding(upstream.origin) as (handler, _),
        ):
            exchange = FakeExchange()
            await soon(handler.handle(exchange))
            assert exchange.informed == [(103, (("link", "</a>"),))]
            assert exchange.content == b"a"
            old = FakeExchange(make_head(minor=0))
            await soon(handler.handle(old))
            assert old.informed == []

    run(main())


@both_loops
def test_an_answer_without_framing_ends_with_the_connection(run: Runner, short_path: Path) -> None:
    async def main() -> None:
        async with (
            ScriptedUpstream(answering(b"HTTP/1.0 200 OK\r\n\r\nhello"), short_path / "s") as upstream,
            forwarding(upstream.origin) as (handler, pool),
        ):
            exchange = FakeExchange()
            handling = asyncio.create_task(handler.handle(exchange))
            await until(lambda: exchange.content == b"hello")
            assert exchange.length is None
            handling.cancel()
            await asyncio.gather(handling, return_exceptions=True)
            assert "open=0" in repr(pool)

    run(main())


@both_loops
def test_trace_would_show_what_the_gateway_adds_and_is_refused(run: Runner, short_path: Path) -> None:
    async def main() -> None:
        async with forwarding(f"unix:{short_path}/none") as (handler, _):
            with pytest.raises(MethodNotAllowed, match="TRACE"):
                await soon(handler.handle(FakeExchange(make_head("TRACE"))))

    run(main())


@both_loops
def test_a_paused_upstream_goes_on_when_the_client_does(run: Runner, short_path: Path) -> None:
    total = 8 * 1024 * 1024

    async def main() -> None:
        async def script(talk: Talk) -> None:
            await talk.read_head()
            await talk.say(OK + b"content-length: %d\r\n\r\n" % total + bytes(total))
            await silent(talk)

        async def silent(talk: Talk) -> None:
            await talk.reader.read()

        async with (
            ScriptedUpstream(script, short_path / "s") as upstream,
            forwarding(upstream.origin) as (handler, pool),
        ):
            room = asyncio.Semaphore(0)
            exchange = FakeExchange(room=room)
            handling = asyncio.create_task(handler.handle(exchange))
            await until(lambda: exchange.is_started)
            while not handling.done():
                await asyncio.sleep(0.002)  # the client takes one piece at a time
                room.release()
            await soon(handling)
            assert len(exchange.content) == total
            assert exchange.finished
            assert repr(pool).endswith("open=1 idle=1 dialing=0 queued=0>")

    run(main())


@both_loops
def test_a_small_answer_whose_content_follows_at_once_is_sent_in_one_piece(
    run: Runner, short_path: Path
) -> None:
    async def main() -> None:
        async def script(talk: Talk) -> None:
            while await talk.read_head():
                for piece in (OK + b"content-length: 6\r\n\r\n", b"abc", b"def"):
                    await talk.say(piece)
                    for _ in range(5):  # turns of the loop, so that each piece is read alone
                        await asyncio.sleep(0)

        async with (
            ScriptedUpstream(script, short_path / "s") as upstream,
            forwarding(upstream.origin) as (handler, _),
        ):
            for _ in range(20):
                exchange = FakeExchange()
                await soon(handler.handle(exchange))
                assert exchange.content == b"abcdef"

    run(main())


@both_loops
def test_a_small_answer_whose_content_tarries_begins_without_it(run: Runner, short_path: Path) -> None:
    async def main() -> None:
        go_on = asyncio.Event()

        async def script(talk: Talk) -> None:
            await talk.read_head()
            await talk.say(OK + b"content-length: 6\r\n\r\nabc")
            await go_on.wait()
            await talk.say(b"def")

        async with (
            ScriptedUpstream(script, short_path / "s") as upstream,
            forwarding(upstream.origin) as (handler, _),
        ):
            exchange = FakeExchange()
            handling = asyncio.create_task(handler.handle(exchange))
            await until(lambda: exchange.content == b"abc")
            assert exchange.length == 6
            go_on.set()
            await soon(handling)
            assert exchange.content == b"abcdef"

    run(main())
