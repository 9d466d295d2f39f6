"""Owns the answer to one question: does the core answer? From probes, from traffic, and from its process's end."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gateway.contract import HEALTH_PATH, sign_call
from gateway.errors import GatewayError

log = logging.getLogger(__name__)

PROBE_EVERY_S: Final = 0.25  # while up; two probes fit into the silence that is allowed
PROBE_DOWN_EVERY_S: Final = 0.1  # while down: a core that is back should not wait for us
PROBE_TIMEOUT_S: Final = 2.0
SILENCE_S: Final = 0.7  # down after this long without a byte although a probe asks: page within a second
CALLBACK_S: Final = 5.0  # longest that callbacks may hold back the first requests after a return
_HEAD_LIMIT: Final = 64 * 1024
_OK: Final = 200


class CoreState(StrEnum):
    """``starting`` has never been up yet; ``opening`` answers again, but what was put off is done first."""

    starting = "starting"
    opening = "opening"
    up = "up"
    down = "down"


@dataclass(slots=True, kw_only=True)
class Evidence:
    """What was heard and asked. Pure: every method takes the time of a monotonic clock in seconds.

    A core that answers anybody is busy, not down. So silence counts, and only while a question is open. A core
    that answers a probe with an error is alive but not well: that counts whatever else it says.
    """

    last_heard: float
    asked_since: float | None = None
    ill_since: float | None = None
    is_gone: bool = False

    def asked(self, now: float) -> None:
        """A probe went out."""
        if self.asked_since is None:
            self.asked_since = now

    def heard(self, now: float) -> None:
        """Bytes came from the core, by whatever connection."""
        self.last_heard = now

    def probe_good(self, now: float) -> None:
        """The core says that it is well."""
        self.last_heard = now
        self.asked_since = self.ill_since = None
        self.is_gone = False

    def probe_ill(self, now: float) -> None:
        """The core answered the probe, and not with 200."""
        self.asked_since = None
        if self.ill_since is None:
            self.ill_since = now

    def gone(self) -> None:
        """The process ended, or nobody listens any more."""
        self.is_gone = True

    def slept(self, seconds: float) -> None:
        """We did not listen for this long ourselves: that silence is not the core's."""
        self.last_heard += seconds
        if self.ill_since is not None:
            self.ill_since += seconds

    def tells_down(self, now: float) -> bool:
        """Whether this is enough to call the core down."""
        if self.is_gone:
            return True
        if self.ill_since is not None and now - self.ill_since >= SILENCE_S:
            return True
        if self.asked_since is None or now - self.asked_since < SILENCE_S / 2:
            return False
        return now - self.last_heard >= SILENCE_S


type Probe = Callable[[], Awaitable[bool]]
type OnUp = Callable[[], Awaitable[object]]


class CoreHealth:
    """Knows whether the core is up. ``run`` must run for as long as anybody asks."""

    def __init__(self, probe: Probe, *, is_own: bool, hold_s: float, start_hold_s: float) -> None:
        """``probe`` is true for a well core, false for an ill one; OSError, EOFError and TimeoutError for none."""
        self._probe = probe
        self._is_own = is_own
        self._hold_s = hold_s
        self._start_hold_s = start_hold_s
        self._clock = time.monotonic
        now = self._clock()
        self._evidence = Evidence(last_heard=now)
        self._state = CoreState.starting
        self._state_since = now
        self._up = asyncio.Event()
        self._nudge = asyncio.Event()
        self._down: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._down.set_result(None)
        self._on_up: list[OnUp] = []

    @property
    def state(self) -> CoreState:
        """The verdict of this moment."""
        return self._state

    @property
    def is_up(self) -> bool:
        """Whether requests may go to the core now."""
        return self._state is CoreState.up

    @property
    def starting(self) -> bool:
        """Whether a core of our own has not been up for the first time yet."""
        return self._is_own and self._state is CoreState.starting

    @property
    def down(self) -> asyncio.Future[None]:
        """Done as soon as the core is down: what waits for the core races this one. Never cancel it."""
        return self._down

    @property
    def hold_s(self) -> float:
        """How much longer a request that comes now may wait for the core, in seconds.

        Counted from when the core went away, so that a long maintenance answers at once.
        """
        if self._state in (CoreState.up, CoreState.opening):
            return CALLBACK_S if self._state is CoreState.opening else 0.0
        longest = self._start_hold_s if self.starting else self._hold_s
        return max(0.0, self._state_since + longest - self._clock())

    @property
    def down_s(self) -> float:
        """Seconds since the core went away; 0 while it is up."""
        return 0.0 if self.is_up else self._clock() - self._state_since

    def hold(self, *, hold_s: float, start_hold_s: float) -> None:
        """How long requests wait from now on."""
        self._hold_s, self._start_hold_s = hold_s, start_hold_s

    def on_up(self, callback: OnUp) -> None:
        """``callback`` runs at each return of the core before new requests are let through."""
        self._on_up.append(callback)

    async def wait_up(self, timeout_s: float) -> bool:
        """Wait until the core is up, at most so long. Whether it is."""
        if not self.is_up and timeout_s > 0:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._up.wait()
            except TimeoutError:
                return self.is_up
        return self.is_up

    def note_alive(self) -> None:
        """Bytes came from the core."""
        self._evidence.heard(self._clock())

    def note_refused(self) -> None:
        """A dial found nobody listening (refused, no socket): down at once."""
        self._evidence.gone()
        self._judge()

    def note_dial_failed(self) -> None:
        """A dial failed in another way: ask now rather than at the next turn."""
        self._nudge.set()

    def note_exit(self) -> None:
        """Our core process has ended: down at once."""
        self._evidence.gone()
        self._judge()

    def note_started(self) -> None:
        """Our core process has begun: look for it eagerly."""
        self._nudge.set()

    async def run(self) -> None:
        """Probe and judge for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._judge_for_ever())
            while True:
                await self._probe_once()
                await self._pause(PROBE_EVERY_S if self.is_up else PROBE_DOWN_EVERY_S)

    async def _probe_once(self) -> None:
        self._evidence.asked(self._clock())
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                is_well = await self._probe()
        except (ConnectionRefusedError, FileNotFoundError):
            self.note_refused()
        except (OSError, EOFError, TimeoutError, ValueError) as exc:
            log.debug("core probe: %r", exc)  # the question stays open: silence will tell
        else:
            if is_well:
                await self._well()
            else:
                self._evidence.probe_ill(self._clock())
        self._judge()

    async def _well(self) -> None:
        self._evidence.probe_good(self._clock())
        if self._state is CoreState.up:
            return
        first = self._state is CoreState.starting
        self._enter(CoreState.opening)
        await self._run_callbacks()
        self._judge()
        if self._state is CoreState.opening:
            self._enter(CoreState.up)
            log.info("the core is up" if first else "the core is up again")

    async def _run_callbacks(self) -> None:
        for callback in self._on_up:
            try:
                async with asyncio.timeout(CALLBACK_S):
                    await callback()
            except TimeoutError:
                log.warning("work put off until the core's return takes long; requests go on without it")
            except (OSError, GatewayError) as exc:  # a full disk must not keep the door closed
                log.warning("work put off until the core's return failed; requests go on without it: %s", exc)
            self._evidence.heard(self._clock())

    async def _judge_for_ever(self) -> None:
        step = 0.05
        while True:
            before = self._clock()
            await asyncio.sleep(step)
            if (late := self._clock() - before - step) > step:
                self._evidence.slept(late)
            self._judge()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._nudge.wait()
        except TimeoutError:
            return
        self._nudge.clear()
        await asyncio.sleep(0.02)  # a storm of failing dials must not become a storm of probes

    def _judge(self) -> None:
        may_fall = self._state in (CoreState.up, CoreState.opening)
        if may_fall and self._evidence.tells_down(self._clock()):
            self._enter(CoreState.down)
            log.warning("the core is down: the maintenance page is shown")

    def _enter(self, state: CoreState) -> None:
        self._state = state
        self._state_since = self._clock()
        if state is CoreState.up:
            self._down = asyncio.get_running_loop().create_future()
            self._up.set()
        else:
            self._up.clear()
            if not self._down.done():
                self._down.set_result(None)


def probe_of(url: str, secret: bytes) -> Probe:
    """A probe of the core at ``unix:/path`` or ``http://HOST:PORT``, by a connection of its own each time."""

    async def probe() -> bool:
        return await call_status(url, secret, "GET", HEALTH_PATH) == _OK

    return probe


async def call_status(url: str, secret: bytes, method: str, target: str, body: bytes = b"") -> int:
    """The status of one signed call. Raises: OSError, EOFError, ValueError when it is not answered in HTTP."""
    reader, writer = await _dial(url)
    with _aborting(writer):
        lines = [
            f"{method} {target} HTTP/1.1",
            "host: core",
            "connection: close",
            f"content-length: {len(body)}",
        ]
        lines += [f"{name}: {value}" for name, value in sign_call(secret, method, target, body, time.time())]
        writer.write("\r\n".join((*lines, "", "")).encode() + body)
        version, _, rest = (await reader.readline()).partition(b" ")
        if not version.startswith(b"HTTP/1."):
            raise EOFError("no HTTP answer")
        return int(rest[:3])


async def _dial(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if url.startswith("unix:"):
        return await asyncio.open_unix_connection(url.removeprefix("unix:"), limit=_HEAD_LIMIT)
    host, _, port = url.removeprefix("http://").rstrip("/").rpartition(":")
    return await asyncio.open_connection(host.strip("[]"), int(port), limit=_HEAD_LIMIT)


@contextmanager
def _aborting(writer: asyncio.StreamWriter) -> Iterator[None]:
    try:
        yield
    finally:
        writer.transport.abort()
