"""Owns the proof that curl works as the documentation shows it, and that what is wrong is answered, not stored."""

import hashlib
import json
import re
import socket
import ssl
from pathlib import Path

import pytest

from tests.support.product import Product, running_product
from tests.support.sif import make_small_sif, write_random

GIB = 1 << 30
MIB = 1 << 20


@pytest.fixture(scope="module")
def frida(shared: Product) -> str:
    """The token of a user whom the refusals are about."""
    shared.add_user("somebody-else")
    return shared.new_user("frida")


@pytest.fixture
def sif(tmp_path: Path) -> Path:
    return make_small_sif(tmp_path / "tool.sif", says=str(tmp_path))


def _upload(
    product: Product, token: str, *forms: str, query: str = "", options: tuple[str, ...] = ()
) -> tuple[int, str]:
    words = [word for form in forms for word in ("-F", form)]
    bearer = ("-H", f"Authorization: Bearer {token}") if token else ()
    done = product.curl(
        *bearer, *options, *words, "-w", "\n%{http_code}", f"{product.base}/upload{query}", check=False
    )
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_the_upload_of_the_documentation_answers_201_with_the_digest(shared: Product, sif: Path) -> None:
    token = shared.new_user("alice")
    status, body = _upload(
        shared, token, "name=tool", "tag=v1", f"file=@{sif}", query="?collection=alice/test"
    )
    assert status == 201
    (image,) = json.loads(body)["data"]["images"]
    assert image["sha256"] == _sha256(sif)
    assert image["size"] == sif.stat().st_size
    assert "alice/test/tool:v1" in image["ref"]
    assert image["url"].startswith(shared.base)


def test_the_tag_is_latest_when_none_is_given_and_fields_may_come_first(shared: Product, sif: Path) -> None:
    token = shared.new_user("ben")
    status, body = _upload(shared, token, "collection=ben/test", "name=tool", f"file=@{sif}")
    assert status == 201
    assert "ben/test/tool:latest" in json.loads(body)["data"]["images"][0]["ref"]


def test_several_files_in_one_form_are_all_kept(shared: Product, tmp_path: Path) -> None:
    token = shared.new_user("carl")
    files = [make_small_sif(tmp_path / f"{name}.sif", says=name) for name in ("one", "two", "three")]
    status, body = _upload(shared, token, *(f"file=@{file}" for file in files), query="?collection=carl/test")
    assert status == 201
    digests = [image["sha256"] for image in json.loads(body)["data"]["images"]]
    assert digests == [_sha256(file) for file in files]


def test_a_body_of_unknown_length_is_accepted(shared: Product, sif: Path) -> None:
    token = shared.new_user("dan")
    options = ("-H", "Transfer-Encoding: chunked")
    status, _ = _upload(
        shared, token, "name=t", f"file=@{sif}", query="?collection=dan/test", options=options
    )
    assert status == 201


def test_two_gibibytes_pass_with_the_right_digest_in_little_memory(shared: Product, tmp_path: Path) -> None:
    token = shared.new_user("eve")
    big = write_random(tmp_path / "big.sif", 2 * GIB)
    status, body = _upload(shared, token, "name=big", f"file=@{big}", query="?collection=eve/test")
    assert status == 201
    assert json.loads(body)["data"]["images"][0]["sha256"] == _sha256(big)
    assert shared.rss_mib(peak=True) <= 120
    big.unlink()
    shared.library(token).run("cpull", "eve/test/big:latest", tmp_path / "back")
    assert json.loads(body)["data"]["images"][0]["sha256"] == _sha256(tmp_path / "back")


@pytest.mark.parametrize(
    ("query", "given_token", "wanted"),
    [
        ("?collection=frida/test", "", 401),
        ("?collection=frida/test", "z" * 250, 401),
        ("?collection=somebody-else/test", "own", 404),  # its existence is nobody's business
        ("", "own", 400),
        ("?collection=frida", "own", 400),
        ("?collection=..%2f..%2fetc/passwd", "own", 400),
    ],
    ids=["no-token", "wrong-token", "not-yours", "no-collection", "half-a-name", "a-path"],
)
def test_what_may_not_be_uploaded_is_refused_and_not_stored(
    shared: Product, frida: str, sif: Path, query: str, given_token: str, wanted: int
) -> None:
    before = len(shared.blob_files())
    status, body = _upload(
        shared, frida if given_token == "own" else given_token, "name=tool", f"file=@{sif}", query=query
    )
    assert status == wanted
    error = json.loads(body)
    assert error["error"]["code"] == wanted
    assert len(error["error"]["message"]) > 15
    assert error["request_id"]
    assert len(shared.blob_files()) == before
    assert shared.staging_files() == []


def test_a_refusal_comes_before_the_bytes_when_the_client_waits_for_it(
    shared: Product, tmp_path: Path
) -> None:
    big = write_random(tmp_path / "big.sif", 64 * MIB)
    done = shared.curl(
        "-H", "Expect: 100-continue", "-F", f"file=@{big}", "-o", "/dev/null",
        "-w", "%{http_code} %{size_upload}", f"{shared.base}/upload?collection=nobody/test", check=False,
    )  # fmt: skip
    status, sent = done.stdout.split()
    assert status == "401"
    assert int(sent) < MIB


def test_an_upload_that_is_not_a_form_is_415(shared: Product, frida: str, sif: Path) -> None:
    done = shared.curl(
        "-H", f"Authorization: Bearer {frida}", "-H", "Content-Type: application/json", "--data-binary", f"@{sif}",
        "-o", "/dev/null", "-w", "%{http_code}", f"{shared.base}/upload?collection=frida/test", check=False,
    )  # fmt: skip
    assert done.stdout == "415"


def test_a_file_beyond_the_limit_is_413_declared_or_not(short_path: Path, tmp_path: Path) -> None:
    with running_product(short_path, settings={"GATEWAY_LIMITS__UPLOAD_BYTES": str(MIB)}) as product:
        token = product.new_user("gil")
        big = write_random(tmp_path / "big.sif", 3 * MIB)
        for options in ((), ("-H", "Transfer-Encoding: chunked")):
            status, _ = _upload(
                product, token, "name=big", f"file=@{big}", query="?collection=gil/test", options=options
            )
            assert status == 413
        assert product.blob_files() == []
        fits = write_random(tmp_path / "fits.sif", MIB)
        assert _upload(product, token, "name=fits", f"file=@{fits}", query="?collection=gil/test")[0] == 201


def test_a_client_that_goes_away_leaves_nothing(shared: Product, frida: str) -> None:
    for cut in (0, 200, 100_000):
        _send_and_go(shared, frida, cut)
    _eventually_no_staging(shared)


def _send_and_go(product: Product, token: str, cut: int) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.sif"\r\n\r\n' + bytes(cut)
    head = (
        f"POST /upload?collection=frida/test HTTP/1.1\r\nHost: localhost:{product.https_port}\r\n"
        f"Authorization: Bearer {token}\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        "Content-Length: 10000000\r\n\r\n"
    )
    with (
        socket.create_connection(("127.0.0.1", product.https_port)) as plain,
        product.ssl_context().wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(head.encode() + body)


def _eventually_no_staging(product: Product) -> None:
    deadline = 200
    while product.staging_files() and deadline:
        product.get("/-/healthz")  # a round trip: the server had time to see the end
        deadline -= 1
    assert product.staging_files() == []


def test_plain_http_leads_to_https_and_keeps_the_method(shared: Product) -> None:
    done = shared.curl(
        "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}", f"{shared.plain_base}/v1/search?value=x"
    )
    assert done.stdout == f"308 {shared.base}/v1/search?value=x"


def test_health_is_for_those_who_are_near_and_every_answer_has_an_id(shared: Product) -> None:
    for path in ("/-/healthz", "/-/readyz", "/-/metrics", "/", "/nothing/here"):
        done = shared.curl("-D", "-", "-o", "/dev/null", f"{shared.base}{path}")
        assert re.search(r"(?im)^x-request-id: \S+", done.stdout), path
    assert shared.get("/-/healthz")[0] == 200


def test_old_tls_is_refused(shared: Product) -> None:
    context = shared.ssl_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", shared.https_port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        assert connection.version() == "TLSv1.3"
    done = shared.curl("--tls-max", "1.1", f"{shared.base}/", check=False)
    assert done.returncode != 0
