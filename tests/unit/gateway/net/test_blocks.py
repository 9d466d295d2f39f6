"""Tests of the pool of blocks when its limit changes under it."""

import asyncio

from gateway.net.blocks import LARGEST_BLOCK_BYTES, BlockPool

MOST = 8 * LARGEST_BLOCK_BYTES
LEAST = 2 * LARGEST_BLOCK_BYTES


def test_a_lower_limit_counts_as_soon_as_blocks_come_back() -> None:
    async def main() -> None:
        pool = BlockPool(MOST)
        blocks = [await pool.lease(LARGEST_BLOCK_BYTES) for _ in range(8)]
        blocks.pop().release()
        pool.resize(LEAST)
        assert pool.allocated_bytes == 7 * LARGEST_BLOCK_BYTES
        for block in blocks:
            block.release()
        assert pool.allocated_bytes == LEAST

    asyncio.run(main())


def test_a_higher_limit_lets_all_go_on_who_wait() -> None:
    async def main() -> None:
        pool = BlockPool(LEAST)
        lent = [await pool.lease(LARGEST_BLOCK_BYTES) for _ in range(2)]
        waiting = [asyncio.ensure_future(pool.lease(LARGEST_BLOCK_BYTES)) for _ in range(3)]
        await asyncio.sleep(0)
        pool.resize(MOST)
        async with asyncio.timeout(1):
            lent += await asyncio.gather(*waiting)
        assert pool.allocated_bytes == 5 * LARGEST_BLOCK_BYTES

    asyncio.run(main())


def test_who_waits_under_a_lower_limit_goes_on_when_there_is_room_again() -> None:
    async def main() -> None:
        pool = BlockPool(MOST)
        lent = [await pool.lease(LARGEST_BLOCK_BYTES) for _ in range(8)]
        pool.resize(LEAST)
        waiting = asyncio.ensure_future(pool.lease(LARGEST_BLOCK_BYTES))
        for block in lent:
            block.release()
            await asyncio.sleep(0)
        async with asyncio.timeout(1):
            await waiting

    asyncio.run(main())
