"""The chunked coding: correct at every cut, and strict."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import MalformedRequest
from gateway.http.chunked import MAX_SIZE_LINE_BYTES, MAX_TRAILER_BYTES, ChunkedDecoder


def decode(raw: bytes, cuts: list[int]) -> tuple[bytes, ChunkedDecoder, bytes]:
    decoder = ChunkedDecoder()
    content, rest = b"", b""
    edges = [0, *sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)]
    for start, end in itertools.pairwise(edges):
        buffer = bytearray(raw[start:end])
        content += b"".join(bytes(buffer[a:b]) for a, b in decoder.feed(buffer, 0, len(buffer)))
        if decoder.is_complete:
            rest = bytes(buffer[decoder.consumed :]) + raw[end:]
            break
    return content, decoder, rest


def encode(pieces: list[bytes], trailers: bytes = b"") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces if p) + b"0\r\n" + trailers + b"\r\n"


@given(st.lists(st.binary(max_size=40), max_size=6), st.lists(st.integers(0, 500), max_size=8))
@settings(max_examples=400, deadline=None)
def test_what_was_encoded_comes_out_at_every_cut(pieces: list[bytes], cuts: list[int]) -> None:
    raw = encode(pieces, b"X-T: 1\r\n") + b"GET / next"
    content, decoder, rest = decode(raw, cuts)
    assert content == b"".join(pieces)
    assert decoder.is_complete
    assert decoder.trailers == (("x-t", "1"),)
    assert rest == b"GET / next"


def test_every_single_cut_and_byte_by_byte() -> None:
    raw = encode([b"hello", b"\r\n0\r\n\r\n", b"x" * 300])
    for cut in range(len(raw)):
        assert decode(raw, [cut])[0] == b"hello\r\n0\r\n\r\n" + b"x" * 300
    assert decode(raw, list(range(len(raw))))[0] == b"hello\r\n0\r\n\r\n" + b"x" * 300


def test_extensions_are_skipped() -> None:
    assert decode(b"5;a=b\r\nhello\r\n0\r\n\r\n", [])[0] == b"hello"


@pytest.mark.parametrize(
    "raw",
    [b"0x1\r\na\r\n0\r\n\r\n", b"-1\r\n", b"+1\r\na\r\n", b"\r\n", b"1\na\r\n", b"1\r\nab\r\n0\r\n\r\n", b"1 a\r\n",
     b"g\r\n", b"fffffffffffffffff\r\n", b"1\r\na\n0\r\n\r\n", b"0\r\nX T: a\r\n\r\n", b"0\r\n folded\r\n\r\n", b" 1\r\na\r\n",
     b"1;a\rb\r\na\r\n"],
)  # fmt: skip
def test_a_lenient_reading_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedRequest):
        decode(raw, [])


def test_a_cut_body_is_never_complete() -> None:
    raw = encode([b"hello"])
    for end in range(len(raw)):
        assert not decode(raw[:end], [])[1].is_complete


def test_size_lines_and_trailers_are_bounded() -> None:
    with pytest.raises(MalformedRequest):
        decode(b"1;" + b"a" * MAX_SIZE_LINE_BYTES, [])
    with pytest.raises(MalformedRequest):
        decode(b"0\r\n" + b"X: " + b"a" * MAX_TRAILER_BYTES, [])
    with pytest.raises(MalformedRequest):
        decode(b"0\r\n" + b"X: aaaaaaaaaa\r\n" * (MAX_TRAILER_BYTES // 10), [])
