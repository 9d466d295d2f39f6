"""Owns the way of bytes to threads: in order, fair to other files, and a failure is told to whoever sent them."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway.upload.lane import Lane

PIECE = bytes(256 * 1024)


def test_pieces_are_worked_on_in_their_order() -> None:
    async def run() -> list[bytes]:
        done: list[bytes] = []
        with ThreadPoolExecutor(4) as threads:
            lane = Lane(threads, lambda data: done.append(bytes(data)))
            for number in range(500):
                lane.submit(b"%d" % number + PIECE[:4000], None)
            await lane.finish()
        return done

    assert [int(data.rstrip(b"\0")) for data in asyncio.run(run())] == list(range(500))


def test_a_file_that_has_much_to_do_leaves_the_only_thread_to_others() -> None:
    """With one thread for both, the other would have to wait until there is nothing more of the first."""

    async def run() -> list[str]:
        order: list[str] = []
        all_there = threading.Event()

        def note(_: object) -> None:
            all_there.wait()
            order.append("fast")

        with ThreadPoolExecutor(1) as threads:
            fast = Lane(threads, note)
            slow = Lane(threads, lambda _: order.append("slow"))
            for _ in range(100):
                fast.submit(PIECE, None)
            slow.submit(b"x", None)
            all_there.set()
            await fast.finish()
            await slow.finish()
        return order

    order = asyncio.run(run())
    assert len(order) == 101
    assert order.index("slow") < 10


def test_a_failure_is_raised_where_the_bytes_come_from_and_ends_the_work() -> None:
    async def run() -> int:
        calls = 0

        def fail(_: object) -> None:
            nonlocal calls
            calls += 1
            raise OSError("no")

        with ThreadPoolExecutor(1) as threads:
            lane = Lane(threads, fail)
            for _ in range(20):
                lane.submit(PIECE, None)
            with pytest.raises(OSError, match="no"):
                await lane.finish()
            assert not lane.is_well
        return calls

    assert asyncio.run(run()) == 1
