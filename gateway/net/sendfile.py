"""Owns how a file's bytes go from the page cache to a socket without passing through this process.

What lies in memory is sent by the event loop itself, which costs no hop between threads; what must be read from a disk
first is sent from a worker thread, so that a slow disk holds up nobody else.
"""

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

# As much as the event loop sends at a time: half a millisecond.
PIECE_BYTES: Final = 2 * 1024 * 1024
# As much as a thread sends at a time, and what is read ahead of it.
COLD_PIECE_BYTES: Final = 8 * 1024 * 1024


@contextmanager
def corked(descriptor: int) -> Iterator[int]:
    """A descriptor of one's own for the same socket, which sends only full segments while this lasts.

    Each piece would end in a small one otherwise, and a congestion control that counts segments (BBR) would take
    that for all there is.
    """
    with socket.socket(fileno=os.dup(descriptor)) as own:
        with suppress(OSError):  # a socket of the unix kind has no segments
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        try:
            yield own.fileno()
        finally:
            with suppress(OSError):
                own.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)


async def send_ready(to: int, file: int, offset: int, count: int) -> int:
    """Send bytes of ``file`` until the socket takes no more, ``count`` are sent, or it is others' turn.

    Returns how many; 0 means that the socket is full. Raises: OSError, EOFError (the file is shorter).
    """
    piece = min(count, PIECE_BYTES)
    if not _is_in_memory(file, offset, piece):
        piece = min(count, COLD_PIECE_BYTES)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, _read_and_send, to, file, offset, piece)
    sent = _send(to, file, offset, piece)
    if sent == piece:
        await asyncio.sleep(0)
    return sent


def _read_and_send(to: int, file: int, offset: int, count: int) -> int:
    # A hint, but it may wait for the disk: where the bytes lie must be read too.
    with suppress(OSError):
        os.posix_fadvise(file, offset, count, os.POSIX_FADV_WILLNEED)
    return _send(to, file, offset, count)


def _is_in_memory(file: int, offset: int, count: int) -> bool:
    """Whether the first and the last byte are; what lies between was read with them, or nearly."""
    probe = bytearray(1)
    try:
        return all(os.preadv(file, (probe,), at, os.RWF_NOWAIT) for at in (offset, offset + count - 1))
    except OSError:  # it would wait, or the file system cannot tell
        return False


def _send(to: int, file: int, offset: int, count: int) -> int:
    sent = 0
    while sent < count:
        try:
            step = os.sendfile(to, file, offset + sent, count - sent)
        except BlockingIOError:
            break
        if step == 0:
            raise EOFError("the blob is shorter than its size")
        sent += step
    return sent
