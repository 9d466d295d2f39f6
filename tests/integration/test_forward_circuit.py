"""Owns the proof that an upstream that hangs, fails or is slow is left alone, and used again when it is well."""

import asyncio
import contextlib
import logging
from functools import partial
from pathlib import Path

import pytest

from gateway.errors import CoreDown, UpstreamProtocol, UpstreamTimeout
from gateway.forward.backend import RouteBackend
from gateway.forward.circuit import LEAST_SEEN, Circuit, CircuitState
from gateway.forward.circuits import Circuits, core_upstream
from gateway.forward.handler import ForwardHandler
from gateway.forward.pool import UpstreamPool
from gateway.http.head import Sized
from gateway.settings_routes import Route
from tests.support.fake_exchange import FakeBody, FakeExchange, make_head
from tests.support.forwarding import RUNNERS, FakeHealth, Runner, core_with, limits_with, soon, until
from tests.support.scripted_upstream import ScriptedUpstream, Talk

both_loops = pytest.mark.parametrize("run", RUNNERS)
FINE = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine"


class Mood:
    """An upstream whose behaviour a test changes; counts what it was asked."""

    def __init__(self) -> None:
        self.answers = True
        self.pause_s = 0.0
        self.asked = 0
        self.status = b"200"

    async def __call__(self, talk: Talk) -> None:
        """Answer, or be silent."""
        while head := await talk.read_head():
            self.asked += 1
            if b"content-length: " in head.lower():
                await talk.read(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
            if not self.answers:
                await talk.reader.read()
                return
            await asyncio.sleep(self.pause_s)
            await talk.say(FINE.replace(b"200", self.status))


def state_of(circuit: Circuit) -> CircuitState:
    """Its state now, whatever it was a line before."""
    return circuit.state


def backend_for(path: Path, circuits: Circuits, **settings: object) -> RouteBackend:
    route = Route.model_validate({"prefix": "/app", "upstream": f"unix:{path}", **settings})
    core = core_with(head_s=0.2, hold_s=0.05)
    return RouteBackend(route, limits=limits_with(), core=core, circuits=circuits)


async def get(backend: RouteBackend) -> FakeExchange:
    exchange = FakeExchange()
    await soon(backend.handle(exchange))
    return exchange


@both_loops
def test_a_backend_that_hangs_is_left_alone_until_one_request_finds_it_well(
    run: Runner, short_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        mood, circuits = Mood(), Circuits()
        backend = backend_for(short_path / "s", circuits, pause_s=0.3)
        circuit = backend.upstream.circuit
        async with ScriptedUpstream(mood, short_path / "s"):
            mood.answers = False
            for _ in range(3):
                with pytest.raises(UpstreamTimeout):
                    await get(backend)
            asked = mood.asked
            for _ in range(50):
                with pytest.raises(CoreDown, match="left alone"):
                    await get(backend)
            assert mood.asked == asked
            assert circuits.report()[0]["circuit"] == "open"
            assert list(circuits.levels()) == [("/app", 2.0)]
            mood.answers = True
            await until(lambda: not circuit.refuses(asyncio.get_running_loop().time()))
            assert (await get(backend)).content == b"fine"
            assert circuits.report()[0]["circuit"] == "closed"
        await backend.aclose()

    with caplog.at_level(logging.INFO, "gateway.forward.circuits"):
        run(main())
    said = [record.getMessage() for record in caplog.records]
    assert said == ["/app is left alone: the upstream did not answer in time", "/app answers again"]


@both_loops
def test_slow_answers_open_the_circuit_but_a_slow_body_never_counts(run: Runner, short_path: Path) -> None:
    async def main() -> None:
        mood, circuits = Mood(), Circuits()
        backend = backend_for(short_path / "s", circuits, slow_s=0.05)
        circuit = backend.upstream.circuit
        async with ScriptedUpstream(mood, short_path / "s"):
            for _ in range(LEAST_SEEN + 2):  # the client takes its time, the backend does not
                gate = asyncio.Semaphore(1)
                body = FakeBody([b"x" * 70_000, b"y" * 70_000], gate=gate)
                exchange = FakeExchange(make_head("POST", framing=Sized(140_000)), body=body)
                handling = asyncio.create_task(backend.handle(exchange))
                await asyncio.sleep(0.06)
                gate.release()
                await soon(handling)
                assert exchange.content == b"fine"
            assert state_of(circuit) is CircuitState.closed
            mood.pause_s = 0.06
            with contextlib.suppress(CoreDown):
                for _ in range(2 * LEAST_SEEN + 4):
                    await get(backend)
            assert state_of(circuit) is CircuitState.open
            assert "slow" in circuit.reason
        await backend.aclose()

    run(main())


@both_loops
def test_a_check_that_fails_closes_the_way_before_any_request_finds_out(
    run: Runner, short_path: Path
) -> None:
    async def main() -> None:
        mood, circuits = Mood(), Circuits()
        mood.status = b"503"
        backend = backend_for(
            short_path / "s",
            circuits,
            max_fails=2,
            health_path="/health",
            health_every_s=0.02,
            health_timeout_s=0.1,
        )
        circuit = backend.upstream.circuit
        async with ScriptedUpstream(mood, short_path / "s"):
            checking = asyncio.create_task(circuits.run())
            await until(lambda: circuit.state is CircuitState.open)
            with pytest.raises(CoreDown, match="its check was answered 503"):
                await get(backend)
            mood.status = b"204"
            await until(lambda: circuit.state is CircuitState.closed)
            mood.answers = False
            with pytest.raises(CoreDown, match="left alone"):
                backend.upstream.refuse_while_open()
                await until(lambda: circuit.state is CircuitState.open)
                backend.upstream.refuse_while_open()
            checking.cancel()
            await asyncio.wait((checking,))
        await backend.aclose()

    run(main())


@both_loops
def test_a_core_that_is_up_and_answers_nothing_is_left_alone_until_it_is_another(
    run: Runner, short_path: Path
) -> None:
    async def main() -> None:
        mood = Mood()
        core = core_with(head_s=0.1, max_fails=2)
        health, upstream = FakeHealth(), core_upstream(core)
        pool = UpstreamPool(f"unix:{short_path}/s", connections=4, connect_s=1)
        handler = ForwardHandler(pool, limits=limits_with(), core=core, health=health, upstream=upstream)
        async with ScriptedUpstream(mood, short_path / "s"):
            mood.answers = False
            for error in (UpstreamTimeout, UpstreamTimeout, CoreDown):
                with pytest.raises(error):
                    await soon(handler.handle(FakeExchange()))
            mood.answers = True
            health.go_down()
            health.come_up()
            exchange = FakeExchange()
            await soon(handler.handle(exchange))
            assert exchange.content == b"fine"
            assert state_of(upstream.circuit) is CircuitState.closed
        await pool.aclose()

    run(main())


@both_loops
def test_clients_that_leave_say_nothing_about_a_backend(run: Runner, short_path: Path) -> None:
    async def main() -> None:
        mood, circuits = Mood(), Circuits()
        mood.answers = False
        backend = backend_for(short_path / "s", circuits)
        async with ScriptedUpstream(mood, short_path / "s"):
            for number in range(1, 6):
                exchange = FakeExchange()
                handling = asyncio.create_task(backend.handle(exchange))
                await until(partial(lambda wanted: mood.asked == wanted, number))
                exchange.leave()
                await asyncio.wait((handling,))
            assert backend.upstream.circuit.fails == 0
        await backend.aclose()

    run(main())


@both_loops
def test_a_client_that_is_slow_with_its_body_does_not_hold_the_only_try(
    run: Runner, short_path: Path
) -> None:
    async def main() -> None:
        mood, circuits = Mood(), Circuits()
        backend = backend_for(short_path / "s", circuits, pause_s=30)
        circuit = backend.upstream.circuit
        async with ScriptedUpstream(mood, short_path / "s"):
            for _ in range(3):
                circuit.failed(circuit.admit(0.0), 0.0, "refused")
            circuit.next_try = 0.0  # the pause is over
            slow = FakeBody([b"x" * 10], gate=asyncio.Semaphore(0))
            exchange = FakeExchange(make_head("POST", framing=Sized(10)), body=slow)
            handling = asyncio.create_task(backend.handle(exchange))
            await asyncio.sleep(0)
            assert (await get(backend)).content == b"fine"
            handling.cancel()
            await asyncio.wait((handling,))
        await backend.aclose()

    run(main())


@both_loops
def test_a_backend_that_hangs_up_on_slow_clients_has_not_failed(run: Runner, short_path: Path) -> None:
    async def tired(talk: Talk) -> None:
        if await talk.read_head():
            await talk.read(70_000)

    async def main() -> None:
        backend = backend_for(short_path / "s", Circuits())
        async with ScriptedUpstream(tired, short_path / "s") as upstream:
            for number in range(1, 5):
                body = FakeBody([b"x" * 70_000, b"y" * 70_000], gate=asyncio.Semaphore(1))
                exchange = FakeExchange(make_head("POST", framing=Sized(140_000)), body=body)
                with pytest.raises(UpstreamProtocol):
                    await soon(backend.handle(exchange))
                # Whether it still listens was asked by another connection.
                await until(partial(lambda wanted: upstream.connections == wanted, 2 * number))
            assert backend.upstream.circuit.fails == 0
            await backend.aclose()

    run(main())
