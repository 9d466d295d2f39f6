"""Owns how a file's bytes go from the page cache to a socket without passing through this process.

What lies in memory is sent by the event loop itself, which costs no hop between threads; what must be read from a disk
first is sent from a worker thread, so that a slow disk holds up nobody else.
"""

import asyncio
import os
from contextlib import suppress
from typing import Final

# As much as the event loop sends at a time: half a millisecond.
PIECE_BYTES: Final = 2 * 1024 * 1024
# As much as a thread sends at a time, and what is read ahead of it.
COLD_PIECE_BYTES: Final = 8 * 1024 * 1024


async def send_ready(socket: int, file: int, offset: int, count: int) -> int:
    """Send bytes of ``file`` until the socket takes no more, ``count`` are sent, or it is others' turn.

    Returns how many; 0 means that the socket is full. Raises: OSError, EOFError (the file is shorter).
    """
    piece = min(count, PIECE_BYTES)
    if not _is_in_memory(file, offset, piece):
        return await _send_cold(socket, file, offset, min(count, COLD_PIECE_BYTES))
    sent = _send(socket, file, offset, piece)
    if sent == piece:
        await asyncio.sleep(0)
    return sent


async def _send_cold(socket: int, file: int, offset: int, count: int) -> int:
    with suppress(OSError):  # a hint
        os.posix_fadvise(file, offset, count, os.POSIX_FADV_WILLNEED)
    return await asyncio.get_running_loop().run_in_executor(None, _send, socket, file, offset, count)


def _is_in_memory(file: int, offset: int, count: int) -> bool:
    """Whether the first and the last byte are; what lies between was read with them, or nearly."""
    probe = bytearray(1)
    try:
        return all(os.preadv(file, (probe,), at, os.RWF_NOWAIT) for at in (offset, offset + count - 1))
    except OSError:  # it would wait, or the file system cannot tell
        return False


def _send(socket: int, file: int, offset: int, count: int) -> int:
    sent = 0
    while sent < count:
        try:
            step = os.sendfile(socket, file, offset + sent, count - sent)
        except BlockingIOError:
            break
        if step == 0:
            raise EOFError("the blob is shorter than its size")
        sent += step
    return sent
