"""Owns the circuits of one process: the log of their changes, one attempt through them, and the active checks."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from gateway.errors import CoreDown, GatewayError, UpstreamError, UpstreamProtocol, UpstreamTimeout
from gateway.forward.circuit import LEVELS, REFUSED, Circuit, CircuitPolicy, CircuitState
from gateway.settings import Core

log = logging.getLogger(__name__)

_RESTING: Final = "What answers here does not answer properly at the moment. Try again in a moment."
_HEALTHY: Final = range(200, 400)

type Check = Callable[[], Awaitable[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveCheck:
    """``ask`` gives the status of one question, asked every so often."""

    ask: Check
    every_s: float


class Upstream:
    """An upstream's circuit by its name: ``core``, or the place of a route.

    ``counts`` are the failures that open it; others say nothing about it here.
    """

    def __init__(
        self,
        name: str,
        policy: CircuitPolicy,
        *,
        counts: tuple[type[UpstreamError], ...] = (UpstreamError,),
        check: ActiveCheck | None = None,
    ) -> None:
        self.name = name
        self.circuit = Circuit(policy, changed=self._tell)
        self.check = check
        self.counts = counts
        self._was_open = False

    def attempt(self, *, insists: bool = False) -> "Attempt":
        """``with`` this around one request. Raises: CoreDown while the circuit is open, unless it ``insists``."""
        return Attempt(self, insists=insists)

    def refuse_while_open(self) -> None:
        """For what must not begin in vain. Takes nobody's try. Raises: CoreDown."""
        if self.circuit.refuses(time.monotonic()):
            raise resting(self)

    def _tell(self, circuit: Circuit) -> None:
        if circuit.state is CircuitState.open and not self._was_open:
            self._was_open = True
            log.warning("%s is left alone: %s", self.name, circuit.reason)
        elif circuit.state is CircuitState.closed:
            self._was_open = False
            log.info("%s answers again", self.name)

    def report(self, now: float) -> dict[str, object]:
        """For operators."""
        circuit = self.circuit
        is_closed = circuit.state is CircuitState.closed
        return {
            "upstream": self.name,
            "circuit": str(circuit.state),
            "reason": circuit.reason,
            "failures": circuit.fails,
            "seconds": round(now - circuit.since, 1) if circuit.since else None,
            "next_try_s": None if is_closed else round(max(0.0, circuit.next_try - now), 1),
        }


def core_upstream(core: Core) -> Upstream:
    """The core's. Whether it is there at all is ``CoreHealth``'s to say; this is for one that does not answer."""
    policy = CircuitPolicy(max_fails=core.max_fails, slow_s=core.slow_s)
    return Upstream("core", policy, counts=(UpstreamTimeout,))


class Attempt:
    """One request through a circuit. ``sent`` when the upstream has all of it: its answer is timed from there.

    ``is_sending`` while a body comes from the client and goes to the upstream.
    """

    __slots__ = ("_circuit", "_given", "_insists", "_sent_at", "_upstream", "is_sending")

    def __init__(self, upstream: Upstream, *, insists: bool) -> None:
        self._insists = insists
        self._upstream = upstream
        self._circuit = upstream.circuit
        self._sent_at = 0.0
        self._given = REFUSED
        self.is_sending = False

    def sent(self) -> None:
        """The whole request is on its way."""
        self._sent_at = time.monotonic()

    def __enter__(self) -> Self:
        now = time.monotonic()
        self._given = self._circuit.insist(now) if self._insists else self._circuit.admit(now)
        if self._given == REFUSED:
            raise resting(self._upstream)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        now = time.monotonic()
        if error is None:
            # An answer before the end of the request is no slow one.
            took_s = now - self._sent_at if self._sent_at else 0.0
            self._circuit.succeeded(self._given, now, took_s=took_s)
        elif isinstance(error, self._upstream.counts) and not self._is_tired(error):
            self._circuit.failed(self._given, now, error.detail or error.message)
        else:
            self._circuit.abandoned(self._given, now)

    def _is_tired(self, error: UpstreamError) -> bool:
        """An upstream that hangs up in the middle of a body may be tired of one slow client: that is no failure."""
        return self.is_sending and isinstance(error, UpstreamProtocol)


def resting(upstream: Upstream) -> CoreDown:
    """The answer while a circuit is open."""
    return CoreDown(_RESTING, detail=f"{upstream.name} is left alone: {upstream.circuit.reason}")


class Circuits:
    """All of them. ``run`` must run where there are active checks."""

    def __init__(self) -> None:
        self._upstreams: list[Upstream] = []
        self._changed = asyncio.Event()

    def add(self, upstream: Upstream) -> Upstream:
        """From now on it is reported and checked."""
        self._upstreams.append(upstream)
        self._changed.set()
        return upstream

    def drop(self, upstream: Upstream) -> None:
        """From now on it is neither. Requests that go through it still may."""
        self._upstreams.remove(upstream)
        self._changed.set()

    def report(self) -> list[dict[str, object]]:
        """For operators."""
        now = time.monotonic()
        return [upstream.report(now) for upstream in self._upstreams]

    def levels(self) -> Iterator[tuple[str, float]]:
        """Name and level for the metric: 0 closed, 1 half-open, 2 open."""
        for upstream in self._upstreams:
            yield upstream.name, float(LEVELS[upstream.circuit.state])

    async def run(self) -> None:
        """The active checks, for ever."""
        checks: dict[Upstream, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                for gone in checks.keys() - set(self._upstreams):
                    checks.pop(gone).cancel()
                for upstream in self._upstreams:
                    if upstream.check is not None and upstream not in checks:
                        checks[upstream] = group.create_task(
                            _check_for_ever(upstream.circuit, upstream.check)
                        )
                await self._changed.wait()


async def _check_for_ever(circuit: Circuit, check: ActiveCheck) -> None:
    while True:
        try:
            status = await check.ask()
        except GatewayError as error:
            circuit.probe_failed(time.monotonic(), f"its check failed: {error.detail or error.message}")
        else:
            if status in _HEALTHY:
                circuit.probe_succeeded(time.monotonic())
            else:
                circuit.probe_failed(time.monotonic(), f"its check was answered {status}")
        await asyncio.sleep(check.every_s)
