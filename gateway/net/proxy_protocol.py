"""Owns the PROXY protocol, versions 1 and 2: who the client behind a load balancer is. Pure.

A header is believed only from addresses that the administrator trusts; that is the caller's to check.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

V1_MOST_BYTES: Final = 107  # the specification's own worst case
V2_MOST_BYTES: Final = 4096  # addresses take 216 bytes; the rest are notes of load balancers (TLVs)

_V1_START: Final = b"PROXY "
_V2_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_V2_HEAD_BYTES: Final = 16
_V2_VERSION: Final = 2
_LOCAL, _PROXY = 0, 1
_TCP_FAMILIES: Final = {0x11: 4, 0x21: 16}  # TCP over IPv4, over IPv6 → bytes of an address
_V1_LINE: Final = re.compile(
    rb"PROXY (TCP4|TCP6) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})"
)
_MOST_PORT: Final = 65535


class ProxyHeaderMalformed(ConnectionAbortedError):
    """The connection begins like a PROXY header and goes on as none. It must be cut without an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyHeader:
    """``length`` bytes are to be dropped; 0 = the connection does not begin with a header.

    ``source`` and ``destination`` are address and port, None when the sender does not tell (its own health
    check, an unknown family): then the addresses of the connection itself hold.
    """

    length: int
    source: tuple[str, int] | None = None
    destination: tuple[str, int] | None = None


def read_proxy_header(data: bytes) -> ProxyHeader | None:
    """The header at the start of a connection; None while more bytes are needed to tell.

    Raises: ProxyHeaderMalformed.
    """
    if data.startswith(_V2_SIGNATURE):
        return _read_v2(data)
    if data.startswith(_V1_START):
        return _read_v1(data)
    if _V2_SIGNATURE.startswith(data) or _V1_START.startswith(data):
        return None
    return ProxyHeader(length=0)


def _read_v1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, V1_MOST_BYTES)
    if end < 0:
        if len(data) >= V1_MOST_BYTES:
            raise ProxyHeaderMalformed("a PROXY line without an end")
        return None
    line, length = data[:end], end + 2
    if line == b"PROXY UNKNOWN" or line.startswith(b"PROXY UNKNOWN "):
        return ProxyHeader(length=length)
    found = _V1_LINE.fullmatch(line)
    if found is None:
        raise ProxyHeaderMalformed("a PROXY line of another form")
    version = 4 if found[1] == b"TCP4" else 6
    source, destination = (
        (_address(found[at].decode(), version), _port(int(found[at + 2]))) for at in (2, 3)
    )
    return ProxyHeader(length=length, source=source, destination=destination)


def _read_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < _V2_HEAD_BYTES:
        return None
    version, command = data[12] >> 4, data[12] & 15
    length = _V2_HEAD_BYTES + int.from_bytes(data[14:16])
    if version != _V2_VERSION or command not in {_LOCAL, _PROXY} or length > V2_MOST_BYTES:
        raise ProxyHeaderMalformed("a PROXY header of another version, or too long")
    if len(data) < length:
        return None
    size = _TCP_FAMILIES.get(data[13])
    if command == _LOCAL or size is None:
        return ProxyHeader(length=length)
    if length < _V2_HEAD_BYTES + 2 * size + 4:
        raise ProxyHeaderMalformed("a PROXY header too short for its addresses")
    at = _V2_HEAD_BYTES
    source, destination = data[at : at + size], data[at + size : at + 2 * size]
    ports = data[at + 2 * size : at + 2 * size + 4]
    return ProxyHeader(
        length=length,
        source=(str(ipaddress.ip_address(source)), int.from_bytes(ports[:2])),
        destination=(str(ipaddress.ip_address(destination)), int.from_bytes(ports[2:])),
    )


def _address(text: str, version: int) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError as exc:
        raise ProxyHeaderMalformed("a PROXY line with no address") from exc
    if address.version != version:
        raise ProxyHeaderMalformed("a PROXY line with an address of the other family")
    return str(address)


def _port(number: int) -> int:
    if number > _MOST_PORT:
        raise ProxyHeaderMalformed("a PROXY line with no port")
    return number
