"""Owns the proof that what is told of an exchange with S3 is what happened: its end, and the bytes that came."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from gateway.settings import S3
from gateway.store.s3 import S3Wire
from gateway.store.s3_reading import S3File
from gateway.store.s3_tap import S3Seen

MIB = 1 << 20
BODY = bytes(range(256)) * (8 * MIB // 256)


class Cutting:
    """Serves ``BODY``, each answer cut after so many of its bytes (the whole length is promised all the same)."""

    def __init__(self, *cuts: int) -> None:
        self._cuts = list(cuts)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            asked = b""
            while b"\r\n\r\n" not in asked:
                asked += connection.recv(65536)
            _, _, rest = asked.lower().partition(b"range: bytes=")
            start = int(rest.partition(b"-")[0] or 0)
            left = BODY[start:]
            connection.sendall(
                b'HTTP/1.1 206 Partial Content\r\netag: "x"\r\ncontent-length: %d\r\n\r\n' % len(left)
                + left[: self._cuts.pop(0)]
            )
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)  # until the other side goes


type Reader = Callable[..., tuple[S3Wire, list[S3Seen]]]


@pytest.fixture
def watched() -> Iterator[Reader]:
    opened: list[Cutting | S3Wire] = []

    def start(*cuts: int) -> tuple[S3Wire, list[S3Seen]]:
        server = Cutting(*cuts)
        values = {"access_key": "key", "secret_key": "secret", "endpoint": server.endpoint}
        wire = S3Wire(S3.model_validate(values))
        seen: list[S3Seen] = []
        wire.observer = seen.append
        opened.extend((wire, server))
        return wire, seen

    yield start
    for each in opened:
        each.close()


def test_a_read_to_the_end_is_one_exchange_that_ends_with_its_last_byte(watched: Reader) -> None:
    wire, seen = watched(len(BODY))
    with S3File(wire, "k", offset=0, length=None) as file:
        assert not seen
        assert file.read() == BODY
    [exchange] = seen
    assert (exchange.status, exchange.received, exchange.error) == (206, len(BODY), "")
    assert exchange.head_s is not None
    assert exchange.seconds > exchange.head_s


def test_a_read_that_is_given_up_tells_the_bytes_that_were_taken(watched: Reader) -> None:
    wire, seen = watched(len(BODY))
    with S3File(wire, "k", offset=0, length=None) as file:
        taken = len(file.read(MIB))
        assert not seen
    [exchange] = seen
    assert (exchange.received, exchange.error) == (taken, "cut")


def test_a_death_in_the_middle_of_a_body_is_told_and_the_rest_is_another_exchange(watched: Reader) -> None:
    wire, seen = watched(3 * MIB, len(BODY))
    with S3File(wire, "k", offset=0, length=None) as file:
        assert file.read() == BODY
    broken, resumed = seen
    assert (broken.received, broken.error) == (3 * MIB, "IncompleteRead")
    assert (resumed.received, resumed.error) == (len(BODY) - 3 * MIB, "")


def test_a_whole_answer_that_breaks_off_tells_what_came_of_it(watched: Reader) -> None:
    wire, seen = watched(MIB, len(BODY))
    assert wire.request("GET", "k").body == BODY
    broken, whole = seen
    assert (broken.received, broken.error) == (MIB, "IncompleteRead")
    assert (whole.received, whole.error) == (len(BODY), "")


def test_who_stops_listening_in_the_middle_is_told_no_more(watched: Reader) -> None:
    wire, seen = watched(len(BODY))
    with S3File(wire, "k", offset=0, length=None) as file:
        file.read(MIB)
        wire.observer = None
        file.read()
    assert not seen
