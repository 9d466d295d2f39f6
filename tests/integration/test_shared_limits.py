"""Owns what several workers have in common besides the port: their limits and their numbers."""

import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.product import Product, running_product

UPLOADS, CONNECTIONS = 2, 24
BOUNDARY = "limits"


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    settings = {
        "GATEWAY_SERVER__WORKERS": "3",
        "GATEWAY_TLS__REDIRECT": "false",
        "GATEWAY_LIMITS__UPLOADS": str(UPLOADS),
        "GATEWAY_LIMITS__CONNECTIONS": str(CONNECTIONS),
    }
    with running_product(tmp_path_factory.mktemp("limits"), settings=settings) as running:
        yield running


def connect(product: Product) -> socket.socket:
    return socket.create_connection(("127.0.0.1", product.http_port), timeout=20)


def begin_upload(product: Product, token: str, content: bytes) -> socket.socket:
    """An upload of which only the form's beginning is sent; ``content`` ends it."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'.encode()
    client = connect(product)
    client.sendall(
        b"POST /upload?collection=limits/c HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        + f"Authorization: Bearer {token}\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n".encode()
        + f"Content-Length: {len(head) + len(content)}\r\n\r\n".encode()
        + head
    )
    return client


def status_of(client: socket.socket) -> str:
    answer = b""
    while b"\r\n\r\n" not in answer:
        piece = client.recv(65536)
        if not piece:
            break
        answer += piece
    return answer[9:12].decode()


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_uploads_are_limited_over_all_workers(product: Product) -> None:
    token = product.new_user("limits")
    rest = b"content\r\n--" + BOUNDARY.encode() + b"--\r\n"
    with ExitStack() as stack:
        running = [stack.enter_context(begin_upload(product, token, rest)) for _ in range(UPLOADS)]
        until(lambda: product.get("/-/uploads")[1].count(b'"request_id"') == UPLOADS)
        for _ in range(6):  # whichever worker takes it
            with begin_upload(product, token, rest) as one_more:
                assert status_of(one_more) == "429"
        for client in running:
            client.sendall(rest)
        assert [status_of(client) for client in running] == ["201"] * UPLOADS
    with begin_upload(product, token, rest) as client:
        client.sendall(rest)
        assert status_of(client) == "201"


def test_connections_are_limited_over_all_workers(product: Product) -> None:
    def open_and_ask(stack: ExitStack) -> bool:
        client = stack.enter_context(connect(product))
        client.sendall(b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n")
        try:
            return status_of(client) == "200"
        except ConnectionError:
            return False

    def are_all_free() -> bool:
        with ExitStack() as stack:
            return all(open_and_ask(stack) for _ in range(CONNECTIONS))

    with ExitStack() as stack:
        answers = [open_and_ask(stack) for _ in range(CONNECTIONS + 6)]
        # Two that come in one moment may both get the last place.
        assert CONNECTIONS - 1 <= sum(answers) <= CONNECTIONS + 2
        assert not all(answers[CONNECTIONS:])
    until(are_all_free)


def test_what_was_answered_is_counted_whoever_is_asked(product: Product, tmp_path: Path) -> None:
    def answered() -> float:
        text = product.get("/-/metrics")[1].decode()
        return sum(float(value) for value in re.findall(r'gateway_requests_total{[^}]*404"} (\S+)', text))

    before = answered()
    for number in range(1, 6):
        for _ in range(4):
            assert product.get("/-/no-such-page")[0] == 404
        assert answered() - before == 4 * number

    folder = product.data_dir / "run" / "metrics"
    files = len(list(folder.iterdir()))
    product.restart()
    assert answered() == 0, "an earlier run does not count"
    assert len(list(folder.iterdir())) <= files
