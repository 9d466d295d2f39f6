"""Owns an upload that a test holds open: it sends what the test says, when it says so."""

import contextlib
import http.client
import os
import socket
import ssl
from types import TracebackType
from typing import Final, Self

from tests.support.product import Product

_BOUNDARY: Final = "holdMeOpen"


class OpenUpload:
    """One browser-like form upload over TLS of ``size_bytes`` random bytes."""

    def __init__(
        self,
        product: Product,
        *,
        token: str,
        collection: str,
        name: str,
        size_bytes: int,
        tag: str = "latest",
    ) -> None:
        self.content: Final = os.urandom(size_bytes)
        self._sent = 0
        prologue = (
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}.sif"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        self._epilogue = f"\r\n--{_BOUNDARY}--\r\n".encode()
        length = len(prologue) + size_bytes + len(self._epilogue)
        head = (
            f"POST /upload?collection={collection}&name={name}&tag={tag} HTTP/1.1\r\n"
            f"Host: localhost:{product.https_port}\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: multipart/form-data; boundary={_BOUNDARY}\r\nContent-Length: {length}\r\n\r\n"
        ).encode()
        plain = socket.create_connection(("127.0.0.1", product.https_port), timeout=90)
        self._socket: Final[ssl.SSLSocket] = product.ssl_context().wrap_socket(
            plain, server_hostname="localhost"
        )
        self._socket.sendall(head + prologue)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # An answer that was being read holds the socket open: end the connection itself.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def send(self, count: int) -> None:
        """The next ``count`` bytes of the file."""
        self._socket.sendall(self.content[self._sent : self._sent + count])
        self._sent += count

    def finish(self) -> tuple[int, bytes]:
        """The rest, and the answer: status and body."""
        self.send(len(self.content) - self._sent)
        self._socket.sendall(self._epilogue)
        return self.answer()

    def finish_or_answer(self) -> tuple[int, bytes]:
        """The rest, as far as the server wants it, and the answer."""
        try:
            return self.finish()
        except (BrokenPipeError, ConnectionResetError):
            return self.answer()

    def answer(self) -> tuple[int, bytes]:
        """The answer: status and body."""
        answer = http.client.HTTPResponse(self._socket)
        answer.begin()
        return answer.status, answer.read()
