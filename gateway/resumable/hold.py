"""Owns who may change an upload now: one request over all processes, and the newest one wins.

A newcomer does not wait for a stalled request to time out: the holder is told to let go, by a call within this
process, by a small file across processes, and keeps what had arrived.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from gateway.errors import ClientGone, Superseded, UploadLocked
from gateway.http.exchange import ClientExchange, UploadBody
from gateway.resumable.resource import UploadRecords

TRY_EVERY_S: Final = 0.02
LOOK_EVERY_S: Final = 0.2  # a stalled holder lets go within this
PATIENCE_S: Final = (
    20.0  # a holder that is committing is not stopped; after this the newcomer is answered 423
)


class Holds:
    """The uploads that requests of this process hold."""

    def __init__(self, records: UploadRecords) -> None:
        self._records = records
        self._reading: dict[str, UploadBody] = {}

    @asynccontextmanager
    async def hold(self, exchange: ClientExchange, upload_id: str) -> AsyncIterator[None]:
        """The upload is this request's for the block. Raises: NotFound, UploadLocked, ClientGone."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE_S
        while (lock := self._records.try_hold(upload_id)) is None:
            if exchange.closed.done():
                raise ClientGone
            if loop.time() > deadline:
                raise UploadLocked(retry_after_s=5)
            reading = self._reading.get(upload_id)
            if reading is not None:
                reading.interrupt(Superseded())
            else:
                self._records.want(upload_id)
            await asyncio.sleep(TRY_EVERY_S)
        try:
            self._records.unwant(upload_id)
            yield
        finally:
            lock.release()

    @contextmanager
    def reading(self, upload_id: str, body: UploadBody) -> Iterator[None]:
        """While the block runs, a newcomer may end the reading of ``body``."""
        loop = asyncio.get_running_loop()
        self._reading[upload_id] = body
        watch: asyncio.TimerHandle | None = None

        def look() -> None:
            nonlocal watch
            if self._records.is_wanted(upload_id):
                body.interrupt(Superseded())
            watch = loop.call_later(LOOK_EVERY_S, look)

        watch = loop.call_later(LOOK_EVERY_S, look)
        try:
            yield
        finally:
            if watch is not None:
                watch.cancel()
            self._reading.pop(upload_id, None)
