"""Client certificates on the running product: what wants one, what does not, over both versions of HTTP."""

import json
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certificates import rsa_chain
from tests.support.product import Product, running_product
from tests.support.sif import write_random

VERSIONS = ("--http1.1", "--http2")
SPELLINGS = ("/admin", "/admin/", "/admin/users", "//admin", "/%61dmin/users", "/x/../admin", "/./admin?a=1")
STATUS = ("-o", "/dev/null", "-w", "%{http_version} %{http_code}")


def make_client(folder: Path, name: str) -> tuple[str, ...]:
    """A certificate for the client and the CA behind it; what curl needs to show it."""
    made = rsa_chain([name])
    folder.mkdir(parents=True)
    (folder / "ca.pem").write_bytes(made.root)
    (folder / "client.pem").write_bytes(made.chain + made.key)
    return ("--cert", str(folder / "client.pem"))


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("known")
    make_client(folder / "client", "alice.example")
    return folder / "client"


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory, known: Path) -> Iterator[Product]:
    settings = {"GATEWAY_TLS__CLIENT_CA": str(known / "ca.pem"), "GATEWAY_SERVER__HTTP2": "true"}
    with running_product(tmp_path_factory.mktemp("product"), settings=settings) as running:
        yield running


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", SPELLINGS)
def test_no_spelling_of_an_admin_path_is_reached_without_a_certificate(
    product: Product, version: str, path: str
) -> None:
    answer = product.curl(version, "--path-as-is", "-i", product.base + path)
    head, _, body = answer.stdout.replace("\r\n", "\n").partition("\n\n")
    said = json.loads(body)
    assert head.split()[:2] == ["HTTP/2" if version == "--http2" else "HTTP/1.1", "403"]
    assert said["error"]["code"] == 403
    assert "client certificate" in said["error"]["message"]
    assert f"x-request-id: {said['request_id']}" in head.lower()


@pytest.mark.parametrize("version", VERSIONS)
def test_who_shows_a_certificate_is_asked_to_sign_in_as_ever(
    product: Product, known: Path, version: str
) -> None:
    # --tls-max: the certificate also counts in a session of TLS 1.2.
    for limits in ((), ("--tls-max", "1.2")):
        shown = ("--cert", str(known / "client.pem"))
        page = product.curl(
            version, *limits, *shown, "-H", "Accept: text/html", *STATUS, f"{product.base}/admin"
        )
        assert page.stdout.split()[1] in {"303", "401"}, page.stdout


@pytest.mark.parametrize("version", VERSIONS)
def test_a_person_gets_a_page_that_says_what_to_do(product: Product, version: str) -> None:
    page = product.curl(version, "-H", "Accept: text/html", f"{product.base}/admin").stdout
    assert "<h1>403 Forbidden</h1>" in page
    assert "Give yours to the browser" in page


@pytest.mark.parametrize("version", VERSIONS)
def test_uploads_pulls_and_pages_want_no_certificate(product: Product, tmp_path: Path, version: str) -> None:
    user = f"carol{version[-1]}"
    bearer = f"Authorization: Bearer {product.new_user(user)}"
    image = write_random(tmp_path / "image.sif", 300_000)
    sent = product.curl(
        version, "--fail", "-H", bearer, "-F", f"file=@{image}",
        f"{product.base}/upload?collection={user}/test&name=tool&tag=v1",
    ).stdout  # fmt: skip
    assert json.loads(sent)["data"]["images"][0]["size"] == 300_000
    pulled = tmp_path / "pulled.sif"
    product.curl(
        version,
        "--fail",
        "-L",
        "-o",
        pulled,
        "-H",
        bearer,
        f"{product.base}/v1/imagefile/{user}/test/tool:v1",
    )
    assert pulled.read_bytes() == image.read_bytes()
    assert product.curl(version, *STATUS, f"{product.base}/administrators").stdout.split()[1] == "404"
    assert product.curl(version, *STATUS, f"{product.base}/").stdout.split()[1] == "200"


def test_a_certificate_of_strangers_ends_the_handshake(product: Product, tmp_path: Path) -> None:
    shown = make_client(tmp_path / "stranger", "alice.example")
    refused = product.curl(*shown, f"{product.base}/admin", check=False)
    assert refused.returncode != 0
    assert "unknown ca" in refused.stderr


def test_over_plain_http_nobody_can_show_one(known: Path, tmp_path: Path) -> None:
    settings = {"GATEWAY_TLS__CLIENT_CA": str(known / "ca.pem"), "GATEWAY_TLS__REDIRECT": "false"}
    with running_product(tmp_path, settings=settings) as running:
        assert running.curl(*STATUS, f"{running.plain_base}/admin").stdout == "1.1 403"
        assert running.curl(*STATUS, f"{running.plain_base}/").stdout == "1.1 200"


def from_afar(product: Product, path: str, known: Path, *, shows: bool) -> tuple[int, str]:
    """The status for a client that a load balancer says comes from elsewhere, and its certificate if it shows one."""
    context = product.ssl_context()
    if shows:
        context.load_cert_chain(known / "client.pem")
    with socket.create_connection(("127.0.0.1", product.https_port), timeout=10) as plain:
        plain.sendall(b"PROXY TCP4 198.51.100.7 127.0.0.1 4711 443\r\n")
        with context.wrap_socket(plain, server_hostname="localhost") as tls:
            tls.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            answer = b"".join(iter(lambda: tls.recv(65536), b"")).decode()
    return int(answer.split()[1]), answer


def test_a_certificate_opens_the_operations_pages_from_everywhere(known: Path, tmp_path: Path) -> None:
    settings = {
        "GATEWAY_TLS__CLIENT_CA": str(known / "ca.pem"),
        "GATEWAY_SERVER__PROXY_PROTOCOL": "127.0.0.0/8",
    }
    with running_product(tmp_path, settings=settings, start=False) as product:
        product.start(wait=False)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                if from_afar(product, "/-/readyz", known, shows=True)[0] == 200:
                    break
            except (OSError, ssl.SSLError):
                time.sleep(0.05)
        assert from_afar(product, "/-/readyz", known, shows=False)[0] == 404
        status, answer = from_afar(product, "/-/metrics", known, shows=True)
        assert status == 200
        assert "gateway_requests" in answer
        assert from_afar(product, "/admin", known, shows=False)[0] == 403
