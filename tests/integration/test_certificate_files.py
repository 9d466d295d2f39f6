"""`gateway serve` with the old stack's chained.pem and domain.key: as they are, and when they change."""

import signal
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

from tests.support import processes
from tests.support.certificates import RsaChain, rsa_chain
from tests.support.product import Product, running_product

SOON_S = 20.0
TRIES = 12  # so many that each of two workers is met


def shown(product: Product, context: ssl.SSLContext) -> set[bytes]:
    """The certificates that some new visitors get, one after the other."""
    leaves = set()
    for _ in range(TRIES):
        with (
            socket.create_connection(("127.0.0.1", product.https_port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as tls,
        ):
            leaves.add(tls.getpeercert(binary_form=True) or b"")
    return leaves


def eventually(product: Product, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < deadline, product.log_text
        time.sleep(0.1)


def write(folder: Path, made: RsaChain) -> None:
    # As the old stack's instructions make it: `cat domain.crt chain.crt > chained.pem`, from a Windows editor.
    (folder / "chained.pem").write_bytes(made.chain.replace(b"\n", b"\r\n"))
    (folder / "domain.key").write_bytes(made.key)


def test_the_old_stacks_files_serve_and_their_change_cuts_nobody(tmp_path: Path) -> None:
    first, second = rsa_chain(["localhost"]), rsa_chain(["localhost"])
    write(tmp_path, first)
    roots = tmp_path / "roots.pem"
    roots.write_bytes(first.root + second.root)
    settings = {
        "GATEWAY_TLS__MODE": "files",
        "GATEWAY_TLS__CERTIFICATE": str(tmp_path / "chained.pem"),
        "GATEWAY_TLS__KEY": str(tmp_path / "domain.key"),
        "GATEWAY_SERVER__WORKERS": "2",
    }
    with running_product(tmp_path / "product", settings=settings, start=False) as product:
        product.ca = roots
        product.start()
        context = product.ssl_context()
        (old,) = shown(product, context)
        told = product.run("gateway", "cert", "status").stdout
        assert "localhost" in told
        assert "belongs to the certificate: yes" in told
        with (
            socket.create_connection(("127.0.0.1", product.https_port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as kept,
        ):
            assert asked(kept) == 200
            (tmp_path / "chained.pem").write_bytes(second.chain)
            for pid in [product.pid, *processes.children_of(product.pid)]:
                if "registry" not in processes.command_line(pid):
                    processes.send(pid, signal.SIGHUP)
            eventually(product, lambda: "the old one stays in use" in product.log_text)
            assert shown(product, context) == {old}, "a key that does not fit changes nothing"
            (tmp_path / "domain.key").write_bytes(second.key)
            # Each worker takes it up in its own moment.
            eventually(product, lambda: len(seen := shown(product, context)) == 1 and old not in seen)
            assert asked(kept) == 200, "the connection from before goes on"


def asked(tls: ssl.SSLSocket) -> int:
    tls.sendall(b"GET /-/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = b""
    while not answer.endswith(b'{"status":"ok"}'):
        more = tls.recv(65536)
        assert more, "the connection was cut"
        answer += more
    return int(answer.split()[1])
