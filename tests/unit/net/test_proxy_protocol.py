"""PROXY headers of both versions, cut everywhere, and what only looks like one."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.net.proxy_protocol import (
    V1_MOST_BYTES,
    V2_MOST_BYTES,
    ProxyHeader,
    ProxyHeaderMalformed,
    read_proxy_header,
)

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
TCP4 = b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n"
TCP6 = b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n"


def v2(command: int, family: int, body: bytes, *, version: int = 2, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return SIGNATURE + bytes([version << 4 | command, family]) + size.to_bytes(2) + body


def addresses(source: str, destination: str, ports: tuple[int, int] = (56324, 443)) -> bytes:
    packed = b"".join(ipaddress.ip_address(a).packed for a in (source, destination))
    return packed + b"".join(port.to_bytes(2) for port in ports)


V2_TCP4 = v2(1, 0x11, addresses("192.0.2.1", "198.51.100.7"))
V2_TCP6 = v2(1, 0x21, addresses("2001:db8::1", "2001:db8::2") + b"\x04\x00\x01x")

GOOD = {
    TCP4: (("192.0.2.1", 56324), ("198.51.100.7", 443)),
    TCP6: (("2001:db8::1", 1), ("2001:db8::2", 65535)),
    b"PROXY UNKNOWN\r\n": (None, None),
    b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n": (None, None),
    V2_TCP4: (("192.0.2.1", 56324), ("198.51.100.7", 443)),
    V2_TCP6: (("2001:db8::1", 56324), ("2001:db8::2", 443)),
    v2(0, 0x00, b""): (None, None),
    v2(0, 0x11, addresses("192.0.2.1", "192.0.2.2")): (None, None),
    v2(1, 0x31, bytes(216)): (None, None),
    v2(1, 0x12, addresses("192.0.2.1", "192.0.2.2")): (None, None),
}


@pytest.mark.parametrize("data", GOOD)
def test_a_header_is_read_at_every_cut_and_takes_only_its_own_bytes(data: bytes) -> None:
    source, destination = GOOD[data]
    wanted = ProxyHeader(length=len(data), source=source, destination=destination)
    assert read_proxy_header(data) == wanted
    assert read_proxy_header(data + b"GET / HTTP/1.1\r\n") == wanted
    for cut in range(len(data)):
        assert read_proxy_header(data[:cut]) is None


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x02\x00", b"PROPFIND /", b"\r\n\r\nGET", b"proxy TCP4"]
)
def test_a_connection_without_a_header_is_left_alone(data: bytes) -> None:
    assert read_proxy_header(data) == ProxyHeader(length=0)


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY TCP4 192.0.2.1 198.51.100.7 56324\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443 \r\n",
        b"PROXY TCP4  192.0.2.1 198.51.100.7 56324 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 056 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 65536 443\r\n",
        b"PROXY TCP4 192.0.2.256 198.51.100.7 1 443\r\n",
        b"PROXY TCP4 2001:db8::1 2001:db8::2 1 443\r\n",
        b"PROXY TCP6 192.0.2.1 198.51.100.7 1 443\r\n",
        b"PROXY UDP4 192.0.2.1 198.51.100.7 1 443\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY \r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 1 443\n\r\n",
        b"PROXY " + b"x" * V1_MOST_BYTES,
    ],
)
def test_a_line_of_another_form_cuts_the_connection(line: bytes) -> None:
    with pytest.raises(ProxyHeaderMalformed):
        read_proxy_header(line)


def test_the_longest_line_is_the_specifications() -> None:
    address = b"ffff:f...f:ffff".replace(b"f...f", b":".join([b"ffff"] * 6))
    line = b"PROXY UNKNOWN " + address + b" " + address + b" 65535 65535\r\n"
    assert len(line) == V1_MOST_BYTES
    assert read_proxy_header(line) == ProxyHeader(length=V1_MOST_BYTES)
    with pytest.raises(ProxyHeaderMalformed):
        read_proxy_header(b"PROXY UNKNOWN" + b" " * (V1_MOST_BYTES - 14) + b"\r\n")


@pytest.mark.parametrize(
    "data",
    [
        v2(1, 0x11, addresses("192.0.2.1", "198.51.100.7"), version=1),
        v2(2, 0x11, addresses("192.0.2.1", "198.51.100.7")),
        v2(1, 0x11, addresses("192.0.2.1", "198.51.100.7")[:-1]),
        v2(1, 0x21, addresses("192.0.2.1", "198.51.100.7")),
        v2(1, 0x11, b"", length=V2_MOST_BYTES - 16 + 1),
    ],
    ids=["version", "command", "short IPv4", "IPv6 with IPv4 body", "too long"],
)
def test_a_binary_header_that_contradicts_itself_cuts_the_connection(data: bytes) -> None:
    with pytest.raises(ProxyHeaderMalformed):
        read_proxy_header(data)


def test_the_longest_binary_header_is_waited_for() -> None:
    body = addresses("192.0.2.1", "198.51.100.7")
    data = v2(1, 0x11, body + bytes(V2_MOST_BYTES - 16 - len(body)))
    assert len(data) == V2_MOST_BYTES
    assert read_proxy_header(data[:-1]) is None
    assert read_proxy_header(data) is not None


@given(st.binary(max_size=300), st.sampled_from([b"", b"PROXY ", SIGNATURE, SIGNATURE + b"\x21\x11"]))
def test_no_bytes_make_it_fail_in_another_way(tail: bytes, start: bytes) -> None:
    try:
        header = read_proxy_header(start + tail)
    except ProxyHeaderMalformed:
        return
    assert header is None or 0 <= header.length <= len(start + tail)
