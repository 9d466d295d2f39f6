"""Owns the way of a file's bytes from the event loop to worker threads: in order, bounded, and back."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final

from gateway.net.blocks import Block
from gateway.upload.threads import UploadThreads

PENDING_BYTES: Final = 3 * 1024 * 1024  # how far a file's receiver may run ahead of its slowest worker
# Then it is another file's turn: a fast one would keep its thread to its end.
_TURN_BYTES: Final = 1024 * 1024
# Up to this a second thread saves nothing (docs/bench.md).
_SPLIT_BYTES: Final = 256 * 1024


class Lane:
    """Runs ``work(data)`` for one file on one thread at a time, in order, and lets go of each block afterwards.

    The first failure ends it: later data is dropped, and ``finish`` raises it.
    """

    def __init__(self, threads: Executor, work: Callable[[memoryview | bytes], object]) -> None:
        self._threads = threads
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._jobs: deque[tuple[memoryview | bytes, Block | None]] = deque()
        self._lock = threading.Lock()
        self._is_running = False
        self._pending_bytes = 0  # only the event loop counts
        self._room: asyncio.Future[None] | None = None
        self._failure: BaseException | None = None

    @property
    def is_well(self) -> bool:
        """Whether nothing failed so far."""
        return self._failure is None

    def submit(self, data: memoryview | bytes, block: Block | None) -> None:
        """Queue ``data``; ``block`` is the one that it is a slice of, if any."""
        if block is not None:
            block.borrow()
        self._pending_bytes += len(data)
        with self._lock:
            self._jobs.append((data, block))
            if self._is_running:
                return
            self._is_running = True
        self._threads.submit(self._run)

    async def has_room(self) -> None:
        """Wait until this lane is not too far behind. Raises: the lane's failure."""
        while self._pending_bytes > PENDING_BYTES and self._failure is None:
            await self._wait()
        self._raise_failure()

    async def finish(self) -> None:
        """Wait until everything queued is done. Raises: the lane's failure."""
        await self.settle()
        self._raise_failure()

    async def settle(self) -> None:
        """Wait until nothing is queued or running, however it went."""
        while self._pending_bytes:
            await self._wait()

    async def _wait(self) -> None:
        self._room = self._loop.create_future()
        await self._room

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        turn = 0
        while turn < _TURN_BYTES:
            with self._lock:
                if not self._jobs:
                    self._is_running = False
                    return
                data, block = self._jobs.popleft()
            failure: BaseException | None = None
            if self._failure is None:
                try:
                    self._work(data)
                except BaseException as exc:  # noqa: BLE001 - carried to the event loop, raised there
                    failure = exc
            self._loop.call_soon_threadsafe(self._done, len(data), block, failure)
            turn += len(data)
        self._threads.submit(self._run)

    def _done(self, size: int, block: Block | None, failure: BaseException | None) -> None:
        self._pending_bytes -= size
        if failure is not None and self._failure is None:
            self._failure = failure
        if block is not None:
            block.release()
        if self._room is not None and not self._room.done():
            self._room.set_result(None)


def lanes_of(
    threads: UploadThreads,
    size: int | None,
    *,
    digest: Callable[[memoryview | bytes], object],
    write: Callable[[memoryview | bytes], object],
) -> list[Lane]:
    """The way of one file of ``size`` bytes (None = not known): one lane when it is small, else one for each."""

    def both(data: memoryview | bytes) -> None:
        write(data)
        digest(data)

    if size is not None and size <= _SPLIT_BYTES:
        return [Lane(threads.storing, both)]
    return [Lane(threads.digesting, digest), Lane(threads.storing, write)]
