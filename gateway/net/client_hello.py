"""Owns the first message of a TLS client: which name and which protocols it asks for (RFC 8446 4.1.2). Pure."""

from dataclasses import dataclass
from typing import Final

# Real ones have 200 to 2,000 bytes, with post-quantum key shares; RFC 8446 allows one record of 16 KiB and more.
MOST_BYTES: Final = 32 * 1024

_HANDSHAKE_RECORD: Final = 22
_CLIENT_HELLO: Final = 1
_HEADER: Final = 4  # of a handshake message: type and length
_SERVER_NAME: Final = 0
_ALPN: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientHello:
    """``server_name`` is lower case, "" if none was sent."""

    server_name: str = ""
    protocols: tuple[str, ...] = ()


class _Cursor:
    """Reads length-prefixed fields; IndexError when a field leaves its frame."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise IndexError(count)
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def vector(self, length_size: int) -> bytes:
        return self.take(self.number(length_size))


def read_client_hello(data: bytes) -> ClientHello | None:
    """What the first bytes of a connection say; None while more are needed to tell.

    What is no ClientHello gives an empty one: OpenSSL then finds the words to refuse it.
    """
    message = bytearray()
    records = _Cursor(data)
    while len(message) < _HEADER or len(message) < _HEADER + int.from_bytes(message[1:_HEADER]):
        if len(data) > MOST_BYTES:
            return ClientHello()
        if records.left and data[len(data) - records.left] != _HANDSHAKE_RECORD:
            return ClientHello()
        try:
            records.take(3)  # type and version
            message += records.vector(2)
        except IndexError:
            return None
        if message and message[0] != _CLIENT_HELLO:
            return ClientHello()
    try:
        return _read_body(_Cursor(bytes(message[_HEADER : _HEADER + int.from_bytes(message[1:_HEADER])])))
    except (IndexError, UnicodeDecodeError):
        return ClientHello()


def _read_body(body: _Cursor) -> ClientHello:
    body.take(2 + 32)  # version and random
    body.vector(1)  # session id
    body.vector(2)  # cipher suites
    body.vector(1)  # compression methods
    name, protocols = "", tuple[str, ...]()
    extensions = _Cursor(body.vector(2) if body.left else b"")
    while extensions.left:
        kind, content = extensions.number(2), _Cursor(extensions.vector(2))
        if kind == _SERVER_NAME:
            name = _read_name(_Cursor(content.vector(2)))
        elif kind == _ALPN:
            protocols = _read_protocols(_Cursor(content.vector(2)))
    return ClientHello(server_name=name, protocols=protocols)


def _read_name(names: _Cursor) -> str:
    names.take(1)  # host_name is the only type there is
    return names.vector(2).decode("ascii").lower()


def _read_protocols(listed: _Cursor) -> tuple[str, ...]:
    protocols = []
    while listed.left:
        protocols.append(listed.vector(1).decode("latin-1"))
    return tuple(protocols)
