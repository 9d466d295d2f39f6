"""Owns the answers of S3 servers and proxies that lie: too early, twice, never, or about other bytes than were asked."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

import pytest

from gateway.errors import StoreDown
from gateway.settings import S3
from gateway.store import s3 as wire_module
from gateway.store.s3 import S3Wire
from gateway.store.s3_answers import S3Fault
from gateway.store.s3_memory import MIB, Filled, PartMemory
from gateway.store.s3_reading import S3File

type Handler = Callable[[socket.socket, int], None]
OK = b'HTTP/1.1 200 OK\r\nContent-Length: 0\r\nETag: "%b"\r\n\r\n'
_AT_ONCE = struct.pack("ii", 1, 0)


@pytest.fixture
def serve() -> Iterator[Callable[[Handler], S3Wire]]:
    """Starts a server whose connections, numbered from 0, are handled so; the way to it."""
    closers: list[Callable[[], None]] = []

    def start(handler: Handler) -> S3Wire:
        listener = socket.socket()
        listener.setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024
        )  # the kernel must not take a body whole
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def handle(connection: socket.socket, number: int) -> None:
            with closing(connection), suppress(OSError):
                handler(connection, number)

        def accept() -> None:
            with suppress(OSError):
                for number in range(100):
                    connection, _ = listener.accept()
                    threading.Thread(target=handle, args=(connection, number), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        endpoint = f"127.0.0.1:{listener.getsockname()[1]}"
        wire = S3Wire(S3.model_validate({"access_key": "k", "secret_key": "s", "endpoint": endpoint}))
        closers.extend((wire.close, lambda: listener.shutdown(socket.SHUT_RDWR), listener.close))
        return wire

    yield start
    for close in closers:
        with suppress(OSError):
            close()


def read_head(connection: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(1)
        if not piece:
            raise OSError("gone")
        head += piece
    return head


def part(byte: bytes, size: int = 8 * MIB) -> PartMemory:
    memory = PartMemory(size)
    memory.write(memoryview(byte * size), 0)
    return memory


def test_an_answer_that_nobody_asked_for_is_not_taken_for_that_of_the_next_request(
    serve: Callable[[Handler], S3Wire],
) -> None:
    told_twice = threading.Event()

    def twice(connection: socket.socket, number: int) -> None:
        while True:
            read_head(connection)
            connection.sendall(OK % b"first" if not number else OK % b"right")
            if not number:
                time.sleep(0.1)
                connection.sendall(OK % b"stale")
                told_twice.set()

    wire = serve(twice)
    assert wire.request("PUT", "one").headers["etag"] == '"first"'
    assert told_twice.wait(10)
    time.sleep(0.1)
    assert wire.request("PUT", "two").headers["etag"] == '"right"'


def test_a_success_that_came_before_the_body_was_sent_is_none(serve: Callable[[Handler], S3Wire]) -> None:
    def early(connection: socket.socket, _number: int) -> None:
        read_head(connection)
        connection.sendall(OK % b"early")
        time.sleep(0.2)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)

    wire = serve(early)
    memory = part(b"a")
    with pytest.raises(StoreDown):
        wire.request("PUT", "part", body=Filled(memory, len(memory)), patience_s=0.0)
    memory.close()


def test_memory_that_is_used_again_never_reaches_a_server_that_answered_too_early(
    serve: Callable[[Handler], S3Wire],
) -> None:
    got: list[bytes] = []
    go_on, done = threading.Event(), threading.Event()

    def early(connection: socket.socket, _number: int) -> None:
        read_head(connection)
        connection.sendall(OK % b"early")
        go_on.wait(10)
        try:
            left = MIB
            while left and (piece := connection.recv(min(left, 65536))):
                got.append(piece)
                left -= len(piece)
        finally:
            done.set()

    wire = serve(early)
    memory = part(b"a", MIB)
    with suppress(StoreDown):
        wire.request("PUT", "part", body=Filled(memory, len(memory)), patience_s=0.0)
    memory.write(memoryview(b"b" * MIB), 0)
    go_on.set()
    assert done.wait(10)
    memory.close()
    received = b"".join(got)
    assert len(received) < MIB, "a request with bytes of another part must not be whole"


def test_a_refusal_before_the_body_was_sent_is_told_and_the_connection_not_kept(
    serve: Callable[[Handler], S3Wire],
) -> None:
    def early(connection: socket.socket, number: int) -> None:
        read_head(connection)
        if number:
            connection.sendall(OK % b"second")
            return
        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        time.sleep(5)

    wire = serve(early)
    memory = part(b"a", MIB)
    with pytest.raises(S3Fault):
        wire.request("PUT", "part", body=Filled(memory, len(memory)), patience_s=0.0)
    memory.close()
    assert wire.request("PUT", "next").headers["etag"] == '"second"'


def test_a_server_that_never_answers_is_known_to_be_away_soon(
    serve: Callable[[Handler], S3Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire_module, "PROBE_S", 0.3)

    def silent(connection: socket.socket, _number: int) -> None:
        read_head(connection)
        time.sleep(5)

    wire = serve(silent)
    began = time.monotonic()
    with pytest.raises(StoreDown):
        wire.require_up("objects/", anew=True)
    assert time.monotonic() - began < 3


def test_a_server_that_does_not_know_ranges_gives_no_wrong_bytes(serve: Callable[[Handler], S3Wire]) -> None:
    def whole(connection: socket.socket, _number: int) -> None:
        while True:
            read_head(connection)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789")

    wire = serve(whole)
    with pytest.raises(StoreDown):
        S3File(wire, "object", offset=4, length=3)
    with closing(S3File(wire, "object", offset=0, length=None)) as file:
        assert file.read() == b"0123456789"


def test_who_looks_on_and_fails_breaks_nothing(serve: Callable[[Handler], S3Wire]) -> None:
    def well(connection: socket.socket, _number: int) -> None:
        read_head(connection)
        connection.sendall(OK % b"well")

    def fails(_seen: object) -> None:
        raise RuntimeError("Set changed size during iteration")

    wire = serve(well)
    wire.observer = fails
    assert wire.request("PUT", "one").headers["etag"] == '"well"'
