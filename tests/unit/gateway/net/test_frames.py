"""Where frames begin and end, however the bytes are cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.net.frames import (
    CONTINUATION,
    DATA,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PREFACE,
    BadPadding,
    Content,
    Frame,
    FrameScanner,
    FrameTooLong,
    frame,
    unpadded,
)

START = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WIRE = (
    START
    + frame(4, 0, 0)
    + frame(HEADERS, 0, 1, b"abc")
    + frame(CONTINUATION, 4, 1, b"de")
    + frame(DATA, 0, 1, b"content")
    + frame(DATA, 0, 1)
    + frame(DATA, PADDED, 1, b"\x02xy\0\0")
    + frame(DATA, END_STREAM, 1, b"!")
    + frame(DATA, END_STREAM, 3)
    + frame(GOAWAY, 0, 0, bytes(8))
)


def read(
    scanner: FrameScanner, pieces: list[bytes]
) -> tuple[list[tuple[int, int, bytes]], dict[int, bytes], list[int]]:
    """Whole frames, the content of each stream, the streams that ended."""
    frames, contents, ended = [], dict[int, bytes](), []
    for piece in pieces:
        for found in scanner.feed(memoryview(piece)):
            if isinstance(found, Content):
                known = contents.get(found.stream_id, b"")
                each = found.each or found.end - found.start
                contents[found.stream_id] = known + b"".join(piece[at : at + each] for at in found.starts)
                ended += [found.stream_id] if found.is_last else []
            else:
                frames.append((found.kind, found.stream_id, found.raw))
    return frames, contents, ended


@given(st.lists(st.integers(0, len(WIRE)), max_size=12))
def test_frames_are_the_same_however_the_bytes_are_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(WIRE)]
    pieces = [WIRE[start:end] for start, end in pairwise(edges)]
    frames, contents, ended = read(FrameScanner(most_bytes=100), pieces)
    assert [kind for kind, _, _ in frames] == [PREFACE, 4, HEADERS, CONTINUATION, DATA, GOAWAY]
    assert frames[2] == (HEADERS, 1, frame(HEADERS, 0, 1, b"abc"))
    assert contents == {1: b"content!", 3: b""}
    assert ended == [1, 3]


def test_every_byte_alone_gives_the_same() -> None:
    whole = read(FrameScanner(most_bytes=100), [WIRE])
    assert read(FrameScanner(most_bytes=100), [WIRE[at : at + 1] for at in range(len(WIRE))]) == whole


def test_frames_that_are_alike_are_one_run_and_others_are_not_part_of_it() -> None:
    scanner = FrameScanner(most_bytes=100)
    read(scanner, [START])
    alike = b"".join(frame(DATA, 0, 1, letter * 10) for letter in (b"a", b"b", b"c"))
    data = (
        alike
        + frame(DATA, 0, 3, b"d" * 10)
        + frame(DATA, 0, 1, b"e" * 10)
        + frame(DATA, END_STREAM, 1, b"f" * 10)
    )
    found = list(scanner.feed(memoryview(data + alike[:-1])))
    runs = [(part.stream_id, len(part.starts)) for part in found if isinstance(part, Content)]
    assert runs == [(1, 3), (3, 1), (1, 1), (1, 1), (1, 2), (1, 1)]
    again = FrameScanner(most_bytes=100)
    assert read(again, [START, data])[1] == {
        1: b"a" * 10 + b"b" * 10 + b"c" * 10 + b"e" * 10 + b"f" * 10,
        3: b"d" * 10,
    }


@pytest.mark.parametrize(("size", "is_allowed"), [(100, True), (101, False)])
@pytest.mark.parametrize("kind", [DATA, HEADERS])
def test_a_frame_is_limited_exactly(size: int, is_allowed: bool, kind: int) -> None:
    scanner = FrameScanner(most_bytes=100)
    data = START + frame(kind, 0, 1, bytes(size))
    if is_allowed:
        read(scanner, [data])
    else:
        with pytest.raises(FrameTooLong):
            read(scanner, [data[: len(START) + 9]])


def test_the_scanner_tells_whether_a_head_is_on_its_way() -> None:
    scanner = FrameScanner(most_bytes=100)
    assert not scanner.has_begun
    read(scanner, [START])
    assert scanner.has_begun
    assert not scanner.is_within_head
    read(scanner, [frame(HEADERS, 4, 1, b"abc")[:-1]])
    assert scanner.is_within_head
    read(scanner, [b"c"])
    assert not scanner.is_within_head


def test_content_of_stream_0_is_a_whole_frame_so_that_somebody_objects() -> None:
    frames, contents, _ = read(FrameScanner(most_bytes=100), [START + frame(DATA, 0, 0, b"x")])
    assert (frames[-1][0], contents) == (DATA, {})


@pytest.mark.parametrize(
    ("payload", "content"),
    [(b"\0abc", b"abc"), (b"\x03abc...", b"abc"), (b"\x03...", b""), (b"\x04...", None), (b"", None)],
)
def test_padding_is_taken_off_or_refused(payload: bytes, content: bytes | None) -> None:
    padded = Frame(DATA, PADDED, 1, frame(DATA, PADDED, 1, payload))
    if content is None:
        with pytest.raises(BadPadding):
            unpadded(padded)
    else:
        assert bytes(unpadded(padded)) == content
