"""Owns the gateway with upload routes, the Flask application behind it, and the folder between them, for tests."""

import http.client
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.support.flask_backend import FlaskBackend, running_backend
from tests.support.forms import form, part
from tests.support.product import Product, free_port, running_product

TYPE: Final = {"Content-Type": "multipart/form-data; boundary=b"}
FILE: Final = 'name="file1"; filename="a.sif"\r\nContent-Type: application/octet-stream'
GOOD: Final = form(part('name="collection"', b"1"), part(FILE, b"hello"), part('name="secret"', b"x"))
DOWN: Final = "down"  # the route whose upstream does not listen

_HEAD: Final = """
[tls]
redirect = false
"""
_ROUTE: Final = """
[[routes]]
path = "/{name}"
action = "upload"
upstream = "{upstream}"
{store}
{more}
"""
# What a route says unless its variant says otherwise.
COMMON: Final = """
pass_to = "/done"
file_fields = ["name", "content_type", "path", "md5", "size"]
pass_fields = ["^collection$", "path"]
cleanup = ["400-599"]
"""


class Site:
    """The gateway with its routes, the application behind it, and the folder between them."""

    def __init__(self, product: Product, backend: FlaskBackend, store: Path) -> None:
        self.product = product
        self.backend = backend
        self.store = store

    def stored(self, route: str = "") -> list[Path]:
        """Every file in the store of one route or of all, finished or not."""
        return [path for path in (self.store / route).rglob("*") if path.is_file()]

    def send(
        self, name: str, body: Any, headers: Mapping[str, str] | None = None, *, method: str = "POST"
    ) -> tuple[int, bytes]:
        """One request; status and body of the answer."""
        status, _, said = self.ask(name, body, headers, method=method)
        return status, said

    def ask(
        self, name: str, body: Any, headers: Mapping[str, str] | None = None, *, method: str = "POST"
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """One request; the whole answer. What is not bytes is sent in chunks."""
        connection = http.client.HTTPConnection("127.0.0.1", self.product.http_port, timeout=20)
        try:
            connection.request(
                method, f"/{name}", body, headers or TYPE, encode_chunked=not isinstance(body, bytes)
            )
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def connect(self) -> socket.socket:
        """A raw connection."""
        return socket.create_connection(("127.0.0.1", self.product.http_port), timeout=20)

    def begin(self, name: str, *more: str) -> socket.socket:
        """A raw connection on which the head of an upload was sent; ``more`` are header lines."""
        client = self.connect()
        lines = (f"POST /{name} HTTP/1.1", "Host: x", "Content-Type: multipart/form-data; boundary=b", *more)
        client.sendall("".join(f"{line}\r\n" for line in (*lines, "")).encode())
        return client


@contextmanager
def running_site(
    folder: Path,
    variants: Mapping[str, str],
    *,
    upstreams: Mapping[str, str] | None = None,
    store: Path | None = None,
    s3_places: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Site]:
    """A route for each variant, with a store of its own, and ``/app`` forwarded.

    The variant's text comes after ``COMMON``; text that begins with a line break replaces it. ``upstreams`` are
    for routes that another backend answers, ``s3_places`` for those whose files go to a bucket.
    """
    store, in_s3 = store or folder / "store", s3_places or {}
    with running_backend(folder / "kept") as backend:
        own = f"http://127.0.0.1:{backend.port}"
        others = {DOWN: f"http://127.0.0.1:{free_port()}", **(upstreams or {})}
        text = _HEAD + "".join(
            _ROUTE.format(
                name=name,
                upstream=others.get(name, own),
                store=f'store_s3 = "{in_s3[name]}"'
                if name in in_s3
                else f'store = "{store / name}"\nstore_levels = [1, 2]',
                more=more if more.startswith("\n") else COMMON + more,
            )
            for name, more in variants.items()
        )
        text += f'\n[[routes]]\nprefix = "/app"\nupstream = "{own}"\n'
        (folder / "gateway.toml").write_text(text)
        flags = ("--config", str(folder / "gateway.toml"))
        with running_product(folder, flags=flags, settings=settings) as product:
            yield Site(product, backend, store)


def until(holds: Callable[[], object]) -> None:
    """Wait for what must come."""
    deadline = time.monotonic() + 15
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def read_answers(client: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    said = b""
    while piece := client.recv(65536):
        said += piece
    return said
