"""Owns one exchange with S3 on one connection: the request out, from wherever its body lies, and the answer's head."""

import fcntl
import http.client
import select
import socket
import struct
import termios
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from gateway.store.s3_memory import Filled

CONNECT_S: Final = 5.0
ANSWER_S: Final = 60.0
PROBE_S: Final = 10.0  # whether S3 is there at all is known by then

type Body = bytes | memoryview | Filled


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked. ``key`` None is the bucket itself; ``answer_s`` is the longest pause until the answer."""

    method: str
    key: str | None
    query: dict[str, str]
    headers: dict[str, str]
    body: Body
    answer_s: float = ANSWER_S


def exchange(
    connection: http.client.HTTPConnection, call: Call, path: str, headers: dict[str, str]
) -> http.client.HTTPResponse:
    """Raises: OSError, HTTPException."""
    if connection.sock is None:
        connection.connect()
        assert connection.sock is not None  # noqa: S101 - what connect() is for
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Kept apart: of an answer after which nothing more comes, the connection lets go of it.
    wire = connection.sock
    wire.settimeout(call.answer_s)
    sized = (
        {**headers, "Content-Length": str(len(call.body))} if call.body or call.method != "GET" else headers
    )
    try:
        if isinstance(call.body, Filled):
            connection.request(call.method, path, headers=sized)
            call.body.send(wire)
        else:
            connection.request(call.method, path, body=call.body or None, headers=sized)
    except ConnectionError:
        # A server that refuses answers before it has read the body, and closes. What it has not read it has not taken.
        with suppress(OSError, http.client.HTTPException):
            response = connection.getresponse()
            if response.status >= http.HTTPStatus.MULTIPLE_CHOICES:
                return response
        raise
    response = connection.getresponse()
    if isinstance(call.body, Filled) and _is_sending(wire):
        _forget_unsent(wire)
        response.will_close = True
        if response.status < http.HTTPStatus.MULTIPLE_CHOICES:
            raise ConnectionError("S3 answered before it had the body")  # which is no success
    return response


def is_quiet(connection: http.client.HTTPConnection) -> bool:
    """Whether nothing came on a kept connection, neither its end nor an answer that nobody asked for."""
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return not poll.poll(0)


def _is_sending(wire: socket.socket) -> bool:
    """Whether the kernel has bytes that the server's kernel has not. A true answer acknowledges all of them."""
    try:
        waiting = fcntl.ioctl(wire, termios.TIOCOUTQ, bytes(struct.calcsize("i")))
    except OSError:
        return False
    return struct.unpack("i", waiting) != (0,)


def cut(connection: http.client.HTTPConnection) -> None:
    """End it, and send nothing more of what waits in it."""
    if connection.sock is not None:
        with suppress(OSError):
            _forget_unsent(connection.sock)
    connection.close()


def _forget_unsent(wire: socket.socket) -> None:
    """Its end will be a reset: the memory of what waits in it may soon have the bytes of another part."""
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
