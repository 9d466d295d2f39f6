"""Owns the memory of the body path: reusable blocks that sockets receive into and worker threads read from.

A block is received into, scanned, and lent to worker threads as ``memoryview`` slices; it goes back to the pool when
the last borrower let go. All counting happens on the event loop's thread.
"""

import asyncio
from collections import deque
from typing import Final

# Measured (docs/bench.md): 1 MiB blocks halve the cost per byte of 64 KiB ones; slow clients never grow to that.
SMALLEST_BLOCK_BYTES: Final = 64 * 1024
LARGEST_BLOCK_BYTES: Final = 1024 * 1024
FAST_S: Final = 0.05  # a block filled faster than this earns the client a larger one
SLOW_S: Final = 0.5  # and slower than this a smaller one


class Block:
    """``buffer[start:filled]`` holds received bytes. Born with one borrower, its receiver."""

    __slots__ = ("_borrowers", "_pool", "buffer", "filled", "size", "view")

    def __init__(self, pool: "BlockPool", size: int) -> None:
        self.buffer = bytearray(size)
        self.view = memoryview(self.buffer)
        self.size = size
        self.filled = 0
        self._borrowers = 1
        self._pool = pool

    def borrow(self) -> None:
        """One more holder of a slice of it."""
        self._borrowers += 1

    def release(self) -> None:
        """A holder let go; after the last the block can be received into again."""
        self._borrowers -= 1
        if self._borrowers == 0:
            self._pool.take_back(self)

    def renew(self) -> None:
        """Empty, with its receiver as only borrower."""
        self.filled = 0
        self._borrowers = 1


class BlockPool:
    """All blocks of one process, at most ``limit_bytes`` of them; asking for more waits its turn."""

    def __init__(self, limit_bytes: int) -> None:
        self._allocated_bytes = 0
        self._idle: dict[int, list[Block]] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()
        self.resize(limit_bytes)

    def resize(self, limit_bytes: int) -> None:
        """Another limit from now on; what is lent stays lent, and is over when it comes back to less room."""
        self._limit_bytes = max(limit_bytes, 2 * LARGEST_BLOCK_BYTES)
        self._free_idle(0)
        waiting, self._waiters = self._waiters, deque()
        for waiter in waiting:  # there may be room for all of them now; who finds none waits again
            if not waiter.done():
                waiter.set_result(None)

    @property
    def allocated_bytes(self) -> int:
        """Memory held, idle blocks included."""
        return self._allocated_bytes

    async def lease(self, size: int) -> Block:
        """An empty block of ``size`` bytes, or a smaller one when memory is scarce."""
        while True:
            block = self._lease_now(size) or self._lease_now(SMALLEST_BLOCK_BYTES)
            if block is not None:
                return block
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def _lease_now(self, size: int) -> Block | None:
        if idle := self._idle.get(size):
            block = idle.pop()
            block.renew()
            return block
        if self._allocated_bytes + size > self._limit_bytes:
            self._free_idle(size)
        if self._allocated_bytes + size > self._limit_bytes:
            return None
        self._allocated_bytes += size
        return Block(self, size)

    def _free_idle(self, wanted: int) -> None:
        for idle in self._idle.values():
            while idle and self._allocated_bytes + wanted > self._limit_bytes:
                self._allocated_bytes -= idle.pop().size

    def take_back(self, block: Block) -> None:
        """Called by the block itself when nobody holds it any more."""
        if self._allocated_bytes > self._limit_bytes:
            self._allocated_bytes -= block.size
        else:
            self._idle.setdefault(block.size, []).append(block)
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                break


class BlockSizer:
    """Chooses the next block's size from how fast the last one filled, so that slow clients stay small."""

    __slots__ = ("is_slow", "size")

    def __init__(self, expected_bytes: int | None) -> None:
        self.is_slow = True  # until it has shown otherwise
        self.size = SMALLEST_BLOCK_BYTES
        if expected_bytes is not None and expected_bytes < SMALLEST_BLOCK_BYTES:
            self.size = max(4096, 1 << (max(expected_bytes, 1) - 1).bit_length())

    def after(self, filled: int, seconds: float) -> None:
        """Note that ``filled`` bytes took ``seconds`` to arrive."""
        self.is_slow = seconds > FAST_S
        if filled == self.size and seconds < FAST_S:
            self.size = min(max(self.size, SMALLEST_BLOCK_BYTES) * 2, LARGEST_BLOCK_BYTES)
        elif seconds > SLOW_S:
            self.size = max(self.size // 2, SMALLEST_BLOCK_BYTES)
