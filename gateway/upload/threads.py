"""Owns the threads that uploads work on: many that may wait for a store, few that compute."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Self

from gateway.store.asking import CarryingThreads

_STORING: Final = 64  # a slow store holds its thread, so there are more than processors
_MOST_DIGESTING: Final = 4


@dataclass(frozen=True, slots=True)
class UploadThreads:
    """``storing`` is for whatever may wait: for the disk, for S3. ``digesting`` never waits for anything.

    Those are as many as there are processors beside the event loop's. A digest on a thread of its own for each
    upload makes every one of them wait for Python's lock: eight uploads at once were a quarter slower so
    (docs/bench.md).
    """

    storing: ThreadPoolExecutor
    digesting: ThreadPoolExecutor

    @classmethod
    def start(cls) -> Self:
        """Those of one process. Must be shut down."""
        beside = len(os.sched_getaffinity(0)) - 1
        digesting = min(max(beside, 1), _MOST_DIGESTING)
        return cls(
            CarryingThreads(_STORING, thread_name_prefix="store"),
            ThreadPoolExecutor(digesting, thread_name_prefix="digest"),
        )

    async def run[T](self, work: Callable[[], T]) -> T:
        """What ``work`` returns, which may wait."""
        return await asyncio.get_running_loop().run_in_executor(self.storing, work)

    def shutdown(self) -> None:
        """Let go; what was not begun is dropped."""
        for threads in (self.storing, self.digesting):
            threads.shutdown(wait=False, cancel_futures=True)
