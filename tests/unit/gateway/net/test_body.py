"""Owns what a chunked body makes of the blocks that it arrives in."""

import asyncio
import random
from typing import cast

import pytest

from gateway.http.chunked import ChunkedDecoder
from gateway.net.blocks import Block, BlockPool
from gateway.net.body import SMALL_BYTES, Body, Inflow

BLOCK_BYTES = 256 * 1024


class Pieces:
    """An inflow that fills blocks with what it was given, in steps as a socket would."""

    def __init__(self, data: bytes, step: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.inbox = bytearray(data)
        self._step = step

    async def invite(self) -> None:
        return

    async def receive(self) -> None:
        return

    async def fill(self, block: Block, limit: int, body: Body) -> None:
        while True:
            count = min(self._step, len(self.inbox), limit - block.filled)
            block.view[block.filled : block.filled + count] = self.inbox[:count]
            del self.inbox[:count]
            block.filled += count
            if body.took(block):
                return

    def watch_body(self, body: Body | None) -> None:
        return


async def read(data: bytes, step: int) -> tuple[bytes, int, bytes]:
    """The content, the most slices that one block had, and what was left over."""
    inflow = Pieces(data, step)
    body = Body(cast(Inflow, inflow), None, ChunkedDecoder(), expects_continue=False)
    content, most = b"", 0
    async for block, ranges in body.blocks(BlockPool(8 << 20)):
        content += b"".join(bytes(block.view[start:end]) for start, end in ranges)
        most = max(most, len(ranges))
    assert body.received == len(content)
    return content, most, bytes(inflow.inbox)


def chunked(pieces: list[bytes]) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@pytest.mark.parametrize("step", [1, 7, 4096, BLOCK_BYTES])
@pytest.mark.parametrize("largest", [1, 40, SMALL_BYTES, 5 * SMALL_BYTES])
def test_content_is_whole_however_it_is_cut_and_the_next_request_is_left_alone(
    step: int, largest: int
) -> None:
    chance = random.Random(largest * step)
    pieces = [chance.randbytes(chance.randint(1, largest)) for _ in range(60)]
    content, _, rest = asyncio.run(read(chunked(pieces) + b"GET / HTTP/1.1", step))
    assert content == b"".join(pieces)
    assert rest == b"GET / HTTP/1.1"


def test_a_hundred_thousand_chunks_are_not_a_hundred_thousand_slices() -> None:
    content, most, _ = asyncio.run(read(chunked([b"y"] * 100_000), BLOCK_BYTES))
    assert content == b"y" * 100_000
    assert most == 1
