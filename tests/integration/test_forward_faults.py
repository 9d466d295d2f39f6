"""Owns the proof that every way an upstream or a client can fail in mid-request ends at once and truthfully."""

import asyncio
from pathlib import Path

import pytest

from gateway.errors import BodyTimeout, ClientGone, UpstreamProtocol, UpstreamTimeout
from gateway.http.head import Chunked, Sized
from tests.support.fake_exchange import FakeBody, FakeExchange, make_head
from tests.support.forwarding import RUNNERS, Runner, core_with, forwarding, soon, until
from tests.support.scripted_upstream import ScriptedUpstream, Talk

both_loops = pytest.mark.parametrize("run", RUNNERS)
OK = b"HTTP/1.1 200 OK\r\n"
FINE = OK + b"content-length: 4\r\n\r\nfine"


async def silent(talk: Talk) -> None:
    """Reads and never answers."""
    await talk.reader.read()


@both_loops
def test_a_head_that_does_not_come_in_time(run: Runner, short_path: Path) -> None:
    async def main() -> None:
        core = core_with(url="x", head_s=0.1)
        async with (
            ScriptedUpstream(silent, short_path / "s") as upstream,
            forwarding(upstream.origin, core=core) as (handler, pool),
        ):
            for head, body in (
                (make_head(), FakeBody()),
                (make_head("POST", framing=Sized(1)), FakeBody([b"a"])),
                (make_head("POST", framing=Chunked()), FakeBody([b"a"])),
            ):
                exchange = FakeExchange(head, body=body)
                with pytest.raises(UpstreamTimeout, match="did not answer"):
                    await soon(handler.handle(exchange))
                assert not exchange.is_started
            assert "open=0" in repr(pool)

    run(main())


@both_loops
def test_a_slow_client_is_not_the_upstreams_fault(run: Runner, short_path: Path) -> None:
    async def script(talk: Talk) -> None:
        await talk.read_head()
        await talk.read_chunked()
        await talk.say(FINE)

    async def main() -> None:
        core = core_with(url="x", head_s=0.1, idle_s=0.1)
        gate = asyncio.Semaphore(1)
        async with (
            ScriptedUpstream(script, short_path / "s") as upstream,
            forwarding(upstream.origin, core=core) as (handler, _),
        ):
            exchange = FakeExchange(
                make_head("POST", framing=Chunked()), body=FakeBody([b"a", b"b"], gate=gate)
            )
            handling = asyncio.create_task(handler.handle(exchange))
            await asyncio.sleep(0.3)  # longer than any deadline
            assert not handling.done()
            gate.release()
            await soon(handling)
            assert exchange.content == b"fine"

    run(main())


@both_loops
def test_an_upstream_that_takes_no_more_of_a_body(run: Runner, short_path: Path) -> None:
    async def stuck(talk: Talk) -> None:
        await talk.read_head()
        await asyncio.Event().wait()

    async def main() -> None:
        core = core_with(url="x", idle_s=0.1)
        async with (
            ScriptedUpstream(stuck, short_path / "s") as upstream,
            forwarding(upstream.origin, core=core) as (handler, _),
        ):
            exchange = FakeExchange(
                make_head("PUT", framing=Sized(10**7)), body=FakeBody([bytes(10**5)] * 100)
            )
            with pytest.raises(UpstreamTimeout, match="too little"):
                await soon(handler.handle(exchange))

    run(main())


@both_loops
@pytest.mark.parametrize(
    "content", [b"content-length: 9\r\n\r\nabc", b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"]
)
@pytest.mark.parametrize("end", ["stall", "close", "garbage"])
def test_an_answer_that_breaks_off_is_visibly_cut(
    run: Runner, short_path: Path, content: bytes, end: str
) -> None:
    async def script(talk: Talk) -> None:
        await talk.read_head()
        await talk.say(OK + content)
        if end == "stall":
            await asyncio.Event().wait()
        elif end == "garbage" and b"chunked" in content:
            await talk.say(b"zz\r\n")

    async def main() -> None:
        core = core_with(url="x", idle_s=0.1)
        async with (
            ScriptedUpstream(script, short_path / "s") as upstream,
            forwarding(upstream.origin, core=core) as (handler, pool),
        ):
            exchange = FakeExchange()
            with pytest.raises(UpstreamTimeout if end == "stall" else UpstreamProtocol):
                await soon(handler.handle(exchange))
            assert exchange.aborted
            assert not exchange.finished
            assert exchange.content == b"abc"
            assert "open=0" in repr(pool)

    run(main())


@both_loops
@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx-a : 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ],
)
def test_garbage_is_a_bad_gateway(run: Runner, short_path: Path, answer: bytes) -> None:
    async def script(talk: Talk) -> None:
        await talk.read_head()
        await talk.say(answer)

    async def main() -> None:
        async with (
            ScriptedUpstream(script, short_path / "s") as upstream,
            forwarding(upstream.origin) as (handler, pool),
        ):
            exchange = FakeExchange()
            with pytest.raises(UpstreamProtocol):
                await soon(handler.handle(exchange))
            assert not exchange.is_started
            assert upstream.connections == 1  # not retried
            assert "open=0" in repr(pool)

    run(main())


@both_loops
@pytest.mark.parametrize("started", [False, True])
def test_a_client_that_leaves_takes_its_request_along(run: Runner, short_path: Path, started: bool) -> None:
    async def main() -> None:
        ended = asyncio.Event()

        async def script(talk: Talk) -> None:
            await talk.read_head()
            if started:
                await talk.say(OK + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n")
            await talk.reader.read()
            ended.set()

        async with (
            ScriptedUpstream(script, short_path / "s") as upstream,
            forwarding(upstream.origin) as (handler, pool),
        ):
            exchange = FakeExchange()
            handling = asyncio.create_task(handler.handle(exchange))
            await until(lambda: upstream.connections == 1 and (exchange.content == b"a" or not started))
            exchange.leave()
            with pytest.raises(ClientGone):
                await soon(handling)
            await soon(ended.wait())
            assert "open=0" in repr(pool)

    run(main())


@both_loops
@pytest.mark.parametrize("failure", [ClientGone(), BodyTimeout()])
@pytest.mark.parametrize("framing", [Sized(100), Sized(100_000), Chunked()])
def test_a_body_that_ends_badly_ends_the_request(
    run: Runner, short_path: Path, framing: Sized | Chunked, failure: Exception
) -> None:
    async def main() -> None:
        async with (
            ScriptedUpstream(silent, short_path / "s") as upstream,
            forwarding(upstream.origin) as (handler, pool),
        ):
            exchange = FakeExchange(
                make_head("PUT", framing=framing), body=FakeBody([b"abc"], failure=failure)
            )
            with pytest.raises(type(failure)):
                await soon(handler.handle(exchange))
            assert not exchange.is_started
            assert "open=0" in repr(pool)

    run(main())
