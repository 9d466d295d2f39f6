"""Owns the proof that a connection that switched protocols carries bytes both ways until both sides are done."""

import asyncio
from pathlib import Path

import pytest

from gateway.errors import UpstreamProtocol
from tests.support.fake_exchange import FakeExchange, FakeTunnelWriter, make_head
from tests.support.forwarding import RUNNERS, Runner, forwarding, soon, until
from tests.support.scripted_upstream import ScriptedUpstream, Talk, answering

both_loops = pytest.mark.parametrize("run", RUNNERS)
ASK = make_head("GET", "/ws", ("upgrade", "websocket"), ("connection", "Upgrade"), ("sec-websocket-key", "x"))
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nserver: x\r\n\r\n"


class HalfClosingWriter(FakeTunnelWriter):
    """A client's end on plain TCP."""

    def __init__(self) -> None:
        super().__init__()
        self.got_eof = False

    def write_eof(self) -> None:
        """Remember that nothing more comes."""
        self.got_eof = True


@both_loops
def test_a_websocket_echo_goes_both_ways(run: Runner, short_path: Path) -> None:
    async def echo(talk: Talk) -> None:
        head = await talk.read_head()
        assert b"\r\nupgrade: websocket\r\n" in head
        assert b"\r\nconnection: upgrade\r\n" in head
        await talk.say(SWITCH + b"hello")  # the first bytes may come with the head
        while data := await talk.reader.read(65536):
            await talk.say(data)

    async def main() -> None:
        async with (
            ScriptedUpstream(echo, short_path / "s") as upstream,
            forwarding(upstream.origin) as (handler, pool),
        ):
            exchange = FakeExchange(ASK)
            handling = asyncio.create_task(handler.handle(exchange))
            writer = exchange.tunnel_writer
            await until(lambda: writer.content == b"hello")
            assert exchange.status == 101
            assert exchange.fields == (("connection", "upgrade"), ("upgrade", "websocket"))
            big = bytes(range(256)) * 4000
            exchange.tunnel_reader.feed_data(big)
            await until(lambda: len(writer.content) == 5 + len(big))
            assert writer.content == b"hello" + big
            exchange.tunnel_reader.feed_eof()  # the echo ends, too
            await soon(handling)
            assert writer.is_closed
            assert "open=0" in repr(pool)

    run(main())


@both_loops
def test_what_the_upstream_says_after_the_clients_last_byte_still_arrives(
    run: Runner, short_path: Path
) -> None:
    async def script(talk: Talk) -> None:
        await talk.read_head()
        await talk.say(SWITCH)
        assert await talk.reader.read() == b"question"
        await talk.say(b"answer")

    async def main() -> None:
        async with (
            ScriptedUpstream(script, short_path / "s") as upstream,
            forwarding(upstream.origin) as (handler, _),
        ):
            exchange = FakeExchange(ASK)
            exchange.tunnel_reader.feed_data(b"question")
            exchange.tunnel_reader.feed_eof()
            await soon(handler.handle(exchange))
            assert exchange.tunnel_writer.content == b"answer"

    run(main())


@both_loops
def test_an_upstream_may_stop_speaking_and_go_on_listening(run: Runner, short_path: Path) -> None:
    async def main() -> None:
        heard = []

        async def script(talk: Talk) -> None:
            await talk.read_head()
            await talk.say(SWITCH + b"bye")
            talk.writer.write_eof()
            heard.append(await talk.reader.read())

        async with (
            ScriptedUpstream(script, short_path / "s") as upstream,
            forwarding(upstream.origin) as (handler, _),
        ):
            exchange = FakeExchange(ASK)
            writer = exchange.tunnel_writer = HalfClosingWriter()
            handling = asyncio.create_task(handler.handle(exchange))
            await until(lambda: writer.got_eof)
            exchange.tunnel_reader.feed_data(b"one last word")
            exchange.tunnel_reader.feed_eof()
            await soon(handling)
            assert heard == [b"one last word"]

    run(main())


@both_loops
def test_a_client_that_cannot_be_half_closed_is_closed_when_the_upstream_ends(
    run: Runner, short_path: Path
) -> None:
    async def main() -> None:
        async with (
            ScriptedUpstream(answering(), short_path / "unused"),
            ScriptedUpstream(_switch_and_end, short_path / "s") as upstream,
            forwarding(upstream.origin) as (handler, _),
        ):
            exchange = FakeExchange(ASK)
            await soon(handler.handle(exchange))
            assert exchange.tunnel_writer.content == b"bye"
            assert exchange.tunnel_writer.is_closed

    async def _switch_and_end(talk: Talk) -> None:
        await talk.read_head()
        await talk.say(SWITCH + b"bye")

    run(main())


@both_loops
def test_an_idle_tunnel_ends(run: Runner, short_path: Path) -> None:
    async def script(talk: Talk) -> None:
        await talk.read_head()
        await talk.say(SWITCH)
        await talk.reader.read()

    async def main() -> None:
        async with (
            ScriptedUpstream(script, short_path / "s") as upstream,
            forwarding(upstream.origin, tunnel_idle_s=0.05) as (handler, pool),
        ):
            exchange = FakeExchange(ASK)
            await soon(handler.handle(exchange))
            assert exchange.tunnel_writer.is_closed
            assert "open=0" in repr(pool)

    run(main())


@both_loops
def test_a_client_that_vanishes_ends_the_tunnel(run: Runner, short_path: Path) -> None:
    async def main() -> None:
        ended = asyncio.Event()

        async def script(talk: Talk) -> None:
            await talk.read_head()
            await talk.say(SWITCH)
            await talk.reader.read()
            ended.set()

        async with (
            ScriptedUpstream(script, short_path / "s") as upstream,
            forwarding(upstream.origin) as (handler, _),
        ):
            exchange = FakeExchange(ASK)
            handling = asyncio.create_task(handler.handle(exchange))
            await until(lambda: exchange.is_started)
            exchange.leave()
            await soon(handling)
            await soon(ended.wait())

    run(main())


@both_loops
def test_an_upstream_may_decline_to_switch(run: Runner, short_path: Path) -> None:
    answer = b"HTTP/1.1 426 Upgrade Required\r\nupgrade: x\r\ncontent-length: 2\r\n\r\nno"

    async def main() -> None:
        async with (
            ScriptedUpstream(answering(answer, answer), short_path / "s") as upstream,
            forwarding(upstream.origin) as (handler, _),
        ):
            for _ in range(2):
                exchange = FakeExchange(ASK)
                await soon(handler.handle(exchange))
                assert (exchange.status, exchange.content) == (426, b"no")
            assert upstream.connections == 1

    run(main())


@both_loops
def test_an_upstream_may_not_switch_to_what_was_not_asked_for(run: Runner, short_path: Path) -> None:
    wrong = SWITCH.replace(b"websocket", b"h2c")

    async def main() -> None:
        async with (
            ScriptedUpstream(answering(wrong), short_path / "s") as upstream,
            forwarding(upstream.origin) as (handler, _),
        ):
            exchange = FakeExchange(ASK)
            with pytest.raises(UpstreamProtocol):
                await soon(handler.handle(exchange))
            assert not exchange.is_started

    run(main())
