"""Owns the arithmetic of parts: sizes, numbers, order, and the memory they may take."""

import errno
import socket
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import StoreCorrupt, StoreDown
from gateway.store import s3_memory
from gateway.store.s3_memory import LEAST_PART_BYTES, Buffers, Filled, PartMemory
from gateway.store.s3_multipart import MOST_PART_BYTES, MOST_PARTS, part_bytes_at
from gateway.store.s3_parts import Piece, _chain, least_piece_bytes, number_at

MIB = 1 << 20
TIB = 1 << 40
MOST_FILE_BYTES = 5 * TIB


@given(size=st.integers(0, MOST_FILE_BYTES), first=st.sampled_from([5 * MIB, 8 * MIB, 16 * MIB]))
def test_a_file_of_known_size_fits_into_ten_thousand_parts(size: int, first: int) -> None:
    part = part_bytes_at(1, first=first, size_hint=size)
    assert first <= part <= MOST_PART_BYTES
    assert part * MOST_PARTS >= size
    assert part_bytes_at(9000, first=first, size_hint=size) == part


def test_a_file_of_unknown_size_may_grow_to_five_tebibytes() -> None:
    sizes = [
        part_bytes_at(number, first=LEAST_PART_BYTES, size_hint=None) for number in range(1, MOST_PARTS + 1)
    ]
    assert sum(sizes) >= MOST_FILE_BYTES
    assert sizes == sorted(sizes)
    assert max(sizes) <= MOST_PART_BYTES
    assert sizes[:950] == [LEAST_PART_BYTES] * 950


def test_a_file_that_is_larger_than_it_said_still_goes_on() -> None:
    wrong = [
        part_bytes_at(number, first=LEAST_PART_BYTES, size_hint=10) for number in range(1, MOST_PARTS + 1)
    ]
    assert sum(wrong) >= 100 * (1 << 30)


@given(total=st.integers(1, MOST_FILE_BYTES), share=st.floats(0, 1))
def test_pieces_by_position_have_numbers_of_their_own(total: int, share: float) -> None:
    least = least_piece_bytes(total)
    start = int((total - 1) * share)
    assert least >= LEAST_PART_BYTES
    assert 1 <= number_at(start, total) <= MOST_PARTS
    assert number_at(start + least, total) > number_at(start, total)


def test_pieces_are_put_in_order_and_what_another_covers_is_left_out() -> None:
    whole = Piece(start=0, size=10, number=1, etag="a")
    covered = Piece(start=4, size=3)
    after = Piece(start=10, size=5, number=2, etag="b")
    assert _chain([after, covered, whole], 15) == [whole, after]


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [Piece(start=1, size=9)],
        [Piece(start=0, size=4), Piece(start=5, size=5)],
        [Piece(start=0, size=9)],
        [Piece(start=0, size=11)],
        [Piece(start=0, size=0)],
    ],
)
def test_pieces_with_a_gap_are_not_a_file(pieces: list[Piece]) -> None:
    with pytest.raises(StoreCorrupt):
        _chain(pieces, 10)


def test_an_empty_file_is_one_empty_piece() -> None:
    assert _chain([Piece(start=0, size=0)], 0) == [Piece(start=0, size=0)]


def test_the_more_uploads_the_smaller_their_parts_but_never_below_what_s3_takes(tmp_path: Path) -> None:
    buffers = Buffers(24 * MIB, part_bytes=16 * MIB, folder=tmp_path)
    sizes = []
    for _ in range(8):
        buffers.join()
        sizes.append(buffers.fair_part_bytes() // MIB)
    assert sizes == [8, 5, 5, 5, 5, 5, 5, 5]


def test_memory_is_bounded_and_waiting_ends_when_some_is_given_back(tmp_path: Path) -> None:
    buffers = Buffers(10 * MIB, part_bytes=5 * MIB, folder=tmp_path)
    buffers.join()
    first, second = (buffers.take(5 * MIB, entitled=lambda: False) for _ in range(2))
    third = buffers.take(5 * MIB, entitled=lambda: True)
    assert len(third) == 5 * MIB, "an upload that has nothing on its way is never stuck"
    assert [part.is_memory for part in (first, second, third)] == [True, True, False]
    third.write(memoryview(b"on the disk"), 3)
    assert third.read(3, 11) == b"on the disk"
    assert list(tmp_path.iterdir()) == [], "and nothing is left of it if the process dies"
    buffers.give_back(third)
    got: list[PartMemory] = []
    waiter = threading.Thread(target=lambda: got.append(buffers.take(5 * MIB, entitled=lambda: False)))
    waiter.start()
    assert got == []
    buffers.give_back(first)
    waiter.join(10)
    (late,) = got
    buffers.give_back(second)
    buffers.give_back(late)
    buffers.leave()


def test_memory_that_the_kernel_did_not_give_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffers = Buffers(10 * MIB, part_bytes=5 * MIB, folder=tmp_path)
    buffers.join()

    def refuse(_size: int, *, folder: Path | None) -> PartMemory:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(s3_memory, "PartMemory", refuse)
        for _ in range(3):
            with pytest.raises(StoreDown):
                buffers.take(5 * MIB, entitled=lambda: True)
    both = [buffers.take(5 * MIB, entitled=lambda: pytest.fail("there is room")) for _ in range(2)]
    for memory in both:
        buffers.give_back(memory)
    buffers.leave()


def test_what_was_put_into_a_parts_memory_is_what_is_sent() -> None:
    content = bytes(range(256)) * 4096 * 2 + b"end"
    memory, other = PartMemory(3 * MIB), PartMemory(3 * MIB)
    for at in range(0, len(content), 300_000):
        memory.write(memoryview(content)[at : at + 300_000], at)
    other.write(memoryview(memory.read(100, len(content) - 100)), 0)
    received = [sent(Filled(memory, len(content))), sent(Filled(other, 1000))]
    memory.close()
    other.close()
    assert received == [content, content[100:1100]]


def sent(body: Filled) -> bytes:
    near, far = socket.socketpair()
    content = bytearray()

    def read() -> None:
        while piece := far.recv(65536):
            content.extend(piece)

    reader = threading.Thread(target=read)
    reader.start()
    with near, far:
        body.send(near)
        near.shutdown(socket.SHUT_WR)
        reader.join(10)
    return bytes(content)
