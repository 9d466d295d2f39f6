"""Owns the gateway's upstreams as trace sees them: how each is watched, and led through a proxy."""

from collections.abc import Iterable, Iterator, Mapping

from gateway.forward.backend import RouteBackend
from gateway.forward.origin import Origin
from gateway.forward.pool import UpstreamPool
from gateway.settings import Settings
from gateway.trace.events import Address, Hop, Sight
from gateway.trace.observers import HopObserver
from gateway.trace.s3_hop import OnS3Wire, S3Hop


class PoolHop:
    """The core, or a route's backend."""

    def __init__(self, kind: str, pool: UpstreamPool) -> None:
        self.kind = kind
        self._pool = pool

    def watch(self, sight: Sight | None) -> None:
        """Let every exchange be seen from now on; None: none."""
        self._pool.observer = None if sight is None else HopObserver(self.kind, sight)

    def detour(self, address: Address | None) -> None:
        """Dial this plain address instead from now on; None: the own one again."""
        self._pool.redirect(None if address is None else Origin(host=address[0], port=address[1]))

    def describe(self) -> Mapping[str, str]:
        """Where it leads."""
        return {"url": self._pool.url}


def hops_of(
    core: UpstreamPool, backends: Iterable[RouteBackend], stores: Iterable[object], settings: Settings
) -> Iterator[Hop]:
    """All of them: the core, the backends of routes, and S3 if a store is there."""
    yield PoolHop("core", core)
    for backend in backends:
        for pool in backend.pools:
            yield PoolHop(f"route {backend.place}", pool)
    for store in stores:
        if isinstance(store, OnS3Wire):
            yield S3Hop(store.wire, settings)
