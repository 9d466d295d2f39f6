"""Owns what ``gateway trace`` sees of the registry: its own exchanges with S3, under the requests they are for.

Where clients go to S3 by themselves, nobody else talks to it about their uploads.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

from gateway.errors import StoreDown
from gateway.trace.events import Hop
from gateway.trace.outlet import CORE_SOCKET, Outlet
from gateway.trace.s3_hop import OnS3Wire, S3Hop
from registry_core.registry import Registry


@asynccontextmanager
async def told_to_trace(registry: Registry) -> AsyncIterator[None]:
    """For as long as the block runs, whoever runs ``gateway trace`` is told."""
    settings = registry.settings
    if settings.storage.kind != "s3":
        yield
        return

    def hops() -> Iterator[Hop]:
        with suppress(StoreDown):
            store = registry.store
            if isinstance(store, OnS3Wire):
                yield S3Hop(store.wire, settings)

    outlet = Outlet(settings.data_dir / "run", CORE_SOCKET, hops)
    telling = asyncio.create_task(outlet.run())
    try:
        yield
    finally:
        telling.cancel()
        await asyncio.wait((telling,))
