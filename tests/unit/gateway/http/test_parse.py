"""The request head: what is accepted, what is refused, and that the fast path never outruns h11."""

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import ClientError, ExpectationFailed, MalformedRequest, MethodNotAllowed, TargetTooLong
from gateway.http.head import NO_BODY, Chunked, Sized
from gateway.http.parse import _split, parse_head


def head(*lines: str) -> bytes:
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def test_a_plain_get_is_understood() -> None:
    request = parse_head(
        head("GET /v1/x?arch=amd64 HTTP/1.1", "Host: Example.org:8443", "Accept:  text/html ")
    )
    assert (request.method, request.path, request.query) == ("GET", "/v1/x", "arch=amd64")
    assert request.host == "example.org:8443"
    assert request.wants_html
    assert request.framing == NO_BODY
    assert request.keep_alive


@pytest.mark.parametrize(
    ("fields", "framing"),
    [
        (["Content-Length: 5"], Sized(5)),
        (["Content-Length: 0"], NO_BODY),
        (["Transfer-Encoding: chunked"], Chunked()),
        (["transfer-encoding: Chunked"], Chunked()),
    ],
)
def test_the_framing_of_a_body_is_understood(fields: list[str], framing: object) -> None:
    assert parse_head(head("POST / HTTP/1.1", "Host: a", *fields)).framing == framing


AMBIGUOUS = {
    "length and coding": ["POST / HTTP/1.1", "Host: a", "Content-Length: 5", "Transfer-Encoding: chunked"],
    "two equal lengths": ["POST / HTTP/1.1", "Host: a", "Content-Length: 5", "Content-Length: 5"],
    "two lengths": ["POST / HTTP/1.1", "Host: a", "Content-Length: 5", "Content-Length: 6"],
    "length list": ["POST / HTTP/1.1", "Host: a", "Content-Length: 5, 5"],
    "signed length": ["POST / HTTP/1.1", "Host: a", "Content-Length: +5"],
    "negative length": ["POST / HTTP/1.1", "Host: a", "Content-Length: -5"],
    "huge length": ["POST / HTTP/1.1", "Host: a", "Content-Length: 99999999999999999999"],
    "hexadecimal length": ["POST / HTTP/1.1", "Host: a", "Content-Length: 0x5"],
    "empty length": ["POST / HTTP/1.1", "Host: a", "Content-Length: "],
    "unknown coding": ["POST / HTTP/1.1", "Host: a", "Transfer-Encoding: xchunked"],
    "two codings": ["POST / HTTP/1.1", "Host: a", "Transfer-Encoding: gzip, chunked"],
    "coding twice": [
        "POST / HTTP/1.1",
        "Host: a",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: chunked",
    ],
    "coding with 1.0": ["POST / HTTP/1.0", "Host: a", "Transfer-Encoding: chunked"],
    "no host": ["GET / HTTP/1.1"],
    "two hosts": ["GET / HTTP/1.1", "Host: a", "Host: a"],
    "empty host": ["GET / HTTP/1.1", "Host: "],
    "host with a path": ["GET / HTTP/1.1", "Host: a/b"],
    "host with userinfo": ["GET / HTTP/1.1", "Host: u@a"],
    "space before the colon": ["GET / HTTP/1.1", "Host: a", "X-A : b"],
    "no colon": ["GET / HTTP/1.1", "Host: a", "X-A"],
    "empty name": ["GET / HTTP/1.1", "Host: a", ": b"],
    "folded line": ["GET / HTTP/1.1", "Host: a", "X-A: b", " c"],
    "folded first line": ["GET / HTTP/1.1", " Host: a"],
    "control in a value": ["GET / HTTP/1.1", "Host: a", "X-A: b\x01c"],
    "NUL": ["GET / HTTP/1.1", "Host: a", "X-A: b\0c"],
    "two spaces": ["GET  / HTTP/1.1", "Host: a"],
    "no version": ["GET /", "Host: a"],
    "future version": ["GET / HTTP/2.0", "Host: a"],
    "odd version": ["GET / HTTP/1.1x", "Host: a"],
    "fragment": ["GET /a#b HTTP/1.1", "Host: a"],
    "relative target": ["GET a HTTP/1.1", "Host: a"],
    "star for GET": ["GET * HTTP/1.1", "Host: a"],
    "absolute target of another host": ["GET http://b/ HTTP/1.1", "Host: a"],
    "odd scheme": ["GET ftp://a/ HTTP/1.1", "Host: a"],
    "target above ASCII": ["GET /\xe4 HTTP/1.1", "Host: a"],
    "bad method": ["G(T / HTTP/1.1", "Host: a"],
}


@pytest.mark.parametrize("lines", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_an_ambiguous_head_is_refused_with_400_and_the_connection_ends(lines: list[str]) -> None:
    with pytest.raises(MalformedRequest) as caught:
        parse_head(head(*lines))
    assert caught.value.status == 400
    assert caught.value.closes


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
        b"GET / HTTP/1.1\rHost: a\r\n\r\n",
    ],
)
def test_bare_line_ends_are_refused(raw: bytes) -> None:
    with pytest.raises(MalformedRequest):
        parse_head(raw)


def test_an_absolute_target_becomes_the_origin_form() -> None:
    assert parse_head(head("GET http://a/b?c HTTP/1.1", "Host: a")).target == "/b?c"
    assert parse_head(head("GET http://a HTTP/1.1", "Host: a")).target == "/"


def test_connect_is_refused_since_this_is_no_forward_proxy() -> None:
    with pytest.raises(MethodNotAllowed):
        parse_head(head("CONNECT a:443 HTTP/1.1", "Host: a:443"))


def test_the_target_is_limited_exactly() -> None:
    assert parse_head(head(f"GET /{'a' * 9} HTTP/1.1", "Host: a"), target_bytes=10).target == "/" + "a" * 9
    with pytest.raises(TargetTooLong):
        parse_head(head(f"GET /{'a' * 10} HTTP/1.1", "Host: a"), target_bytes=10)


def test_only_100_continue_can_be_expected() -> None:
    lines = ("POST / HTTP/1.1", "Host: a", "Content-Length: 5")
    assert parse_head(head(*lines, "Expect: 100-Continue")).expects_continue
    with pytest.raises(ExpectationFailed):
        parse_head(head(*lines, "Expect: 200-ok"))


@pytest.mark.parametrize(
    ("version", "connection", "expected"),
    [
        ("1.1", "", True),
        ("1.1", "close", False),
        ("1.1", "x, Close", False),
        ("1.0", "", False),
        ("1.0", "keep-alive", True),
    ],
)
def test_keep_alive_follows_the_version_and_the_connection_field(
    version: str, connection: str, expected: bool
) -> None:
    lines = [f"GET / HTTP/{version}", "Host: a"] + ([f"Connection: {connection}"] if connection else [])
    assert parse_head(head(*lines)).keep_alive is expected


PIECES = st.sampled_from(
    [b"GET", b" ", b"/", b"/a?b", b"HTTP/1.1", b"HTTP/1.0", b"\r\n", b"\n", b"\r", b"Host", b":", b": ", b"a", b"\t",
     b"\x00", b"\x7f", b"\xff", b"X-A", b"=", b'"', b"(", b"Connection: close", b"#", b"*", b"POST", b",", b";", b"Content-Length", b"5", b"+5", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b" HTTP/1.1\r\nHost: a\r\n"]
)  # fmt: skip


@given(st.one_of(st.lists(PIECES, max_size=20).map(b"".join), st.binary(max_size=80)))
@settings(max_examples=1500, deadline=None)
def test_the_strict_shape_accepts_nothing_that_h11_refuses(start: bytes) -> None:
    for raw in (start + b"\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n" + start + b"\r\n\r\n"):
        raw = raw[: raw.find(b"\r\n\r\n") + 4]
        try:
            parse_head(raw)
        except ClientError:
            continue
        fast = _split(raw)
        if fast is None:
            continue
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(raw)
        event = connection.next_event()
        assert isinstance(event, h11.Request)
        method, target, minor, fields = fast
        assert (event.method, event.target) == (method.encode(), target.encode())
        assert event.http_version == f"1.{minor}".encode()
        assert [(n.decode("latin-1"), v.decode("latin-1")) for n, v in event.headers] == list(fields)


@given(st.binary(max_size=200))
@settings(max_examples=500, deadline=None)
def test_no_bytes_raise_anything_but_a_client_error(raw: bytes) -> None:
    try:
        parse_head(raw + b"\r\n\r\n")
    except ClientError:
        pass
