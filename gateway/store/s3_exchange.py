"""Owns one exchange with S3 on one connection: the request out, from wherever its body lies, and the answer's head."""

import http.client
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from gateway.store.s3_memory import Filled

CONNECT_S: Final = 5.0
ANSWER_S: Final = 60.0
_AT_ONCE: Final = struct.pack("ii", 1, 0)  # close() resets the connection

type Body = bytes | memoryview | Filled


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked. ``key`` None is the bucket itself."""

    method: str
    key: str | None
    query: dict[str, str]
    headers: dict[str, str]
    body: Body


def exchange(
    connection: http.client.HTTPConnection, call: Call, path: str, headers: dict[str, str]
) -> http.client.HTTPResponse:
    """Raises: OSError, HTTPException."""
    if connection.sock is None:
        connection.connect()
        assert connection.sock is not None  # noqa: S101 - what connect() is for
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sock.settimeout(ANSWER_S)
    sized = (
        {**headers, "Content-Length": str(len(call.body))} if call.body or call.method != "GET" else headers
    )
    try:
        if isinstance(call.body, Filled):
            connection.request(call.method, path, headers=sized)
            call.body.send(connection.sock)
        else:
            connection.request(call.method, path, body=call.body or None, headers=sized)
    except ConnectionError:
        # A server that refuses answers before it has read the body, and closes.
        with suppress(OSError, http.client.HTTPException):
            return connection.getresponse()
        raise
    return connection.getresponse()


def cut(connection: http.client.HTTPConnection) -> None:
    """End it, and send nothing more of what waits in it: that memory may soon have the bytes of another part."""
    if connection.sock is not None:
        with suppress(OSError):
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    connection.close()
