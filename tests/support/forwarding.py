"""Owns how a test of forwarding is run: one event loop of each kind, a pool, a handler, an upstream's health."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager

import uvloop

from gateway.forward.handler import ForwardHandler
from gateway.forward.origin import Health
from gateway.forward.pool import UpstreamPool
from gateway.settings import Core, Limits

type Runner = Callable[[Coroutine[None, None, None]], None]

RUNNERS: tuple[Runner, ...] = (asyncio.run, uvloop.run)
SOON_S = 10.0  # far more than anything here takes; nothing is decided by it


def limits_with(**settings: object) -> Limits:
    """The limits by default, but for these."""
    return Limits.model_validate(settings)


def core_with(**settings: object) -> Core:
    """The core's settings by default, but for these."""
    return Core.model_validate(settings)


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until it holds."""
    async with asyncio.timeout(SOON_S):
        while not condition():
            await asyncio.sleep(0.001)


async def soon[T](what: Awaitable[T]) -> T:
    """The result, unless it hangs."""
    async with asyncio.timeout(SOON_S):
        return await what


@asynccontextmanager
async def forwarding(
    origin: str,
    *,
    connections: int = 4,
    limits: Limits | None = None,
    core: Core | None = None,
    health: Health | None = None,
    tunnel_idle_s: float = 60.0,
) -> AsyncIterator[tuple[ForwardHandler, UpstreamPool]]:
    """A handler and its pool. The upstream counts as one run elsewhere, and down when it refuses once."""
    core = core or core_with(url=origin, hold_s=0.05)
    pool = UpstreamPool(origin, connections=connections, connect_s=core.connect_s)
    try:
        yield (
            ForwardHandler(
                pool, limits=limits or limits_with(), core=core, health=health, tunnel_idle_s=tunnel_idle_s
            ),
            pool,
        )
    finally:
        await pool.aclose()


class FakeHealth:
    """A health that a test switches. ``hold_s`` is what it grants; ``noted`` is what it was told."""

    def __init__(self, *, is_up: bool = True, hold_s: float = 0.0) -> None:
        self.is_up = is_up
        self.hold_s = hold_s
        self.noted: list[str] = []
        self.down: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._up = asyncio.Event()
        if is_up:
            self._up.set()
        else:
            self.down.set_result(None)

    def go_down(self) -> None:
        """Declare the upstream down."""
        self.is_up = False
        self._up.clear()
        if not self.down.done():
            self.down.set_result(None)

    def come_up(self) -> None:
        """Declare it up again."""
        self.is_up = True
        self.down = asyncio.get_running_loop().create_future()
        self._up.set()

    async def wait_up(self, timeout_s: float) -> bool:
        """Wait for ``come_up``; the hold is used up when it does not come."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._up.wait()
        except TimeoutError:
            self.hold_s = 0.0
        return self.is_up

    def note_alive(self) -> None:
        """Remember."""
        self.noted.append("alive")

    def note_refused(self) -> None:
        """Remember, and believe it."""
        self.noted.append("refused")
        self.go_down()

    def note_dial_failed(self) -> None:
        """Remember."""
        self.noted.append("failed")
