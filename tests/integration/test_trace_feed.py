"""Owns the proof of the feed's promises: off when nobody listens, told who may, never slowed by a listener."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.trace.events import Address, Sight
from gateway.trace.feed import TraceFeed
from gateway.trace.listening import Listening, NobodyThere, ask_hops
from gateway.trace.outlet import CORE_SOCKET, Outlet
from tests.support.forwarding import soon, until

type Listener = tuple[asyncio.StreamReader, asyncio.StreamWriter]
type Join = Callable[[], Awaitable[Listener]]


class FakeHop:
    """Remembers who watches it, and where it is led."""

    kind = "core"

    def __init__(self) -> None:
        self.sight: Sight | None = None
        self.way: Address | None = None

    def watch(self, sight: Sight | None) -> None:
        self.sight = sight

    def detour(self, address: Address | None) -> None:
        self.way = address

    def describe(self) -> dict[str, str]:
        return {"url": "unix:/run/core.sock"}


@asynccontextmanager
async def feeding(folder: Path) -> AsyncIterator[tuple[TraceFeed, FakeHop, Join]]:
    """A running feed of one hop, and a way to join it."""
    hop = FakeHop()
    feed = TraceFeed(folder, (), lambda: (hop,))
    task = asyncio.create_task(feed.run())
    path = folder / f"trace-{os.getpid()}.sock"
    joined: list[Listener] = []

    async def join() -> Listener:
        joined.append(await asyncio.open_unix_connection(path, limit=1 << 24))
        return joined[-1]

    await until(path.exists)
    try:
        yield feed, hop, join
    finally:
        task.cancel()
        await soon(asyncio.wait((task,)))
        await until(lambda: not feed.is_on)
        for _, writer in joined:
            writer.close()
    assert not path.exists()


async def ask(listener: Listener, **wish: Any) -> dict[str, Any]:
    """What is answered to one line."""
    reader, writer = listener
    writer.write(json.dumps(wish).encode() + b"\n")
    answer: dict[str, Any] = json.loads(await soon(reader.readline()))
    return answer


def test_it_is_on_from_the_first_listener_to_the_last(short_path: Path) -> None:
    async def main() -> None:
        async with feeding(short_path) as (feed, hop, join):
            assert (feed.is_on, hop.sight) == (False, None)
            first, second = await join(), await join()
            assert (await ask(first))["hops"] == ["core"]
            await ask(second, heads=True)
            assert feed.is_on
            assert hop.sight is not None
            assert hop.sight.wants_heads()
            second[1].close()
            await until(lambda: hop.sight is not None and not hop.sight.wants_heads())
            first[1].close()
            await until(lambda: not feed.is_on)
            assert hop.sight is None

    asyncio.run(main())


def test_where_hops_lead_is_told_who_asks_for_it(short_path: Path) -> None:
    async def main() -> None:
        async with feeding(short_path) as (_, _, join):
            listener = await join()
            assert "described" not in await ask(listener)
            assert (await ask(listener, describe=True))["described"] == {
                "core": {"url": "unix:/run/core.sock"}
            }
            assert "described" not in await ask(listener)

    asyncio.run(main())


def test_a_hop_is_led_through_loopback_only_by_one_and_back_when_that_one_goes(short_path: Path) -> None:
    async def main() -> None:
        async with feeding(short_path) as (_, hop, join):
            first, second = await join(), await join()
            for address in ("192.0.2.1:80", "localhost:80", "127.0.0.1:http", "nonsense"):
                assert (await ask(first, detour={"core": address}))["event"] == "refused"
            assert "no hop 's3'" in (await ask(first, detour={"s3": "127.0.0.1:9"}))["why"]
            assert hop.way is None
            assert (await ask(first, detour={"core": "127.0.0.1:9"}))["event"] == "ready"
            assert hop.way == ("127.0.0.1", 9)
            assert "being inspected already" in (await ask(second, detour={"core": "127.0.0.1:10"}))["why"]
            await ask(second, detour={"core": None})  # not its own to end
            assert hop.way is not None
            first[1].transport.abort()
            await until(lambda: hop.way is None)
            await ask(second, detour={"core": "127.0.0.1:10"})
            await ask(second, detour={"core": None})
            assert hop.way is None

    asyncio.run(main())


@pytest.mark.parametrize("line", [b"not json\n", b"[]\n", b'{"detour": 5}\n'])
def test_nonsense_is_refused_and_the_listener_kept(short_path: Path, line: bytes) -> None:
    async def main() -> None:
        async with feeding(short_path) as (_, _, join):
            reader, writer = listener = await join()
            writer.write(line)
            assert json.loads(await soon(reader.readline()))["event"] == "refused"
            assert (await ask(listener))["event"] == "ready"

    asyncio.run(main())


def test_a_listener_that_does_not_read_misses_events_and_is_told_how_many(short_path: Path) -> None:
    async def main() -> None:
        async with feeding(short_path) as (feed, _, join):
            reader, writer = listener = await join()
            await ask(listener)
            transport = cast("asyncio.Transport", writer.transport)
            transport.pause_reading()
            for number in range(12_000):
                feed.publish({"event": "hop", "number": number, "padding": "x" * 1000})
            transport.resume_reading()
            got: list[dict[str, Any]] = []
            # Once there is room again, the next event brings the count of those that were not.
            while not got or got[-1]["event"] != "missed":
                feed.publish({"event": "more"})
                got.append(json.loads(await soon(reader.readline())))
            kept = [event["number"] for event in got if event["event"] == "hop"]
            assert kept == list(range(len(kept)))
            assert 12_000 - len(kept) <= got[-1]["count"]

    asyncio.run(main())


def test_a_gateway_that_ends_does_not_wait_for_its_listeners(short_path: Path) -> None:
    async def main() -> None:
        async with feeding(short_path) as (_, _, join):
            reader, _ = listener = await join()
            await ask(listener)
        assert await soon(reader.read()) == b""

    asyncio.run(main())


def test_sockets_of_dead_processes_are_removed_and_those_of_the_living_kept(short_path: Path) -> None:
    async def main() -> None:
        dead, alive = short_path / "trace-1.sock", short_path / "trace-2.sock"
        with socket.socket(socket.AF_UNIX) as left, socket.socket(socket.AF_UNIX) as listening:
            left.bind(os.fspath(dead))
            listening.bind(os.fspath(alive))
            listening.listen()
            async with feeding(short_path):
                assert not dead.exists()
                assert alive.exists()

    asyncio.run(main())


def test_a_folder_that_cannot_be_used_does_not_stop_the_gateway(
    short_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    long = short_path / ("x" * 120)

    asyncio.run(TraceFeed(long, (), tuple).run())
    assert "gateway trace will not work" in caplog.text


def test_a_listener_hears_gateway_and_core_and_leads_each_ones_hops(short_path: Path) -> None:
    async def main() -> None:
        gateways, cores = FakeHop(), FakeHop()
        cores.kind = "s3"
        feeds = (
            TraceFeed(short_path, (), lambda: (gateways,)),
            Outlet(short_path, CORE_SOCKET, lambda: (cores,)),
        )
        tasks = [asyncio.create_task(feed.run()) for feed in feeds]
        await until(lambda: len(list(short_path.glob("*trace-*.sock"))) == 2)
        assert await soon(ask_hops(short_path)) == {"core": {"url": "unix:/run/core.sock"}}
        heard: list[dict[str, Any]] = []
        detours = {"core": "127.0.0.1:9", "s3": "127.0.0.1:10"}
        listening = Listening(short_path, heard.append, heads=False, detours=detours)
        task = asyncio.create_task(listening.run())
        await soon(listening.ready.wait())
        assert (gateways.way, cores.way) == (("127.0.0.1", 9), ("127.0.0.1", 10))
        for number, feed in enumerate(feeds):
            feed.publish({"event": "hop", "number": number})
        await until(lambda: len(heard) == 2)
        await listening.end_detours()
        await until(lambda: gateways.way is None and cores.way is None)
        tasks[0].cancel()  # a core alone is no gateway
        with pytest.raises(ExceptionGroup) as failed:
            await soon(task)
        assert failed.group_contains(NobodyThere, match="the gateway has ended")
        tasks[1].cancel()
        await soon(asyncio.wait(tasks))

    asyncio.run(main())


def test_a_core_of_another_user_is_said_not_to_be_heard(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dial = asyncio.open_unix_connection

    async def refuse_the_core(path: str, **more: Any) -> Listener:
        if Path(path).name.startswith(CORE_SOCKET):
            raise PermissionError
        return await dial(path, **more)

    async def main() -> None:
        monkeypatch.setattr(asyncio, "open_unix_connection", refuse_the_core)
        (short_path / f"{CORE_SOCKET}1.sock").touch()
        async with feeding(short_path):
            heard: list[dict[str, Any]] = []
            task = asyncio.create_task(Listening(short_path, heard.append, heads=False, detours={}).run())
            await until(lambda: bool(heard))
            assert [event["event"] for event in heard] == ["unheard"]
            assert "only root and its process's own user may trace" in heard[0]["why"]
            task.cancel()
            await soon(asyncio.wait((task,)))

    asyncio.run(main())
