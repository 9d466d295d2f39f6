"""Owns what clients see when the network behind the gateway does harm: mitmproxy sits there and does it."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, IncompleteRead
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.mitm import Harm, harming
from tests.support.product import Product, running_product
from tests.support.seaweed import running_seaweed

SIZE = 3_000_000


class Backend(BaseHTTPRequestHandler):
    """Serves ``SIZE`` bytes, framed as the path says."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        if self.path.endswith("/chunked"):
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for _ in range(SIZE // 100_000):
                self.wfile.write(b"186a0\r\n" + b"x" * 100_000 + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.send_header("content-length", str(SIZE))
            self.end_headers()
            self.wfile.write(b"x" * SIZE)

    def log_message(self, *_: object) -> None:
        pass


class BackendServer(ThreadingHTTPServer):
    """Says nothing of peers that cut: it is what they are here for."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@contextmanager
def gateway_before(folder: Path, harm: Harm) -> Iterator[Product]:
    """A gateway, a backend, and the harm between them."""
    with BackendServer(("127.0.0.1", 0), Backend) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with harming(f"http://127.0.0.1:{server.server_port}", harm) as address:
                config = folder / "gateway.toml"
                config.write_text(
                    f"[core]\nhead_s = 2.0\n[tls]\nredirect = false\n"
                    f'[[routes]]\nprefix = "/back"\nupstream = "http://{address}"\n'
                )
                with running_product(folder, flags=("--config", str(config))) as product:
                    yield product
        finally:
            server.shutdown()
            thread.join()


def get(product: Product, path: str) -> tuple[int, bytes]:
    """The status and as much of the body as came. Raises: IncompleteRead when it was visibly cut."""
    connection = HTTPConnection("127.0.0.1", product.http_port, timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("framing", ["sized", "chunked"])
def test_an_answer_cut_in_the_middle_is_a_cut_connection_and_no_short_200(
    short_path: Path, framing: str
) -> None:
    harm = Harm(on_path=framing, times=1, cut_answer_after=1_000_000)
    with gateway_before(short_path, harm) as product:
        with pytest.raises((IncompleteRead, ConnectionResetError)):
            get(product, f"/back/{framing}")
        assert harm.done == [f"/back/{framing}"]
        assert get(product, f"/back/{framing}") == (200, b"x" * SIZE)  # and the next one is none the worse


def test_an_answer_that_does_not_begin_is_a_504_and_the_peers_own_503_is_passed_on(short_path: Path) -> None:
    with gateway_before(short_path, Harm(on_path="slow", times=1, delay_s=4)) as product:
        status, body = get(product, "/back/slow")
        assert (status, b"upstream_timeout" in body or b"504" in body) == (504, True)
        assert get(product, "/back/sized")[0] == 200
    with gateway_before(short_path, Harm(on_path="sized", status=503)) as product:
        assert get(product, "/back/sized") == (503, b"harm")


@pytest.mark.slow
def test_a_part_cut_on_its_way_to_s3_is_sent_again_and_the_upload_is_whole(short_path: Path) -> None:
    content = bytes(range(256)) * 120_000  # 30 MB: several parts
    file = short_path / "tool.sif"
    file.write_bytes(content)
    harm = Harm(on_path="partNumber=2", times=1, cut_request_after=1_000_000)
    (short_path / "s3").mkdir()
    with (
        running_seaweed(short_path / "s3") as seaweed,
        harming(f"http://{seaweed.endpoint}", harm) as address,
    ):
        settings = seaweed.environ | {"MINIO_SERVER": address}
        with running_product(short_path, settings=settings) as product:
            token = product.new_user("ada")
            done = product.curl(
                "-H", f"Authorization: Bearer {token}", "-F", "name=tool", "-F", f"file=@{file}",
                f"{product.base}/upload?collection=ada/t",
            )  # fmt: skip
    assert hashlib.sha256(content).hexdigest() in done.stdout
    assert len(harm.done) == 1
