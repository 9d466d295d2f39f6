"""What a client's first message says, at every place where it may be cut."""

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.net.client_hello import MOST_BYTES, ClientHello, read_client_hello


def hello(name: str | None = "Registry.Example", protocols: tuple[str, ...] = ("h2", "http/1.1")) -> bytes:
    """A real ClientHello, by OpenSSL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if protocols:
        context.set_alpn_protocols(list(protocols))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def in_records_of(data: bytes, size: int) -> bytes:
    """The same message, fragmented over records."""
    head, message = data[:3], data[5:]
    pieces = [message[i : i + size] for i in range(0, len(message), size)]
    return b"".join(head + len(piece).to_bytes(2) + piece for piece in pieces)


def test_name_and_protocols_are_read() -> None:
    assert read_client_hello(hello()) == ClientHello(
        server_name="registry.example", protocols=("h2", "http/1.1")
    )
    assert read_client_hello(hello(None, ())) == ClientHello()


def test_every_beginning_asks_for_more_and_nothing_after_the_message_matters() -> None:
    data = hello()
    for cut in range(len(data)):
        assert read_client_hello(data[:cut]) is None
    assert read_client_hello(data + b"anything") == read_client_hello(data)


@pytest.mark.parametrize("size", [1, 3, 4, 5, 100])
def test_a_message_in_many_records_is_put_together(size: int) -> None:
    assert read_client_hello(in_records_of(hello(), size)) == read_client_hello(hello())


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
        b"\x16\x03\x01\x00\x06\x01\x00\x00\x02\x03\x03",
        hello()[:5] + b"\x02" + hello()[6:],
    ],
    ids=["http", "alert", "no hello", "hello too short", "server hello"],
)
def test_what_is_no_client_hello_says_nothing(data: bytes) -> None:
    assert read_client_hello(data) == ClientHello()


def test_an_endless_message_is_given_up() -> None:
    record = b"\x16\x03\x01\x40\x00" + b"\x01\xff\xff\xff" + bytes(0x4000 - 4)
    endless = record * 3
    assert read_client_hello(endless[:MOST_BYTES]) is None
    assert read_client_hello(endless[: MOST_BYTES + 1]) == ClientHello()


def test_lengths_that_lie_say_nothing() -> None:
    data = hello()
    at = data.index(b"Registry.Example") - 5
    assert read_client_hello(data[:at] + b"\xff\xff" + data[at + 2 :]) == ClientHello()


@given(st.binary(max_size=200))
def test_no_bytes_make_it_fail(tail: bytes) -> None:
    read_client_hello(tail)
    read_client_hello(b"\x16\x03\x01" + len(tail).to_bytes(2) + tail)
    body = b"\x01" + len(tail).to_bytes(3) + tail
    read_client_hello(b"\x16\x03\x01" + len(body).to_bytes(2) + body)
