"""Owns the proof that clients are told before they send anything: while S3 is away, and while it refuses our keys."""

import json
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.test_s3_down import ask, upload
from tests.support.library_client import ClientFailed
from tests.support.product import Product, running_product
from tests.support.seaweed import ACCESS_KEY, SECRET_KEY, Seaweed
from tests.support.sif import make_sif, make_small_sif

MIB = 1 << 20
SENTENCE = "The store cannot be used right now"
TUS = {"Tus-Resumable": "1.0.0", "Upload-Length": "100"}


@contextmanager
def site(folder: Path) -> Iterator[tuple[Seaweed, Product]]:
    seaweed = Seaweed(folder / "s3")
    seaweed.start()
    try:
        with running_product(folder / "product", settings=seaweed.environ) as product:
            yield seaweed, product
    finally:
        seaweed.stop()


@pytest.fixture
def short_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="gw-") as folder:
        yield Path(folder)


def first_line_to_waiting_upload(product: Product, token: str) -> str:
    """What a client hears that has sent only the head of a large upload and waits for 100 Continue."""
    plain = socket.create_connection(("127.0.0.1", product.https_port), timeout=60)
    with product.ssl_context().wrap_socket(plain, server_hostname="localhost") as door:
        door.sendall(
            f"POST /upload?collection=ada/tools&name=big HTTP/1.1\r\nHost: localhost:{product.https_port}\r\n"
            f"Authorization: Bearer {token}\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            f"Content-Length: {64 * MIB}\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        with door.makefile("rb") as answer:
            return answer.readline().decode()


def begin_resumable(product: Product, token: str) -> tuple[int, bool]:
    """Status, and whether it says when to try again."""
    path = "/uploads/?collection=ada/tools&name=tus"
    headers = {"Authorization": f"Bearer {token}", **TUS}
    status, fields, _ = ask(product, path, headers=headers, method="POST", data=b"")
    return status, int(fields.get("retry-after", 0)) > 0


def check_refused(product: Product, token: str, folder: Path) -> None:
    client = product.library(token)
    small = make_small_sif(folder / "small.sif")
    large = make_sif(folder / "large.sif", size_bytes=65 * MIB)
    for image in (small, large):
        with pytest.raises(ClientFailed, match=SENTENCE):
            client.run("push", f"ada/tools/{image.stem}", image)
    assert begin_resumable(product, token) == (503, True)
    assert " 503 " in first_line_to_waiting_upload(product, token)
    status, fields, body = upload(product, token, b"tiny")
    assert (status, int(fields["retry-after"]) > 0) == (503, True)
    assert SENTENCE in json.loads(body)["error"]["message"]


def check_taken(product: Product, token: str, folder: Path) -> None:
    product.wait_ready()
    product.library(token).run("push", "ada/tools/small", folder / "small.sif")
    product.library(token).run("push", "ada/tools/large", folder / "large.sif")
    assert begin_resumable(product, token) == (201, False)
    assert " 100 " in first_line_to_waiting_upload(product, token)


@pytest.mark.slow
def test_while_s3_is_away_every_client_hears_it_before_it_sends(short_path: Path) -> None:
    with site(short_path) as (seaweed, product):
        token = product.new_user("ada")
        assert upload(product, token, b"before")[0] == 201
        seaweed.stop()
        check_refused(product, token, short_path)
        seaweed.start()
        check_taken(product, token, short_path)


@pytest.mark.slow
def test_a_server_that_refuses_the_keys_is_as_good_as_away_until_it_takes_them(short_path: Path) -> None:
    with site(short_path) as (seaweed, product):
        token = product.new_user("ada")
        assert upload(product, token, b"before")[0] == 201
        seaweed.stop()
        seaweed.accept_keys((ACCESS_KEY, "changed by somebody"))
        seaweed.start()
        check_refused(product, token, short_path)
        seaweed.stop()
        seaweed.accept_keys((ACCESS_KEY, SECRET_KEY))
        seaweed.start()
        check_taken(product, token, short_path)
