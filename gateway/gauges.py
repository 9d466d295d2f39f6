"""Owns the numbers that are looked up rather than counted: what runs, what waits, how long the certificate lasts."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from gateway.forward.circuits import Circuits
from gateway.maintenance import MaintenanceSwitch
from gateway.metrics import SHARE_EVERY_S, Labels, Metrics
from gateway.net.server import Server
from gateway.outbox import Outbox
from gateway.upload.progress import ProgressBoard

LOOK_EVERY_S: Final = 1.0


class Expiring(Protocol):
    """A certificate source."""

    @property
    def expires_at(self) -> float:
        """Epoch seconds."""
        ...


class Gauges:
    """Keeps the gauges of one process fresh, and what it shares with its fellow workers."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        board: ProgressBoard,
        outbox: Outbox,
        circuits: Circuits,
        switch: MaintenanceSwitch,
        servers: Sequence[Server],
        certificate: Expiring | None,
        host: Callable[[], str],
        is_shared: bool,
    ) -> None:
        self._metrics = metrics
        self._board = board
        self._outbox = outbox
        self._circuits = circuits
        self._switch = switch
        self._servers = servers
        self._certificate = certificate
        self._host = host
        self._is_shared = is_shared

    async def run(self) -> None:
        """Look about once a second, for ever."""
        while True:
            await self._look()
            if self._is_shared:
                await self._share_for(LOOK_EVERY_S)
            else:
                await asyncio.sleep(LOOK_EVERY_S)

    async def _look(self) -> None:
        metrics = self._metrics
        metrics.set("gateway_uploads_active", float(len(self._board)))
        metrics.set("gateway_connections_active", float(sum(s.connections for s in self._servers)))
        metrics.set("gateway_maintenance", float(self._switch.current() is not None))
        metrics.set("gateway_outbox_pending", float(await asyncio.to_thread(self._outbox.pending)))
        levels: dict[Labels, float] = {(name,): level for name, level in self._circuits.levels()}
        metrics.replace("gateway_upstream_circuit_state", levels)
        if self._certificate is not None:
            expires: dict[Labels, float] = {(self._host(),): self._certificate.expires_at}
            metrics.replace("gateway_certificate_expiry_seconds", expires)

    async def _share_for(self, duration_s: float) -> None:
        for _ in range(round(duration_s / SHARE_EVERY_S)):
            await asyncio.to_thread(self._share)
            await asyncio.sleep(SHARE_EVERY_S)

    def _share(self) -> None:
        self._board.share()
        self._metrics.save()
