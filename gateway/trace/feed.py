"""Owns what the gateway tells ``gateway trace``: the requests of clients beside its hops, by its socket."""

from collections.abc import Callable, Iterable
from pathlib import Path

from gateway.http.exchange import ClientExchange
from gateway.net.connection import ConnectionContext
from gateway.trace.events import Hop
from gateway.trace.observers import ClientObserver
from gateway.trace.outlet import GATEWAY_SOCKET, Outlet


class TraceFeed(Outlet):
    """``DATA_DIR/run/trace-PID.sock``, 0600."""

    def __init__(
        self, folder: Path, contexts: Iterable[ConnectionContext], hops: Callable[[], Iterable[Hop]]
    ) -> None:
        """``contexts`` and ``hops`` are looked through whenever the first listener comes or the last one goes."""
        super().__init__(folder, GATEWAY_SOCKET, hops)
        self._contexts = contexts
        self._client = ClientObserver(self.sight)

    def finished(self, exchange: ClientExchange) -> None:
        """A client's request is over; called only while ``is_on``."""
        self._client.finished(exchange)

    def switched(self) -> None:
        for context in self._contexts:
            context.observer = self._client if self.is_on else None
