"""Owns the proof that an upstream's bytes are understood in one way or refused, however they are cut."""

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import UpstreamProtocol
from gateway.forward.answer import HEAD_MAX_BYTES, AnswerDecoder, parse_answer_head

OK = b"HTTP/1.1 200 OK\r\n"
# name, bytes, method, content, trailers, closes: what each well-formed answer means
GOOD = [
    pytest.param(OK + b"content-length: 5\r\n\r\nhello", "GET", b"hello", (), id="sized"),
    pytest.param(
        OK + b"Content-Length: 5, 5\r\ncontent-length:5\r\n\r\nhello", "GET", b"hello", (), id="same-twice"
    ),
    pytest.param(OK + b"content-length: 0\r\n\r\n", "GET", b"", (), id="empty"),
    pytest.param(OK + b"content-length: 5\r\n\r\n", "HEAD", b"", (), id="head"),
    pytest.param(OK + b"transfer-encoding: chunked\r\n\r\n", "HEAD", b"", (), id="head-chunked"),
    pytest.param(b"HTTP/1.1 204 No\r\n\r\n", "GET", b"", (), id="204"),
    pytest.param(b"HTTP/1.1 304\r\ncontent-length: 77\r\n\r\n", "GET", b"", (), id="304"),
    pytest.param(
        OK + b"Transfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n00A;x=y\r\n0123456789\r\n0\r\n\r\n",
        "GET",
        b"hello0123456789",
        (),
        id="chunked",
    ),
    pytest.param(
        OK + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n000;x\r\nX-T: 1 \r\nx-u:\r\n\r\n",
        "GET",
        b"a",
        (("x-t", "1"), ("x-u", "")),
        id="trailers",
    ),
    pytest.param(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nlink: x\r\n\r\n"
        + OK
        + b"content-length: 1\r\n\r\na",
        "GET",
        b"a",
        (),
        id="interim",
    ),
]


def feed_in_steps(raw: bytes, method: str, step: int) -> tuple[AnswerDecoder, bytes]:
    decoder = AnswerDecoder()
    decoder.begin(method, may_upgrade=False)
    content = b""
    for position in range(0, len(raw), step):
        decoder.feed(raw[position : position + step])
        content += decoder.take()
    return decoder, content


@pytest.mark.parametrize("step", [1, 2, 3, 7, 10_000])
@pytest.mark.parametrize(("raw", "method", "content", "trailers"), GOOD)
def test_a_good_answer_means_the_same_however_it_is_cut(
    raw: bytes, method: str, content: bytes, trailers: tuple[tuple[str, str], ...], step: int
) -> None:
    decoder, got = feed_in_steps(raw, method, step)
    assert decoder.is_complete
    assert decoder.is_reusable
    assert (got, decoder.trailers) == (content, trailers)
    decoder.end()


@pytest.mark.parametrize("step", [1, 10_000])
@pytest.mark.parametrize(
    "raw",
    [
        OK + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        OK + b"content-length: 5\r\ncontent-length: 6\r\n\r\n",
        OK + b"content-length: 5, 6\r\n\r\n",
        OK + b"content-length: +5\r\n\r\n",
        OK + b"content-length: -5\r\n\r\n",
        OK + b"content-length: 5 5\r\n\r\n",
        OK + b"content-length: \xb2\r\n\r\n",
        OK + b"content-length:\r\n\r\n",
        OK + b"content-length: 1234567890123456789\r\n\r\n",
        OK + b"transfer-encoding: gzip, chunked\r\n\r\n",
        OK + b"transfer-encoding: xchunked\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        OK + b"X-A : b\r\n\r\n",
        OK + b"x-a: b\r\n folded\r\n\r\n",
        OK + b"no colon\r\n\r\n",
        OK + b": empty\r\n\r\n",
        OK + b"x-a: b\nx-b: c\r\n\r\n",
        OK + b"x-a: b\rx-b: c\r\n\r\n",
        OK + b"x-a: b\x00c\r\n\r\n",
        OK + b"x\xe4: b\r\n\r\n",
        b"HTTP/1.1 200 OK\nx-a: b\n\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 20\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 600 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1 \xb200 OK\r\n\r\n",
        b"http/1.1 200 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x01\x00\x02",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 17,
        OK + b"x: " + b"y" * HEAD_MAX_BYTES + b"\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n0x1\r\na\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n-1\r\na\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n1 1\r\na\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n1\na\n",
        OK + b"transfer-encoding: chunked\r\n\r\n1\r\nab\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n1\r\na\n0\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n" + b"0" * 1200,
        OK + b"transfer-encoding: chunked\r\n\r\n1234567890abcdef0\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n0\r\nx : y\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n0\r\nx: y\nz: a\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n0\r\nx: " + b"y" * 17_000,
    ],
)
def test_a_doubtful_answer_is_refused(raw: bytes, step: int) -> None:
    with pytest.raises(UpstreamProtocol):
        feed_in_steps(raw, "GET", step)


@pytest.mark.parametrize(("raw", "method", "content", "trailers"), GOOD)
def test_a_cut_answer_is_refused_wherever_it_is_cut(
    raw: bytes, method: str, content: bytes, trailers: tuple[tuple[str, str], ...]
) -> None:
    del content, trailers
    for end in range(len(raw)):
        decoder, _ = feed_in_steps(raw[:end], method, 10_000)
        assert not decoder.is_complete
        with pytest.raises(UpstreamProtocol, match="in the middle" if end else "without an answer"):
            decoder.end()


@pytest.mark.parametrize(
    "raw", [OK + b"\r\nhello", b"HTTP/1.0 200 OK\r\n\r\nhello", OK + b"connection: close\r\n\r\nhello"]
)
def test_without_framing_the_end_is_the_end(raw: bytes) -> None:
    decoder, content = feed_in_steps(raw, "GET", 3)
    assert content == b"hello"
    assert not decoder.is_complete
    decoder.end()
    assert decoder.is_complete
    assert not decoder.is_reusable


@pytest.mark.parametrize(
    "raw",
    [
        OK + b"content-length: 1\r\nconnection: close\r\n\r\na",
        OK + b"content-length: 1\r\nConnection: x, Close\r\n\r\na",
        b"HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\na",
        OK + b"content-length: 1\r\n\r\nab",
        b"HTTP/1.1 204 No\r\ncontent-length: 2\r\n\r\nab",
        OK + b"content-length: 1\r\n\r\na" + OK,
    ],
)
def test_a_connection_that_said_more_or_less_is_not_used_again(raw: bytes) -> None:
    decoder, _ = feed_in_steps(raw, "GET", 10_000)
    assert decoder.is_complete
    assert not decoder.is_reusable


def test_http_1_0_may_ask_to_be_kept() -> None:
    decoder, _ = feed_in_steps(
        b"HTTP/1.0 200 OK\r\nconnection: Keep-Alive\r\ncontent-length: 0\r\n\r\n", "GET", 5
    )
    assert decoder.is_reusable


def test_after_a_switch_everything_is_content() -> None:
    decoder = AnswerDecoder()
    decoder.begin("GET", may_upgrade=True)
    decoder.feed(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\nHTTP/1.1 ")
    assert decoder.is_tunnel
    decoder.feed(b"200")
    assert decoder.take() == b"HTTP/1.1 200"
    decoder.end()
    assert decoder.is_complete
    assert not decoder.is_reusable


def test_the_interim_heads_are_kept_for_the_client() -> None:
    decoder, _ = feed_in_steps(b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\n", "GET", 100)
    assert [(head.status, head.fields) for head in decoder.interim] == [(103, (("link", "x"),))]
    assert decoder.head is None


def test_a_large_piece_is_passed_on_without_a_copy() -> None:
    decoder = AnswerDecoder()
    decoder.begin("GET", may_upgrade=False)
    decoder.feed(OK + b"content-length: 100000\r\n\r\n")
    piece = bytes(50_000)
    decoder.feed(piece)
    assert decoder.awaits == 50_000
    assert decoder.take() is piece


@given(st.binary(max_size=120), st.integers(min_value=1, max_value=9))
def test_any_bytes_are_understood_or_refused(tail: bytes, step: int) -> None:
    for start in (
        b"",
        b"HTTP/1.1 ",
        OK,
        OK + b"transfer-encoding: chunked\r\n\r\n",
        OK + b"content-length: 7\r\n\r\n",
    ):
        try:
            feed_in_steps(start + tail, "GET", step)
        except UpstreamProtocol:
            continue


@given(
    st.lists(
        st.tuples(
            st.text("abcXYZ-_: \t", min_size=1, max_size=8),
            st.text("abc,= \t:\x00\x7f\xe4\r\n", max_size=12),
        ),
        max_size=4,
    )
)
def test_what_h11_refuses_in_a_head_is_refused_here(pairs: list[tuple[str, str]]) -> None:
    raw = (
        OK
        + "".join(f"{name}:{value}\r\n" for name, value in pairs).encode("latin-1")
        + b"content-length: 0\r\n\r\n"
    )
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    client.send(h11.EndOfMessage())
    client.receive_data(raw)
    try:
        event = client.next_event()
        accepted = isinstance(event, h11.Response)
    except h11.RemoteProtocolError:
        accepted = False
    if not accepted:
        decoder = AnswerDecoder()
        decoder.begin("GET", may_upgrade=False)
        with pytest.raises(UpstreamProtocol):
            decoder.feed(raw)
            decoder.end()


def test_the_parsed_head_says_how_its_content_is_framed() -> None:
    head = parse_answer_head(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nX-A:  b c \t")
    assert (head.status, head.length, head.is_chunked, head.keep_alive, head.minor) == (
        200,
        12,
        False,
        True,
        1,
    )
    assert head.fields == (("content-length", "12"), ("x-a", "b c"))
