"""Which fields are one HTTP/2 request, and that none could become two behind us."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import (
    ExpectationFailed,
    GatewayError,
    HeadTooLarge,
    MalformedRequest,
    MethodNotAllowed,
    TargetTooLong,
)
from gateway.forward.rewrite import request_head
from gateway.http.exchange import Peer
from gateway.http.head import NO_BODY, Chunked, RequestHead, Sized
from gateway.http.parse import parse_head
from gateway.http.parse_fields import make_head, make_trailers

type Raw = list[tuple[bytes, bytes]]
BASE: Raw = [
    (b":method", b"POST"),
    (b":scheme", b"https"),
    (b":authority", b"A.example"),
    (b":path", b"/x?y=1"),
]
PEER = Peer(
    address="1.2.3.4", scheme="https", is_admin=False, trusts_forwarded=False, socket_address="1.2.3.4"
)


def made(raw: Raw, *, has_body: bool = True, head_bytes: int = 1000, target_bytes: int = 100) -> RequestHead:
    return make_head(raw, has_body=has_body, scheme="https", head_bytes=head_bytes, target_bytes=target_bytes)


def test_a_request_is_read() -> None:
    head = made([*BASE, (b"accept", b"text/html")])
    assert (head.method, head.target, head.path, head.query) == ("POST", "/x?y=1", "/x", "y=1")
    assert (head.host, head.version, head.wants_html, head.framing) == ("a.example", "2.0", True, Chunked())


def test_the_authority_is_the_host_and_a_host_may_repeat_it() -> None:
    assert made([*BASE, (b"host", b"a.example")]).fields.all("host") == ["a.example"]
    assert made([*BASE[:2], BASE[3], (b"host", b"b")]).host == "b"


@pytest.mark.parametrize(
    ("lengths", "has_body", "framing"),
    [
        ([], False, NO_BODY),
        ([], True, Chunked()),
        ([b"0"], False, NO_BODY),
        ([b"0"], True, NO_BODY),
        ([b"7"], True, Sized(7)),
        ([b"7"], False, None),
        ([b"7", b"7"], True, None),
        ([b"+7"], True, None),
        ([b"9" * 19], True, None),
    ],
)
def test_the_body_has_one_length_or_none(lengths: list[bytes], has_body: bool, framing: object) -> None:
    raw = [*BASE, *((b"content-length", length) for length in lengths)]
    if framing is None:
        with pytest.raises(MalformedRequest):
            made(raw, has_body=has_body)
    else:
        assert made(raw, has_body=has_body).framing == framing


def test_continue_is_expected_only_with_a_body_and_nothing_else_is() -> None:
    assert made([*BASE, (b"expect", b"100-continue")]).expects_continue
    assert not made([*BASE, (b"expect", b"100-continue")], has_body=False).expects_continue
    with pytest.raises(ExpectationFailed):
        made([*BASE, (b"expect", b"more")])


def test_sizes_are_limited_exactly() -> None:
    around = sum(len(name) + len(value) + 4 for name, value in BASE)
    raw = [*BASE, (b"x", b"v" * 50)]
    made(raw, head_bytes=around + 55)
    with pytest.raises(HeadTooLarge):
        made(raw, head_bytes=around + 54)
    made(BASE, target_bytes=6)
    with pytest.raises(TargetTooLong):
        made(BASE, target_bytes=5)


def test_connect_and_its_extension_are_refused() -> None:
    with pytest.raises(MethodNotAllowed):
        made([(b":method", b"CONNECT"), (b":authority", b"a:1")])
    with pytest.raises(MalformedRequest):
        made([(b":method", b"CONNECT"), (b":protocol", b"websocket"), *BASE[1:]])


def test_options_may_ask_for_everything() -> None:
    assert made([(b":method", b"OPTIONS"), *BASE[1:3], (b":path", b"*")]).target == "*"
    with pytest.raises(MalformedRequest):
        made([*BASE[:3], (b":path", b"*")])


@pytest.mark.parametrize(
    "raw",
    [
        [],
        BASE[1:],
        BASE[:3],
        [*BASE[:2], BASE[3]],
        [BASE[0], (b":scheme", b"http"), *BASE[2:]],
        [(b"x", b"1"), *BASE],
        [*BASE, BASE[0]],
        [*BASE, (b":status", b"200")],
        [*BASE, (b"", b"x")],
        [*BASE, (b"X", b"x")],
        [*BASE, (b"x\n", b"x")],
        [*BASE, (b"x:", b"x")],
        [*BASE, (b"x", b"a\nb")],
        [*BASE, (b"x", b"a\rb")],
        [*BASE, (b"x", b"a\0b")],
        [*BASE, (b"x", b"a\x7fb")],
        [*BASE, (b"x", b" a")],
        [*BASE, (b"x", b"a\t")],
        [*BASE, (b"connection", b"x")],
        [*BASE, (b"keep-alive", b"x")],
        [*BASE, (b"proxy-connection", b"x")],
        [*BASE, (b"transfer-encoding", b"chunked")],
        [*BASE, (b"upgrade", b"websocket")],
        [*BASE, (b"te", b"gzip")],
        [*BASE, (b"host", b"other")],
        [*BASE, (b"host", b"a.example"), (b"host", b"a.example")],
        [*BASE[:2], (b":authority", b"user@a"), BASE[3]],
        [*BASE[:2], (b":authority", b""), BASE[3]],
        [*BASE[:3], (b":path", b"")],
        [*BASE[:3], (b":path", b"x")],
        [*BASE[:3], (b":path", b"https://a/x")],
        [*BASE[:3], (b":path", b"/x y")],
        [*BASE[:3], (b":path", b"/x#y")],
        [*BASE[:3], (b":path", b"/\xc3\xa4")],
        [(b":method", b"GE T"), *BASE[1:]],
        [(b":method", b""), *BASE[1:]],
    ],
)  # fmt: skip
def test_what_two_servers_could_read_in_two_ways_is_refused(raw: Raw) -> None:
    with pytest.raises(MalformedRequest):
        made(raw)


def test_trailers_are_fields_like_others_and_no_pseudo_header() -> None:
    assert make_trailers([(b"x", b"1")], head_bytes=100) == (("x", "1"),)
    for bad in ([(b":path", b"/")], [(b"x", b"a\nb")], [(b"transfer-encoding", b"chunked")]):
        with pytest.raises(MalformedRequest):
            make_trailers(bad, head_bytes=100)
    with pytest.raises(HeadTooLarge):
        make_trailers([(b"x", b"1" * 100)], head_bytes=100)


NAMES = st.one_of(
    st.sampled_from([b"host", b"x", b"te", b"content-length", b"transfer-encoding", b"cookie"]),
    st.binary(max_size=4),
)
VALUES = st.one_of(
    st.sampled_from([b"a", b"1", b"chunked", b"a\r\nx: y", b"trailers"]), st.binary(max_size=6)
)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=5), st.binary(max_size=6), st.booleans())
def test_whatever_is_accepted_reaches_the_upstream_as_exactly_one_request(
    extra: Raw, path: bytes, has_body: bool
) -> None:
    try:
        head = made([*BASE[:3], (b":path", b"/" + path), *extra], has_body=has_body)
    except GatewayError:
        return
    sent = parse_head(request_head(head, PEER, "id"))
    assert (sent.method, sent.target, sent.host) == (head.method, head.target, head.host)
    assert sent.framing == head.framing
