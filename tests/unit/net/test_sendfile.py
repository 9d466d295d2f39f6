"""Tests of how a file goes to a socket: by the loop what lies in memory, by a thread what does not.

The sockets are pipes, which take no more at some point too, and files, which always take more.
"""

import asyncio
import errno
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import BinaryIO

import pytest

from gateway.net.sendfile import COLD_PIECE_BYTES, PIECE_BYTES, send_ready

SIZE = PIECE_BYTES + 4096


@pytest.fixture
def file() -> Iterator[BinaryIO]:
    with tempfile.TemporaryFile() as made:
        made.write(bytes(range(256)) * (SIZE // 256))
        made.flush()
        yield made


@pytest.fixture
def sink() -> Iterator[BinaryIO]:
    with tempfile.TemporaryFile() as made:
        yield made


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Its ends for reading and for writing. It waits for nobody."""
    ends = os.pipe2(os.O_NONBLOCK)
    yield ends
    for end in ends:
        os.close(end)


@pytest.fixture
def senders(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each call, whether the event loop's own thread made it."""
    seen: list[bool] = []
    send, loops_own = os.sendfile, threading.get_ident()

    def watched(out: int, file: int, offset: int, count: int) -> int:
        seen.append(threading.get_ident() == loops_own)
        return send(out, file, offset, count)

    monkeypatch.setattr(os, "sendfile", watched)
    return seen


def _say_of_memory(monkeypatch: pytest.MonkeyPatch, answer: Callable[[], int]) -> None:
    monkeypatch.setattr(os, "preadv", lambda *_: answer())


def _in_memory() -> int:
    return 1


def _would_wait() -> int:
    raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")


def _cannot_tell() -> int:
    raise OSError(errno.EOPNOTSUPP, "Operation not supported")


def test_what_lies_in_memory_is_sent_by_the_loop_a_piece_at_a_time(
    file: BinaryIO, sink: BinaryIO, senders: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    _say_of_memory(monkeypatch, _in_memory)
    assert asyncio.run(send_ready(sink.fileno(), file.fileno(), 0, SIZE)) == PIECE_BYTES
    assert asyncio.run(send_ready(sink.fileno(), file.fileno(), PIECE_BYTES, SIZE - PIECE_BYTES)) == 4096
    assert set(senders) == {True}
    sink.seek(0)
    file.seek(0)
    assert sink.read() == file.read()


@pytest.mark.parametrize("answer", [_would_wait, _cannot_tell])
def test_what_must_be_read_first_is_sent_by_a_thread(
    answer: Callable[[], int],
    file: BinaryIO,
    sink: BinaryIO,
    senders: list[bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _say_of_memory(monkeypatch, answer)
    assert asyncio.run(send_ready(sink.fileno(), file.fileno(), 0, SIZE)) == min(SIZE, COLD_PIECE_BYTES)
    assert set(senders) == {False}
    sink.seek(0)
    file.seek(0)
    assert sink.read() == file.read()


def test_reading_ahead_is_asked_for_where_it_may_wait_and_its_failure_means_nothing(
    file: BinaryIO, sink: BinaryIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    askers: list[int] = []

    def refuse(*_: int) -> None:
        askers.append(threading.get_ident())
        raise OSError(errno.ESPIPE, "Illegal seek")

    _say_of_memory(monkeypatch, _would_wait)
    monkeypatch.setattr(os, "posix_fadvise", refuse)
    assert asyncio.run(send_ready(sink.fileno(), file.fileno(), 0, 100)) == 100
    assert len(askers) == 1
    assert askers != [threading.get_ident()]


def test_after_a_whole_piece_it_is_others_turn(
    file: BinaryIO, sink: BinaryIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    _say_of_memory(monkeypatch, _in_memory)

    async def story() -> list[str]:
        turns: list[str] = []

        async def download(name: str) -> None:
            for _ in range(3):
                await send_ready(sink.fileno(), file.fileno(), 0, SIZE)
                turns.append(name)

        async with asyncio.TaskGroup() as group:
            group.create_task(download("a"))
            group.create_task(download("b"))
        return turns

    assert asyncio.run(story()) == ["a", "b"] * 3


@pytest.mark.parametrize("answer", [_in_memory, _would_wait])
def test_a_full_socket_is_told_and_nothing_is_sent_twice(
    answer: Callable[[], int], file: BinaryIO, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _say_of_memory(monkeypatch, answer)
    reader, writer = pipe
    first = asyncio.run(send_ready(writer, file.fileno(), 0, SIZE))
    assert 0 < first < SIZE
    assert asyncio.run(send_ready(writer, file.fileno(), first, SIZE - first)) == 0
    content = b""
    while len(content) < first:
        content += os.read(reader, SIZE)
    file.seek(0)
    assert content == file.read(first)
    assert asyncio.run(send_ready(writer, file.fileno(), first, SIZE - first)) > 0


@pytest.mark.parametrize("offset", [SIZE - 10, SIZE, SIZE + 10])
def test_a_file_that_was_cut_meanwhile_is_an_error_and_no_endless_wait(
    offset: int, file: BinaryIO, sink: BinaryIO
) -> None:
    with pytest.raises(EOFError):
        asyncio.run(send_ready(sink.fileno(), file.fileno(), offset, 100))


@pytest.mark.parametrize("answer", [_in_memory, _would_wait])
def test_a_client_that_is_gone_is_an_error(
    answer: Callable[[], int], file: BinaryIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    _say_of_memory(monkeypatch, answer)
    reader, writer = os.pipe2(os.O_NONBLOCK)
    os.close(reader)
    try:
        with pytest.raises(BrokenPipeError):
            asyncio.run(send_ready(writer, file.fileno(), 0, 100))
    finally:
        os.close(writer)
